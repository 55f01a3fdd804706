use pipe_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::Driver;
use crate::engine::IceState;
use crate::error::lost;
use crate::events::ConnEvent;
use crate::negotiation::Command;

impl Driver {
    pub(super) fn on_ice(&mut self, state: IceState) -> Result<()> {
        tracing::debug!(?state, peer = %self.shared.remote_addr, "ICE");
        match state {
            IceState::Connecting => {}
            IceState::Connected => {
                self.ice_is_up = true;
                self.ice_failed = None;
                if self.ready.is_none() {
                    self.peer.vitals().set_connecting(false);
                }
                self.note_state();
            }
            IceState::Disconnected => {
                self.ice_is_up = false;
                self.note_state();
            }
            IceState::Failed if self.ready.is_some() => {
                let why = "no path to the peer was found: every pair of candidates has failed";
                return Err(Error::new(ErrorKind::Unreachable, why));
            }
            IceState::Failed => {
                self.ice_is_up = false;
                if self.negotiated || self.ice_failed.is_some() {
                    return Err(lost("no path leads to the peer any more"));
                }
                // A machine that was asleep comes back to this: a new path may be found.
                let period =
                    self.shared.config.failed_after - self.shared.config.disconnected_after;
                self.ice_failed = Some(Instant::now() + period);
                self.note_state();
                self.shared.command(Command::Restart(None));
            }
        }
        Ok(())
    }

    /// Tells which path the packets take, if that is news. The engine does not say when it changes.
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
