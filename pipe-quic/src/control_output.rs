use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Session, StreamHandle};
use tokio::time::Instant;

/// Time for which a DONE waits for others.
const GATHER: Duration = Duration::from_millis(1);

/// Maximum number of DONE in a batch.
const MAX_GATHERED: usize = 32;

/// Number of bytes from which on frames stay with the session, which bounds and merges them, until these have left.
const CHUNK: usize = 4096;

/// The control stream of this side.
#[derive(Default)]
pub(crate) struct ControlOutput {
    /// Absent where the wire is raw, and once the driver says goodbye.
    stream: Option<quinn::SendStream>,
    /// Frames that have left the session.
    bytes: BytesMut,
    /// Frames have to leave now.
    is_urgent: bool,
    /// Until when the frames that wait may go on waiting for others.
    gathers_until: Option<Instant>,
}

impl ControlOutput {
    pub(crate) fn new(stream: Option<quinn::SendStream>) -> Self {
        Self {
            stream,
            ..Self::default()
        }
    }

    /// Makes the frames urgent that the session has to send.
    pub(crate) fn set_urgent(&mut self) {
        self.is_urgent = true;
    }

    /// Notes that the session has frames to send. They leave now if they are [urgent](Self::set_urgent), or else once many
    /// streams have some, for which `limit` is another bound, or some time has passed. Returns whether the driver has to
    /// be called.
    pub(crate) fn on_frames<S: StreamHandle, P>(
        &mut self,
        session: &mut Session<S, P>,
        limit: usize,
    ) -> bool {
        let limit = limit.clamp(1, MAX_GATHERED);
        if session.has_control_frames() || session.queued_streams() >= limit {
            self.is_urgent = true;
        }
        if self.is_urgent {
            let _ = self.poll_send(session, &mut Context::from_waker(Waker::noop()));
            return self.is_urgent;
        }
        let is_first = self.gathers_until.is_none();
        if is_first {
            self.gathers_until = Some(Instant::now() + GATHER);
        }
        is_first
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.gathers_until
    }

    /// Makes the frames urgent that have waited for their time.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.is_urgent |= self.gathers_until.is_some_and(|until| until <= now);
    }

    /// Returns whether frames have to leave now.
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    /// Sends the frames that are urgent. Ready when the control stream is cut.
    pub(crate) fn poll_send<S: StreamHandle, P>(
        &mut self,
        session: &mut Session<S, P>,
        cx: &mut Context<'_>,
    ) -> Poll<quinn::WriteError> {
        while self.is_urgent {
            fill(&mut self.bytes, session);
            let Some(stream) = &mut self.stream else {
                return Poll::Pending;
            };
            if self.bytes.is_empty() {
                self.is_urgent = false;
                self.gathers_until = None;
                break;
            }
            match ready!(Pin::new(stream).poll_write(cx, &self.bytes)) {
                Ok(count) => self.bytes.advance(count),
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }

    /// Takes out the stream, and all frames that wait.
    pub(crate) fn take<S: StreamHandle, P>(
        &mut self,
        session: &mut Session<S, P>,
    ) -> Option<(quinn::SendStream, BytesMut)> {
        let mut bytes = std::mem::take(&mut self.bytes);
        while session.has_frames() {
            let mut more = BytesMut::new();
            fill(&mut more, session);
            bytes.unsplit(more);
        }
        Some((self.stream.take()?, bytes))
    }
}

/// Takes frames from the session, as many as are sent together.
fn fill<S: StreamHandle, P>(bytes: &mut BytesMut, session: &mut Session<S, P>) {
    while bytes.len() < CHUNK && session.has_frames() {
        if let Some(frame) = session.poll_frame() {
            binary::encode(&frame, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use pipe_core::Config;
    use pipe_core::backend::proto::{Carrier, DrainMode, Frame, Stream};

    use super::*;

    #[derive(Clone)]
    struct Handle(Rc<RefCell<Stream>>);

    impl StreamHandle for Handle {
        fn with<R>(&self, act: impl FnOnce(&mut Stream) -> R) -> R {
            act(&mut self.0.borrow_mut())
        }
    }

    type TestSession = Session<Handle, ()>;

    /// A session that has exchanged hellos, of a server.
    fn session() -> TestSession {
        let carrier = Carrier {
            local_bit: 1,
            opens_by_frame: false,
            has_orphans: false,
            ends_natively: true,
            drain: DrainMode::WhenIdle,
            is_plain: false,
        };
        let config = Config::default();
        let now = Instant::now().into_std();
        let mut session = Session::new(carrier, (&config).into(), now);
        let hello = Frame::Hello((&config).into());
        session.handle_frame(hello.clone(), now).unwrap();
        assert_eq!(session.poll_frame(), Some(hello));
        session
    }

    /// Takes a stream of the peer and drops it.
    fn take_and_drop(session: &mut TestSession, id: u64) {
        let stream = Handle(Rc::new(RefCell::new(Stream::remote(id))));
        session.accept(&stream).unwrap();
        session.on_accepted(&stream);
        stream.with(|stream| {
            stream.reset(0);
            stream.stop(0);
        });
        session.update(&stream);
    }

    #[test]
    fn a_few_frames_wait_and_many_do_not() {
        for (limit, most) in [(0, 1), (1, 1), (8, 8), (1000, MAX_GATHERED)] {
            let (mut session, mut output) = (session(), ControlOutput::default());
            for count in 1..=most {
                take_and_drop(&mut session, 4 * count as u64);
                let calls_driver = output.on_frames(&mut session, limit);
                assert_eq!(calls_driver, count == 1 || count == most, "{count}");
                assert_eq!(output.is_urgent, count == most, "{count} of {limit}");
            }
        }
    }

    #[test]
    fn frames_that_can_wait_leave_with_one_that_cannot_and_in_time() {
        let (mut session, mut output) = (session(), ControlOutput::default());
        take_and_drop(&mut session, 4);
        output.on_frames(&mut session, 8);
        let until = output.poll_timeout().unwrap();
        output.handle_timeout(until - GATHER);
        assert!(!output.is_urgent);
        output.handle_timeout(until);
        assert!(output.is_urgent);

        let mut output = ControlOutput::default();
        take_and_drop(&mut session, 8);
        session.drain();
        assert!(output.on_frames(&mut session, 8));
        assert!(!session.has_frames());
    }

    #[test]
    fn frames_stay_with_the_session_until_others_have_left() {
        let (mut session, mut output) = (session(), ControlOutput::default());
        for _ in 0..1000 {
            let ping = Frame::Ping([1; 64]);
            let now = Instant::now().into_std();
            session.handle_frame(ping, now).unwrap();
            output.on_frames(&mut session, 8);
        }
        assert!(output.bytes.len() < CHUNK + 67, "{}", output.bytes.len());
        assert!(session.has_frames());
    }
}
