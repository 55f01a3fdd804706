use std::mem;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use pipe_core::backend::WindowTicket;
use quinn::WriteError;

use crate::preamble::poll_announce;

/// The part of a stream that its connection keeps. Its bytes go between its halves and quinn.
#[derive(Debug)]
pub(crate) struct StreamCore {
    pub(crate) id: u64,
    /// Whether this side opened it.
    pub(crate) ours: bool,
    /// Number of times that the connection had ended its streams when this one came.
    pub(crate) disconnects: u64,
    /// Number of directions that this side's application is done with.
    over: AtomicU8,
    pub(crate) room: Mutex<Room>,
    start: Mutex<Start>,
    /// Tasks that wait in a half, woken when the connection ends or a disconnect ends the stream.
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

/// A direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Over when it is shut down, reset, stopped or dropped.
    Send,
    /// Over when it is read to its end, reset, stopped or dropped.
    Recv,
}

/// The credit that a stream uses of the peer's connection window; only where the peer counts that.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Number of bytes written that the peer has not read.
    pub(crate) used: u32,
    /// Whether the peer returns no more credit for this stream, since it discards its bytes.
    pub(crate) free: bool,
    /// The stream's place in the queue for room.
    pub(crate) ticket: WindowTicket,
}

/// The sending direction until its half takes it, so that others can show the stream meanwhile.
#[derive(Debug, Default)]
enum Start {
    /// The peer has not seen the stream.
    Unshown(quinn::SendStream),
    Shown(quinn::SendStream),
    #[default]
    Taken,
}

impl StreamCore {
    /// Creates a stream that this side opened. Unless it is `shown` to the peer, it has to be
    /// announced later.
    pub(crate) fn opened(id: u64, disconnects: u64, send: quinn::SendStream, shown: bool) -> Self {
        let start = if shown {
            Start::Shown(send)
        } else {
            Start::Unshown(send)
        };
        Self {
            ours: true,
            start: Mutex::new(start),
            ..Self::accepted(id, disconnects)
        }
    }

    /// Creates a stream of the peer.
    pub(crate) fn accepted(id: u64, disconnects: u64) -> Self {
        Self {
            id,
            ours: false,
            disconnects,
            over: AtomicU8::new(0),
            room: Mutex::default(),
            start: Mutex::default(),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }

    /// Gives the sending direction to its half, and whether the peer has to be shown the stream.
    pub(crate) fn take(&self) -> Option<(quinn::SendStream, bool)> {
        match mem::take(&mut *self.start.lock()) {
            Start::Unshown(send) => Some((send, true)),
            Start::Shown(send) => Some((send, false)),
            Start::Taken => None,
        }
    }

    /// Returns whether the stream is not announced to the peer, and not claimed for that.
    pub(crate) fn is_unshown(&self) -> bool {
        matches!(*self.start.lock(), Start::Unshown(_))
    }

    /// Announces the stream to the peer, if that is still pending. Without room, the task is woken
    /// when there is some.
    pub(crate) fn poll_show(&self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let mut start = self.start.lock();
        let Start::Unshown(send) = &mut *start else {
            return Poll::Ready(Ok(()));
        };
        let written = poll_announce(send, cx);
        if written.is_ready()
            && let Start::Unshown(send) = mem::take(&mut *start)
        {
            *start = Start::Shown(send);
        }
        written
    }

    /// Notes that this side is done with a direction, once for each. Returns whether it is with both.
    pub(crate) fn note_over(&self) -> bool {
        self.over.fetch_add(1, Ordering::AcqRel) == 1
    }

    /// Wakes the tasks that wait in a half.
    pub(crate) fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl Room {
    /// Notes that the peer has read so many more bytes. Returns how many were counted.
    pub(crate) fn credit(&mut self, bytes: u32) -> u32 {
        let freed = bytes.min(self.used);
        self.used -= freed;
        freed
    }

    /// Releases the credit in use, since it will not be read. Returns how much it was.
    pub(crate) fn free(&mut self) -> u32 {
        self.free = true;
        mem::take(&mut self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_over_with_its_second_direction() {
        let core = StreamCore::accepted(0, 0);
        assert!(!core.note_over());
        assert!(core.note_over());
    }

    #[test]
    fn credit_frees_no_more_than_is_used() {
        let mut room = Room {
            used: 10,
            ..Room::default()
        };
        assert_eq!((room.credit(4), room.credit(u32::MAX)), (4, 6));
        room.used = 3;
        assert_eq!((room.free(), room.free()), (3, 0));
    }
}
