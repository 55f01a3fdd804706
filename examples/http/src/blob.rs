//! Bodies too big to be held as a whole, known by their hashes.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const PIECE: u64 = 64 * 1024;

/// How long a body was, and its hash.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Hashed {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

impl Hashed {
    /// Starts to hash.
    pub(crate) fn start() -> Hashing {
        Hashing {
            bytes: 0,
            hasher: Sha256::new(),
        }
    }
}

/// A hash that is not done yet.
pub(crate) struct Hashing {
    bytes: u64,
    hasher: Sha256,
}

impl Hashing {
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.hasher.update(piece);
    }

    pub(crate) fn finish(self) -> Hashed {
        Hashed {
            bytes: self.bytes,
            sha256: format!("{:x}", self.hasher.finalize()),
        }
    }
}

/// A body of so many pieces of 64 KiB, which is made while it is sent, and what it hashes to.
pub(crate) fn blob(pieces: u64) -> (Body, Hashed) {
    let mut hashing = Hashed::start();
    for number in 0..pieces {
        hashing.add(&piece(number));
    }
    let stream = futures::stream::iter((0..pieces).map(|n| Ok::<_, Infallible>(piece(n))));
    (Body::from_stream(stream), hashing.finish())
}

/// No two pieces are alike, and no part of one is like another.
pub(crate) fn piece(number: u64) -> Bytes {
    let words = number * (PIECE / 8)..(number + 1) * (PIECE / 8);
    words
        .flat_map(|word| (word + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}
