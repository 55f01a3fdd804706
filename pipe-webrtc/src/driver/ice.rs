use pipe_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::Driver;
use crate::command::Command;
use crate::engine::IceState;
use crate::events::ConnEvent;

impl Driver {
    pub(super) fn on_ice(&mut self, state: IceState) -> Result<()> {
        tracing::debug!(?state, peer = %self.shared.remote_addr, "ICE");
        match state {
            IceState::Connecting => {
                if self.ready.is_some() && self.unreachable_at.is_none() {
                    let until = Instant::now() + self.ice_patience;
                    self.unreachable_at = Some(until);
                    if self.alarm.deadline() > until {
                        self.alarm.as_mut().reset(until);
                    }
                }
            }
            IceState::Connected => {
                self.ice_is_up = true;
                self.unreachable_at = None;
                self.ice_failed = None;
                if let Some(progress) = &self.progress {
                    progress.heard();
                }
                if self.ready.is_none() {
                    self.peer.set_connecting(false);
                }
                self.note_state();
            }
            IceState::Disconnected => {
                self.ice_is_up = false;
                self.note_state();
            }
            IceState::Failed if self.ready.is_some() => return Err(unreachable()),
            IceState::Failed => {
                self.ice_is_up = false;
                // The engine waits far longer than the clock of this side, so that this machine was asleep: the
                // peer may be there, and a new path be found.
                let period =
                    self.shared.config.failed_after - self.shared.config.disconnected_after;
                self.ice_failed = Some(self.ice_failed.unwrap_or_else(|| Instant::now() + period));
                self.note_state();
                self.shared.command(Command::Restart(None));
            }
        }
        Ok(())
    }

    /// Reports the path that the packets take, if it has changed. The engine does not report that.
    pub(super) async fn note_pair(&mut self) {
        let Some(pair) = self.peer.candidate_pair().await else {
            return;
        };
        if self.pair.as_ref() != Some(&pair) {
            self.shared.tell(ConnEvent::PairSelected(pair.clone()));
            self.pair = Some(pair);
        }
    }
}

pub(super) fn unreachable() -> Error {
    let why = "no path to the peer was found: every pair of candidates has failed";
    Error::new(ErrorKind::Unreachable, why)
}
