use pipe_core::Result;
use pipe_core::backend::proto::{OpenError, Stream};
use pipe_core::backend::{Changes, SessionConn, State, StreamSlot, now, open_error};
use tokio::sync::oneshot;

use super::Shared;
use super::open::Open;
use crate::engine::{Channel, ChannelInfo};
use crate::stream_core::{StreamRef, StreamState};

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
    /// Opens a stream on a channel of these parameters, once the peer's limit allows it.
    pub(crate) async fn open_channel(&self, info: ChannelInfo) -> Result<StreamRef> {
        self.check_open()?;
        let slot = self.slots.acquire().await;
        self.check_open()?;
        let over = || open_error(OpenError::Ended, None);
        let slot = slot.ok_or_else(over)?;
        match self.start_open(slot, info).opened().await {
            Some(stream) => Ok(stream),
            None => Err(self.check_open().err().unwrap_or_else(over)),
        }
    }

    /// Opens a stream on a free channel, or requests a channel.
    fn start_open(&self, slot: StreamSlot, info: ChannelInfo) -> Opening<'_> {
        let (done, opened) = oneshot::channel();
        self.enqueue(Open { slot, info, done });
        Opening {
            shared: self,
            opened,
        }
    }

    fn enqueue(&self, open: Open) {
        let mut inner = self.state.lock();
        if inner.session.check_open().is_err() {
            // Its caller notices.
            drop(inner);
            return drop(open);
        }
        inner.extra.opens.push_back(open);
        if self.wire.is_raw() {
            return self.outbox.want_channel();
        }
        if inner.extra.free.is_empty() && inner.extra.opening < inner.extra.opens.len() {
            // The number doubles each time: an application that opens that many at once will do so
            // again.
            let most = self.config.max_streams.min(self.peer_max_streams()) as usize;
            let more = inner
                .extra
                .channels
                .max(1)
                .min(most - inner.extra.channels.min(most));
            for _ in 0..more.max(1) {
                inner.extra.opening += 1;
                inner.extra.channels += 1;
                self.outbox.want_channel();
            }
        }
        self.settle(inner);
    }

    /// Notes that a channel of this side was opened and can carry a stream.
    pub(crate) fn channel_opened(&self, channel: Channel) {
        let mut inner = self.state.lock();
        inner.extra.opening -= 1;
        inner.extra.free.push(channel);
        self.settle(inner);
    }

    /// Assigns free channels to waiting opens, in their order.
    pub(super) fn match_opens(&self, inner: &mut State<Self>, changes: &mut Changes<Self>) {
        loop {
            // An open that was given up in the queue takes no channel.
            while inner
                .extra
                .opens
                .front()
                .is_some_and(|o| o.done.is_closed())
            {
                changes.dropped.extend(inner.extra.opens.pop_front());
            }
            if inner.extra.opens.is_empty() || inner.session.is_ended() {
                return;
            }
            let Some(channel) = inner.extra.free.pop() else {
                return;
            };
            let Some(Open { slot, done, .. }) = inner.extra.opens.pop_front() else {
                return;
            };
            let proto = Stream::local(self.next_id(inner), true)
                .with_credit_threshold(Some(self.credit_threshold));
            let (key, window) = (channel.key(), self.config.stream_window);
            let stream =
                StreamState::on_channel(proto, channel, window, self.unread.clone(), Some(slot));
            self.register(inner, key, &stream);
            changes.opened.push((done, stream));
        }
    }

    fn next_id(&self, inner: &mut State<Self>) -> u64 {
        let number = inner.extra.next_number;
        inner.extra.next_number += 1;
        number << 1 | u64::from(!self.offerer)
    }

    fn register(&self, inner: &mut State<Self>, key: usize, stream: &StreamRef) {
        inner.session.open(stream, now());
        inner.extra.current.insert(key, stream.clone());
    }

    /// Returns the next open that a plain channel is to be opened for.
    pub(crate) fn next_raw_open(&self) -> Option<Open> {
        let mut inner = self.state.lock();
        loop {
            let open = inner.extra.opens.pop_front()?;
            if !open.done.is_closed() {
                return Some(open);
            }
        }
    }

    /// Notes that a plain channel of this side was opened.
    pub(crate) fn raw_opened(&self, open: Open, channel: Channel) {
        let Open { slot, info, done } = open;
        let mut inner = self.state.lock();
        if inner.session.is_ended() {
            return;
        }
        let proto = Stream::local(self.next_id(&mut inner), false);
        let key = channel.key();
        let stream = StreamState::plain(proto, channel, info, Some(slot));
        self.register(&mut inner, key, &stream);
        let mut changes = Changes::<Self>::default();
        changes.opened.push((done, stream));
        self.settle_with(inner, changes);
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
        let opening = shared.start_open(slot, ChannelInfo::new("", "", true));
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
