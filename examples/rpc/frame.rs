//! Messages on a stream: JSON behind its length in four bytes.

use bytes::Bytes;
use futures::SinkExt;
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// How long a message may be, in bytes. A longer one is an error before its bytes are read.
pub(crate) const LIMIT: usize = 4 * 1024 * 1024;

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(LIMIT)
        .new_codec()
}

/// Reads the one message that a direction of a stream carries, up to the end.
///
/// # Errors
///
/// That of the stream, of kind [`InvalidData`](io::ErrorKind::InvalidData) for what is no such message.
pub(crate) async fn read<T: DeserializeOwned>(recv: impl AsyncRead + Unpin) -> io::Result<T> {
    let mut frames = FramedRead::new(recv, codec());
    let Some(message) = frames.next().await.transpose()? else {
        return Err(invalid("the stream ended before the message"));
    };
    if frames.next().await.transpose()?.is_some() {
        return Err(invalid("more than one message"));
    }
    Ok(serde_json::from_slice(&message)?)
}

/// Writes a message and ends the direction. The writer is left to the caller, who may have to reset it.
pub(crate) async fn write<T: Serialize>(
    send: impl AsyncWrite + Unpin,
    message: &T,
) -> io::Result<()> {
    let json = Bytes::from(serde_json::to_vec(message)?);
    let mut frames = FramedWrite::new(send, codec());
    frames.send(json).await?;
    // Shuts the direction down: without it, the peer would read an error instead of the end.
    SinkExt::<Bytes>::close(&mut frames).await
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
