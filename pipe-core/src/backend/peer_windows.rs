use std::task::Context;

use super::{ConnWindow, WindowTicket};

/// The windows that a peer grants, where the sender has to count them: that of each stream, and the
/// one of the connection.
#[derive(Debug)]
pub struct PeerWindows {
    stream: u32,
    conn: Option<ConnWindow>,
}

impl PeerWindows {
    /// Creates windows of so many bytes: that of each stream, and the shared one. A shared one of 0 is none.
    pub fn new(stream: u32, conn: u64) -> Self {
        Self {
            stream,
            conn: (conn > 0).then(|| ConnWindow::new(conn)),
        }
    }

    /// Creates the windows of a peer that has named none yet: there is no room.
    pub const fn none() -> Self {
        Self {
            stream: 0,
            conn: None,
        }
    }

    /// Reserves credit for up to `want` more bytes of a stream that uses `used`, and returns the
    /// number of bytes. Without credit in the connection window, the task is woken when there may
    /// be some.
    pub fn take(
        &self,
        used: u32,
        want: usize,
        ticket: &mut WindowTicket,
        cx: &Context<'_>,
    ) -> usize {
        let room = (self.stream.saturating_sub(used) as usize).min(want);
        match &self.conn {
            Some(conn) if room > 0 => conn.take(room, ticket, cx),
            _ => room,
        }
    }

    /// Gives room back that was not used after all, or is free again.
    pub fn give_back(&self, count: u64) {
        if let Some(conn) = &self.conn {
            conn.give(count);
        }
    }

    /// Lets a stream that waits for room look again, if there is some.
    pub fn nudge(&self) {
        if let Some(conn) = &self.conn {
            conn.nudge();
        }
    }
}
