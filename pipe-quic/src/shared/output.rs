use std::collections::HashMap;
use std::mem;

use bytes::BytesMut;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, StreamFrame};

/// Number of bytes that may wait for the peer's credit: this many, and [`PER_STREAM`] for each
/// stream that may be open. A peer that keeps the rules reads them as they come, and opens no
/// stream before it has read that an earlier one is done.
const BASE: usize = 64 * 1024;
const PER_STREAM: usize = 128;

/// The length of a CREDIT in bytes.
const CREDIT_LEN: usize = 15;

/// Maximum number of deferrable frames in a batch.
const MAX_GATHERED: u32 = 32;

/// The frames to be sent over the control stream.
///
/// They are bounded as long as the connection is ended once they [are too many](Self::is_flooded). Credit adds up by
/// stream until it is sent, so that reads in small pieces take no more room than one large one.
#[derive(Default)]
pub(crate) struct Output {
    bytes: BytesMut,
    /// Bytes read of each stream that no frame in `bytes` returns.
    credits: HashMap<u64, u32>,
    /// Whether the frames are to be sent now.
    pub(super) urgent: bool,
    /// Number of deferrable frames among them.
    pub(super) gathered: u32,
    /// The driver lets some time pass before it sends them.
    pub(super) gathers: bool,
}

impl Output {
    /// Adds a frame to be sent now.
    pub(super) fn push(&mut self, frame: &Frame) {
        binary::encode(frame, &mut self.bytes);
        self.urgent = true;
    }

    /// Adds that so many bytes of a stream were read; [`u32::MAX`] stands for all that will ever come.
    pub(super) fn credit(&mut self, id: u64, bytes: u32) {
        let credit = self.credits.entry(id).or_default();
        *credit = credit.saturating_add(bytes);
        self.urgent = true;
    }

    /// Adds a frame that can wait for more of its kind, up to `limit` of them.
    pub(super) fn gather(&mut self, frame: &Frame, limit: u32) {
        binary::encode(frame, &mut self.bytes);
        self.gathered += 1;
        self.urgent |= self.gathered >= limit.clamp(1, MAX_GATHERED);
    }

    /// Returns the bytes to be sent, with the credit among them once everything else has left. The caller takes them
    /// from the front.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        if self.bytes.is_empty() && !self.credits.is_empty() {
            for (id, bytes) in self.credits.drain() {
                let frame = StreamFrame::Credit(bytes);
                binary::encode(&Frame::Stream { id, frame }, &mut self.bytes);
            }
        }
        &mut self.bytes
    }

    /// Takes out all frames; the credit is left out if there are others.
    pub(crate) fn take(&mut self) -> BytesMut {
        mem::take(self).bytes().split()
    }

    /// Returns whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.credits.is_empty()
    }

    /// Returns whether more waits than a peer that keeps the rules leaves there, where each side may have
    /// `max_streams` streams open.
    pub(super) fn is_flooded(&self, max_streams: u32) -> bool {
        self.len() > BASE + PER_STREAM * max_streams as usize
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.credits.len() * CREDIT_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(id: u64, frame: StreamFrame) -> Frame {
        Frame::Stream { id, frame }
    }

    #[test]
    fn frames_that_can_wait_leave_with_one_that_cannot() {
        let mut output = Output::default();
        output.gather(&about(0, StreamFrame::Done), 8);
        assert!(!output.urgent);
        output.push(&Frame::Drain);
        assert!(output.urgent);
    }

    #[test]
    fn a_few_frames_wait_and_many_do_not() {
        for (limit, most) in [(0, 1), (1, 1), (8, 8), (1000, MAX_GATHERED)] {
            let mut output = Output::default();
            for count in 1..=most {
                output.gather(&about(4, StreamFrame::Done), limit);
                assert_eq!(output.urgent, count == most, "{count} of {limit}");
            }
        }
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
        assert_eq!(output.bytes().len(), 2 * CREDIT_LEN);
        let mut frames = Vec::new();
        while let Some(frame) = binary::decode(output.bytes()).unwrap() {
            frames.push(frame);
        }
        frames.sort_by_key(|frame| format!("{frame:?}"));
        let credit = |id, bytes| about(id, StreamFrame::Credit(bytes));
        assert_eq!(frames, [credit(4, 1000), credit(8, u32::MAX)]);
        assert!(output.is_empty());
    }

    #[test]
    fn credit_waits_for_the_frames_before_it() {
        let mut output = Output::default();
        output.credit(4, 1);
        output.push(&Frame::Drain);
        let first = output.bytes().split();
        assert_eq!(first[..], [0x08, 0, 0]);
        assert_eq!(output.bytes().len(), CREDIT_LEN);
    }

    #[test]
    fn what_waits_is_bounded_by_the_streams() {
        let mut output = Output::default();
        while !output.is_flooded(10) {
            output.push(&Frame::Drain);
        }
        assert!(output.len() <= BASE + 10 * PER_STREAM + 3);
    }
}
