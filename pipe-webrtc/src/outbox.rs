use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use pipe_core::Result;

use crate::error::protocol;
use crate::stream_core::StreamCore;

/// How many answers may wait because the peer does not take them.
const MAX_ECHOES: usize = 256;

/// What waits to be sent. The task that sends takes from it.
///
/// Every part of it is bounded: streams are in it once, echoes by [`MAX_ECHOES`], pings by those under
/// way, and of the texts there is at most one of each kind beside one `got` a part of the flight.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct State {
    texts: VecDeque<String>,
    pings: VecDeque<BytesMut>,
    echoes: VecDeque<BytesMut>,
    streams: VecDeque<Arc<StreamCore>>,
    /// Streams whose bytes wait until fewer are on their way.
    blocked: VecDeque<Arc<StreamCore>>,
    /// Plain channels that have too much on its way.
    raw: VecDeque<Arc<StreamCore>>,
    /// How many channels are to be opened.
    channels: usize,
    /// Bytes that are on their way to the peer, and how many may be.
    flight: usize,
    flight_limit: usize,
}

/// The next thing to do for the task that sends.
pub(crate) enum Job {
    Text(String),
    Ping(BytesMut),
    Echo(BytesMut),
    OpenChannel,
    /// Something of this stream, whose bytes may be so many.
    Stream(Arc<StreamCore>, usize),
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let outbox = Self::default();
        outbox.state.lock().flight_limit = usize::MAX;
        outbox
    }

    /// The peer allows so many bytes on their way; 0 is any number.
    pub(crate) fn limit_flight(&self, limit: u32) {
        self.state.lock().flight_limit = match limit {
            0 => usize::MAX,
            limit => limit as usize,
        };
    }

    pub(crate) fn push_text(&self, text: String) {
        self.state.lock().texts.push_back(text);
        self.waker.wake();
    }

    pub(crate) fn push_ping(&self, bytes: BytesMut) {
        self.state.lock().pings.push_back(bytes);
        self.waker.wake();
    }

    pub(crate) fn push_echo(&self, bytes: BytesMut) -> Result<()> {
        let mut state = self.state.lock();
        if state.echoes.len() >= MAX_ECHOES {
            return Err(protocol("more pings than are answered"));
        }
        state.echoes.push_back(bytes);
        drop(state);
        self.waker.wake();
        Ok(())
    }

    /// Puts a stream at the end of the queue. Its `waits` is set by the caller.
    pub(crate) fn push_stream(&self, stream: Arc<StreamCore>) {
        self.state.lock().streams.push_back(stream);
        self.waker.wake();
    }

    /// Puts a stream of a plain channel back: at the end of the queue, or where it waits for the next
    /// look.
    pub(crate) fn push_raw(&self, stream: Arc<StreamCore>, full: bool) {
        let mut state = self.state.lock();
        if full {
            state.raw.push_back(stream);
        } else {
            state.streams.push_back(stream);
        }
    }

    /// Whether plain channels wait for a look.
    pub(crate) fn has_blocked_raw(&self) -> bool {
        !self.state.lock().raw.is_empty()
    }

    /// Looks after plain channels again.
    pub(crate) fn unblock(&self) {
        let mut state = self.state.lock();
        let mut raw = std::mem::take(&mut state.raw);
        state.streams.append(&mut raw);
    }

    /// Puts a stream where it waits for the peer's `got`.
    pub(crate) fn push_blocked(&self, stream: Arc<StreamCore>) {
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

    /// So many bytes were sent.
    pub(crate) fn note_sent(&self, count: usize) {
        let mut state = self.state.lock();
        if state.flight_limit != usize::MAX {
            state.flight += count;
        }
    }

    /// So many bytes have arrived at the peer.
    pub(crate) fn note_arrived(&self, count: u32) -> Result<()> {
        let mut state = self.state.lock();
        let Some(left) = state.flight.checked_sub(count as usize) else {
            return Err(protocol("it got more bytes than were sent"));
        };
        state.flight = left;
        let mut blocked = std::mem::take(&mut state.blocked);
        state.streams.append(&mut blocked);
        drop(state);
        self.waker.wake();
        Ok(())
    }

    /// The next job, what is short first, then the streams in turn.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Job> {
        self.waker.register(cx.waker());
        match self.try_next() {
            Some(job) => Poll::Ready(job),
            None => Poll::Pending,
        }
    }

    /// The next text for the control channel.
    pub(crate) fn try_text(&self) -> Option<String> {
        self.state.lock().texts.pop_front()
    }

    pub(crate) fn try_next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        if let Some(text) = state.texts.pop_front() {
            return Some(Job::Text(text));
        }
        if let Some(bytes) = state.echoes.pop_front() {
            return Some(Job::Echo(bytes));
        }
        if let Some(bytes) = state.pings.pop_front() {
            return Some(Job::Ping(bytes));
        }
        if state.channels > 0 {
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
