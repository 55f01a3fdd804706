use serde::{Deserialize, Serialize};

use crate::channel::Protocol;

/// What this is, in the first message of each stream.
pub(super) const PROTOCOL: Protocol = Protocol {
    name: "pipe-perf/1",
    server: "pipe perf --serve",
};

/// How long one direction may be measured, in milliseconds.
pub(super) const MAX_MILLIS: u64 = 10 * 60 * 1000;

/// How many bytes are written at once.
pub(super) const CHUNK: usize = 128 * 1024;

/// What a client asks of a stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(super) enum Request {
    Answer,
    Sink,
    Source { millis: u64 },
}

/// What the server says to it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    Done { bytes: u64 },
    Refused { why: String },
}
