//! What there is to say over the control stream, and when it is sent.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use parking_lot::MutexGuard;
use pipe_core::wire::Message;

use super::{Inner, Shared};

/// How many words that can wait are gathered at most.
const MAX_GATHERED: u32 = 32;

/// What is to be sent over the control stream.
#[derive(Default)]
pub(crate) struct Output {
    bytes: BytesMut,
    /// It is to be sent now.
    urgent: bool,
    /// How many words in it can wait.
    gathered: u32,
    /// The driver lets some time pass before it sends them.
    gathers: bool,
}

impl Output {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes all that there is.
    pub(crate) fn take(&mut self) -> BytesMut {
        self.bytes.split()
    }

    /// Adds what is to be sent now.
    pub(super) fn say(&mut self, message: &Message) {
        message.encode(&mut self.bytes);
        self.urgent = true;
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
        let bytes = &mut self.output.bytes;
        while !bytes.is_empty() {
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
        if inner.output.bytes.is_empty() {
            return;
        }
        let news = if inner.output.urgent {
            let _ = inner.poll_send(&mut Context::from_waker(Waker::noop()));
            inner.output.urgent
        } else {
            !std::mem::replace(&mut inner.output.gathers, true)
        };
        drop(inner);
        if news {
            self.news.notify_one();
        }
    }

    /// Whether there are words that wait for their time to come.
    pub(crate) fn gathers(&self) -> bool {
        self.inner.lock().output.gathers
    }

    /// Their time has come.
    pub(crate) fn stop_gathering(&self) {
        let output = &mut self.inner.lock().output;
        output.gathers = false;
        output.urgent |= !output.bytes.is_empty();
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
