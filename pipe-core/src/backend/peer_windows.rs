use std::task::Context;

use pipe_proto::Stream;

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

    /// Reserves credit for up to `want` more bytes of a stream. Returns the number of bytes, and how many of them count
    /// against the windows: not those for which the peer gave credit ahead. Without credit in the connection window, the
    /// task is woken when there may be some.
    pub fn take(
        &self,
        stream: &Stream,
        want: usize,
        ticket: &mut WindowTicket,
        cx: &Context<'_>,
    ) -> (usize, u32) {
        let ahead = (stream.credit_ahead() as usize).min(want);
        let room = self.stream.saturating_sub(stream.unacknowledged());
        let room = (room as usize).min(want - ahead);
        let counted = match &self.conn {
            // A task that may write anyhow does not wait.
            Some(_) if ahead > 0 => 0,
            Some(conn) if room > 0 => conn.take(room, ticket, cx),
            _ => room,
        };
        (ahead + counted, counted as u32)
    }

    /// Settles what [`take`](Self::take) has given for a write that used `used` of these bytes: first those that do not
    /// count. The rest goes back. Returns how many bytes count against the windows.
    pub fn settle(&self, (room, counted): (usize, u32), used: usize) -> u32 {
        let ahead = room - counted as usize;
        // At most what was counted before.
        let used = used.saturating_sub(ahead) as u32;
        self.give_back((counted - used).into());
        used
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
