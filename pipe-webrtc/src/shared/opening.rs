use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipe_core::backend::StreamSlot;
use tokio::sync::oneshot;

use super::{Open, Shared};
use crate::engine::{Channel, ChannelInfo};
use crate::stream_core::StreamCore;

/// An open that is under way. If it is given up, its stream is reset.
pub(crate) struct Opening<'a> {
    shared: &'a Shared,
    opened: oneshot::Receiver<Arc<StreamCore>>,
}

impl Opening<'_> {
    /// Waits for the stream; `None` if there will be none.
    pub(crate) async fn opened(mut self) -> Option<Arc<StreamCore>> {
        (&mut self.opened).await.ok()
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.opened.close();
        // It may have come and not been taken.
        if let Ok(stream) = self.opened.try_recv() {
            self.shared.abandon(&stream);
        }
    }
}

impl Shared {
    /// Opens a stream on a free channel, or requests a channel.
    pub(crate) fn open(&self, slot: StreamSlot, info: ChannelInfo) -> Opening<'_> {
        let (done, opened) = oneshot::channel();
        self.enqueue(Open { slot, info, done });
        Opening {
            shared: self,
            opened,
        }
    }

    fn enqueue(&self, open: Open) {
        let mut inner = self.inner.lock();
        if self.status.reason().is_some() || inner.check_open().is_err() {
            // Its caller notices.
            drop(inner);
            return drop(open);
        }
        inner.opens.push_back(open);
        if self.wire.is_raw() {
            return self.outbox.want_channel();
        }
        if !inner.free.is_empty() {
            drop(inner);
            self.match_opens();
        } else if inner.opening < inner.opens.len() {
            // The number doubles each time: an application that opens that many at once will do so
            // again.
            let most = self.config.max_streams.min(self.peer_max_streams()) as usize;
            let more = inner.channels.max(1).min(most - inner.channels.min(most));
            for _ in 0..more.max(1) {
                inner.opening += 1;
                inner.channels += 1;
                self.outbox.want_channel();
            }
        }
    }

    /// Notes that a channel of this side was opened and can carry a stream.
    pub(crate) fn channel_opened(&self, channel: Channel) {
        let mut inner = self.inner.lock();
        inner.opening -= 1;
        inner.free.push(channel);
        drop(inner);
        self.match_opens();
    }

    /// Assigns free channels to waiting opens, in their order.
    pub(super) fn match_opens(&self) {
        loop {
            let mut inner = self.inner.lock();
            if self.status.reason().is_some() {
                return;
            }
            // An open that was given up in the queue takes no channel.
            while inner.opens.front().is_some_and(|o| o.done.is_closed()) {
                let given_up = inner.opens.pop_front();
                drop(inner);
                drop(given_up);
                inner = self.inner.lock();
            }
            if inner.opens.is_empty() {
                return;
            }
            let Some(channel) = inner.free.pop() else {
                return;
            };
            let Some(open) = inner.opens.pop_front() else {
                return;
            };
            let Open { slot, done, .. } = open;
            let id = inner.next_id << 1 | u64::from(!self.offerer);
            inner.next_id += 1;
            let key = channel.key();
            let stream = StreamCore::opened(
                id,
                channel,
                self.config.stream_window,
                self.unread.clone(),
                slot,
            );
            let stream = Arc::new(stream);
            inner.streams.insert(id, stream.clone());
            inner.current.insert(key, stream.clone());
            self.opened.fetch_add(1, Ordering::Relaxed);
            // Within the lock, so that streams are announced in their order.
            stream.state.lock().waits = true;
            self.outbox.push_stream(stream.clone());
            drop(inner);
            self.hand_over(stream, done);
        }
    }

    /// Returns the next open that a plain channel is to be opened for.
    pub(crate) fn next_raw_open(&self) -> Option<Open> {
        let mut inner = self.inner.lock();
        loop {
            let open = inner.opens.pop_front()?;
            if !open.done.is_closed() {
                return Some(open);
            }
        }
    }

    /// Notes that a plain channel of this side was opened.
    pub(crate) fn raw_opened(&self, open: Open, channel: Channel) {
        let Open { slot, info, done } = open;
        let mut inner = self.inner.lock();
        if self.status.reason().is_some() {
            return;
        }
        let id = inner.next_id << 1 | u64::from(!self.offerer);
        inner.next_id += 1;
        let key = channel.key();
        let stream = StreamCore::opened(
            id,
            channel,
            self.config.stream_window,
            self.unread.clone(),
            slot,
        );
        let stream = Arc::new(stream.into_raw(info));
        inner.streams.insert(id, stream.clone());
        inner.current.insert(key, stream.clone());
        self.opened.fetch_add(1, Ordering::Relaxed);
        drop(inner);
        self.hand_over(stream, done);
    }

    /// Gives a stream to its opener, which may have gone.
    fn hand_over(&self, stream: Arc<StreamCore>, opener: oneshot::Sender<Arc<StreamCore>>) {
        if let Err(stream) = opener.send(stream) {
            self.abandon(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pipe_core::{Conn, Error, ErrorKind};
    use pipe_inproc::InprocTransport;
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;
    use crate::{MemorySignaling, WebRtcSettings, WebRtcTransport};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stream_that_its_opener_does_not_take_is_reset() {
        let loopback = vec![std::net::Ipv4Addr::LOCALHOST.into()];
        let transport = WebRtcTransport::new(InprocTransport::new())
            .with_settings(WebRtcSettings::default().with_bind_addrs(loopback))
            .unwrap();
        let (here, there) = MemorySignaling::pair();
        let (here, there) =
            tokio::try_join!(transport.offer_over(here), transport.answer_over(there)).unwrap();
        let shared = here.shared();
        let slot = shared.slots.acquire().await.unwrap();
        let opening = shared.open(slot, ChannelInfo::new("", "", true));
        let seen = async {
            let mut stream = there.accept_stream().await.unwrap();
            drop(opening);
            stream.read_u8().await.unwrap_err()
        };
        let error = Error::from(timeout(Duration::from_secs(60), seen).await.unwrap());
        assert_eq!(error.kind(), ErrorKind::Reset, "{error}");
        // Nothing of it is left.
        timeout(Duration::from_secs(60), async {
            loop {
                let news = shared.idle.notified();
                if here.stats().streams_open == 0 {
                    return;
                }
                news.await;
            }
        })
        .await
        .unwrap();
    }
}
