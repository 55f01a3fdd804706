use std::task::Context;

use pipe_core::backend::{ConnWindow, WindowTicket};

/// What the peer allows this side to have under way or unread.
#[derive(Debug)]
pub(crate) struct PeerWindows {
    pub(crate) stream: u32,
    pub(crate) conn: Option<ConnWindow>,
}

impl PeerWindows {
    /// Takes room for up to `want` bytes of a stream that uses so many already.
    pub(super) fn take(
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

    pub(crate) fn give_back(&self, count: u32) {
        if let Some(conn) = &self.conn {
            conn.give(count);
        }
    }

    /// Lets a stream that waits for room look again, if there is some.
    pub(crate) fn nudge(&self) {
        if let Some(conn) = &self.conn {
            conn.nudge();
        }
    }
}
