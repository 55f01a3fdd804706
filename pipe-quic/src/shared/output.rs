//! What there is to say over the control stream, and when it is sent.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use parking_lot::MutexGuard;
use pipe_core::backend::wire::{Message, Outbox};

use super::{Inner, Shared, protocol};
use crate::error::Condition;
use crate::stream_core::StreamCore;

/// How many words that can wait are gathered at most.
const MAX_GATHERED: u32 = 32;

/// What is to be sent over the control stream.
#[derive(Default)]
pub(crate) struct Output {
    outbox: Outbox,
    /// It is to be sent now.
    urgent: bool,
    /// How many words in it can wait.
    gathered: u32,
    /// The driver lets some time pass before it sends them.
    gathers: bool,
}

impl Output {
    /// Whether more waits than a peer that goes by the rules leaves there.
    pub(super) fn is_flooded(&self, max_streams: u32) -> bool {
        self.outbox.is_flooded(max_streams)
    }

    /// Takes all that there is.
    pub(crate) fn take(&mut self) -> Outbox {
        mem::take(&mut self.outbox)
    }

    /// Adds what is to be sent now.
    pub(super) fn say(&mut self, message: &Message) {
        self.outbox.push(message);
        self.urgent = true;
    }

    /// Adds that so many bytes of a stream were read; [`u32::MAX`] says that no more will be.
    pub(super) fn credit(&mut self, stream: u64, bytes: u32) {
        self.outbox.credit(stream, bytes);
        self.urgent = true;
    }

    /// Adds what can wait for more of its kind, up to `limit` of them.
    pub(super) fn gather(&mut self, message: &Message, limit: u32) {
        self.outbox.push(message);
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
        loop {
            let bytes = self.output.outbox.bytes();
            if bytes.is_empty() {
                break;
            }
            match ready!(Pin::new(&mut *control).poll_write(cx, bytes)) {
                Ok(count) => bytes.advance(count),
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
        if inner.output.outbox.is_empty() {
            return;
        }
        let news = if inner.output.urgent {
            let _ = inner.poll_send(&mut Context::from_waker(Waker::noop()));
            inner.output.urgent
        } else {
            !mem::replace(&mut inner.output.gathers, true)
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
        inner.output.urgent |= !inner.output.outbox.is_empty();
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
