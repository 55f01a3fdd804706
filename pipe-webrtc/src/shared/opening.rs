use pipe_core::backend::StreamSlot;
use pipe_core::backend::proto::Stream;
use tokio::sync::oneshot;

use super::deferred::Deferred;
use super::open::Open;
use super::{Inner, Shared, now};
use crate::engine::{Channel, ChannelInfo};
use crate::stream_core::StreamRef;

/// An open that is under way. If it is given up, its stream is reset.
pub(crate) struct Opening<'a> {
    shared: &'a Shared,
    opened: oneshot::Receiver<StreamRef>,
}

impl Opening<'_> {
    /// Waits for the stream; `None` if there will be none.
    pub(crate) async fn opened(mut self) -> Option<StreamRef> {
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
        if inner.session.check_open().is_err() {
            // Its caller notices.
            drop(inner);
            return drop(open);
        }
        inner.opens.push_back(open);
        if self.wire.is_raw() {
            return self.outbox.want_channel();
        }
        if inner.free.is_empty() && inner.opening < inner.opens.len() {
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
        self.settle(inner);
    }

    /// Notes that a channel of this side was opened and can carry a stream.
    pub(crate) fn channel_opened(&self, channel: Channel) {
        let mut inner = self.inner.lock();
        inner.opening -= 1;
        inner.free.push(channel);
        self.settle(inner);
    }

    /// Assigns free channels to waiting opens, in their order.
    pub(super) fn match_opens(&self, inner: &mut Inner, deferred: &mut Deferred) {
        loop {
            // An open that was given up in the queue takes no channel.
            while inner.opens.front().is_some_and(|o| o.done.is_closed()) {
                deferred.given_up.extend(inner.opens.pop_front());
            }
            if inner.opens.is_empty() || inner.session.is_ended() {
                return;
            }
            let Some(channel) = inner.free.pop() else {
                return;
            };
            let Some(Open { slot, done, .. }) = inner.opens.pop_front() else {
                return;
            };
            let proto = Stream::local(self.next_id(inner), true)
                .with_credit_threshold(Some(self.credit_threshold));
            let (key, window) = (channel.key(), self.config.stream_window);
            let stream = StreamRef::new(proto, channel, window, self.unread.clone(), Some(slot));
            self.register(inner, key, &stream);
            deferred.opened.push((done, stream));
        }
    }

    fn next_id(&self, inner: &mut Inner) -> u64 {
        let number = inner.next_number;
        inner.next_number += 1;
        number << 1 | u64::from(!self.offerer)
    }

    fn register(&self, inner: &mut Inner, key: usize, stream: &StreamRef) {
        inner.session.open(stream, now());
        inner.current.insert(key, stream.clone());
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
        if inner.session.is_ended() {
            return;
        }
        let proto = Stream::local(self.next_id(&mut inner), false);
        let key = channel.key();
        let stream = StreamRef::plain(proto, channel, info, Some(slot));
        self.register(&mut inner, key, &stream);
        let mut deferred = Deferred::default();
        deferred.opened.push((done, stream));
        self.settle_with(inner, deferred);
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
