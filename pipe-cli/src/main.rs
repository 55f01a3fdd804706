//! The command `pipe`: what one wants to do with a connection, over any transport of pipewerks.
//!
//! - `pipe listen` and `pipe dial` join streams to standard input and output, or to commands.
//! - `pipe ping` shows round trips and the state of the connection.
//! - `pipe perf` measures what a connection carries; its protocol is that of [`perf`].
//! - `pipe forward` and `pipe expose` carry connections of TCP.
//! - `pipe send` and `pipe receive` move files; their protocol is that of [`transfer`].
//! - `pipe doctor` goes through the steps of a dial.
//!
//! `pipe help` and `pipe man` say more. Errors are one line on standard error; the exit codes are those of
//! [`exit::Exit`].

mod address;
mod arrivals;
mod channel;
mod context;
mod doctor;
mod door;
mod duration;
mod exit;
mod failure;
mod forward;
mod manual;
mod net;
mod netcat;
mod perf;
mod ping;
mod pump;
mod rate;
mod redial;
mod report;
mod serve;
mod standard;
mod stop;
mod token;
mod transfer;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::runtime::{Handle, Runtime};
use tokio::time::{sleep, timeout};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report::Report;
use crate::stop::Stop;

/// How long the last words to the peers may take.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Streams, files, ports and measurements over any transport
///
/// Addresses name the transport: tcp://host:port, tls://host:port, quic://host:port, unix:///path,
/// webrtc+tcp://host:port.
#[derive(Parser, Debug)]
#[command(name = "pipe", version, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Write events and results as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    /// Log to standard error what happens inside (-vv and -vvv: more). RUST_LOG overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Listen, and join the first stream to standard input and output
    ///
    /// The address that dials it is printed on standard error. Ends when the stream has ended both ways.
    /// With --exec, each stream of each connection is joined to a command of its own, until interrupted.
    Listen(netcat::ListenArgs),
    /// Connect, and join a stream to standard input and output
    Dial(netcat::DialArgs),
    /// Measure round trips, as ping(8) does
    ///
    /// On the other side, anything of pipewerks may listen: `pipe listen ADDR` will do, and goes on
    /// waiting for its stream.
    Ping(ping::PingArgs),
    /// Measure throughput each way, round trips with and without load, and streams a second
    Perf(perf::PerfArgs),
    /// Carry the connections of a local TCP port to where `pipe expose` listens
    ///
    /// Each connection of TCP has a stream of its own, with half-close and reset carried through. When the
    /// peer is lost, it is dialed again until it is back.
    Forward(forward::ForwardArgs),
    /// Listen for `pipe forward`, and connect its streams to a TCP port
    Expose(forward::ExposeArgs),
    /// Send files and folders to where `pipe receive` listens
    ///
    /// They are verified by their SHA-256. After a broken connection it dials again and goes on where it
    /// was, and so does the same command after either side was ended and started again.
    Send(transfer::SendArgs),
    /// Listen for `pipe send`, and receive files and folders into a folder
    ///
    /// A file is there under its name when it is whole. Ends after one transfer; with --keep, when it is
    /// interrupted.
    Receive(transfer::ReceiveArgs),
    /// Show what happens at each step of a dial, and what to do where it fails
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or that of a command
    Man {
        /// The command
        command: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    log(cli.verbose);
    let report = Report {
        json: cli.json,
        data_on_stdout: matches!(cli.command, Command::Listen(_) | Command::Dial(_)),
    };
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

/// Lets connections that are over say so to their peers, which would take them for lost: a close returns
/// before it is sent, and what sends it is a task that ends with the runtime.
async fn last_words() {
    /// The one that listens to the signals, which stays.
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

/// Help and version go to standard output; what is wrong becomes one line.
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
        // No command was given at all: the help says which there are.
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
