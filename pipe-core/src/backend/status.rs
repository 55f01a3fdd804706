use tokio::sync::{Notify, watch};

use super::backlog::Backlog;
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
    /// Returns the status of a connection that has just been made.
    pub fn new() -> Self {
        Self {
            end: CloseCell::new(),
            state: watch::Sender::new(ConnState::Connected),
        }
    }

    /// Returns a view of the state, to look at or to wait for.
    pub fn watch(&self) -> watch::Receiver<ConnState> {
        self.state.subscribe()
    }

    /// Returns the state now.
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
        // Within the change of the state, so that both become visible at once.
        self.state.send_if_modified(|now| {
            let first = self.end.set(reason);
            if first {
                *now = state;
            }
            first
        })
    }

    /// Returns the reason why the connection has ended, if it has.
    #[inline]
    pub fn reason(&self) -> Option<&CloseReason> {
        self.end.get()
    }

    /// Returns the error of every operation after the end, if there was one.
    pub fn error(&self) -> Option<Error> {
        self.end.get().map(Error::closed)
    }

    /// Returns `Ok` as long as the connection has not ended.
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

    /// Waits for the end and returns the reason.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn ended(&self) -> &CloseReason {
        self.end.wait().await
    }

    /// Takes the next stream for an accept.
    ///
    /// # Errors
    ///
    /// [`error`](Self::error) once the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop: no stream is lost.
    pub async fn accept<S>(&self, backlog: &Backlog<S>) -> Result<S> {
        self.check()?;
        match backlog.pop().await {
            Some(stream) => Ok(stream),
            None => Err(Error::closed(self.ended().await)),
        }
    }

    /// Waits for a drain: calls `close` once `is_drained` is true. `news` is notified of every
    /// change of `is_drained` and of the end. `ended_idle` returns whether the end cut no stream
    /// short.
    ///
    /// # Errors
    ///
    /// [`error`](Self::error) when the connection has ended in another way than idle and with code 0.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop.
    pub async fn drained(
        &self,
        news: &Notify,
        is_drained: impl Fn() -> bool,
        close: impl Fn(),
        ended_idle: impl Fn() -> bool,
    ) -> Result<()> {
        loop {
            let news = news.notified();
            match self.reason() {
                None if is_drained() => close(),
                None => news.await,
                Some(reason) if reason.code() == Some(0) && ended_idle() => return Ok(()),
                Some(reason) => return Err(Error::closed(reason)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

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

    #[tokio::test]
    async fn an_accept_of_an_ended_connection_tells_why_it_ended() {
        let (status, backlog) = (ConnStatus::new(), Backlog::new());
        backlog.push(1).unwrap();
        assert_eq!(status.accept(&backlog).await.unwrap(), 1);
        let accept = status.accept(&backlog);
        let end = async {
            status.end(CloseReason::remote(3, "done"));
            backlog.close();
        };
        let (accepted, ()) = tokio::join!(accept, end);
        assert_eq!(accepted.unwrap_err().code(), Some(3));
        assert_eq!(status.accept(&backlog).await.unwrap_err().code(), Some(3));
    }

    #[tokio::test]
    async fn a_drain_closes_the_connection_once_it_is_drained() {
        let (status, news) = (ConnStatus::new(), Notify::new());
        let is_drained = AtomicBool::new(false);
        let close = || {
            status.end(CloseReason::local(0, ""));
        };
        let drained = status.drained(&news, || is_drained.load(SeqCst), close, || true);
        let finish = async {
            assert!(status.reason().is_none());
            is_drained.store(true, SeqCst);
            news.notify_waiters();
        };
        let (drained, ()) = tokio::join!(drained, finish);
        drained.unwrap();
        assert_eq!(status.state(), ConnState::Closed);
    }

    #[tokio::test]
    async fn a_drain_fails_when_the_end_cuts_a_stream_short_or_has_a_code() {
        for (code, is_idle) in [(0, false), (5, true)] {
            let (status, news) = (ConnStatus::new(), Notify::new());
            status.end(CloseReason::remote(code, "enough"));
            let drained = status.drained(&news, || true, || panic!("it has ended"), || is_idle);
            assert_eq!(drained.await.unwrap_err().code(), Some(code));
        }
    }
}
