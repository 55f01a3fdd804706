//! Signs of life.

use std::time::Duration;

use pipe_core::backend::proto::{Frame, PingBytes};
use pipe_core::backend::random_ping;
use pipe_core::{Error, ErrorKind, Result, Wire};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::pings::Ping;
use super::state::Shared;
use crate::error::protocol;

/// Maximum number of pings of the connection itself in flight.
const MAX_ASKED: usize = 128;

impl Shared {
    /// Measures a round trip.
    pub(crate) async fn ping(&self) -> Result<Duration> {
        self.status.check()?;
        if self.wire == Wire::Raw {
            let why = "a peer of plain QUIC streams cannot be pinged through this connection";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let place = self.ping_places.clone().acquire_owned().await;
        let place = place.map_err(|_| self.error())?;
        let (answer, answered) = oneshot::channel();
        let started = Instant::now();
        let bytes = random_ping()?;
        {
            let mut inner = self.inner.lock();
            self.status.check()?;
            let ping = Ping {
                answer,
                started,
                _place: place,
            };
            inner.pings.insert(bytes, ping);
            inner.output.push(&Frame::Ping(bytes));
            self.send(inner);
        }
        answered.await.map_err(|_| self.error())?;
        Ok(started.elapsed().max(Duration::from_nanos(1)))
    }

    /// Sends a ping whose answer no caller waits for.
    pub(crate) fn ask(&self) {
        let mut inner = self.inner.lock();
        if let Ok(bytes) = random_ping()
            && inner.asked.len() < MAX_ASKED
        {
            inner.asked.insert(bytes);
            inner.output.push(&Frame::Ping(bytes));
        }
    }

    /// Notes that the answer to a ping has come.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) if there was no such ping.
    pub(crate) fn pong(&self, bytes: &PingBytes) -> Result<()> {
        let mut inner = self.inner.lock();
        if inner.asked.remove(bytes) {
            return Ok(());
        }
        let Some(ping) = inner.pings.remove(bytes) else {
            return Err(protocol("an answer to a ping that was not sent"));
        };
        inner.last_round_trip = Some(ping.started.elapsed().max(Duration::from_nanos(1)));
        drop(inner);
        // The caller may have given up.
        let _ = ping.answer.send(());
        Ok(())
    }

    /// Answers a ping of the peer.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) if the peer does not read the answers.
    pub(crate) fn answer(&self, bytes: PingBytes) -> Result<()> {
        let mut inner = self.inner.lock();
        if inner.output.is_flooded(self.config.max_streams) {
            return Err(protocol("a flood of pings"));
        }
        inner.output.push(&Frame::Pong(bytes));
        Ok(())
    }
}
