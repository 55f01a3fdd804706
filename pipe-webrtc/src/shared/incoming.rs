use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use pipe_core::Result;
use pipe_core::backend::proto::StreamFrame;
use pipe_core::backend::proto::codec::text::{MAX_LEN, StreamWord, decode_stream};

use super::{FLIGHT_PARTS, Inner, Shared, wake};
use crate::engine::{Channel, ChannelInfo};
use crate::error::protocol;
use crate::stream_core::StreamCore;

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

impl Inner {
    /// Notes the number of a stream of the peer. No number comes twice, and none skips more than streams can
    /// be under way; nor does one come after so many others that it counts as lost.
    fn use_number(&mut self, number: u64, max_streams: u64) -> Result<()> {
        if number < self.next_number {
            if !self.missing.remove(&number) {
                return Err(protocol(format_args!("a second stream of number {number}")));
            }
            return Ok(());
        }
        let skipped = number - self.next_number;
        if skipped > 2 * max_streams {
            return Err(protocol(format_args!(
                "a stream of number {number}, ahead of {skipped} others"
            )));
        }
        self.missing.extend(self.next_number..number);
        while self.missing.len() as u64 > 2 * max_streams {
            // Its channel was lost while it was opened.
            self.missing.pop_first();
        }
        self.next_number = number + 1;
        Ok(())
    }
}

impl Shared {
    /// Adds a plain channel that the peer has opened. Returns whether there was room for it: the
    /// limit is not sent to the peer.
    pub(crate) fn raw_incoming(&self, channel: &Channel, info: ChannelInfo) -> bool {
        let mut inner = self.inner.lock();
        if self.status.reason().is_some() {
            return true;
        }
        if inner.theirs_in_use >= self.config.max_streams as usize {
            return false;
        }
        let id = inner.seen << 1 | u64::from(self.offerer);
        inner.seen += 1;
        let stream = self.incoming(id, channel);
        let stream = Arc::new(stream.into_raw(info));
        inner.theirs += 1;
        inner.theirs_in_use += 1;
        inner.streams.insert(id, stream.clone());
        inner.current.insert(channel.key(), stream.clone());
        drop(inner);
        // A queue that is closed belongs to a connection that is ending.
        let _ = self.backlog.push(stream);
        true
    }

    fn incoming(&self, id: u64, channel: &Channel) -> StreamCore {
        let unread = self.unread.clone();
        StreamCore::incoming(id, channel.clone(), self.config.stream_window, unread)
    }

