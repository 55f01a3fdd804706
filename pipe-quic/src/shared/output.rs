//! What there is to say over the control stream.

use std::mem;

use pipe_core::backend::wire::{Message, Outbox};

/// How many words that can wait are gathered at most.
const MAX_GATHERED: u32 = 32;

/// What is to be sent over the control stream.
#[derive(Default)]
pub(crate) struct Output {
    pub(super) outbox: Outbox,
    /// It is to be sent now.
    pub(super) urgent: bool,
    /// How many words in it can wait.
    pub(super) gathered: u32,
    /// The driver lets some time pass before it sends them.
    pub(super) gathers: bool,
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
