//! Measures pipewerks side by side with the alternatives of a user.

mod memory;
#[cfg(unix)]
mod wan_args;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pipe_bench::{
    Comparison, Environment, Flavor, Report, Scenario, inproc, interleave, quic, tcp, webrtc, ws,
    wt,
};

/// Measure pipewerks side by side with the alternatives of a user
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
    /// `ws://` against the yamux crate over tokio-tungstenite, and against `tcp://`
    Ws,
    /// `tcp://` against other multiplexers of byte streams: zmux, qmux, muxado, h2 and the yamux crate
    #[cfg(feature = "rivals")]
    Rivals,
    /// `quic://` against quinn with the same settings, and with its defaults
    Quic,
    /// `wt://` against `web-transport-quinn` by hand, and against `quic://`
    Wt,
    /// `webrtc+tcp://` against the webrtc crate used by hand, and pion where it is installed
    Webrtc,
    /// All transports and their alternatives over a long path that is emulated in this process
    #[cfg(unix)]
    Wan(wan_args::WanArgs),
}

#[derive(Args)]
struct Options {
    /// How many rounds count, after one that warms up
    #[arg(long, global = true, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Run only the scenarios that have TEXT in their names
    #[arg(long, global = true, value_name = "TEXT")]
    only: Option<String>,
    /// Run only the contenders that have TEXT in their names; the goals then mean nothing. Can be given several times
    #[arg(long, global = true, value_name = "TEXT")]
    contender: Vec<String>,
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
        let measured = measure(&scenario, report.rounds)?;
        report.comparisons.extend(cli.subject.arrange(measured));
    }
    let mut memory_error = None;
    if let Some(subject) = cli.subject.of_memory()
        && options.wants(memory::NAME, Flavor::Current)
    {
        show(&format!("{} (current)", memory::NAME));
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
        .flat_map(|flavor| match &cli.subject {
            Subject::Inproc => inproc::speed(flavor, environment),
            Subject::Tcp => tcp::speed(flavor),
            Subject::Ws => ws::speed(flavor),
            #[cfg(feature = "rivals")]
            Subject::Rivals => pipe_bench::rivals::speed(flavor),
            Subject::Quic => quic::speed(flavor),
            Subject::Wt => wt::speed(flavor),
            Subject::Webrtc => webrtc::speed(flavor),
            // Its threads are many in any case, so it runs on one flavor unless the other is asked for.
            #[cfg(unix)]
            Subject::Wan(args) if flavor == cli.options.flavor().unwrap_or(Flavor::Multi) => {
                args.plan().scenarios(flavor)
            }
            #[cfg(unix)]
            Subject::Wan(_) => Vec::new(),
        });
    let wanted = all.filter(|scenario| cli.options.wants(scenario.name(), scenario.flavor()));
    match &cli.options.contender[..] {
        [] => wanted.collect(),
        texts => wanted.map(|scenario| scenario.only(texts)).collect(),
    }
}

fn measure(scenario: &Scenario, rounds: usize) -> io::Result<Vec<Comparison>> {
    interleave(scenario, rounds, |round| {
        let (name, flavor) = (scenario.name(), scenario.flavor());
        show(&format!("{name} ({flavor}): round {round} of {rounds}"));
    })
}

impl Options {
    fn wants(&self, name: &str, wanted: Flavor) -> bool {
        let runtime = self.flavor().is_none_or(|flavor| flavor == wanted);
        runtime && self.only.as_ref().is_none_or(|text| name.contains(text))
    }

    fn flavor(&self) -> Option<Flavor> {
        self.runtime.map(|runtime| match runtime {
            RuntimeArg::Multi => Flavor::Multi,
            RuntimeArg::Current => Flavor::Current,
        })
    }
}

impl Subject {
    /// Its name for the program that counts memory, where it counts that of this subject.
    fn of_memory(&self) -> Option<&'static str> {
        match self {
            Self::Inproc => Some("inproc"),
            Self::Tcp => Some("tcp"),
            Self::Ws => Some("ws"),
            #[cfg(feature = "rivals")]
            Self::Rivals => Some("rivals"),
            Self::Quic => Some("quic"),
            Self::Wt => None,
            Self::Webrtc => Some("webrtc"),
            #[cfg(unix)]
            Self::Wan(_) => None,
        }
    }

    /// Puts comparisons in the form in which they are shown.
    fn arrange(&self, comparisons: Vec<Comparison>) -> Vec<Comparison> {
        match self {
            #[cfg(unix)]
            Self::Wan(_) => {
                let comparisons = comparisons.into_iter();
                comparisons
                    .flat_map(pipe_bench::wan::by_transport)
                    .collect()
            }
            _ => comparisons,
        }
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
