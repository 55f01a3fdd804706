use std::time::Duration;

use pipe_core::backend::LivenessEvent;
use pipe_core::{CloseReason, Error, ErrorKind, Result};
use tokio::time::Instant;

use super::ice::unreachable;
use super::{Closing, Driver, HELLO_AGAIN, HOLD, LOOK_OUT};
use crate::command::Command;
use crate::error::{handshake, lost};

impl Driver {
    /// Applies the peer's close once the bytes sent before it have come.
    pub(super) fn check_closing(&mut self) {
        let all = self.shared.messages_received();
        let due =
            |closing: &mut Closing| all >= closing.messages || Instant::now() >= closing.deadline;
        if let Some(closing) = self.closing.take_if(due) {
            self.shared
                .end(&CloseReason::remote(closing.code, &closing.reason));
        }
    }

    /// Streams wait for those that were opened before them, but not for long.
    pub(super) fn check_held(&mut self) {
        if !self.shared.holds_streams() {
            self.held_until = None;
        } else if self.held_until.is_none() {
            let until = Instant::now() + HOLD;
            self.held_until = Some(until);
            if self.alarm.deadline() > until {
                self.alarm.as_mut().reset(until);
            }
        }
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self) -> Result<()> {
        self.check_closing();
        let now = Instant::now();
        if self.broken.is_some_and(|deadline| now >= deadline) && self.ready.is_some() {
            return Err(match self.peer.goodbye() {
                Some(how) => handshake(format_args!("the peer broke off: {how}")),
                None => handshake("the peer broke off"),
            });
        }
        if self.unreachable_at.is_some_and(|until| now >= until) && self.ready.is_some() {
            return Err(unreachable());
        }
        if self.ice_failed.is_some_and(|until| now >= until) {
            return Err(lost("no path leads to the peer any more"));
        }
        if self.signs.look(self.peer.heard(), now) {
            self.note_state();
        }
        if self.held_until.is_some_and(|until| now >= until) {
            self.held_until = None;
            self.shared.release_streams();
        }
        if self.gathering.is_some_and(|until| now >= until) {
            self.end_gathering()?;
        }
        let greeted = self.ready.is_none();
        while let Some(event) = self.signs.poll(now) {
            match event {
                LivenessEvent::Ping if greeted => {
                    self.shared.peer_windows().nudge();
                    self.shared.keep_alive();
                }
                LivenessEvent::Disconnected if greeted => self.note_state(),
                LivenessEvent::Failed if greeted => {
                    self.shared.end(&CloseReason::Failed(self.signs.error()));
                }
                _ => {}
            }
        }
        self.check_restart(now);
        let mut next = self.signs.deadline().max(now + Duration::from_millis(1));
        if !self.signs.are_up() {
            next = next.min(now + LOOK_OUT);
        }
        if let Some(at) = self.restart_at {
            next = next.min(at);
        }
        if let Some(closing) = &self.closing {
            next = next.min(closing.deadline);
        }
        if !greeted {
            // The handshake has its own limit.
            next = self.broken.unwrap_or(now + HELLO_AGAIN);
            if self.open && self.broken.is_none() {
                self.shared.say(&self.shared.hello());
            }
        }
        if let Some(until) = self.held_until {
            next = next.min(until);
        }
        if let Some(until) = self.gathering {
            next = next.min(until);
        }
        if let Some(until) = self.ice_failed {
            next = next.min(until);
        }
        if let Some(until) = self.unreachable_at {
            next = next.min(until);
        }
        self.alarm.as_mut().reset(next);
        Ok(())
    }

    /// Sends the end of candidates, so that the peer waits no longer. Candidates found later are
    /// sent all the same.
    ///
    /// A side that is to be reached through TURN servers only, and has none, need not wait either.
    pub(super) fn end_gathering(&mut self) -> Result<()> {
        self.gathering = None;
        let refusals = self.peer.refusals();
        if self.relay_only && !self.reachable && self.ready.is_some() {
            let why = refusals.as_deref().unwrap_or("no answer has come");
            let why = format!("no TURN server of ice_servers gives a relay: {why}");
            return Err(Error::new(ErrorKind::Unreachable, why));
        }
        if let Some(refusals) = refusals {
            tracing::warn!(%refusals, "not every STUN and TURN server helps");
        }
        self.shared.command(Command::EndOfCandidates);
        Ok(())
    }

    /// Updates the state from ICE and the liveness clock.
    pub(super) fn note_state(&mut self) {
        if self.ready.is_some() {
            return;
        }
        if self.ice_is_up && self.signs.are_up() {
            self.shared.set_connected(true);
            self.restart_at = None;
        } else {
            self.shared.disconnect();
            if self.shared.offerer && self.restart_at.is_none() {
                self.restart_at = Some(Instant::now() + self.restart_period());
            }
        }
    }

    /// Returns how long to wait for the old path before a new one is looked for, and between two
    /// such tries.
    pub(super) fn restart_period(&self) -> Duration {
        let config = &self.shared.config;
        (config.failed_after - config.disconnected_after) / 3
    }

    /// Looks for a new path if the old one has been gone for long.
    pub(super) fn check_restart(&mut self, now: Instant) {
        if self.restart_at.is_some_and(|at| now >= at) {
            self.shared.command(Command::Restart(None));
            self.restart_at = Some(now + self.restart_period());
        }
    }
}