    /// Notes that a message has come on a plain channel.
    pub(crate) fn on_message(&self, channel: &Channel, bytes: BytesMut, text: bool) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        if let Some(stream) = self.current(channel.key()) {
            let waker = stream.state.lock().arrive_raw(bytes, text);
            wake(waker);
        }
    }

    /// Waits until a plain channel can take more.
    pub(crate) async fn until_room(&self, key: usize) {
        let mut full = None;
        while let Some(stream) = self.current(key) {
            let room = stream.room.notified();
            if self.status.reason().is_some()
                || !stream.state.lock().is_full(self.config.stream_window)
            {
                return;
            }
            full.get_or_insert_with(|| Full::new(self));
            room.await;
        }
    }

    /// Waits until no plain channel is full. Returns whether one was.
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
    pub(crate) fn messages_taken(&self) -> u64 {
        self.messages_received()
    }

    /// Returns the stream that a channel carries, or has carried last.
    pub(crate) fn current(&self, key: usize) -> Option<Arc<StreamCore>> {
        self.inner.lock().current.get(&key).cloned()
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
        let mut state = stream.state.lock();
        let (freed, waker) = match frame {
            StreamFrame::Open => (0, None),
            StreamFrame::End(bytes) => (0, state.announce_end(bytes)?),
            StreamFrame::Reset(code) => (0, state.reset_by_peer(code)),
            StreamFrame::Stop(code) => state.stop_by_peer(code),
            StreamFrame::Credit(bytes) => state.credit(bytes),
            StreamFrame::Taken => {
                state.taken = true;
                state.credit(u32::MAX)
            }
            StreamFrame::Done => {
                if !stream.ours {
                    return Err(protocol("a done of the side that opened the stream"));
                }
                state.taken = true;
                let (freed, waker) = state.credit(u32::MAX);
                state.peer_is_done();
                (freed, waker)
            }
        };
        drop(state);
        self.peer_windows().give_back(freed.into());
        self.settle(&stream);
        wake(waker);
        Ok(())
    }

    /// Adds a stream that the peer opens.
    pub(super) fn on_open(&self, channel: &Channel, ours: bool, id: u64) -> Result<()> {
        if ours {
            return Err(protocol("a stream on a channel that this side opened"));
        }
        if id & 1 != u64::from(self.offerer) {
            return Err(protocol(format_args!(
                "a stream of number {id}, which is not the peer's to give"
            )));
        }
        let old = self.current(channel.key());
        if let Some(old) = &old {
            // A channel is used again when all of its last stream has arrived at both ends.
            let waker = {
                let mut state = old.state.lock();
                if !state.done {
                    return Err(protocol("a stream on a channel that carries one"));
                }
                state.taken = true;
                state.writer.take()
            };
            self.settle(old);
            wake(waker);
        }
        let stream = Arc::new(self.incoming(id, channel));
        {
            let mut inner = self.inner.lock();
            if self.status.reason().is_some() {
                return Ok(());
            }
            // The peer counts a stream as over a little earlier than this side.
            let limit = self.config.max_streams as usize;
            if inner.theirs_in_use >= limit || inner.theirs >= 2 * limit {
                return Err(protocol(format_args!("more than {limit} streams at once")));
            }
            inner.use_number(id >> 1, limit as u64)?;
            inner.theirs += 1;
            inner.theirs_in_use += 1;
            inner.streams.insert(id, stream.clone());
            inner.current.insert(channel.key(), stream.clone());
            inner.seen += 1;
            inner.held.insert(id >> 1, stream);
            self.deliver(&mut inner, false);
        }
        self.idle.notify_waiters();
        Ok(())
    }

    /// Passes streams of the peer on in the order in which they were opened, as far as those before
    /// them have come, or all of them.
    pub(super) fn deliver(&self, inner: &mut Inner, all: bool) {
        while let Some(first) = inner.held.first_entry() {
            let number = *first.key();
            if number > inner.next_accept && !all {
                return;
            }
            inner.next_accept = inner.next_accept.max(number.saturating_add(1));
            // A queue that is closed belongs to a connection that is ending.
            let _ = self.backlog.push(first.remove());
        }
    }

    /// Returns whether streams of the peer wait for those that were opened before them. The
    /// channels have no common order.
    pub(crate) fn holds_streams(&self) -> bool {
        !self.inner.lock().held.is_empty()
    }

    /// Passes on the streams that wait for others for too long.
    pub(crate) fn release_streams(&self) {
        self.deliver(&mut self.inner.lock(), true);
    }

    /// Bytes have come on the channel of a stream.
    pub(crate) fn on_bytes(&self, channel: &Channel, bytes: BytesMut) -> Result<()> {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.note_arrived(bytes.len());
        let Some(stream) = self.current(channel.key()) else {
            return Err(protocol("bytes on a channel without a stream"));
        };
        let waker = stream.state.lock().arrive(bytes)?;
        wake(waker);
        Ok(())
    }

    /// Counts bytes that have come out of the transport. The peer receives the count from time to
    /// time.
    pub(crate) fn note_arrived(&self, count: usize) {
        let count = count as u64;
        let arrived = self.arrived.fetch_add(count, Ordering::Relaxed) + count;
        if arrived >= u64::from(self.hello.flight / FLIGHT_PARTS) && !self.wire.is_raw() {
            self.arrived.fetch_sub(arrived, Ordering::Relaxed);
            self.outbox.push_got(arrived);
        }
    }

    /// Notes that the peer has closed the channel of a stream, which ends the directions that are
    /// open.
    pub(crate) fn on_closed(&self, channel: &Channel) {
        let key = channel.key();
        let stream = {
            let mut inner = self.inner.lock();
            let free = inner.free.len();
            inner.free.retain(|free| free.key() != key);
            let stream = inner.current.remove(&key);
            if inner.free.len() < free || stream.as_ref().is_some_and(|s| s.ours) {
                inner.channels = inner.channels.saturating_sub(1);
            }
            stream
        };
        let Some(stream) = stream else { return };
        let (freed, wakers) = {
            let mut state = stream.state.lock();
            if state.is_raw() {
                let wakers = state.close_raw();
                drop(state);
                self.settle(&stream);
                return wakers.into_iter().for_each(wake);
            }
            let reader = state.reset_by_peer(0);
            let (freed, writer) = state.stop_by_peer(0);
            state.taken = true;
            state.peer_is_done();
            (freed, [reader, writer])
        };
        self.peer_windows().give_back(freed.into());
        self.settle(&stream);
        wakers.into_iter().for_each(wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_channels_that_were_lost_are_forgotten_in_time() {
        const LIMIT: u64 = 4;
        let mut inner = Inner::default();
        // Every second one is lost.
        for number in (0..1000).step_by(2) {
            inner.use_number(number, LIMIT).unwrap();
            assert!(inner.missing.len() as u64 <= 2 * LIMIT);
        }
        inner.use_number(997, LIMIT).unwrap();
        for used in [997, 998, 1] {
            assert!(inner.use_number(used, LIMIT).is_err(), "{used}");
        }
        assert!(inner.use_number(998 + 2 * LIMIT + 2, LIMIT).is_err());
    }
}
