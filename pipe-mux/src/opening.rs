use pipe_core::backend::proto::{OpenError, Stream};
use pipe_core::backend::{Changes, SessionConn, State, StreamSlot, now, open_error};
use pipe_core::{Error, ErrorKind, Result, Wire};
use tokio::sync::oneshot;

use crate::conn_inner::ConnInner;
use crate::opens::Open;
use crate::stream_inner::{StreamRef, StreamState};

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

impl ConnInner {
    /// Opens a stream: at once, unless too many wait for the peer's acknowledgement.
    pub(crate) async fn open_with(&self, slot: StreamSlot) -> Result<StreamRef> {
        let mut wait = {
            let mut conn = self.state.lock();
            if let Err(error) = conn.session.check_open() {
                return Err(open_error(error, self.status.error()));
            }
            if conn.extra.waiting.is_empty() && conn.extra.unanswered < MAX_UNANSWERED {
                return self.open_now(&mut conn, slot);
            }
            let (done, opened) = oneshot::channel();
            conn.extra.waiting.push_back(Open { slot, done });
            // The peer acknowledges nothing that it does not see.
            conn.extra.show(None, &self.limits, &self.output);
            OpenWait { conn: self, opened }
        };
        let over = || open_error(OpenError::Ended, self.status.error());
        wait.stream().await.ok_or_else(over)
    }

    fn open_now(&self, conn: &mut State<Self>, slot: StreamSlot) -> Result<StreamRef> {
        let Some(id) = conn.extra.next_id else {
            let why = "the connection has used up the numbers of its streams";
            return Err(Error::new(ErrorKind::LimitReached, why));
        };
        conn.extra.next_id = id.checked_add(2);
        conn.extra.unanswered += 1;
        let proto = Stream::local(id.into(), false).with_credit_threshold(self.credit_threshold);
        let proto = match self.wire {
            Wire::Pipe => proto,
            Wire::Raw => proto.into_plain(),
        };
        let stream = StreamState::new(proto, &self.limits, Some(slot));
        conn.extra.hidden.push_back(stream.clone());
        if conn.session.open(&stream, now()) {
            self.call_driver();
        }
        Ok(stream)
    }

    /// Notes that the peer has acknowledged a stream of this side.
    pub(crate) fn on_ack(&self, stream: &StreamRef) {
        let mut conn = self.state.lock();
        let mut changes = Changes::<Self>::default();
        self.on_answered(&mut conn, stream, &mut changes);
        self.settle_with(conn, changes);
    }

    /// Notes that the peer has acknowledged a stream, or that it is over: another may be opened.
    pub(crate) fn on_answered(
        &self,
        conn: &mut State<Self>,
        stream: &StreamRef,
        changes: &mut Changes<Self>,
    ) {
        if std::mem::replace(&mut stream.lock().is_answered, true) {
            return;
        }
        conn.extra.unanswered = conn.extra.unanswered.saturating_sub(1);
        while conn.extra.unanswered < MAX_UNANSWERED {
            let Some(Open { slot, done }) = conn.extra.waiting.pop_front() else {
                return;
            };
            if done.is_closed() {
                // Given up while it waited.
                changes.slots.push(slot);
                continue;
            }
            match self.open_now(conn, slot) {
                Ok(stream) => changes.opened.push((done, stream)),
                Err(error) => tracing::debug!(%error, "no stream is opened"),
            }
        }
    }
}
