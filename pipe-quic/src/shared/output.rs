//! What there is to say over the control stream, and when it is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use parking_lot::MutexGuard;
use pipe_core::wire::Message;
use rustc_hash::FxHashMap;

use super::{Inner, Shared, protocol};
use crate::error::Condition;
use crate::stream_core::StreamCore;

/// How many words that can wait are gathered at most.
const MAX_GATHERED: u32 = 32;

/// How much may wait because the peer does not take it, in bytes: so much, and so much for each stream that
/// may be open. A peer that goes by the rules takes it as it comes, and opens no stream before it has taken
/// that an earlier one is done.
const MAX_WAITING: usize = 64 * 1024;
const MAX_WAITING_OF_STREAM: usize = 64;

/// How long a message about credit is, in bytes.
const CREDIT_LEN: usize = 15;

/// What is to be sent over the control stream.
#[derive(Default)]
pub(crate) struct Output {
    bytes: BytesMut,
    /// What was read of each stream and is not in `bytes`: it adds up as long as nothing goes out.
    credits: FxHashMap<u64, u32>,
    /// It is to be sent now.
    urgent: bool,
    /// How many words in it can wait.
    gathered: u32,
    /// The driver lets some time pass before it sends them.
    gathers: bool,
}

impl Output {
    /// How many bytes wait.
    fn len(&self) -> usize {
        self.bytes.len() + self.credits.len() * CREDIT_LEN
    }

    /// Whether more waits than a peer that goes by the rules leaves there.
    pub(super) fn is_flooded(&self, max_streams: u32) -> bool {
        self.len() > MAX_WAITING + MAX_WAITING_OF_STREAM * max_streams as usize
    }

    /// Takes all that there is, but no credit.
    pub(crate) fn take(&mut self) -> BytesMut {
        self.bytes.split()
    }

    /// Adds what is to be sent now.
    pub(super) fn say(&mut self, message: &Message) {
        message.encode(&mut self.bytes);
        self.urgent = true;
    }

    /// Adds that so many bytes of a stream were read; [`u32::MAX`] says that no more will be.
    pub(super) fn credit(&mut self, stream: u64, bytes: u32) {
        let credit = self.credits.entry(stream).or_default();
        *credit = credit.saturating_add(bytes);
        self.urgent = true;
    }

    /// Puts credit among what is to be sent. Returns whether there is anything.
    fn fill(&mut self) -> bool {
        if self.bytes.is_empty() {
            for (stream, bytes) in self.credits.drain() {
                Message::Credit { stream, bytes }.encode(&mut self.bytes);
            }
        }
        !self.bytes.is_empty()
    }

    /// Adds what can wait for more of its kind, up to `limit` of them.
    pub(super) fn gather(&mut self, message: &Message, limit: u32) {
        message.encode(&mut self.bytes);
        self.gathered += 1;
        self.urgent |= self.gathered >= limit.clamp(1, MAX_GATHERED);
    }
}

impl Inner {
    /// Sends of what is to be sent now. Ready when the control stream is cut.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<quinn::WriteError> {
        let (Some(control), true) = (&mut self.control, self.output.urgent) else {
            return Poll::Pending;
        };
        while self.output.fill() {
            match ready!(Pin::new(&mut *control).poll_write(cx, &self.output.bytes)) {
                Ok(count) => self.output.bytes.advance(count),
                Err(error) => return Poll::Ready(error),
            }
        }
        self.output.urgent = false;
        self.output.gathered = 0;
        Poll::Pending
    }
}

impl Shared {
    /// Sends what is to be sent now, together with what the streams have. The driver sends what does not
    /// go now, and what can wait when its time has come.
    pub(super) fn send(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.output.len() == 0 {
            return;
        }
        let news = if inner.output.urgent {
            let _ = inner.poll_send(&mut Context::from_waker(Waker::noop()));
            inner.output.urgent
        } else {
            !std::mem::replace(&mut inner.output.gathers, true)
        };
        let flooded = inner.output.is_flooded(self.config.max_streams);
        drop(inner);
        if flooded {
            let why = protocol("it does not read its control stream");
            self.fail(Condition::Protocol, why);
        } else if news {
            self.news.notify_one();
        }
    }

    /// Whether there is something for which the driver lets some time pass.
    pub(crate) fn gathers(&self) -> bool {
        let inner = self.inner.lock();
        inner.output.gathers || !inner.unshown.is_empty()
    }

    /// The time has passed: sends the words that have waited, and adds the streams that nobody has shown to
    /// the peer meanwhile.
    pub(crate) fn stop_gathering(&self, unshown: &mut Vec<Arc<StreamCore>>) {
        let mut inner = self.inner.lock();
        inner.output.gathers = false;
        inner.output.urgent |= !inner.output.bytes.is_empty();
        inner.take_unshown(unshown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_wait_goes_with_what_cannot() {
        let mut output = Output::default();
        output.gather(&Message::Done { stream: 0 }, 8);
        assert!(!output.urgent);
        output.say(&Message::Drain);
        assert!(output.urgent);
    }

    #[test]
    fn credit_adds_up_until_it_is_sent() {
        let mut output = Output::default();
        for _ in 0..1000 {
            output.credit(4, 1);
        }
        output.credit(8, 7);
        output.credit(8, u32::MAX);
        assert_eq!(output.len(), 2 * CREDIT_LEN);
        assert!(output.fill());
        assert_eq!(output.len(), 2 * CREDIT_LEN);
        let mut told = Vec::new();
        let mut sent = output.take();
        while let Some(message) = Message::decode(&mut sent).unwrap() {
            told.push(message);
        }
        told.sort_by_key(|message| matches!(message, Message::Credit { stream: 8, .. }));
        let credit = |stream, bytes| Message::Credit { stream, bytes };
        assert_eq!(told, [credit(4, 1000), credit(8, u32::MAX)]);
        assert!(!output.fill());
    }

    #[test]
    fn what_a_peer_leaves_there_is_bounded() {
        let mut output = Output::default();
        let done = Message::Done { stream: 0 };
        let mut count = 0;
        while !output.is_flooded(256) {
            output.gather(&done, 64);
            count += 1;
        }
        // All that may be said of the streams that may be open, at least.
        assert!((4 * 256..10_000).contains(&count), "{count}");
    }

    #[test]
    fn a_few_words_wait_and_many_do_not() {
        for (limit, most) in [(0, 1), (1, 1), (8, 8), (1000, MAX_GATHERED)] {
            let mut output = Output::default();
            for said in 1..=most {
                output.gather(&Message::Done { stream: 4 }, limit);
                assert_eq!(output.urgent, said == most, "{said} of {limit}");
            }
        }
    }
}
