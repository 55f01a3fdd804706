use pipe_core::backend::proto::Stream;
use pipe_core::backend::{StreamSlot, open_error};
use pipe_core::{Error, ErrorKind, Result, Wire};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::conn_inner::{ConnInner, ConnState};
use crate::deferred::Deferred;
use crate::opens::Open;
use crate::stream_inner::StreamRef;

/// Maximum number of streams of this side without the peer's acknowledgement. Implementations with
/// an accept queue reset streams beyond its bound, which was 256 in the first one.
const MAX_UNANSWERED: usize = 256;

/// Waits for a stream that is opened later. Dropped, it abandons one that has come already.
pub(crate) struct OpenWait<'a> {
    conn: &'a ConnInner,
    opened: oneshot::Receiver<StreamRef>,
}

impl OpenWait<'_> {
    /// Returns the stream, or none when the connection has ended.
    pub(crate) async fn stream(&mut self) -> Option<StreamRef> {
        (&mut self.opened).await.ok()
    }
}

impl Drop for OpenWait<'_> {
    fn drop(&mut self) {
        self.opened.close();
        if let Ok(stream) = self.opened.try_recv() {
            self.conn.abandon(&stream);
        }
    }
}

/// An open of a stream.
pub(crate) enum Opening<'a> {
    Done(StreamRef),
    /// Too many streams wait for the peer's acknowledgement.
    Waits(OpenWait<'a>),
}

impl ConnInner {
    /// Opens a stream: at once, unless too many wait for the peer's acknowledgement.
    pub(crate) fn open(&self, slot: StreamSlot) -> Result<Opening<'_>> {
        let mut conn = self.state.lock();
        if let Err(error) = conn.session.check_open() {
            return Err(open_error(error, self.error()));
        }
        if conn.opens.waiting.is_empty() && conn.opens.unanswered < MAX_UNANSWERED {
            let stream = self.open_now(&mut conn, slot)?;
            return Ok(Opening::Done(stream));
        }
        let (done, opened) = oneshot::channel();
        conn.opens.waiting.push_back(Open { slot, done });
        // The peer acknowledges nothing that it does not see.
        conn.opens.show(None, &self.limits, &self.output);
        let conn = self;
        Ok(Opening::Waits(OpenWait { conn, opened }))
    }

    fn open_now(&self, conn: &mut ConnState, slot: StreamSlot) -> Result<StreamRef> {
        let Some(id) = conn.opens.next_id else {
            let why = "the connection has used up the numbers of its streams";
            return Err(Error::new(ErrorKind::LimitReached, why));
        };
        conn.opens.next_id = id.checked_add(2);
        conn.opens.unanswered += 1;
        let proto = Stream::local(id.into(), false).with_credit_threshold(self.credit_threshold);
        let proto = match self.wire {
            Wire::Pipe => proto,
            Wire::Raw => proto.into_plain(),
        };
        let stream = StreamRef::local(proto, &self.limits, slot);
        conn.opens.hidden.push_back(stream.clone());
        if conn.session.open(&stream, Instant::now().into_std()) {
            self.call_driver();
        }
        Ok(stream)
    }

    /// Notes that the peer has acknowledged a stream of this side.
    pub(crate) fn on_ack(&self, stream: &StreamRef) {
        let mut conn = self.state.lock();
        let mut deferred = Deferred::default();
        self.on_answered(&mut conn, stream, &mut deferred);
        self.settle_with(conn, deferred);
    }

    /// Notes that the peer has acknowledged a stream, or that it is over: another may be opened.
    pub(crate) fn on_answered(
        &self,
        conn: &mut ConnState,
        stream: &StreamRef,
        deferred: &mut Deferred,
    ) {
        if std::mem::replace(&mut stream.lock().is_answered, true) {
            return;
        }
        conn.opens.unanswered = conn.opens.unanswered.saturating_sub(1);
        while conn.opens.unanswered < MAX_UNANSWERED {
            let Some(Open { slot, done }) = conn.opens.waiting.pop_front() else {
                return;
            };
            if done.is_closed() {
                // Given up while it waited.
                deferred.slots.push(slot);
                continue;
            }
            match self.open_now(conn, slot) {
                Ok(stream) => deferred.opened.push((done, stream)),
                Err(error) => tracing::debug!(%error, "no stream is opened"),
            }
        }
    }
}
