use std::sync::atomic::Ordering;

use bytes::BytesMut;
use pipe_core::Result;
use pipe_core::backend::proto::codec::text::{MAX_LEN, StreamWord, decode_stream};
use pipe_core::backend::proto::{Frame, Stream, StreamFrame, StreamHandle};
use pipe_core::backend::{SessionConn, now};

use super::{Shared, wake};
use crate::engine::{Channel, ChannelInfo};
use crate::error::protocol;
use crate::stream_core::{StreamRef, StreamState};

/// A plain channel that is full.
struct Full<'a>(&'a Shared);

impl<'a> Full<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.full.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        if self.0.full.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.flows.notify_waiters();
        }
    }
}

impl Shared {
    /// Adds a plain channel that the peer has opened. Returns whether there was room for it: the
    /// limit is not sent to the peer.
    pub(crate) fn raw_incoming(&self, channel: &Channel, info: ChannelInfo) -> Result<bool> {
        let mut inner = self.state.lock();
        if inner.session.is_ended() {
            return Ok(true);
        }
        if !inner.session.has_room() {
            return Ok(false);
        }
        let id = inner.extra.arrivals.take_number() << 1 | u64::from(self.offerer);
        let stream = StreamState::plain(Stream::remote(id), channel.clone(), info, None);
        inner.session.accept(&stream)?;
        inner.extra.current.insert(channel.key(), stream.clone());
        self.settle(inner);
        // A queue that is closed belongs to a connection that is ending.
        let _ = self.backlog.push(stream);
        Ok(true)
    }

