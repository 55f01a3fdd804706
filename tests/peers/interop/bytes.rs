//! What the two sides of a stream send, and what they have read of it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::interop::peer::Peer;
use crate::interop::tools::hash;

/// More than any stream carries here.
pub(crate) const ALL: usize = 1 << 40;

/// What a side has read of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) bytes: usize,
    pub(crate) hash: String,
    pub(crate) ending: String,
}

impl Got {
    /// Everything that was sent, and then the end.
    pub(crate) fn whole(bytes: usize, hash: String) -> Self {
        Self::of(bytes, hash, "end")
    }

    pub(crate) fn of(bytes: usize, hash: String, ending: &str) -> Self {
        Self {
            bytes,
            hash,
            ending: ending.into(),
        }
    }
}

impl Peer {
    /// Has the peer write so many random bytes; their hash.
    pub(crate) async fn writes(&self, stream: u64, count: usize) -> String {
        self.word(&format!("write {stream} {count}")).await
    }

    /// Has the peer read so many bytes at most.
    pub(crate) async fn reads(&self, stream: u64, limit: usize) -> Got {
        let words = self.tell(&format!("read {stream} {limit}")).await;
        let [bytes, hash, ending @ ..] = &words[..] else {
            panic!("the peer said {words:?}");
        };
        Got {
            bytes: bytes.parse().expect("a number"),
            hash: hash.clone(),
            ending: ending.join(" "),
        }
    }

    /// Has the peer end its direction.
    pub(crate) async fn finishes(&self, stream: u64) {
        self.tell(&format!("finish {stream}")).await;
    }
}

/// Writes so many random bytes; their hash.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), count: usize) -> String {
    let mut bytes = vec![0; count];
    fastrand::fill(&mut bytes);
    to.write_all(&bytes).await.expect("a write");
    hash(&bytes)
}

/// Reads so many bytes at most.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin), limit: usize) -> Got {
    let mut bytes = Vec::new();
    let ending = match from.take(limit as u64).read_to_end(&mut bytes).await {
        Ok(count) if count < limit => "end".to_owned(),
        Ok(_) => "more".to_owned(),
        Err(error) => match pipewerks::Error::from_io(&error) {
            Some(error) => format!("{:?} {:?}", error.kind(), error.code()),
            None => panic!("an error that is not of pipewerks: {error}"),
        },
    };
    Got {
        bytes: bytes.len(),
        hash: hash(&bytes),
        ending,
    }
}
