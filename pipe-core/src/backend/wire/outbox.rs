use std::collections::HashMap;

use bytes::BytesMut;

use crate::backend::wire::Message;

/// Bytes that may wait because the peer does not take them: this many, and [`PER_STREAM`] for each stream
/// that may be open. A peer that keeps the rules takes them as they come, and opens no stream before it has
/// taken that an earlier one is done.
const BASE: usize = 64 * 1024;
const PER_STREAM: usize = 128;

/// The length of a credit message in bytes.
const CREDIT_LEN: usize = 15;

/// What waits to be sent over a control channel.
///
/// It is bounded as long as its owner ends the connection once it [is flooded](Self::is_flooded). Credit
/// adds up by stream until it is sent, so that reads in small pieces take no more room than one large one.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: BytesMut,
    /// Bytes read of each stream that no message in `bytes` tells of.
    credits: HashMap<u64, u32>,
}

impl Outbox {
    /// Adds a message at the end.
    pub fn push(&mut self, message: &Message) {
        message.encode(&mut self.bytes);
    }

    /// Adds that so many bytes of a stream were read. [`u32::MAX`] stands for all that will ever come.
    pub fn credit(&mut self, stream: u64, bytes: u32) {
        let credit = self.credits.entry(stream).or_default();
        *credit = credit.saturating_add(bytes);
    }

    /// Returns the bytes to be sent, with the credit among them once everything else has left. The caller
    /// takes them from the front.
    pub fn bytes(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && !self.credits.is_empty() {
            for (stream, bytes) in self.credits.drain() {
                Message::Credit { stream, bytes }.encode(&mut self.bytes);
            }
        }
        &mut self.bytes
    }

    /// Returns how many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.credits.len() * CREDIT_LEN
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.credits.is_empty()
    }

    /// Whether more waits than a peer that keeps the rules leaves there, where each side may have
    /// `max_streams` streams open.
    pub fn is_flooded(&self, max_streams: u32) -> bool {
        self.len() > BASE + PER_STREAM * max_streams as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_adds_up_until_it_is_sent() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.credit(4, 1);
        }
        outbox.credit(8, 7);
        outbox.credit(8, u32::MAX);
        assert_eq!(outbox.len(), 2 * CREDIT_LEN);
        assert_eq!(outbox.bytes().len(), 2 * CREDIT_LEN);
        let mut told = Vec::new();
        while let Some(message) = Message::decode(outbox.bytes()).unwrap() {
            told.push(message);
        }
        told.sort_by_key(|m| format!("{m:?}"));
        let credit = |stream, bytes| Message::Credit { stream, bytes };
        assert_eq!(told, [credit(4, 1000), credit(8, u32::MAX)]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn credit_waits_for_what_was_said_before() {
        let mut outbox = Outbox::default();
        outbox.credit(4, 1);
        outbox.push(&Message::Drain);
        let first = outbox.bytes().split();
        assert_eq!(first[..], [0x08, 0, 0]);
        assert_eq!(outbox.bytes().len(), CREDIT_LEN);
    }

    #[test]
    fn what_waits_is_bounded_by_the_streams() {
        let mut outbox = Outbox::default();
        while !outbox.is_flooded(10) {
            outbox.push(&Message::Drain);
        }
        assert!(outbox.len() <= BASE + 10 * PER_STREAM + 3);
    }
}
