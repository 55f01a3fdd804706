use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use pipe_core::Result;

use crate::error::protocol;
use crate::stream_core::StreamRef;

/// Maximum number of queued texts: one of each kind, and a few hellos.
const MAX_TEXTS: usize = 64;

/// Maximum number of queued answers that the peer does not read.
const MAX_ECHOES: usize = 256;

/// The send queue. The sending task takes from it.
///
/// Every part of it is bounded: streams are in it once, echoes by [`MAX_ECHOES`], pings by those in
/// flight, and texts by [`MAX_TEXTS`], since arrived bytes are added up. They stay here while the
/// peer does not acknowledge earlier messages.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct State {
    texts: VecDeque<String>,
    /// Number of arrived bytes to acknowledge to the peer.
    got: u64,
    /// The peer takes no texts, or no echoes, for the moment.
    held_texts: bool,
    held_echoes: bool,
    /// Whether no channel can be opened for the moment.
    held_channels: bool,
    pings: VecDeque<BytesMut>,
    echoes: VecDeque<BytesMut>,
    streams: VecDeque<StreamRef>,
    /// Streams whose bytes wait until fewer are on their way.
    blocked: VecDeque<StreamRef>,
    /// Streams whose channels have too much on its way.
    waiting: VecDeque<StreamRef>,
    /// Number of channels to open.
    channels: usize,
    /// Bytes that are on their way to the peer, and how many may be.
    flight: usize,
    flight_limit: usize,
}

/// The next thing to do for the task that sends.
pub(crate) enum Job {
    Text(String),
    /// Acknowledge so many arrived bytes to the peer.
    Got(u64),
    Ping(BytesMut),
    Echo(BytesMut),
    OpenChannel,
    /// Something of this stream, whose bytes may be so many.
    Stream(StreamRef, usize),
}

