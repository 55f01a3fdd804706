use std::task::Waker;

use pipe_core::Error;
use tokio::io::ReadBuf;

use crate::ring::Ring;

/// One direction of a stream: the bytes, the window, and how each of its ends stands.
///
/// Both ends share it. On an ideal link every change takes effect at once at both; on any other, what
/// one end does reaches the other's half of the state (`send` or `recv`) when the link delivers it.
#[derive(Default)]
pub(crate) struct Pipe {
    /// What has arrived and was not read.
    ring: Ring,
    /// Bytes that count against the window: under way, unread, or read without the writer's knowing.
    used: u32,
    /// Of `used`, what was read and not yet told to the writer.
    unreturned: u32,
    pub(crate) send: SendState,
    pub(crate) recv: RecvState,
    /// Bytes accepted from the writer, ever.
    pub(crate) sent: u64,
    /// Bytes handed to the reader, ever.
    pub(crate) received: u64,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

/// How the writer's end stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SendState {
    #[default]
    Open,
    /// Shut down: the end is announced or under way.
    Shut,
    /// Abandoned by the writer.
    Reset(u32),
    /// Given up by the reader, before the shutdown or after it.
    Stopped { code: u32, shut: bool },
    /// Ended by a disconnect, as the configuration asks.
    Disconnected,
    /// Ended with this side of the connection.
    ConnEnded,
}

/// How the reader's end stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RecvState {
    #[default]
    Open,
    /// The end has arrived; what the ring holds comes before it.
    Ended,
    /// Abandoned by the writer.
    Reset(u32),
    /// Given up by the reader.
    Stopped(u32),
    /// Ended by a disconnect, as the configuration asks.
    Disconnected,
    /// Ended with this side of the connection.
    ConnEnded,
}

impl Pipe {
    /// How much the writer may write now.
    #[inline]
    pub(crate) fn room(&self, window: u32) -> usize {
        window.saturating_sub(self.used) as usize
    }

    /// Counts bytes that the writer sends off.
    #[inline]
    pub(crate) fn take_room(&mut self, count: usize) {
        self.used += count as u32;
        self.sent += count as u64;
    }

    /// Stores what has arrived, unless the reader is past wanting it.
    #[inline]
    pub(crate) fn arrive(&mut self, bytes: &[u8], window: u32) {
        if self.recv == RecvState::Open {
            self.ring.write(bytes, window as usize);
        }
    }

    /// Hands bytes to the reader.
    #[inline]
    pub(crate) fn read(&mut self, buf: &mut ReadBuf<'_>) -> usize {
        let count = self.ring.read(buf);
        self.received += count as u64;
        self.unreturned += count as u32;
        count
    }

    /// Takes the credit that is worth telling the writer of: a quarter of the window, or everything
    /// once the whole content was read.
    #[inline]
    pub(crate) fn due_credit(&mut self, window: u32) -> u32 {
        if self.unreturned >= window / 4 || self.is_consumed() {
            self.all_credit()
        } else {
            0
        }
    }

    /// Takes all credit that the writer was not told of.
    #[inline]
    pub(crate) fn all_credit(&mut self) -> u32 {
        std::mem::take(&mut self.unreturned)
    }

    /// Gives room back to the writer. Returns how much was still counted, and the writer's waker once
    /// half the window is free, so that it writes in large pieces, or all is delivered.
    #[inline]
    pub(crate) fn credit(&mut self, count: u32, window: u32) -> (u32, Option<Waker>) {
        let count = count.min(self.used);
        self.used -= count;
        (
            count,
            if self.used <= window / 2 {
                self.writer.take()
            } else {
                None
            },
        )
    }

    /// Gives all room back, once nobody will read or write any more. Returns how much that was.
    pub(crate) fn release(&mut self) -> u32 {
        self.ring.clear();
        self.unreturned = 0;
        std::mem::take(&mut self.used)
    }

    #[inline]
    pub(crate) fn has_data(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Whether the end has arrived and everything before it was read.
    #[inline]
    pub(crate) fn is_consumed(&self) -> bool {
        self.recv == RecvState::Ended && self.ring.is_empty()
    }

    /// Whether the writer has shut down and knows that the reader has every byte.
    #[inline]
    pub(crate) fn is_delivered(&self) -> bool {
        self.send == SendState::Shut && self.used == 0
    }

    /// Ends the writer's end together with its side of the connection.
    pub(crate) fn end_send(&mut self) -> Option<Waker> {
        if self.send == SendState::Open {
            self.send = SendState::ConnEnded;
        }
        self.writer.take()
    }

    /// Ends the reader's end together with its side of the connection.
    pub(crate) fn end_recv(&mut self) -> Option<Waker> {
        if self.recv == RecvState::Open || self.recv == RecvState::Ended && self.has_data() {
            self.recv = RecvState::ConnEnded;
            self.ring.clear();
        }
        self.reader.take()
    }

    /// Whether nothing can happen on this direction any more.
    pub(crate) fn is_over(&self) -> bool {
        match self.recv {
            RecvState::Open => false,
            RecvState::Ended => self.ring.is_empty(),
            RecvState::Reset(_) => true,
            // The writer goes on until it hears of it.
            RecvState::Stopped(_) | RecvState::Disconnected | RecvState::ConnEnded => {
                self.send != SendState::Open
            }
        }
    }
}

impl SendState {
    /// What a direction that is still open turns into; nothing comes of any other.
    pub(crate) fn cut_open(self, to: Self) -> Option<Self> {
        (self == Self::Open).then_some(to)
    }

    /// What a write gives on a direction that takes none any more. `conn` is the end of the
    /// connection, if it has ended.
    #[cold]
    pub(crate) fn write_error(self, conn: Option<Error>) -> Error {
        match self {
            Self::Shut | Self::Stopped { shut: true, .. } => Error::write_after_shutdown(),
            other => other.shutdown_error(conn).unwrap_or_else(Error::write_after_shutdown),
        }
    }

    /// What a shutdown gives on a direction that was cut short.
    pub(crate) fn shutdown_error(self, conn: Option<Error>) -> Option<Error> {
        match self {
            Self::Open | Self::Shut | Self::Stopped { shut: true, .. } => None,
            Self::Reset(code) => Some(Error::reset(code)),
            Self::Stopped { code, shut: false } => Some(Error::stopped(code)),
            Self::Disconnected => Some(disconnected()),
            Self::ConnEnded => conn,
        }
    }
}

impl RecvState {
    /// What a read gives on a direction that was cut short. `conn` is the end of the connection, if it
    /// has ended.
    #[cold]
    pub(crate) fn read_error(self, conn: Option<Error>) -> Option<Error> {
        match self {
            Self::Open | Self::Ended => None,
            Self::Reset(code) => Some(Error::reset(code)),
            Self::Stopped(code) => Some(Error::stopped(code)),
            Self::Disconnected => Some(disconnected()),
            Self::ConnEnded => conn,
        }
    }
}

fn disconnected() -> Error {
    Error::new(
        pipe_core::ErrorKind::Disconnected,
        "the peer was silent for too long, and streams end on a disconnect",
    )
}
