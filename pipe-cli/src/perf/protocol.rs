use serde::{Deserialize, Serialize};

use crate::channel::Protocol;

/// Name of the protocol, in the first message of each stream.
pub(super) const PROTOCOL: Protocol = Protocol {
    name: "pipe-perf/1",
    server: "pipe perf --serve",
};

/// Maximum time of one direction, in milliseconds.
pub(super) const MAX_MILLIS: u64 = 10 * 60 * 1000;

/// Size of a write, in bytes.
pub(super) const CHUNK: usize = 128 * 1024;

/// The request of a client on a stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(super) enum Request {
    Answer,
    Sink,
    Source { millis: u64 },
}

/// The server's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    Done { bytes: u64 },
    Refused { why: String },
}
