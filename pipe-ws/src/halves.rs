use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::decoder::{Close, Decoder, End};
use crate::frame::Role;
use crate::sender::Sender;

/// Maximum number of consecutive reads that bring no payload before other tasks run: empty messages and control
/// frames cost the peer little.
const READS: usize = 16;

/// The payload that comes in binary messages, as a stream of bytes.
///
/// It ends with a normal close of the peer. Any other close, a broken rule, and an end without a close are errors.
pub(crate) struct Reader<R, W> {
    io: R,
    /// What came with the peer's handshake.
    early: Bytes,
    decoder: Decoder,
    end: Option<Result<(), Ended>>,
    sender: Arc<Mutex<Sender<W>>>,
    /// An answer waits for the byte stream to take it.
    owes_answer: bool,
}

/// Why there is nothing more to read.
#[derive(Clone, Debug)]
struct Ended {
    kind: io::ErrorKind,
    why: String,
}

/// Sends bytes in binary messages; see [`Sender`].
pub(crate) struct Writer<W>(Arc<Mutex<Sender<W>>>);

/// Makes a byte stream of a WebSocket whose handshake is over, in two directions. `early` is what came with the
/// peer's handshake.
pub(crate) fn halves<R, W>(
    reader: R,
    writer: W,
    role: Role,
    early: Bytes,
) -> (Reader<R, W>, Writer<W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let sender = Arc::new(Mutex::new(Sender::new(writer, role)));
    let reader = Reader {
        io: reader,
        early,
        decoder: Decoder::new(role),
        end: None,
        sender: sender.clone(),
        owes_answer: false,
    };
    (reader, Writer(sender))
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Reader<R, W> {
    /// Reads from the byte stream, and returns how many bytes of payload came, which follow what is in `buf`. None
    /// at the end of the byte stream.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        let before = buf.filled().len();
        if self.early.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let count = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..count]);
            self.early.advance(count);
        }
        let piece = &mut buf.filled_mut()[before..];
        if piece.is_empty() {
            return Poll::Ready(Ok(None));
        }
        let decoded = self.decoder.decode(piece);
        buf.set_filled(before + decoded.data);
        if let Some(ping) = decoded.ping {
            self.sender.lock().answer(ping);
            self.owes_answer = true;
        }
        if let Some(end) = decoded.end {
            self.end_with(end);
        }
        Poll::Ready(Ok(Some(decoded.data)))
    }

    fn end_with(&mut self, end: End) {
        let mut sender = self.sender.lock();
        self.end = Some(match end {
            End::Closed(close) => {
                // A close is answered by its own code (RFC 6455, section 5.5.1).
                sender.close_with(close.code.unwrap_or(1000));
                if close.is_normal() {
                    Ok(())
                } else {
                    Err(Ended::closed(&close))
                }
            }
            End::Broken(violation) => {
                sender.close_with(violation.code);
                Err(Ended {
                    kind: io::ErrorKind::InvalidData,
                    why: violation.to_string(),
                })
            }
        });
    }

    fn answer(&mut self, cx: &mut Context<'_>) {
        if self.owes_answer {
            // An error is the next write's as well.
            self.owes_answer = self.sender.lock().poll_answers(cx).is_pending();
        }
    }
}

impl Ended {
    fn closed(close: &Close) -> Self {
        let code = close.code.unwrap_or_default();
        let name = match code {
            1001 => " (going away)",
            1002 => " (protocol error)",
            1003 => " (unsupported data)",
            1007 => " (invalid data)",
            1008 => " (policy violation)",
            1009 => " (message too big)",
            1011 => " (internal error)",
            1012 => " (service restart)",
            1013 => " (try again later)",
            1014 => " (bad gateway)",
            _ => "",
        };
        let reason = match close.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason:?}"),
        };
        Self {
            kind: io::ErrorKind::ConnectionAborted,
            why: format!("the WebSocket was closed with code {code}{name}{reason}"),
        }
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> AsyncRead for Reader<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.answer(cx);
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..READS {
            if let Some(end) = &this.end {
                let end = end.clone();
                return Poll::Ready(end.map_err(|Ended { kind, why }| io::Error::new(kind, why)));
            }
            let piece = ready!(this.poll_piece(cx, buf))?;
            this.answer(cx);
            match piece {
                None => {
                    this.end = Some(Err(Ended {
                        kind: io::ErrorKind::UnexpectedEof,
                        why: "the byte stream ended without a close of the WebSocket".to_owned(),
                    }));
                }
                Some(0) => {}
                Some(_) => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Writer<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        // A message takes all buffers, whatever is below.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().poll_shutdown(cx)
    }
}
