//! Messages over a stream, for the commands that need a peer of their own kind.
//!
//! A frame is a length of four bytes (big endian) and as many bytes, at most [`MAX_FRAME`]. A
//! message is a frame of JSON. The first one on each stream names the protocol, beside its other
//! fields: `"protocol": "pipe-transfer/1"`. A peer with another protocol is answered `{"answer":
//! "refused", "why": "…"}`, whatever it speaks.

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
use crate::refusal::is_refusal;

/// Maximum length of a frame, in bytes, without its length.
pub(crate) const MAX_FRAME: usize = 256 * 1024;

/// Maximum length of a message, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// Time limit for the peer's first answer, which names its protocol.
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

    /// Opens a stream and sends its protocol.
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

    /// Reads the first message of a stream of the peer. A peer with another protocol is refused.
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

    /// Sends the queued frames.
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

    /// Returns the stream, and the bytes that were read of it already after the last frame.
    pub(crate) fn into_stream(self) -> (BoxStream, BytesMut) {
        let parts = self.frames.into_parts();
        (parts.io, parts.read_buf)
    }

    /// Stops the peer's direction.
    pub(crate) fn stop(&mut self) {
        self.frames.get_mut().stop(0);
    }
}

impl Broken {
    /// Returns whether the connection is gone, so that another one may help.
    pub(crate) fn is_lost(&self) -> bool {
        use ErrorKind::{Closed, Disconnected, Failed, Reset, Stopped};
        match self {
            Self::Stream(error) => {
                !is_refusal(error)
                    && matches!(
                        error.kind(),
                        Closed | Disconnected | Failed | Reset | Stopped
                    )
            }
            Self::Protocol(_) => false,
        }
    }

    /// Converts it into the failure of a command whose peer at `addr` should be `server`.
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

#[cfg(test)]
mod tests {
    use pipewerks::Listener;
    use serde::Deserialize;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PROTOCOL: Protocol = Protocol {
        name: "test/1",
        server: "a test",
    };

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(tag = "request")]
    enum Request {
        Add { number: u32 },
    }

    async fn conns() -> (BoxConn, BoxConn) {
        let listener = pipewerks::listen("inproc://").await.unwrap();
        let dialed = pipewerks::dial(listener.local_addr()).await.unwrap();
        (dialed, listener.accept().await.unwrap())
    }

    #[tokio::test]
    async fn messages_and_bytes_take_turns() {
        let (client, server) = conns().await;
        let request = Request::Add { number: 7 };
        let mut here = Channel::open(&client, PROTOCOL, &request).await.unwrap();
        let stream = server.accept_stream().await.unwrap();
        let (mut there, asked) = Channel::accept::<Request>(stream, PROTOCOL).await.unwrap();
        assert_eq!(asked, request);
        // More than a window: it goes as it is read.
        let send = async {
            here.feed_bytes(Bytes::from(vec![1; MAX_FRAME])).await?;
            here.send(&request).await
        };
        let receive = async {
            let bytes = there.receive_bytes().await?;
            Ok::<_, Broken>((bytes.len(), there.receive::<Request>().await?))
        };
        let (_, (bytes, message)) = tokio::try_join!(send, receive).unwrap();
        assert_eq!((bytes, message), (MAX_FRAME, Request::Add { number: 7 }));
        there.send(&"done").await.unwrap();
        assert_eq!(here.receive_first::<String>().await.unwrap(), "done");
        here.finish().await.unwrap();
        let ended = there.receive::<Request>().await.unwrap_err();
        assert!(ended.to_string().contains("ended early"), "{ended}");
    }

    #[tokio::test]
    async fn whatever_comes_instead_is_refused_with_a_reason() {
        let (client, server) = conns().await;
        let frame = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
        let long = frame(&"x".repeat(MAX_MESSAGE + 1));
        for (sent, why) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "frame size too big"),
            (vec![0xff; 100], "frame size too big"),
            (vec![0, 0, 1, 0, b'x'], "bytes remaining on stream"),
            (Vec::new(), "ended early"),
            (frame("no json"), "cannot be understood"),
            (frame("{}"), "names no protocol"),
            (frame("[1]"), "names no protocol"),
            (frame(r#"{"protocol": "else/2"}"#), "it speaks else/2"),
            (
                frame(r#"{"protocol": "test/1", "request": "Fly"}"#),
                "unknown variant",
            ),
            (long, "of 65536 allowed"),
        ] {
            let mut stream = client.open_stream().await.unwrap();
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            let accepted = server.accept_stream().await.unwrap();
            let refused = Channel::accept::<Request>(accepted, PROTOCOL)
                .await
                .unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
            assert!(!refused.is_lost());
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[4..]).into_owned();
            assert!(
                answer.contains("this is `a test`, which speaks test/1"),
                "{answer}"
            );
        }
    }
}
