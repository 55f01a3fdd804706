//! A file service, written once and run over every transport in turn.
//!
//! ```text
//! cargo run --release --example swap [-- PATHS… --only inproc --streams 8 --json FILE]
//! ```
//!
//! For each transport, a server serves an empty temporary folder. A client sends it the given files
//! and folders (by default the sources of this project), asks for the list, fetches everything back
//! into another temporary folder, and at the end every file is read again from disk and compared with
//! its source. Many files are under way at once, each on a stream of its own, and both ends of a
//! stream hash what they handle. The temporary folders need twice the size of the files.
//!
//! What depends on the transport is one line in [`route`]. Shaped links carry a part of the files,
//! so that the whole ends within seconds; `--full` sends all.
//!
//! The exit code is 0 when all was sent and verified, 1 when something was not, and 2 when the
//! arguments make no sense.

mod body;
mod client;
mod compare;
mod exchange;
mod failure;
mod folder;
mod message;
mod parallel;
mod progress;
mod rel_path;
mod report;
mod route;
mod server;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::exchange::Exchange;
use crate::failure::{At, Failure};
use crate::report::Report;
use crate::route::{ROUTES, Route};
use crate::source::Source;

/// Send files there and back over every transport, and compare
#[derive(Parser)]
struct Args {
    /// Files and folders to send; the project's own sources by default
    paths: Vec<PathBuf>,
    /// Run only the transports whose name begins with NAME (repeatable, or divided by commas)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// How many files are under way at once, each on its own stream
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    streams: u16,
    /// Send all files over the shaped links too, which may take long
    #[arg(long)]
    full: bool,
    /// Also write the results to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (routes, source) = match prepare(&args) {
        Ok(prepared) => prepared,
        Err(failure) => {
            eprintln!("error: {failure}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        tokio::select! {
            done = run(&args, &routes, &source) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::new("interrupted", "nothing is left behind")),
        }
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The routes to run, and what to send.
fn prepare(args: &Args) -> Result<(Vec<&'static Route>, Source), Failure> {
    let wanted = |route: &&Route| {
        args.only.is_empty() || args.only.iter().any(|name| route.name.starts_with(name))
    };
    let routes: Vec<_> = ROUTES.iter().filter(wanted).collect();
    if routes.is_empty() {
        let known: Vec<_> = ROUTES.iter().map(|route| route.name).collect();
        let why = format!("no such transport; there are {}", known.join(", "));
        return Err(Failure::new(format!("--only {}", args.only.join(",")), why));
    }
    let source = if args.paths.is_empty() {
        Source::collect_project(Path::new(env!("CARGO_MANIFEST_DIR")))?
    } else {
        Source::collect(&args.paths)?
    };
    Ok((routes, source))
}

/// Runs all routes. Returns whether everything was sent, and came back as it was.
async fn run(args: &Args, routes: &[&Route], source: &Source) -> Result<bool, Failure> {
    source.show_problems();
    if source.is_empty() {
        return Err(Failure::new(
            "nothing to send",
            "no file and no folder was found",
        ));
    }
    let mut report = Report::default();
    for route in routes {
        let part = match route.limit {
            Some(limit) if !args.full => &source.part(limit),
            _ => source,
        };
        if part.is_empty() {
            eprintln!(
                "{}: left out: every file is too big for this link; --full sends all",
                route.name
            );
            continue;
        }
        let exchange = Exchange::new(route, part, args.streams.into());
        report.add(exchange.run(pipewerks::registry()).await);
    }
    println!("{}", report.table());
    if let Some(path) = &args.json {
        tokio::fs::write(path, report.json())
            .await
            .at(path.display())?;
    }
    Ok(report.verified() && source.unsent.is_empty())
}
