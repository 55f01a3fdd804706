use std::collections::VecDeque;

use pipe_core::Wire;
use pipe_core::backend::StreamSlot;
use tokio::sync::oneshot;

use crate::stream_inner::StreamRef;
use crate::yamux::{Limits, Output};

/// The streams of this side that are being opened.
pub(crate) struct Opens {
    /// Opens that wait for the peer's acknowledgement of those before them; bounded by the slots.
    pub(crate) waiting: VecDeque<Open>,
    /// Streams that were opened and that the peer cannot see yet, in their order; bounded by the slots.
    pub(crate) hidden: VecDeque<StreamRef>,
    /// The number of the next stream; none when they are used up.
    pub(crate) next_id: Option<u32>,
    /// Number of streams that wait for the peer's acknowledgement.
    pub(crate) unanswered: usize,
}

/// An open that waits.
pub(crate) struct Open {
    pub(crate) slot: StreamSlot,
    pub(crate) done: oneshot::Sender<StreamRef>,
}

impl Opens {
    pub(crate) fn new(is_client: bool, wire: Wire) -> Self {
        let first = match (is_client, wire) {
            // The control channel is stream 1.
            (true, Wire::Pipe) => 3,
            (true, Wire::Raw) => 1,
            (false, _) => 2,
        };
        Self {
            waiting: VecDeque::new(),
            hidden: VecDeque::new(),
            next_id: Some(first),
            unanswered: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Removes the opens in progress, after the end of the connection.
    pub(crate) fn end(&mut self) -> Self {
        Self {
            waiting: std::mem::take(&mut self.waiting),
            hidden: std::mem::take(&mut self.hidden),
            next_id: None,
            unanswered: 0,
        }
    }

    /// Shows hidden streams to the peer, up to the one of this number where it is given. Streams become visible in the
    /// order in which they were opened.
    pub(crate) fn show(&mut self, last: Option<u64>, limits: &Limits, output: &Output) {
        while let Some(stream) = self.hidden.front() {
            if last.is_some_and(|last| stream.id > last) {
                return;
            }
            stream.lock().announce(limits, output);
            self.hidden.pop_front();
        }
    }

    /// Forgets a stream that is visible, with those before it.
    pub(crate) fn on_shown(&mut self, stream: &StreamRef) {
        if self.hidden.front().is_some_and(|s| s.id == stream.id) {
            self.hidden.pop_front();
        }
    }
}