    /// Notes that a message has come on a plain channel.
    pub(crate) fn on_message(&self, channel: &Channel, bytes: BytesMut, text: bool) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        if let Some(stream) = self.current(channel.key()) {
            let waker = stream.lock().arrive_raw(bytes, text);
            wake(waker);
        }
    }

    /// Waits until a plain channel can take more.
    pub(crate) async fn until_room(&self, key: usize) {
        let mut full = None;
        while let Some(stream) = self.current(key) {
            let room = stream.unlocked.room.notified();
            if self.status.reason().is_some() || !stream.lock().is_full(self.config.stream_window) {
                return;
            }
            full.get_or_insert_with(|| Full::new(self));
            room.await;
        }
    }

    /// Waits until no plain channel is full. Returns whether one was.
    #[cfg(feature = "webrtc")]
    pub(crate) async fn until_flowing(&self) -> bool {
        let mut was_full = false;
        loop {
            let flows = self.flows.notified();
            if self.full.load(Ordering::SeqCst) == 0 || self.status.reason().is_some() {
                return was_full;
            }
            was_full = true;
            flows.await;
        }
    }

    /// Counts messages of streams that were taken off their channels.
    #[cfg(feature = "webrtc")]
    pub(crate) fn messages_taken(&self) -> u64 {
        self.messages_received()
    }

    /// Returns the stream that a channel carries, or has carried last.
    pub(crate) fn current(&self, key: usize) -> Option<StreamRef> {
        self.state.lock().extra.current.get(&key).cloned()
    }

    /// Processes a text message on the channel of a stream.
    pub(crate) fn on_text(&self, channel: &Channel, ours: bool, text: &[u8]) -> Result<()> {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        if text.len() > MAX_LEN {
            let length = text.len();
            return Err(protocol(format_args!(
                "a text message of {length} bytes, where {MAX_LEN} are allowed"
            )));
        }
        text.split(|byte| *byte == b'\n')
            .try_for_each(|line| self.on_line(channel, ours, line))
    }

    pub(super) fn on_line(&self, channel: &Channel, ours: bool, line: &[u8]) -> Result<()> {
        let frame = match decode_stream(line)? {
            Some(StreamWord::About(frame)) => frame,
            Some(StreamWord::Open(id)) => return self.on_open(channel, ours, id),
            None => return Ok(()),
        };
        let Some(stream) = self.current(channel.key()) else {
            return Err(protocol(format_args!(
                "{frame:?} on a channel without a stream"
            )));
        };
        if matches!(frame, StreamFrame::End(_)) {
            // The channel is ordered: all bytes have come.
            let _ = stream.with(|stream| stream.on_fin(false))?;
        }
        self.on_frame(Frame::Stream {
            id: stream.id,
            frame,
        })
    }

    /// Takes a frame of the peer.
    pub(crate) fn on_frame(&self, frame: Frame) -> Result<()> {
        let mut inner = self.state.lock();
        inner.session.handle_frame(frame, now())?;
        self.settle(inner);
        Ok(())
    }

    /// Adds a stream that the peer opens.
    fn on_open(&self, channel: &Channel, ours: bool, id: u64) -> Result<()> {
        if ours {
            return Err(protocol("a stream on a channel that this side opened"));
        }
        let mut inner = self.state.lock();
        if inner.session.is_ended() {
            return Ok(());
        }
        if let Some(old) = inner.extra.current.get(&channel.key()).cloned() {
            // A channel is used again when all of its last stream has arrived at both ends.
            if !old.with(|old| old.is_done()) {
                return Err(protocol("a stream on a channel that carries one"));
            }
            let frame = StreamFrame::Taken;
            let frame = Frame::Stream { id: old.id, frame };
            inner.session.handle_frame(frame, now())?;
        }
        let proto = Stream::remote(id).with_credit_threshold(Some(self.credit_threshold));
        let window = self.config.stream_window;
        let stream =
            StreamState::on_channel(proto, channel.clone(), window, self.unread.clone(), None);
        inner.session.accept(&stream)?;
        let number = id >> 1;
        inner
            .extra
            .arrivals
            .use_number(number, self.config.max_streams.into())?;
        inner.extra.current.insert(channel.key(), stream.clone());
        inner.extra.arrivals.hold(number, stream);
        inner.extra.arrivals.deliver(&self.backlog, false);
        self.settle(inner);
        Ok(())
    }

    /// Returns whether streams of the peer wait for those that were opened before them. The
    /// channels have no common order.
    pub(crate) fn holds_streams(&self) -> bool {
        self.state.lock().extra.arrivals.holds_streams()
    }

    /// Passes on the streams that wait for others for too long.
    pub(crate) fn release_streams(&self) {
        self.state
            .lock()
            .extra
            .arrivals
            .deliver(&self.backlog, true);
    }

    /// Bytes have come on the channel of a stream.
    pub(crate) fn on_bytes(&self, channel: &Channel, bytes: BytesMut) -> Result<()> {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.note_arrived(bytes.len());
        let Some(stream) = self.current(channel.key()) else {
            return Err(protocol("bytes on a channel without a stream"));
        };
        let waker = stream.lock().arrive(bytes)?;
        wake(waker);
        Ok(())
    }

    /// Counts bytes that have come out of the transport. The peer receives the count from time to
    /// time.
    pub(crate) fn note_arrived(&self, count: usize) {
        let count = count as u64;
        let arrived = self.arrived.fetch_add(count, Ordering::Relaxed) + count;
        if arrived >= self.got_threshold && !self.wire.is_raw() {
            self.arrived.fetch_sub(arrived, Ordering::Relaxed);
            self.outbox.push_got(arrived);
        }
    }

    /// Notes that the peer has closed the channel of a stream, which ends the directions that are
    /// open.
    pub(crate) fn on_closed(&self, channel: &Channel) {
        let key = channel.key();
        let stream = {
            let mut inner = self.state.lock();
            let free = inner.extra.free.len();
            inner.extra.free.retain(|free| free.key() != key);
            let stream = inner.extra.current.remove(&key);
            if inner.extra.free.len() < free
                || stream
                    .as_ref()
                    .is_some_and(|s| inner.session.is_local(s.id))
            {
                inner.extra.channels = inner.extra.channels.saturating_sub(1);
            }
            stream
        };
        if let Some(stream) = stream {
            self.on_lost(&stream);
        }
    }

    /// Notes that the channel of a stream is gone.
    pub(crate) fn on_lost(&self, stream: &StreamRef) {
        let (freed, wakers) = {
            let mut state = stream.lock();
            if state.is_raw() {
                (0, state.close_raw())
            } else {
                let freed = state.proto.on_carrier_lost().freed;
                state.trim();
                (freed, state.take_wakers(true, true))
            }
        };
        self.peer_windows().give_back(freed.into());
        self.update(stream);
        wakers.into_iter().for_each(wake);
    }
}
