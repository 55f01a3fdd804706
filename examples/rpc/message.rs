//! What client and server say to each other. A new call is a new variant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A request, and how long the client waits for the answer.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Call {
    pub(crate) request: Request,
    /// In milliseconds. The server does not work longer than that.
    pub(crate) deadline_ms: u64,
}

/// What a client may ask for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// The sum of two numbers.
    Add { a: i64, b: i64 },
    /// The quotient of two numbers.
    Divide { a: i64, b: i64 },
    /// The same text, so many times.
    Repeat { text: String, times: usize },
    /// An answer after a while, in milliseconds.
    Wait { ms: u64 },
}

/// What the server answers.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Number(i64),
    Text(String),
    Waited,
}

/// Why the server gives no answer.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// What came is no request that the server knows.
    BadRequest(String),
    /// The numbers are too big, or there is no such number.
    Undefined(String),
    /// The answer would be too long for a message.
    TooLong { bytes: usize, limit: usize },
    /// The time of the call has run out.
    DeadlineExceeded,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(why) => write!(f, "bad request: {why}"),
            Self::Undefined(what) => write!(f, "{what} is undefined"),
            Self::TooLong { bytes, limit } => {
                write!(f, "the answer has {bytes} bytes, but {limit} is the limit")
            }
            Self::DeadlineExceeded => f.write_str("it took longer than the time allowed"),
        }
    }
}

impl std::error::Error for Fault {}
