//! `pipe perf`: what a connection carries, and how it answers meanwhile.
//!
//! The protocol is `pipe-perf/1`, in the frames of [`channel`](crate::channel). The client opens a stream
//! for each request: `answer` is answered at once; after `sink`, what follows is counted by the server,
//! which answers how much it was; after `source`, the server sends zeros for so many milliseconds.

mod client;
mod result;
mod server;

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::channel::Protocol;
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::NetArgs;

/// What this is, in the first message of each stream.
const PROTOCOL: Protocol = Protocol {
    name: "pipe-perf/1",
    server: "pipe perf --serve",
};

/// How long one direction may be measured, in milliseconds.
const MAX_MILLIS: u64 = 10 * 60 * 1000;

/// How many bytes are written at once.
const CHUNK: usize = 128 * 1024;

#[derive(Args, Clone, Debug)]
pub(crate) struct PerfArgs {
    /// Address where `pipe perf --serve` listens; with --serve, where to listen
    addr: String,
    /// Listen, and be measured until interrupted
    #[arg(long, conflicts_with_all = ["time", "streams"])]
    serve: bool,
    /// How long to measure each direction, up to 10 minutes
    #[arg(short, long, value_name = "TIME", default_value = "3", value_parser = duration::parse)]
    time: Duration,
    /// How many streams to use at once
    #[arg(long = "stream", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=128))]
    streams: u16,
    #[command(flatten)]
    net: NetArgs,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
enum Request {
    Answer,
    Sink,
    Source { millis: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum Answer {
    Done { bytes: u64 },
    Refused { why: String },
}

pub(crate) async fn perf(context: &Context, args: &PerfArgs) -> Result<Exit, Failure> {
    if args.serve {
        return server::serve(context, args).await;
    }
    if args.time.as_millis() > u128::from(MAX_MILLIS) {
        let why = format!("--time {:?}: the longest is 10 minutes", args.time);
        return Err(Failure::usage(why));
    }
    client::measure(context, args).await
}
