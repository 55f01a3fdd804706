//! The command `pipe`: common uses of a connection, over any transport of pipewerks.
//!
//! - `pipe listen` and `pipe dial` join streams to standard input and output, or to commands.
//! - `pipe offer` does so over WebRTC whose offer and answer are files.
//! - `pipe ping` shows round trips and the state of the connection.
//! - `pipe perf` measures the throughput of a connection; its protocol is that of [`perf`].
//! - `pipe forward` and `pipe expose` carry connections of TCP.
//! - `pipe send` and `pipe receive` move files; their protocol is that of [`transfer`].
//! - `pipe doctor` goes through the steps of a dial.
//!
//! `pipe help` and `pipe man` document them. Errors are one line on standard error; the exit codes
//! are those of [`exit::Exit`].

mod address;
mod arrivals;
mod channel;
mod cli;
mod context;
mod doctor;
mod door;
mod duration;
mod exit;
mod failure;
mod forward;
mod given;
mod manual;
mod net;
mod netcat;
mod perf;
mod ping;
mod presenting;
mod proxy;
mod pump;
mod rate;
mod redial;
mod refusal;
mod report;
mod serve;
mod standard;
mod stop;
mod token;
mod transfer;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::{Handle, Runtime};
use tokio::time::{sleep, timeout};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report::Report;
use crate::stop::Stop;

/// Time limit for the last frames to the peers.
const LAST_WORDS: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    log(cli.verbose);
    let report = Report {
        json: cli.json,
        data_on_stdout: matches!(
            cli.command,
            Command::Listen(_) | Command::Dial(_) | Command::Offer(_)
        ),
    };
    if let Err(failure) = given::take() {
        report.failure(&failure);
        return failure.exit.into();
    }
    let done = match Runtime::new() {
        Ok(runtime) => {
            let done = runtime.block_on(async {
                let done = run(&cli.command, report).await;
                last_words().await;
                done
            });
            // A read of standard input may never return, and is not waited for.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(Failure::local("no threads can be started", &error)),
    };
    done.unwrap_or_else(|failure| {
        report.failure(&failure);
        failure.exit
    })
    .into()
}

async fn run(command: &Command, report: Report) -> Result<Exit, Failure> {
    let stop = Stop::on_signals().map_err(|error| Failure::local("signals", &error))?;
    let context = Context { report, stop };
    match command {
        Command::Listen(args) => netcat::listen(&context, args).await,
        Command::Dial(args) => netcat::dial(&context, args).await,
        Command::Offer(args) => netcat::offer(&context, args).await,
        Command::Ping(args) => ping::ping(&context, args).await,
        Command::Perf(args) => perf::perf(&context, args).await,
        Command::Forward(args) => forward::forward(&context, args).await,
        Command::Expose(args) => forward::expose(&context, args).await,
        Command::Send(args) => transfer::send(&context, args).await,
        Command::Receive(args) => transfer::receive(&context, args).await,
        Command::Doctor(args) => doctor::doctor(&context, args).await,
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { command } => manual::page(command.as_deref()),
    }
}

/// Waits until ended connections have sent their closes, without which their peers would take them
/// for lost: a close returns before it is sent, by a task that ends with the runtime.
async fn last_words() {
    /// The task that handles the signals, which stays.
    const LASTING: usize = 1;
    let tasks = Handle::current().metrics();
    let said = async {
        while tasks.num_alive_tasks() > LASTING {
            sleep(Duration::from_millis(1)).await;
        }
    };
    // A peer that takes nothing is not waited for.
    let _ = timeout(LAST_WORDS, said).await;
}

/// Prints help and version on standard output, and any error as one line.
fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return Exit::Done.into();
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<_> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    if lines.first().is_none_or(|line| !line.starts_with("error:")) {
        // No command was given at all: the help lists them.
        eprint!("{text}");
        return Exit::Usage.into();
    }
    let line = lines.join(" ");
    eprintln!(
        "pipe: {} (see `pipe help`)",
        line.trim_start_matches("error: ")
    );
    Exit::Usage.into()
}

fn log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let own = || {
        Targets::new()
            .with_default(LevelFilter::ERROR)
            .with_target("pipe", level)
    };
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| text.parse().ok());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(lines.with_filter(filter.unwrap_or_else(own)))
        .init();
}
