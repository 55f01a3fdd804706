use crate::pipe::Pipe;
use crate::side::{PerSide, Side};
use crate::sync::{AtomicU8, Mutex, Ordering};

/// A stream: the state that its two ends share.
pub(crate) struct StreamCore {
    pub(crate) id: u64,
    /// Its place in the connection's table.
    pub(crate) key: usize,
    /// Directions, by the writer's side.
    pub(crate) pipes: PerSide<Mutex<Pipe>>,
    /// The [parts](Part) that have ended so far.
    over: AtomicU8,
}

/// A part of a stream's end.
///
/// A stream is over, and gives its slot back, when both directions are, it was accepted, and the
/// application that accepted it has ended or dropped both halves: a peer that resets its streams at once
/// gets no more of them than the limit.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// The direction of this writer is over.
    Direction(Side),
    Accepted,
    SendReleased,
    RecvReleased,
}

impl Part {
    const ALL: u8 = 0b1_1111;

    fn bit(self) -> u8 {
        match self {
            Self::Direction(writer) => 1 << writer as u8,
            Self::Accepted => 0b100,
            Self::SendReleased => 0b1000,
            Self::RecvReleased => 0b1_0000,
        }
    }
}

impl StreamCore {
    /// Creates the stream of this number and place.
    pub(crate) fn new(id: u64, key: usize) -> Self {
        Self {
            id,
            key,
            pipes: PerSide::default(),
            over: AtomicU8::new(0),
        }
    }

    /// Returns the side that has opened the stream.
    pub(crate) fn opener(&self) -> Side {
        if self.id % 2 == 1 {
            Side::Dialer
        } else {
            Side::Listener
        }
    }

    /// Notes that a part has ended. Returns whether it was the last one.
    pub(crate) fn mark(&self, part: Part) -> bool {
        let part = part.bit();
        let before = self.over.fetch_or(part, Ordering::AcqRel);
        before != Part::ALL && before | part == Part::ALL
    }
}
