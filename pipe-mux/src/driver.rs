use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use pipe_core::backend::{SessionConn, now};
use pipe_core::{CloseReason, Error, ErrorKind, Result, Wire};
use tokio::io::AsyncRead;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::conn_inner::ConnInner;
use crate::control::ControlStream;
use crate::stream_inner::StreamRef;
use crate::turns::Turns;
use crate::yamux::frame::{GO_AWAY, INTERNAL_ERROR, NORMAL, PROTOCOL_ERROR};
use crate::yamux::{Header, Input, LateNumbers};

/// Time limit for the last frames of a connection to be sent, and for the peer to end its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of bytes read after the peer has broken the rules. Any other peer is read until
/// its end: closing a socket with unread data would discard the bytes sent last.
const MAX_LATE_BYTES_OF_A_BREAKER: u64 = 256 * 1024;

/// Owns the byte stream and drives the connection over it until it has ended.
pub(crate) struct Driver<R> {
    pub(crate) conn: Arc<ConnInner>,
    pub(crate) input: Input<R>,
    /// The data frame whose bytes come next.
    pub(crate) body: Option<Body>,
    /// The stream of the last frame.
    pub(crate) last: Option<StreamRef>,
    /// Absent over a plain wire, and at the server until the client has opened it.
    pub(crate) control: Option<ControlStream>,
    /// The numbers of the streams of a plain peer.
    pub(crate) late_numbers: LateNumbers,
    /// Streams of the peer that were not acknowledged yet.
    pub(crate) unanswered: Vec<u64>,
    /// Notified of the peer's hello.
    ready: Option<oneshot::Sender<Result<()>>>,
    /// The peer has introduced itself. Until then there is the control channel alone.
    pub(crate) is_greeted: bool,
    /// A plain peer takes no more streams, and ends the connection with the last one.
    pub(crate) is_leaving: bool,
    /// The peer ended the connection and sends nothing more.
    pub(crate) is_gone: bool,
    /// Bytes that had arrived at the last sign of life.
    heard: u64,
    alarm: Pin<Box<Sleep>>,
    /// The byte stream takes nothing more; until when its end, and the peer's last frames, are waited for.
    unsent: Option<(Error, Pin<Box<Sleep>>)>,
    /// The sending direction of the byte stream has ended.
    is_shut: bool,
    /// The code of the GoAway that was sent.
    go_away_sent: Option<u32>,
    /// The peer has broken the rules.
    is_broken: bool,
    /// Bytes that have come since this side ended the connection.
    late: u64,
    /// The session has frames that the control channel had no room for.
    keep_work: bool,
}

/// The rest of a data frame.
pub(crate) struct Body {
    pub(crate) to: Receiver,
    pub(crate) left: usize,
    /// The direction ends behind it.
    pub(crate) fin: bool,
}

/// Destination of the bytes of a data frame.
pub(crate) enum Receiver {
    Control,
    Stream(StreamRef),
    /// The stream is over or never was.
    Nowhere,
}

