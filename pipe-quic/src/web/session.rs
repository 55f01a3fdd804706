use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_core::{CloseReason, Error, ErrorKind, Result};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, WriteError};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use web_transport_proto::{Capsule, CapsuleError, Frame, Http3CapsuleReader, Settings, VarInt};

use crate::dialect::one_way_opening;
use crate::error::protocol;
use crate::web::one_ways::{Came, OneWays};

/// What HTTP/3 resets a stream with whose request is given up (RFC 9114, section 8.1).
const CANCELLED: quinn::VarInt = quinn::VarInt::from_u32(0x010c);

/// A session of WebTransport (draft-ietf-webtrans-http3): what HTTP/3 needs of its connection, which has no other one.
pub(crate) struct WebSession {
    id: u64,
    /// This side's control stream of HTTP/3. Its end would end the connection.
    _control: SendStream,
    /// This side's direction of the stream that the session was asked for with. Its end is the end of the session.
    asked: SendStream,
    /// Waits for the peer's end of it.
    end: BoxFuture<'static, Result<CloseReason>>,
    one_ways: OneWays,
}

/// The beginning of HTTP/3 on a connection, before there is a session.
pub(crate) struct Http {
    conn: Connection,
    control: SendStream,
    one_ways: OneWays,
}

impl Http {
    /// Begins: sends this side's settings.
    ///
    /// # Errors
    ///
    /// The loss of the connection.
    pub(crate) async fn begin(conn: &Connection) -> Result<Self, ConnectionError> {
        let mut control = conn.open_uni().await?;
        let mut settings = Settings::default();
        settings.enable_webtransport(1);
        let mut first = BytesMut::new();
        settings.encode(&mut first);
        if let Err(WriteError::ConnectionLost(error)) = control.write_all(&first).await {
            return Err(error);
        }
        Ok(Self {
            conn: conn.clone(),
            control,
            one_ways: OneWays::new(conn.clone()),
        })
    }

