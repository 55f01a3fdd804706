use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use pipe_core::backend::RecvState;
use pipe_core::{CloseReason, Error, ErrorKind, RecvStream, Result, Wire};
use quinn::{ReadError, VarInt, WriteError};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::coop::poll_proceed;

use super::end::End;
use crate::error::{Condition, code_of, protocol};
use crate::preamble::PREAMBLE;
use crate::shared::Half;
use crate::stream_core::Direction;

/// Maximum size of a read that asks quinn for one byte more. So the end of a stream is found
/// together with its last bytes, and a buffer that they just fill costs no second visit to quinn,
/// which takes the lock of the connection. The bytes are copied once more for that, which costs
/// less.
const SMALL: usize = 2046;

/// The receiving direction of a [`QuicStream`](crate::QuicStream).
pub struct QuicRecvStream {
    /// Present until the half is dropped.
    quinn: Option<quinn::RecvStream>,
    state: RecvState,
    /// The opener's first byte has not come yet.
    awaits_preamble: bool,
    /// Byte that was read and did not fit.
    ahead: Option<u8>,
    /// The opener is this side, and may not have shown the stream to the peer.
    may_be_unshown: bool,
    end: End,
}

impl QuicRecvStream {
    pub(super) fn new(quinn: quinn::RecvStream, end: End) -> Self {
        Self {
            quinn: Some(quinn),
            state: RecvState::Open,
            awaits_preamble: !end.core.ours && end.shared().wire == Wire::Pipe,
            ahead: None,
            may_be_unshown: end.core.ours,
            end,
        }
    }

    fn quinn(&mut self) -> &mut quinn::RecvStream {
        self.quinn.as_mut().expect("a half that is in use")
    }

    /// Leaves the open state, and notes that the application is done with the direction.
    fn finish_as(&mut self, state: RecvState) {
        self.state = state;
        self.end.shared().over(&self.end.core, Direction::Recv);
    }

    /// Gives an open direction up.
    fn cut(&mut self, state: RecvState, code: u32) {
        if self.state == RecvState::Open && self.end.conn_ended() {
            self.state = RecvState::ConnEnded;
        }
        if self.state == RecvState::Open {
            // An error means that the direction is over already.
            let _ = self.quinn().stop(VarInt::from_u32(code));
            self.finish_as(state);
        }
    }

    fn check_disconnect(&mut self) {
        if self.state == RecvState::Open && self.end.is_disconnected() {
            self.cut(RecvState::Disconnected, 0);
        }
    }

    #[cold]
    fn read_failed(&mut self, error: ReadError) -> Error {
        match error {
            ReadError::Reset(code) => {
                let code = code_of(code);
                self.finish_as(RecvState::Reset(code));
                Error::reset(code)
            }
            ReadError::ConnectionLost(error) => {
                let error = self.end.lost(&error);
                self.state = RecvState::ConnEnded;
                error
            }
            ReadError::ZeroRttRejected => {
                let error = self.end.shared().refuse_early();
                self.state = RecvState::ConnEnded;
                error
            }
            other => Error::with_source(
                ErrorKind::Failed,
                format!("the stream is over: {other}"),
                other,
            ),
        }
    }

