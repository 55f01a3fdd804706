use std::task::Waker;

use pipe_core::backend::WindowTicket;
use pipe_core::backend::proto::{Growth, RecvHalf, SendHalf};
use tokio::io::ReadBuf;

use crate::credit::Credit;
use crate::ring::Ring;

/// One direction of a stream: the bytes, the window, and the state of each end.
///
/// Both ends share it. On an ideal link every change takes effect at once at both; on any other, a
/// change at one end reaches the other's half of the state (`send` or `recv`) when the link
/// delivers it.
#[derive(Default)]
pub(crate) struct Pipe {
    /// Bytes that have arrived and are unread.
    ring: Ring,
    /// Bytes that count against the window: under way, unread, or read without the writer's knowing.
    used: u32,
    /// Part of `used` that was read and not yet returned to the writer as credit.
    unreturned: u32,
    /// By how many bytes the writer may exceed the window that every stream has.
    granted: u32,
    /// What the reader has had the window grow by, if it ever had it tuned.
    pub(crate) growth: Option<Box<Growth>>,
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
    /// Bytes accepted from the writer, ever.
    pub(crate) sent: u64,
    /// Bytes handed to the reader, ever.
    pub(crate) received: u64,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    /// The writer's place in the queue for the connection window.
    pub(crate) ticket: WindowTicket,
}

impl Pipe {
    /// Returns the number of bytes that the writer may write now.
    #[inline]
    pub(crate) fn room(&self, window: u32) -> usize {
        window
            .saturating_add(self.granted)
            .saturating_sub(self.used) as usize
    }

    /// Counts bytes that the writer sends off.
    #[inline]
    pub(crate) fn take_room(&mut self, count: usize) {
        self.used += count as u32;
        self.sent += count as u64;
    }

    /// Stores bytes that have arrived, unless the reader discards them.
    #[inline]
    pub(crate) fn arrive(&mut self, bytes: &[u8], window: u32) {
        if self.recv == RecvHalf::Open {
            self.ring.write(bytes, window as usize);
        }
    }

    /// Hands bytes to the reader.
    #[inline]
    pub(crate) fn read(&mut self, buf: &mut ReadBuf<'_>) -> usize {
        let count = self.ring.read(buf);
        self.received += count as u64;
        self.recv.on_read(self.received);
        self.unreturned += count as u32;
        count
    }

    /// Returns by how many bytes the reader has had the window grow.
    #[inline]
    pub(crate) fn window_growth(&self) -> u32 {
        self.growth.as_ref().map_or(0, |growth| growth.bytes())
    }

    /// Takes the credit that is worth telling the writer of: all of it once it is `worth` so many
    /// bytes, or the whole content was read.
    #[inline]
    pub(crate) fn due_credit(&mut self, worth: u32) -> u32 {
        if self.unreturned >= worth || self.is_consumed() {
            self.all_credit()
        } else {
            0
        }
    }

    /// Takes all credit that was not returned to the writer.
    #[inline]
    pub(crate) fn all_credit(&mut self) -> u32 {
        std::mem::take(&mut self.unreturned)
    }

    /// Gives room back to the writer. Returns how much was still counted, and the writer's waker once
    /// half the window is free, so that it writes in large pieces, or all is delivered.
    #[inline]
    pub(crate) fn credit(&mut self, credit: Credit, window: u32) -> (u32, Option<Waker>) {
        let count = credit.read.min(self.used);
        self.used -= count;
        self.granted = credit.growth;
        let window = window.saturating_add(self.granted);
        (
            count,
            if self.used <= window / 2 {
                self.writer.take()
            } else {
                None
            },
        )
    }

    /// Releases all credit, once both ends are done. Returns how much that was.
    pub(crate) fn release(&mut self) -> u32 {
        self.ring.clear();
        self.unreturned = 0;
        std::mem::take(&mut self.used)
    }

    #[inline]
    pub(crate) fn has_data(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Returns whether the end has arrived and everything before it was read.
    #[inline]
    pub(crate) fn is_consumed(&self) -> bool {
        self.recv == RecvHalf::Ended
    }

    /// Returns whether the writer has shut down and the reader has acknowledged every byte.
    #[inline]
    pub(crate) fn is_delivered(&self) -> bool {
        matches!(self.send, SendHalf::Shut { .. }) && self.used == 0
    }

    /// Ends the writer's end together with its side of the connection.
    pub(crate) fn end_send(&mut self) -> Option<Waker> {
        self.send.on_conn_end();
        self.writer.take()
    }

    /// Ends the reader's end together with its side of the connection.
    pub(crate) fn end_recv(&mut self) -> Option<Waker> {
        self.recv.on_conn_end();
        if self.recv == RecvHalf::ConnEnded {
            self.ring.clear();
        }
        self.reader.take()
    }

    /// Returns whether nothing can happen on this direction any more.
    pub(crate) fn is_over(&self) -> bool {
        match self.recv {
            RecvHalf::Open | RecvHalf::SizeKnown { .. } => false,
            RecvHalf::Ended | RecvHalf::Reset { .. } => true,
            // The writer continues until the stop arrives.
            RecvHalf::Stopped { .. } | RecvHalf::Disconnected { .. } | RecvHalf::ConnEnded => {
                self.send != SendHalf::Ready
            }
        }
    }
}