    /// Waits for the peer's settings, which have to allow WebTransport.
    ///
    /// # Errors
    ///
    /// Why there can be no session; the loss of the connection is inside.
    pub(crate) async fn settings(&mut self) -> Result<Result<(), ConnectionError>> {
        match self.one_ways.next().await? {
            Ok(Came::Settings(settings)) if settings.supports_webtransport() > 0 => Ok(Ok(())),
            Ok(Came::Settings(_)) => {
                let why = "the peer speaks HTTP/3 without WebTransport";
                Err(Error::new(ErrorKind::Handshake, why))
            }
            Ok(Came::OfSession(_)) => Err(protocol("a stream without a session")),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Makes a session of the stream that it was asked for with, once it is granted.
    pub(crate) fn session(self, asked: SendStream, answered: RecvStream) -> WebSession {
        let id = u64::from(asked.id());
        let mut one_ways = self.one_ways;
        one_ways.set_session(id);
        WebSession {
            id,
            _control: self.control,
            asked,
            end: end_of(self.conn, answered).boxed(),
            one_ways,
        }
    }
}

impl WebSession {
    /// Returns the number of the session: that of the stream that it was asked for with.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Waits for a stream of one direction in the session.
    ///
    /// # Errors
    ///
    /// That of a peer that broke the rules, or has ended the session; the loss of the connection is inside.
    pub(crate) async fn accept_one_way(&mut self) -> Result<Result<RecvStream, ConnectionError>> {
        let end = &mut self.end;
        tokio::select! {
            came = next_of(&mut self.one_ways) => came,
            end = end => {
                let why = match end? {
                    CloseReason::Remote { code, reason } => {
                        format!("the peer has closed the session with {code}: {reason}")
                    }
                    _ => "the peer has ended the session".to_owned(),
                };
                Err(Error::new(ErrorKind::Refused, why))
            }
        }
    }

    /// Waits for the peer's end of the session.
    ///
    /// # Errors
    ///
    /// That of a peer that broke the rules. The loss of the connection is reported elsewhere.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub(crate) async fn ended(&mut self) -> Result<CloseReason> {
        let Self { end, one_ways, .. } = self;
        let mut broken = pin!(async {
            loop {
                match next_of(one_ways).await {
                    // No stream of one direction is used behind the first.
                    Ok(Ok(mut recv)) => drop(recv.stop(crate::dialect::Codes::Http.written(0))),
                    Ok(Err(_)) => pending().await,
                    Err(error) => return error,
                }
            }
        });
        poll_fn(|cx| {
            if let Poll::Ready(end) = end.poll_unpin(cx) {
                return Poll::Ready(end);
            }
            broken.as_mut().poll(cx).map(Err)
        })
        .await
    }

    /// Ends the session with a code and a reason. Returns when the peer has that.
    pub(crate) async fn close(&mut self, code: u32, reason: &str) -> Option<()> {
        let mut capsule = BytesMut::new();
        let reason = reason.to_owned();
        Capsule::CloseWebTransportSession { code, reason }.encode(&mut capsule);
        let mut frame = BytesMut::new();
        Frame::DATA.encode(&mut frame);
        VarInt::try_from(capsule.len()).ok()?.encode(&mut frame);
        frame.extend_from_slice(&capsule);
        self.asked.write_all(&frame).await.ok()?;
        self.asked.shutdown().await.ok()?;
        self.asked.stopped().await.ok()?;
        Some(())
    }
}

/// A session that is let go without a close has not ended well: quinn would end its stream as if it had.
impl Drop for WebSession {
    fn drop(&mut self) {
        // An error means that the peer has the end.
        let _ = self.asked.reset(CANCELLED);
    }
}

/// Waits for a stream of one direction in the session.
async fn next_of(one_ways: &mut OneWays) -> Result<Result<RecvStream, ConnectionError>> {
    loop {
        match one_ways.next().await? {
            Ok(Came::OfSession(recv)) => return Ok(Ok(recv)),
            // There is only one control stream.
            Ok(Came::Settings(_)) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Opens a stream of one direction in a session.
pub(crate) async fn open_one_way(
    conn: &Connection,
    session: u64,
) -> Result<SendStream, ConnectionError> {
    let mut send = conn.open_uni().await?;
    match send.write_all(&one_way_opening(session)).await {
        Err(WriteError::ConnectionLost(error)) => Err(error),
        // The next write has any other error again.
        _ => Ok(send),
    }
}

/// Maximum number of bytes that the peer sends over the session's own stream, which has little to say.
const MOST_SAID: u64 = 1024 * 1024;

/// Reads the peer's direction of the session's own stream, to its end.
async fn end_of(conn: Connection, recv: RecvStream) -> Result<CloseReason> {
    let mut reader = Http3CapsuleReader::new(Bounded {
        recv,
        left: MOST_SAID,
    });
    let error = loop {
        match reader.read().await {
            Ok(Some(Capsule::CloseWebTransportSession { code, reason })) => {
                return Ok(CloseReason::remote(code, &reason));
            }
            // It ends without a word (section 6).
            Ok(None) => return Ok(CloseReason::remote(0, "")),
            Ok(Some(_)) => {}
            Err(error) => break error,
        }
    };
    if conn.close_reason().is_some() {
        // Reported elsewhere.
        return pending().await;
    }
    Err(match error {
        // A reset, in most cases.
        CapsuleError::UnexpectedEnd => {
            let why = "the peer has aborted the session's own stream";
            Error::new(ErrorKind::Failed, why)
        }
        error => protocol(format_args!("the session's own stream: {error}")),
    })
}

/// A stream of the peer that fails once too much has come.
struct Bounded {
    recv: RecvStream,
    left: u64,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf);
        let count = buf.filled().len() - before;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into())),
        }
        read
    }
}