impl State {
    fn next_text(&mut self) -> Option<Job> {
        if self.held_texts {
            return None;
        }
        if let Some(text) = self.texts.pop_front() {
            return Some(Job::Text(text));
        }
        let got = std::mem::take(&mut self.got);
        (got > 0).then_some(Job::Got(got))
    }
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let outbox = Self::default();
        outbox.state.lock().flight_limit = usize::MAX;
        outbox
    }

    /// Limits the bytes in flight, as the peer sets, and to `most` that this side has room for. A limit of 0 is none.
    pub(crate) fn limit_flight(&self, limit: u32, most: usize) {
        self.state.lock().flight_limit = match limit {
            0 => usize::MAX,
            // A peer may say `got` each eighth of what it allows.
            limit => (limit as usize).min(most.max(limit as usize / 4)),
        };
    }

    /// Queues a text. One beyond the limit is a hello that waits already.
    pub(crate) fn push_text(&self, text: String) {
        {
            let mut state = self.state.lock();
            if state.texts.len() < MAX_TEXTS {
                state.texts.push_back(text);
            }
        }
        self.waker.wake();
    }

    /// Puts a text back that the peer does not take now, at the front.
    pub(crate) fn hold_text(&self, text: String) {
        let mut state = self.state.lock();
        state.texts.push_front(text);
        state.held_texts = true;
    }

    /// Adds to the arrived bytes to acknowledge to the peer.
    pub(crate) fn push_got(&self, bytes: u64) {
        self.state.lock().got += bytes;
        self.waker.wake();
    }

    /// Puts that back, since the peer takes no texts now.
    pub(crate) fn hold_got(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.got += bytes;
        state.held_texts = true;
    }

    /// Puts an echo back that the peer does not take now, at the front.
    pub(crate) fn hold_echo(&self, bytes: BytesMut) {
        let mut state = self.state.lock();
        state.echoes.push_front(bytes);
        state.held_echoes = true;
    }

    pub(crate) fn push_ping(&self, bytes: BytesMut) {
        self.state.lock().pings.push_back(bytes);
        self.waker.wake();
    }

    pub(crate) fn push_echo(&self, bytes: BytesMut) -> Result<()> {
        let mut state = self.state.lock();
        if state.echoes.len() >= MAX_ECHOES {
            return Err(protocol("more pings than it reads answers to"));
        }
        state.echoes.push_back(bytes);
        drop(state);
        self.waker.wake();
        Ok(())
    }

    /// Puts a stream at the end of the queue. Its `waits` is set by the caller.
    pub(crate) fn push_stream(&self, stream: StreamRef) {
        self.state.lock().streams.push_back(stream);
        self.waker.wake();
    }

    /// Puts a stream back: at the end of the queue, or where it waits for the next look if its channel is
    /// full.
    pub(crate) fn push_back(&self, stream: StreamRef, full: bool) {
        let mut state = self.state.lock();
        if full {
            state.waiting.push_back(stream);
        } else {
            state.streams.push_back(stream);
        }
    }

    /// Returns whether something waits until the peer has taken more.
    pub(crate) fn has_waiting(&self) -> bool {
        let state = self.state.lock();
        state.held_texts || state.held_echoes || state.held_channels || !state.waiting.is_empty()
    }

    /// Checks the jobs that wait for the peer again.
    pub(crate) fn unblock(&self) {
        let mut state = self.state.lock();
        (state.held_texts, state.held_echoes) = (false, false);
        state.held_channels = false;
        let mut waiting = std::mem::take(&mut state.waiting);
        state.streams.append(&mut waiting);
    }

    /// Puts a stream where it waits for the peer's `got`.
    pub(crate) fn push_blocked(&self, stream: StreamRef) {
        let mut state = self.state.lock();
        if state.flight == 0 {
            // Nothing is on its way that could be answered.
            state.streams.push_back(stream);
        } else {
            state.blocked.push_back(stream);
        }
    }

    pub(crate) fn want_channel(&self) {
        self.state.lock().channels += 1;
        self.waker.wake();
    }

    /// Puts the request for a channel back, since none can be opened now.
    pub(crate) fn hold_channel(&self) {
        let mut state = self.state.lock();
        state.channels += 1;
        state.held_channels = true;
    }

    /// Counts so many bytes as sent.
    pub(crate) fn note_sent(&self, count: usize) {
        let mut state = self.state.lock();
        if state.flight_limit != usize::MAX {
            state.flight += count;
        }
    }

    /// Counts so many bytes as acknowledged by the peer.
    pub(crate) fn note_arrived(&self, count: u64) -> Result<()> {
        let mut state = self.state.lock();
        let left = usize::try_from(count).ok();
        let Some(left) = left.and_then(|count| state.flight.checked_sub(count)) else {
            return Err(protocol("it acknowledged more bytes than were sent"));
        };
        state.flight = left;
        let mut blocked = std::mem::take(&mut state.blocked);
        state.streams.append(&mut blocked);
        drop(state);
        self.waker.wake();
        Ok(())
    }

    /// Returns the next job: short ones first, then the streams in turn.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Job> {
        self.waker.register(cx.waker());
        match self.try_next() {
            Some(job) => Poll::Ready(job),
            None => Poll::Pending,
        }
    }

    /// Returns the next text for the control channel.
    pub(crate) fn try_text(&self) -> Option<Job> {
        self.state.lock().next_text()
    }

    pub(crate) fn try_next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        if let Some(text) = state.next_text() {
            return Some(text);
        }
        if !state.held_echoes
            && let Some(bytes) = state.echoes.pop_front()
        {
            return Some(Job::Echo(bytes));
        }
        if let Some(bytes) = state.pings.pop_front() {
            return Some(Job::Ping(bytes));
        }
        if state.channels > 0 && !state.held_channels {
            state.channels -= 1;
            return Some(Job::OpenChannel);
        }
        let room = state.flight_limit.saturating_sub(state.flight);
        let stream = state.streams.pop_front()?;
        Some(Job::Stream(stream, room))
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        let old = std::mem::take(&mut *state);
        state.flight_limit = usize::MAX;
        drop(state);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_is_told_as_one_sum_after_the_texts() {
        let outbox = Outbox::new();
        for _ in 0..1000 {
            outbox.push_got(7);
        }
        outbox.push_text("drain".to_owned());
        assert!(matches!(outbox.try_next(), Some(Job::Text(_))));
        assert!(matches!(outbox.try_next(), Some(Job::Got(7000))));
        assert!(outbox.try_next().is_none());
    }

    #[test]
    fn what_the_peer_does_not_take_stays_in_its_order_and_is_bounded() {
        let outbox = Outbox::new();
        outbox.push_text("first".to_owned());
        for _ in 0..1000 {
            outbox.push_text("hello".to_owned());
        }
        let Some(Job::Text(first)) = outbox.try_next() else {
            panic!("no text");
        };
        outbox.hold_text(first);
        assert!(outbox.has_waiting() && outbox.try_next().is_none());
        for _ in 0..MAX_ECHOES {
            outbox.push_echo(BytesMut::new()).unwrap();
        }
        let Some(Job::Echo(echo)) = outbox.try_next() else {
            panic!("no echo");
        };
        outbox.hold_echo(echo);
        assert!(outbox.try_next().is_none());
        assert!(outbox.push_echo(BytesMut::new()).is_err());
        outbox.unblock();
        let mut texts = 0;
        while let Some(Job::Text(text)) = outbox.try_next() {
            assert_eq!(text == "first", texts == 0);
            texts += 1;
        }
        assert_eq!(texts, MAX_TEXTS);
    }
}
