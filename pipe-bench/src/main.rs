//! Measures pipewerks side by side with what a user would pick instead.

mod memory;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pipe_bench::{
    Comparison, Environment, Flavor, Report, Scenario, inproc, interleave, quic, tcp, webrtc,
};

/// Measure pipewerks side by side with what a user would pick instead
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Subject {
    /// `inproc://` against tokio::io::duplex
    Inproc,
    /// `tcp://` against the yamux crate, and against TCP with a socket a stream
    Tcp,
    /// `quic://` against quinn with the same settings, and with its defaults
    Quic,
    /// `webrtc+tcp://` against the webrtc crate used by hand, and pion where it is installed
    Webrtc,
}

#[derive(Args)]
struct Options {
    /// How many rounds count, after one that warms up
    #[arg(long, global = true, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Run only the scenarios that have TEXT in their names
    #[arg(long, global = true, value_name = "TEXT")]
    only: Option<String>,
    /// Run only the contenders that have TEXT in their names; the goals then mean nothing
    #[arg(long, global = true, value_name = "TEXT")]
    contender: Option<String>,
    /// Run only on this flavor of runtime
    #[arg(long, global = true)]
    runtime: Option<RuntimeArg>,
    /// Also write the results to FILE, as JSON with the values of all rounds
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when ours misses a goal
    #[arg(long, global = true)]
    check: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum RuntimeArg {
    /// Two worker threads
    Multi,
    /// Everything on one thread
    Current,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(report) if cli.options.check && !report.meets_all_goals() => {
            eprintln!("error: not all goals are met");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> io::Result<Report> {
    let options = &cli.options;
    let mut report = Report::new(options.rounds.into());
    if !report.environment.optimised {
        eprintln!("warning: this build is not optimised; use --release");
    }
    if let Subject::Webrtc = cli.subject
        && let Some(why) = webrtc::left_out()
    {
        eprintln!("note: {why}");
    }
    for scenario in scenarios(cli, &report.environment) {
        report
            .comparisons
            .extend(measure(&scenario, report.rounds)?);
    }
    let mut memory_error = None;
    if options.wants(memory::NAME, Flavor::Current) {
        show(&format!("{} (current)", memory::NAME));
        let subject = match cli.subject {
            Subject::Inproc => "inproc",
            Subject::Tcp => "tcp",
            Subject::Quic => "quic",
            Subject::Webrtc => "webrtc",
        };
        let measured = memory::measure(subject, report.rounds);
        // What was measured before is shown in any case.
        memory_error = measured
            .map(|comparisons| report.comparisons.extend(comparisons))
            .err();
    }
    show("");
    if report.comparisons.is_empty() && memory_error.is_none() {
        let message = "no scenario has that text in its name";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }

    println!("{}", report.table());
    println!(
        "Medians of {} rounds; goals in × are ratios of ours to the first alternative.\n{}.",
        report.rounds, report.environment
    );
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, json).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
    }
    memory_error.map_or(Ok(report), Err)
}

/// The speed scenarios to run.
fn scenarios(cli: &Cli, environment: &Environment) -> Vec<Scenario> {
    let all = [Flavor::Multi, Flavor::Current]
        .into_iter()
        .flat_map(|flavor| match cli.subject {
            Subject::Inproc => inproc::speed(flavor, environment),
            Subject::Tcp => tcp::speed(flavor),
            Subject::Quic => quic::speed(flavor),
            Subject::Webrtc => webrtc::speed(flavor),
        });
    let wanted = all.filter(|scenario| cli.options.wants(scenario.name(), scenario.flavor()));
    match &cli.options.contender {
        Some(text) => wanted.map(|scenario| scenario.only(text)).collect(),
        None => wanted.collect(),
    }
}

fn measure(scenario: &Scenario, rounds: usize) -> io::Result<Vec<Comparison>> {
    interleave(scenario, rounds, |round| {
        let (name, flavor) = (scenario.name(), scenario.flavor());
        show(&format!("{name} ({flavor}): round {round} of {rounds}"));
    })
}

impl Options {
    fn wants(&self, name: &str, flavor: Flavor) -> bool {
        let runtime = match self.runtime {
            Some(RuntimeArg::Multi) => flavor == Flavor::Multi,
            Some(RuntimeArg::Current) => flavor == Flavor::Current,
            None => true,
        };
        runtime && self.only.as_ref().is_none_or(|text| name.contains(text))
    }
}

/// Shows on a terminal what is being done, over what was shown before.
fn show(text: &str) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // Nothing depends on it, so a failure changes nothing.
        let _ = write!(stderr, "\r\x1b[K{text}");
        let _ = stderr.flush();
    }
}
