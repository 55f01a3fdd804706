use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use parking_lot::MutexGuard;
use pipe_core::Result;
use pipe_core::backend::StreamSlot;
use tokio::sync::oneshot;

use crate::muxer::MuxerHandle;
use crate::open_queue::Open;
use crate::shared::{Inner, Shared};
use crate::stream_core::{StreamCore, StreamState};
use crate::yamux::YamuxStream;

/// What comes of opening a stream.
pub(crate) enum Opening<'a> {
    Done(Arc<StreamCore>),
    /// The driver does it.
    UnderWay(OpenWait<'a>),
}

/// Waits for a stream that the driver opens. Dropped, it abandons what has come already.
pub(crate) struct OpenWait<'a> {
    shared: &'a Shared,
    opened: oneshot::Receiver<Arc<StreamCore>>,
}

impl OpenWait<'_> {
    /// Returns the stream, or none when the connection has ended.
    pub(crate) async fn stream(&mut self) -> Option<Arc<StreamCore>> {
        (&mut self.opened).await.ok()
    }
}

impl Drop for OpenWait<'_> {
    fn drop(&mut self) {
        self.opened.close();
        if let Ok(stream) = self.opened.try_recv() {
            self.shared.abandon(&stream);
        }
    }
}

impl Inner {
    /// Shows to the peer what was opened, up to `last` where it is given. Streams are shown in the order
    /// in which they were opened.
    fn show_opened(&mut self, last: Option<u64>) {
        while let Some(stream) = self.opens.unshown.front() {
            if last.is_some_and(|last| stream.id > last) {
                return;
            }
            let mut state = stream.state.lock();
            state.show();
            let has_work = state.needs_driver() && !std::mem::replace(&mut state.lingers, true);
            drop(state);
            if let Some(stream) = self.opens.unshown.pop_front()
                && has_work
            {
                self.chores.lingering.push(stream);
            }
        }
    }
}

impl Shared {
    /// Opens a stream: at once, unless too many wait for the peer's answer. After the end of the
    /// connection nothing comes of it.
    pub(crate) fn open(&self, slot: StreamSlot) -> Opening<'_> {
        let wait = |opened| {
            Opening::UnderWay(OpenWait {
                shared: self,
                opened,
            })
        };
        let mut inner = self.inner.lock();
        if self.status.reason().is_some() {
            drop(inner);
            return wait(oneshot::channel().1);
        }
        // What comes of an error is the driver's business.
        let opened = if inner.opens.waiting.is_empty() {
            self.mux.open().ok().flatten()
        } else {
            None
        };
        let opening = if let Some(io) = opened {
            let stream = self.adopt(&mut inner, io, slot);
            if std::mem::replace(&mut inner.opens.soon, true) {
                return Opening::Done(stream);
            }
            Opening::Done(stream)
        } else {
            let (done, opened) = oneshot::channel();
            inner.opens.waiting.push_back(Open { slot, done });
            // The peer answers nothing that it does not see.
            inner.show_opened(None);
            wait(opened)
        };
        inner.chores.opens = true;
        drop(inner);
        self.call_driver();
        opening
    }

    /// Opens the streams that wait, as far as they can be opened. Returns whether streams are to be shown
    /// soon.
    pub(crate) fn open_waiting(&self) -> Result<bool> {
        loop {
            let mut inner = self.inner.lock();
            let Some(open) = inner.opens.waiting.pop_front() else {
                // The next open calls the driver again, unless it comes by itself.
                inner.opens.soon = !inner.opens.unshown.is_empty();
                return Ok(inner.opens.soon);
            };
            // Given up while it waited.
            if open.done.is_closed() {
                drop(inner);
                drop(open);
                continue;
            }
            let Some(io) = self.mux.open()? else {
                inner.opens.waiting.push_front(open);
                inner.show_opened(None);
                inner.opens.soon = false;
                drop(inner);
                self.call_driver();
                return Ok(false);
            };
            let Open { slot, done } = open;
            let stream = self.adopt(&mut inner, io, slot);
            drop(inner);
            // The open may have been given up meanwhile.
            if let Err(stream) = done.send(stream) {
                self.abandon(&stream);
            }
        }
    }

    /// Makes a stream of the multiplexer one that this side has opened.
    fn adopt(&self, inner: &mut Inner, io: YamuxStream, slot: StreamSlot) -> Arc<StreamCore> {
        let stream = Arc::new(StreamCore::new(io, self.wire, Some(slot)));
        self.insert_into(inner, &stream);
        inner.opens.unshown.push_back(stream.clone());
        self.opened.fetch_add(1, Ordering::Relaxed);
        stream
    }

    /// Shows all streams to the peer that were opened.
    pub(crate) fn show_opened(&self) {
        let mut inner = self.inner.lock();
        inner.opens.soon = false;
        inner.show_opened(None);
        self.call_if_lingering(inner);
    }

    /// Calls the driver if there are streams for it to bring to their ends.
    fn call_if_lingering(&self, inner: MutexGuard<'_, Inner>) {
        let has_work = !inner.chores.lingering.is_empty();
        drop(inner);
        if has_work {
            self.call_driver();
        }
    }

    /// Shows a stream to the peer, and those opened before it.
    pub(crate) fn show(&self, stream: &StreamCore) {
        let mut inner = self.inner.lock();
        inner.show_opened(Some(stream.id));
        self.call_if_lingering(inner);
    }

    /// Does something with a stream that this side opened that may show it to the peer, after those
    /// opened before it.
    pub(crate) fn poll_first<R>(
        &self,
        stream: &Arc<StreamCore>,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut StreamState, &mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let mut inner = self.inner.lock();
        inner.show_opened(Some(stream.id - 1));
        let mut state = stream.state.lock();
        let done = act(&mut state, cx);
        let is_first = |inner: &Inner| {
            inner
                .opens
                .unshown
                .front()
                .is_some_and(|s| s.id == stream.id)
        };
        if state.shown && is_first(&inner) {
            inner.opens.unshown.pop_front();
        }
        if state.shown && state.needs_driver() && !std::mem::replace(&mut state.lingers, true) {
            inner.chores.lingering.push(stream.clone());
        }
        drop(state);
        self.call_if_lingering(inner);
        done
    }
}
