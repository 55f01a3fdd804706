use std::future::poll_fn;
use std::task::Poll;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use pipe_core::Result;
use quinn::{Connection, ConnectionError, RecvStream, VarInt};
use tokio::io::AsyncReadExt;
use web_transport_proto::{Settings, StreamUni, VarInt as Number};

use crate::error::protocol;

/// A kind of stream that is not known here, and need not be read (RFC 9114, section 8.1).
const NOT_TAKEN: VarInt = VarInt::from_u32(0x0103);

/// The peer's streams of one direction: the control stream of HTTP/3, those of its compression, which is not used, and
/// those of the session of WebTransport.
pub(crate) struct OneWays {
    conn: Connection,
    /// Number of the session, once there is one. Until then, its streams wait in `early`.
    session: Option<u64>,
    early: Vec<(u64, RecvStream)>,
    has_control: bool,
    reading: FuturesUnordered<BoxFuture<'static, Result<Step>>>,
}

/// Something that came over them.
pub(crate) enum Came {
    /// The settings of HTTP/3.
    Settings(Settings),
    /// A stream of the session.
    OfSession(RecvStream),
}

/// How far the reading of a stream has come.
enum Step {
    Begun(StreamUni, RecvStream),
    Settings(Settings, RecvStream),
    OfSession(u64, RecvStream),
    /// It has nothing more to say.
    Over,
}

impl OneWays {
    pub(crate) fn new(conn: Connection) -> Self {
        Self {
            conn,
            session: None,
            early: Vec::new(),
            has_control: false,
            reading: FuturesUnordered::new(),
        }
    }

    /// Sets the session. The streams of others are not read from now on.
    pub(crate) fn set_session(&mut self, session: u64) {
        self.session = Some(session);
    }

    /// Waits for what comes next. Their number is bounded by QUIC's limit.
    ///
    /// # Errors
    ///
    /// That of a peer that broke the rules of HTTP/3. The loss of the connection is inside.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub(crate) async fn next(&mut self) -> Result<std::result::Result<Came, ConnectionError>> {
        loop {
            if let Some(recv) = self.take_early() {
                return Ok(Ok(Came::OfSession(recv)));
            }
            let step = tokio::select! {
                step = next_step(&mut self.reading) => match (step, self.conn.close_reason()) {
                    (_, Some(error)) => return Ok(Err(error)),
                    (step, None) => step?,
                },
                came = self.conn.accept_uni() => match came {
                    Ok(recv) => {
                        self.reading.push(begin(recv).boxed());
                        continue;
                    }
                    Err(error) => return Ok(Err(error)),
                },
            };
            match step {
                Step::Begun(StreamUni::CONTROL, recv) => {
                    if std::mem::replace(&mut self.has_control, true) {
                        return Err(protocol("it has opened a second control stream of HTTP/3"));
                    }
                    self.reading.push(read_settings(recv).boxed());
                }
                Step::Begun(StreamUni::QPACK_ENCODER | StreamUni::QPACK_DECODER, recv) => {
                    self.reading.push(discard(recv, "compression").boxed());
                }
                Step::Begun(StreamUni::WEBTRANSPORT, recv) => {
                    self.reading.push(read_session(recv).boxed());
                }
                Step::Begun(_, mut recv) => {
                    // An error means that it is over already.
                    let _ = recv.stop(NOT_TAKEN);
                }
                Step::Settings(settings, recv) => {
                    self.reading.push(discard(recv, "control").boxed());
                    return Ok(Ok(Came::Settings(settings)));
                }
                Step::OfSession(session, recv) => self.early.push((session, recv)),
                Step::Over => {}
            }
        }
    }

    /// Takes a stream of the session, and lets go of those of others.
    fn take_early(&mut self) -> Option<RecvStream> {
        let session = self.session?;
        while let Some((named, mut recv)) = self.early.pop() {
            if named == session {
                return Some(recv);
            }
            let _ = recv.stop(NOT_TAKEN);
        }
        None
    }
}

/// Waits for one of the streams that are read.
async fn next_step(
    reading: &mut FuturesUnordered<BoxFuture<'static, Result<Step>>>,
) -> Result<Step> {
    poll_fn(|cx| match reading.poll_next_unpin(cx) {
        Poll::Ready(Some(step)) => Poll::Ready(step),
        // Another one may come.
        Poll::Ready(None) | Poll::Pending => Poll::Pending,
    })
    .await
}

async fn begin(mut recv: RecvStream) -> Result<Step> {
    // One that ends before that is of no kind.
    Ok(match Number::read(&mut recv).await {
        Ok(kind) => Step::Begun(StreamUni(kind), recv),
        Err(_) => Step::Over,
    })
}

async fn read_session(mut recv: RecvStream) -> Result<Step> {
    Ok(match Number::read(&mut recv).await {
        Ok(session) => Step::OfSession(session.into_inner(), recv),
        Err(_) => Step::Over,
    })
}

async fn read_settings(mut recv: RecvStream) -> Result<Step> {
    // The kind of the stream has been read.
    let read = Settings::read(&mut (&[0_u8][..]).chain(&mut recv)).await;
    match read {
        Ok(settings) => Ok(Step::Settings(settings, recv)),
        Err(error) => Err(protocol(format_args!("its settings of HTTP/3: {error}"))),
    }
}

/// Reads a stream that has to stay open, and forgets what comes.
async fn discard(mut recv: RecvStream, what: &str) -> Result<Step> {
    let mut scratch = [0; 512];
    while let Ok(Some(_)) = recv.read(&mut scratch).await {}
    let why = format_args!("it has ended its {what} stream of HTTP/3");
    Err(protocol(why))
}
