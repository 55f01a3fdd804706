//! The shutdown sequence (RFC 9260, section 9.2).

use super::Association;
use crate::{
    chunk::{TAG_REFLECTED, kind},
    event::{CloseReason, State, Violation},
    timers::Timer,
    wire::Reader,
};
use std::time::Instant;

impl Association {
    /// Goes on with a shutdown once everything is acknowledged.
    pub(super) fn check_shutdown(&mut self, now: Instant) {
        if !self.sender.is_drained() {
            return;
        }
        match self.state {
            State::ShutdownPending => {
                self.set_state(State::ShutdownSent);
                self.due.shutdown = true;
            }
            State::ShutdownReceived => {
                self.set_state(State::ShutdownAckSent);
                self.due.shutdown_ack = true;
            }
            _ => return,
        }
        self.attempts = 0;
        self.start_handshake_timer(now);
    }

    /// Handles a SHUTDOWN chunk.
    pub(super) fn on_shutdown(&mut self, now: Instant, body: &[u8]) -> Result<(), Violation> {
        let Some(cumulative) = Reader::new(body).u32() else {
            return Ok(());
        };
        match self.state {
            State::Established | State::ShutdownPending | State::ShutdownReceived => {
                self.sender
                    .on_shutdown(now, cumulative, &mut self.timers, &mut self.stats)?;
                self.set_state(State::ShutdownReceived);
            }
            State::ShutdownSent => {
                // Both ends shut down at once.
                self.set_state(State::ShutdownAckSent);
                self.due.shutdown = false;
                self.due.shutdown_ack = true;
                self.attempts = 0;
                self.start_handshake_timer(now);
            }
            State::ShutdownAckSent => self.due.shutdown_ack = true,
            State::Closed | State::CookieWait | State::CookieEchoed => {}
        }
        Ok(())
    }

    /// Handles a SHUTDOWN ACK chunk. `tag` is that of its packet.
    pub(super) fn on_shutdown_ack(&mut self, tag: u32) {
        match self.state {
            State::ShutdownSent | State::ShutdownAckSent => {
                if let Some(peer) = &self.peer {
                    let tag = peer.tag;
                    self.reply(tag, kind::SHUTDOWN_COMPLETE, 0, &[]);
                }
                self.close(CloseReason::Shutdown);
            }
            State::Closed | State::CookieWait | State::CookieEchoed => {
                // Section 8.5.1, E: the peer did not learn of the end of an earlier association.
                self.reply(tag, kind::SHUTDOWN_COMPLETE, TAG_REFLECTED, &[]);
            }
            _ => {}
        }
    }

    /// Handles a SHUTDOWN COMPLETE chunk.
    pub(super) fn on_shutdown_complete(&mut self) {
        if self.state == State::ShutdownAckSent {
            self.close(CloseReason::Shutdown);
        }
    }

    /// Acknowledges data that came after a SHUTDOWN was sent: both are sent again.
    pub(super) fn on_data_in_shutdown(&mut self, now: Instant) {
        if self.state == State::ShutdownSent {
            self.receiver.acks.now = true;
            self.due.shutdown = true;
            self.timers.stop(Timer::Handshake);
            self.start_handshake_timer(now);
        }
    }
}