    fn poll_read_open(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let ahead = self.ahead.take();
        if let Some(byte) = ahead {
            buf.put_slice(&[byte]);
        }
        let read = match self.poll_quinn(cx, buf) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => match self.end.conn_error() {
                None => {
                    self.show();
                    Poll::Pending
                }
                Some(error) => {
                    self.state = RecvState::ConnEnded;
                    Poll::Ready(Err(error))
                }
            },
        };
        // Buffered bytes go first: an error is returned again.
        if ahead.is_some() {
            Poll::Ready(Ok(()))
        } else {
            read
        }
    }

    /// Reads the bytes that have come. An empty read is the end.
    fn poll_quinn(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if buf.remaining() > SMALL && !self.awaits_preamble {
            let read = ready!(self.quinn().poll_read_buf(cx, buf));
            return Poll::Ready(read.map_err(|error| self.read_failed(error)));
        }
        let mut room = [const { MaybeUninit::uninit() }; SMALL + 2];
        loop {
            let len = buf.remaining().min(SMALL) + 1 + usize::from(self.awaits_preamble);
            let mut read = ReadBuf::uninit(&mut room[..len]);
            if let Err(error) = ready!(self.quinn().poll_read_buf(cx, &mut read)) {
                return Poll::Ready(Err(self.read_failed(error)));
            }
            let bytes = match read.filled() {
                bytes if !self.awaits_preamble => bytes,
                [PREAMBLE, bytes @ ..] => {
                    self.awaits_preamble = false;
                    if bytes.is_empty() {
                        // More may have come, or the end.
                        continue;
                    }
                    bytes
                }
                strange => {
                    let error = self.refuse(strange.first());
                    return Poll::Ready(Err(error));
                }
            };
            let (fits, ahead) = bytes.split_at(bytes.len().min(buf.remaining()));
            buf.put_slice(fits);
            self.ahead = ahead.first().copied();
            return Poll::Ready(Ok(()));
        }
    }

    /// Refuses a stream that begins with a wrong byte, or with none.
    #[cold]
    fn refuse(&mut self, first: Option<&u8>) -> Error {
        let why = match first {
            Some(first) => format!("a stream of the unknown kind {first:#04x}"),
            None => "a stream that ends before its first byte".to_owned(),
        };
        let shared = self.end.shared();
        shared.fail(Condition::Protocol, protocol(&why));
        let error = shared.error();
        self.state = RecvState::ConnEnded;
        error
    }

    /// Announces the stream to the peer, which may have to send first.
    fn show(&mut self) {
        if !std::mem::take(&mut self.may_be_unshown) {
            return;
        }
        let shown = self
            .end
            .core
            .poll_show(&mut Context::from_waker(Waker::noop()));
        match shown {
            // The driver waits for room: from now on not in vain.
            Poll::Pending => self.end.shared().news.notify_one(),
            Poll::Ready(Err(WriteError::ZeroRttRejected)) => drop(self.end.shared().refuse_early()),
            // The writing half reports any other error.
            Poll::Ready(_) => {}
        }
    }
}

impl AsyncRead for QuicRecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let this = self.get_mut();
        let coop = ready!(poll_proceed(cx));
        this.check_disconnect();
        if this.state == RecvState::Ended {
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = this.state.read_error(this.end.conn_error()) {
            return Poll::Ready(Err(error.into()));
        }
        // After a close by the peer, received bytes can still be read.
        let reason = this.end.shared().status.reason();
        if let Some(reason) = reason
            && !matches!(reason, CloseReason::Remote { .. })
        {
            let error = Error::closed(reason);
            this.state = RecvState::ConnEnded;
            return Poll::Ready(Err(error.into()));
        }
        let before = buf.filled().len();
        let read = this.poll_read_open(cx, buf);
        if read.is_pending() && this.end.watch(&this.end.core.reader, cx) {
            // It has ended meanwhile.
            cx.waker().wake_by_ref();
        }
        ready!(read)?;
        let count = buf.filled().len() - before;
        if count == 0 {
            this.finish_as(RecvState::Ended);
        } else {
            let shared = this.end.shared();
            shared
                .bytes
                .received
                .fetch_add(count as u64, Ordering::Relaxed);
            shared.has_read(&this.end.core, count);
        }
        coop.made_progress();
        Poll::Ready(Ok(()))
    }
}

impl RecvStream for QuicRecvStream {
    fn id(&self) -> u64 {
        self.end.core.id
    }

    fn stop(&mut self, code: u32) {
        self.cut(RecvState::Stopped(code), code);
    }
}

impl Drop for QuicRecvStream {
    fn drop(&mut self) {
        RecvStream::stop(self, 0);
        if let Some(half) = self.quinn.take() {
            self.end.shared().drop_half(Half::Recv(half));
        }
    }
}
