use serde::{Deserialize, Serialize};

use super::rel_path::RelPath;
use crate::channel::Protocol;

/// Name of the protocol, in the first message of each stream.
pub(crate) const PROTOCOL: Protocol = Protocol {
    name: "pipe-transfer/1",
    server: "pipe receive",
};

/// The request of the sender on a stream.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Begins a transfer, on each connection of it.
    Hello {
        files: u64,
        bytes: u64,
        /// Number of files that are left to send, of those.
        #[serde(default)]
        left: Option<u64>,
        /// Random number that joins the connections of one sender to one transfer; it is secret.
        #[serde(default)]
        transfer: Option<String>,
    },
    /// Makes a folder.
    Folder {
        path: RelPath,
        /// The permissions of the folders on the path, from the first one.
        #[serde(default)]
        folders: Vec<u32>,
    },
    /// Transfers a file.
    File(FileRequest),
    /// Ends a transfer.
    Finish { failed: u64 },
}

/// A file, as its sender describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FileRequest {
    pub(crate) path: RelPath,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Time of the last change, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) modified: Option<u64>,
    /// The same for a time before 1970, in milliseconds before it.
    #[serde(default)]
    pub(crate) modified_before: Option<u64>,
    #[serde(default)]
    pub(crate) executable: bool,
    /// The permissions, as chmod(2) has them, without those bits that give away an identity.
    #[serde(default)]
    pub(crate) mode: Option<u32>,
    /// Those of the folders on the path, from the first one.
    #[serde(default)]
    pub(crate) folders: Vec<u32>,
}

/// The receiver's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    Welcome,
    /// The receiver has so many bytes already, with this SHA-256 in hexadecimal digits.
    Have {
        offset: u64,
        sha256: String,
    },
    Done,
    Refused {
        why: String,
        /// Whether the other requests would fail alike.
        #[serde(default)]
        fatal: bool,
    },
}

/// The sender's messages about a file, after the receiver's `have`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "file", rename_all = "snake_case")]
pub(crate) enum FileMessage {
    /// The bytes from here to the size follow.
    From { offset: u64 },
    /// The end of the file, with the SHA-256 of the whole.
    End { sha256: String },
}
