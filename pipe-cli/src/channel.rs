//! Messages over a stream: how the commands that need a peer of their own kind talk to it.
//!
//! A frame is a length of four bytes (big endian) and as many bytes, at most [`MAX_FRAME`]. A message is a
//! frame of JSON. The first one on each stream says what is spoken, beside its other fields:
//! `"protocol": "pipe-transfer/1"`. A peer that speaks something else is answered
//! `{"answer": "refused", "why": "…"}`, whatever it speaks.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use pipewerks::{BoxConn, BoxStream, Conn, Error, ErrorKind, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::exit::Exit;
use crate::failure::Failure;

/// How long a frame may be, in bytes, without its length.
pub(crate) const MAX_FRAME: usize = 256 * 1024;

/// How long a message may be, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// How long the peer may take to say what it speaks.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// A protocol of messages, and the command that serves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    pub(crate) name: &'static str,
    pub(crate) server: &'static str,
}

/// A stream that carries frames.
#[derive(Debug)]
pub(crate) struct Channel {
    frames: Framed<BoxStream, LengthDelimitedCodec>,
}

/// Why a message or a frame did not come or go.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The stream or its connection failed.
    Stream(Error),
    /// The peer speaks something else.
    Protocol(String),
}

impl Channel {
    pub(crate) fn new(stream: BoxStream) -> Self {
        let codec = LengthDelimitedCodec::builder()
            .max_frame_length(MAX_FRAME)
            .new_codec();
        let mut frames = Framed::new(stream, codec);
        frames.set_backpressure_boundary(MAX_FRAME);
        Self { frames }
    }

    /// Opens a stream and says what is to be spoken on it.
    pub(crate) async fn open(
        conn: &BoxConn,
        protocol: Protocol,
        request: &impl Serialize,
    ) -> Result<Self, Broken> {
        let mut channel = Self::new(conn.open_stream().await?);
        let mut opening = serde_json::to_value(request)?;
        opening["protocol"] = protocol.name.into();
        channel.send(&opening).await?;
        Ok(channel)
    }

    /// Reads what the peer opened the stream for. A peer that wants something else is told so.
    pub(crate) async fn accept<R: DeserializeOwned>(
        stream: BoxStream,
        protocol: Protocol,
    ) -> Result<(Self, R), Broken> {
        let mut channel = Self::new(stream);
        let opened = async {
            let opening: Value = channel.receive().await?;
            let Some(spoken) = opening["protocol"].as_str() else {
                return Err(Broken::Protocol(
                    "its first message names no protocol".into(),
                ));
            };
            if spoken != protocol.name {
                return Err(Broken::Protocol(format!("it speaks {spoken}")));
            }
            serde_json::from_value(opening).map_err(Broken::from)
        };
        match opened.await {
            Ok(request) => Ok((channel, request)),
            Err(Broken::Protocol(why)) => {
                let Protocol { name, server } = protocol;
                let told = format!("this is `{server}`, which speaks {name}; {why}");
                let refusal = serde_json::json!({"answer": "refused", "why": told, "fatal": true});
                // A peer that does not understand frames will not understand this one.
                let _ = channel.send(&refusal).await;
                let _ = channel.finish().await;
                Err(Broken::Protocol(why))
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: &impl Serialize) -> Result<(), Broken> {
        let text = serde_json::to_vec(message)?;
        self.frames.send(Bytes::from(text)).await?;
        Ok(())
    }

    /// Sends a frame of bytes, together with the next ones.
    pub(crate) async fn feed_bytes(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.frames.feed(bytes).await?;
        Ok(())
    }

    /// Sends what was fed.
    pub(crate) async fn flush(&mut self) -> Result<(), Broken> {
        SinkExt::<Bytes>::flush(&mut self.frames).await?;
        Ok(())
    }

    /// Waits for a frame; the end of the stream is none.
    pub(crate) async fn receive_bytes(&mut self) -> Result<BytesMut, Broken> {
        match self.frames.next().await {
            Some(frame) => Ok(frame?),
            None => Err(Broken::Protocol("it has ended early".into())),
        }
    }

    /// Waits for a message.
    pub(crate) async fn receive<M: DeserializeOwned>(&mut self) -> Result<M, Broken> {
        let frame = self.receive_bytes().await?;
        if frame.len() > MAX_MESSAGE {
            let why = format!(
                "a message has {} bytes, of {MAX_MESSAGE} allowed",
                frame.len()
            );
            return Err(Broken::Protocol(why));
        }
        serde_json::from_slice(&frame).map_err(Broken::from)
    }

    /// Waits for the first answer of a peer that may not understand a word.
    pub(crate) async fn receive_first<M: DeserializeOwned>(&mut self) -> Result<M, Broken> {
        let answer = timeout(FIRST_ANSWER, self.receive()).await;
        answer.unwrap_or_else(|_| {
            Err(Broken::Protocol(format!(
                "no answer within {FIRST_ANSWER:?}"
            )))
        })
    }

    /// Ends this side's direction.
    pub(crate) async fn finish(&mut self) -> Result<(), Broken> {
        SinkExt::<Bytes>::close(&mut self.frames).await?;
        Ok(())
    }

    /// The stream, and what has been read of it already after the last frame.
    pub(crate) fn into_stream(self) -> (BoxStream, BytesMut) {
        let parts = self.frames.into_parts();
        (parts.io, parts.read_buf)
    }

    /// Wants no more of what the peer sends.
    pub(crate) fn stop(&mut self) {
        self.frames.get_mut().stop(0);
    }
}

impl Broken {
    /// Whether the connection is gone, so that another one may help.
    pub(crate) fn is_lost(&self) -> bool {
        use ErrorKind::{Closed, Disconnected, Failed, Reset, Stopped};
        match self {
            Self::Stream(error) => {
                matches!(
                    error.kind(),
                    Closed | Disconnected | Failed | Reset | Stopped
                )
            }
            Self::Protocol(_) => false,
        }
    }

    /// As the end of a command whose peer at `addr` should be `server`.
    pub(crate) fn failure(&self, addr: &str, protocol: Protocol) -> Failure {
        match self {
            Self::Stream(error) => Failure::on_conn(addr, error),
            Self::Protocol(why) => Failure::new(
                Exit::Failed,
                format!(
                    "{addr}: the peer does not answer as `{}` does: {why}",
                    protocol.server
                ),
            ),
        }
    }
}

impl From<serde_json::Error> for Broken {
    fn from(error: serde_json::Error) -> Self {
        Self::Protocol(format!("a message cannot be understood: {error}"))
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Stream(error)
    }
}

/// The errors of the codec are the peer's doing, those of the stream carry one of pipewerks.
impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        match Error::from_io(&error) {
            Some(error) => Self::Stream(error.clone()),
            None => Self::Protocol(error.to_string()),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::Protocol(why) => f.write_str(why),
        }
    }
}
