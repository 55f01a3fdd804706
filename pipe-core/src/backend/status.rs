use tokio::sync::watch;

use super::close_cell::CloseCell;
use crate::{CloseReason, ConnState, Error, Result};

/// The state of one side of a connection together with the reason of its end, kept in step.
///
/// The first end wins: after it, the state is final and [`reason`](Self::reason) does not change.
#[derive(Debug)]
pub struct ConnStatus {
    end: CloseCell,
    state: watch::Sender<ConnState>,
}

impl Default for ConnStatus {
    fn default() -> Self {
        Self::new()
    }
}

impl ConnStatus {
    /// The status of a connection that has just been made.
    pub fn new() -> Self {
        Self {
            end: CloseCell::new(),
            state: watch::Sender::new(ConnState::Connected),
        }
    }

    /// A view of the state, to look at or to wait for.
    pub fn watch(&self) -> watch::Receiver<ConnState> {
        self.state.subscribe()
    }

    /// The state now.
    pub fn state(&self) -> ConnState {
        *self.state.borrow()
    }

    /// Notes that the peer is silent, or is back. Returns whether that is news; it is none after the
    /// end.
    pub fn set_connected(&self, connected: bool) -> bool {
        let next = if connected {
            ConnState::Connected
        } else {
            ConnState::Disconnected
        };
        self.state.send_if_modified(|state| {
            let news = !state.is_final() && *state != next;
            if news {
                *state = next;
            }
            news
        })
    }

    /// Ends the connection, unless it has ended. Returns whether this end counts.
    pub fn end(&self, reason: CloseReason) -> bool {
        let state = match reason {
            CloseReason::Failed(_) => ConnState::Failed,
            CloseReason::Local { .. } | CloseReason::Remote { .. } => ConnState::Closed,
        };
        // Within the change of the state, so that nobody sees one without the other.
        self.state.send_if_modified(|now| {
            let first = self.end.set(reason);
            if first {
                *now = state;
            }
            first
        })
    }

    /// Why the connection has ended, if it has.
    #[inline]
    pub fn reason(&self) -> Option<&CloseReason> {
        self.end.get()
    }

    /// The error of every operation after the end, if there was one.
    pub fn error(&self) -> Option<Error> {
        self.end.get().map(Error::closed)
    }

    /// `Ok` as long as the connection has not ended.
    ///
    /// # Errors
    ///
    /// [`error`](Self::error).
    #[inline]
    pub fn check(&self) -> Result<()> {
        match self.end.get() {
            None => Ok(()),
            Some(reason) => Err(Error::closed(reason)),
        }
    }

    /// Waits for the end and tells why.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn ended(&self) -> &CloseReason {
        self.end.wait().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_state_comes_and_goes_until_the_end() {
        let status = ConnStatus::new();
        assert_eq!(status.state(), ConnState::Connected);
        assert!(!status.set_connected(true));
        assert!(status.set_connected(false));
        assert_eq!(status.state(), ConnState::Disconnected);
        assert!(status.set_connected(true));
        assert!(status.check().is_ok());

        assert!(status.end(CloseReason::remote(3, "done")));
        assert!(!status.end(CloseReason::local(4, "late")));
        assert!(!status.set_connected(false));
        assert_eq!(status.state(), ConnState::Closed);
        assert_eq!(status.check().unwrap_err().code(), Some(3));
    }

    #[tokio::test]
    async fn a_failure_reaches_those_who_watch() {
        let status = ConnStatus::new();
        let mut watch = status.watch();
        status.end(CloseReason::Failed(Error::new(ErrorKind::Failed, "lost")));
        let state = *watch.wait_for(|state| state.is_final()).await.unwrap();
        assert_eq!(state, ConnState::Failed);
        assert_eq!(status.error().unwrap().kind(), ErrorKind::Failed);
        assert!(matches!(status.ended().await, CloseReason::Failed(_)));
    }
}