impl<R: AsyncRead + Unpin + Send + 'static> Driver<R> {
    /// Creates the driver of a connection. `ready` is notified of the peer's hello.
    pub(crate) fn new(
        reader: R,
        conn: Arc<ConnInner>,
        is_client: bool,
        ready: oneshot::Sender<Result<()>>,
    ) -> Self {
        let is_plain = conn.wire == Wire::Raw;
        let opens_control = is_client && !is_plain;
        let deadline = conn.state.lock().session.poll_timeout();
        let alarm = deadline.map_or_else(far_future, Instant::from_std);
        let mut driver = Self {
            control: opens_control.then(|| ControlStream::new(true, &conn.limits)),
            input: Input::new(reader),
            body: None,
            last: None,
            late_numbers: LateNumbers::default(),
            unanswered: Vec::new(),
            ready: Some(ready),
            is_greeted: is_plain,
            is_leaving: false,
            is_gone: false,
            heard: 0,
            alarm: Box::pin(sleep_until(alarm)),
            unsent: None,
            is_shut: false,
            go_away_sent: None,
            is_broken: false,
            late: 0,
            keep_work: false,
            conn,
        };
        if is_plain {
            driver.tell_ready(Ok(()));
        }
        driver
    }

    pub(crate) async fn run(mut self) {
        let turns = Turns::new(self.conn.driver.clone());
        let lost = poll_fn(|cx| turns.poll(cx, |cx| self.poll(cx))).await;
        if let Err(error) = lost {
            self.is_broken |= error.kind() == ErrorKind::Protocol;
            self.tell_ready(Err(broke_off(error.clone())));
            self.conn.end(&CloseReason::Failed(error));
        }
        // The last frames get out, unless the peer does not take them.
        let closing = poll_fn(|cx| turns.poll(cx, |cx| self.poll_close(cx)));
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }

    /// Runs the connection. Ready when it has ended, with the error if it was lost.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.input.begin_turn();
        loop {
            if self.conn.status.reason().is_some() {
                return Poll::Ready(Ok(()));
            }
            self.poll_session(cx)?;
            let mut progress = false;
            match self.poll_input(cx) {
                Poll::Ready(Ok(true)) => progress = true,
                Poll::Ready(ended) => {
                    let unsent = self.unsent.take().map(|(error, _)| error);
                    return Poll::Ready(self.on_input_end(ended.err().or(unsent)));
                }
                Poll::Pending => {}
            }
            self.poll_clock(cx);
            if self.is_leaving && !self.conn.has_streams() {
                self.conn.end(&CloseReason::remote(0, ""));
                continue;
            }
            if !progress && self.conn.has_work() && !self.input.is_turn_over() {
                continue;
            }
            if progress && !self.input.is_turn_over() {
                continue;
            }
            if let Some((error, until)) = &mut self.unsent {
                if until.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                let error = error.clone();
                return Poll::Ready(self.on_input_end(Some(error)));
            }
            if let Poll::Ready(Err(error)) = self.conn.output.poll_flush(cx) {
                // The peer may have sent the reason before it closed the byte stream.
                self.unsent = Some((lost(error), Box::pin(sleep(CLOSE_TIMEOUT))));
                continue;
            }
            if self.input.is_turn_over() {
                self.conn.driver.rest();
            }
            return Poll::Pending;
        }
    }

    /// Sends the session's frames, and keeps its deadline.
    fn poll_session(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            let mut has_more = false;
            if self.conn.take_work() {
                let mut conn = self.conn.state.lock();
                if conn.session.is_flooded() {
                    let why = "the peer broke the protocol: it does not read its control channel";
                    return Err(Error::new(ErrorKind::Protocol, why));
                }
                if let Some(control) = &mut self.control {
                    while control.has_room()
                        && let Some(frame) = conn.session.poll_frame()
                    {
                        control.push(&frame);
                    }
                    has_more = conn.session.has_frames();
                }
                let deadline = conn.session.poll_timeout();
                self.conn.settle_events(conn);
                if let Some(deadline) = deadline.map(Instant::from_std)
                    && deadline < self.alarm.deadline()
                {
                    self.alarm.as_mut().reset(deadline);
                }
            }
            let Some(control) = &mut self.control else {
                return Ok(());
            };
            let sent = control.poll_flush(cx, &self.conn.limits, &self.conn.output)?;
            if sent.is_pending() {
                self.keep_work |= has_more;
                return Ok(());
            }
            if !has_more && !std::mem::take(&mut self.keep_work) {
                return Ok(());
            }
            self.conn.call_driver();
        }
    }

    /// Processes the input that has arrived. Ready with whether there was any, and with `Ok(false)`
    /// at the end of the byte stream or of the connection.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        // Some of it may have stayed behind in the last turn.
        let before = self.input.bytes.len();
        self.take_frames()?;
        if self.is_gone {
            return Poll::Ready(Ok(false));
        }
        if self.input.bytes.len() < before {
            return Poll::Ready(Ok(true));
        }
        if self.input.is_ended {
            return Poll::Ready(Ok(false));
        }
        if self.input.is_turn_over() {
            return Poll::Pending;
        }
        // Frames of the peer can require answers, which it may not read.
        if self.conn.output.is_too_much() {
            ready!(self.conn.output.poll_flush(cx)).map_err(lost)?;
        }
        let Poll::Ready(count) = self.input.poll_fill(cx, self.is_greeted).map_err(lost)? else {
            self.input.poll_shrink(cx, &self.conn.output);
            return Poll::Pending;
        };
        if count > 0 {
            self.take_frames()?;
            return Poll::Ready(Ok(!self.is_gone));
        }
        self.input.is_ended = true;
        if self.input.bytes.is_empty() && self.body.is_none() {
            return Poll::Ready(Ok(false));
        }
        Poll::Ready(Err(lost(io::ErrorKind::UnexpectedEof.into())))
    }

    /// Handles the end of the byte stream or of the connection.
    fn on_input_end(&mut self, error: Option<Error>) -> Result<()> {
        if self.is_leaving && error.is_none() {
            self.conn.end(&CloseReason::remote(0, ""));
        }
        if self.conn.status.reason().is_some() {
            return Ok(());
        }
        Err(error.unwrap_or_else(|| {
            let why = "the peer ended the byte stream without closing the connection";
            Error::new(ErrorKind::Failed, why)
        }))
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) {
        if self.input.arrived != self.heard {
            self.heard = self.input.arrived;
            let mut conn = self.conn.state.lock();
            conn.session.on_heard(now());
            self.conn.settle(conn);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            let mut conn = self.conn.state.lock();
            conn.session.handle_timeout(now());
            let deadline = conn.session.poll_timeout();
            self.conn.settle(conn);
            let deadline = deadline.map_or_else(far_future, Instant::from_std);
            self.alarm.as_mut().reset(deadline);
        }
    }

    /// Sends the pending frames, ends the sending direction, and reads until the peer's end, up to
    /// a limit.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.input.begin_turn();
        // The end shows before its frame is there, but not before the lock is free.
        self.conn.expect_frames();
        if self.poll_session(cx).is_err() {
            return Poll::Ready(());
        }
        while !self.is_sent() {
            // Credit for the control channel may come.
            while let Poll::Ready(more) = self.poll_input(cx) {
                if !matches!(more, Ok(true)) {
                    return Poll::Ready(());
                }
            }
            if ready!(self.conn.output.poll_flush(cx)).is_err() || self.poll_session(cx).is_err() {
                return Poll::Ready(());
            }
            if !self.is_sent() {
                if self.input.is_turn_over() {
                    self.conn.driver.rest();
                }
                return Poll::Pending;
            }
        }
        self.go_away(NORMAL);
        if !self.is_shut {
            if ready!(self.conn.output.poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.is_shut = true;
        }
        while !self.input.is_ended {
            self.input.bytes.clear();
            let Ok(count) = ready!(self.input.poll_fill(cx, false)) else {
                return Poll::Ready(());
            };
            self.late += count as u64;
            self.input.is_ended =
                count == 0 || self.is_broken && self.late > MAX_LATE_BYTES_OF_A_BREAKER;
        }
        Poll::Ready(())
    }

    /// Returns whether every frame of the session has left for the output.
    fn is_sent(&self) -> bool {
        self.control.as_ref().is_none_or(ControlStream::is_empty) && !self.conn.has_work()
    }

    /// Sends the peer an error because it broke a rule.
    pub(crate) fn blame(&mut self, error: &Error) {
        self.is_broken = true;
        self.go_away(match error.kind() {
            ErrorKind::Protocol => PROTOCOL_ERROR,
            _ => INTERNAL_ERROR,
        });
    }

    fn go_away(&mut self, code: u32) {
        if self.go_away_sent.is_none() {
            self.go_away_sent = Some(code);
            self.conn.output.push(Header {
                kind: GO_AWAY,
                flags: 0,
                stream: 0,
                length: code,
            });
        }
    }

    /// Reports the result of the handshake to the caller that makes the connection.
    pub(crate) fn tell_ready(&mut self, hello: Result<()>) {
        if let Some(ready) = self.ready.take() {
            // It may have given up; then the handle that it held closes the connection.
            let _ = ready.send(hello);
        }
    }

    /// Discards `count` bytes of the input.
    pub(crate) fn discard(&mut self, count: usize) {
        self.input.bytes.advance(count);
    }
}

impl<R> Drop for Driver<R> {
    fn drop(&mut self) {
        let stopped = self.conn.on_driver_gone();
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(stopped));
        }
        // Streams may live on; the byte stream does not.
        self.conn.output.end();
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(24 * 60 * 60)
}

/// Returns the error of a handshake whose byte stream was lost.
fn broke_off(error: Error) -> Error {
    if error.kind() != ErrorKind::Failed {
        return error;
    }
    let why = format!("the peer broke off in the handshake: {error}");
    Error::with_source(ErrorKind::Handshake, why, error)
}

fn lost(error: io::Error) -> Error {
    // An error with a text of its own, such as one of TLS, is more specific.
    let bare = error.get_ref().is_none();
    let why = if bare && error.kind() == io::ErrorKind::UnexpectedEof {
        "the byte stream ended in the middle of a frame".to_owned()
    } else {
        error.to_string()
    };
    Error::with_source(
        ErrorKind::Failed,
        format!("the connection is lost: {why}"),
        error,
    )
}
