//! The begin of streams, and the effects of their ends.

use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use pipe_core::backend::StreamSlot;
use pipe_core::backend::proto::{Frame, StreamFrame};
use pipe_core::{Result, Wire};

use super::half::{Half, StreamPair};
use super::state::{Inner, Shared};
use super::table::Entry;
use crate::stream_core::{Direction, StreamCore};

impl Shared {
    /// Returns `Ok` if this side may open streams.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.status.check()?;
        self.inner.lock().check_open()
    }

    /// Adds a stream that this side has opened.
    ///
    /// # Errors
    ///
    /// As in [`check_open`](Self::check_open): the stream is not announced to the peer.
    pub(crate) fn insert_opened(
        &self,
        (mut send, recv): StreamPair,
        slot: StreamSlot,
    ) -> Result<(Arc<StreamCore>, quinn::RecvStream)> {
        let id = send.id().into();
        let mut inner = self.inner.lock();
        if let Err(error) = self.status.check().and_then(|()| inner.check_open()) {
            drop(inner);
            if self.status.reason().is_none() {
                // An error means that it is over at QUIC.
                let _ = send.reset(0_u32.into());
            }
            self.drop_half(Half::Send(send));
            self.drop_half(Half::Recv(recv));
            return Err(error);
        }
        let core = StreamCore::opened(id, self.disconnects(), send, self.wire == Wire::Raw);
        let core = Arc::new(core);
        inner.table.insert(core.clone(), Some(slot));
        let news = self.wire == Wire::Pipe && inner.unshown.add(id);
        drop(inner);
        if news {
            self.news.notify_one();
        }
        Ok((core, recv))
    }

    /// Takes in a stream of the peer.
    ///
    /// # Errors
    ///
    /// The one that the connection has ended with.
    pub(super) fn insert_accepted(
        &self,
        (send, recv): StreamPair,
    ) -> Result<(StreamPair, Arc<StreamCore>)> {
        let core = Arc::new(StreamCore::accepted(send.id().into(), self.disconnects()));
        let mut inner = self.inner.lock();
        if let Some(error) = self.status.error() {
            drop(inner);
            self.drop_half(Half::Send(send));
            self.drop_half(Half::Recv(recv));
            return Err(error);
        }
        inner.table.insert(core.clone(), None);
        drop(inner);
        Ok(((send, recv), core))
    }

    /// Notes that this side is done with a direction of a stream, and acts on it. Called once for
    /// each direction.
    pub(crate) fn over(&self, core: &StreamCore, direction: Direction) {
        let is_last = core.note_over();
        let frees = self.tight && direction == Direction::Recv;
        if !is_last && !frees {
            return;
        }
        let mut inner = self.inner.lock();
        if frees {
            // Whatever was not read needs no more room.
            inner.output.credit(core.id, u32::MAX);
        }
        let settled = if is_last {
            self.done(&mut inner, core)
        } else {
            None
        };
        self.send(inner);
        self.let_go(settled);
    }

    /// Notes that this side's application is done with a stream.
    fn done(&self, inner: &mut Inner, core: &StreamCore) -> Option<Entry> {
        inner.table.in_use -= 1;
        if inner.drain_announced {
            self.idle.notify_waiters();
        }
        if !core.ours && self.wire == Wire::Pipe {
            // It gives the peer room for another stream, of which it has plenty.
            let done = Frame::Stream {
                id: core.id,
                frame: StreamFrame::Done,
            };
            let limit = if inner.drain_by_peer {
                1
            } else {
                self.config.max_streams / 4
            };
            inner.output.gather(&done, limit);
        }
        self.settle(inner, core.id, |entry| entry.done = true)
    }

    /// Notes that the peer's application is done with a stream that this side opened.
    pub(crate) fn peer_done(&self, id: u64) {
        let mut inner = self.inner.lock();
        // The caller is the driver, which checks for output anyway.
        let settled = self.settle(&mut inner, id, |entry| entry.peer_done = true);
        drop(inner);
        self.let_go(settled);
    }

    /// Takes a `note` of a stream. If the stream is not needed any more, forgets it, and returns it for
    /// [`let_go`](Self::let_go).
    pub(super) fn settle(
        &self,
        inner: &mut Inner,
        id: u64,
        note: impl FnOnce(&mut Entry),
    ) -> Option<Entry> {
        let Slot::Occupied(mut slot) = inner.table.entries.entry(id) else {
            return None;
        };
        let entry = slot.get_mut();
        note(entry);
        let peer_needs_it = if entry.core.ours {
            !entry.peer_done && self.wire == Wire::Pipe
        } else {
            self.awaits_credit(&entry.core)
        };
        if !entry.done || peer_needs_it {
            return None;
        }
        let entry = slot.remove();
        if entry.core.ours {
            inner.table.ours -= 1;
            if inner.table.ours == 0 {
                inner.tell_drained();
            }
        }
        if inner.drain_announced {
            self.idle.notify_waiters();
        }
        Some(entry)
    }

    /// Releases the resources of a retired stream. Wakes other tasks, so no lock may be held.
    pub(super) fn let_go(&self, settled: Option<Entry>) {
        if let Some(entry) = settled {
            self.free_room(&entry.core);
            drop(entry);
        }
    }
}
