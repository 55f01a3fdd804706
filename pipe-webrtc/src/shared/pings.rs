use std::time::Duration;

use bytes::BytesMut;
use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{PING_LEN, Ping, Shared, random};
use crate::wire::Wire;

impl Shared {
    /// Measures a round trip.
    pub(crate) async fn ping(&self) -> Result<Duration> {
        self.status.check()?;
        if self.wire == (Wire::Raw { ping: false }) {
            let why = "this connection has no channel for pings";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let ended = || {
            self.status
                .error()
                .unwrap_or_else(|| Error::new(ErrorKind::Failed, "no answer came"))
        };
        let place = self.ping_places.clone().acquire_owned().await;
        let place = place.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let started = Instant::now();
        let bytes = random()?;
        {
            let mut inner = self.inner.lock();
            self.status.check()?;
            inner.pings.insert(
                bytes,
                Ping {
                    answer,
                    started,
                    _place: place,
                },
            );
        }
        self.outbox.push_ping(BytesMut::from(&bytes[..]));
        answered.await.map_err(|_| ended())?;
        Ok(started.elapsed().max(Duration::from_nanos(1)))
    }

    /// The answer to a ping has come, or that to one that nobody waits for.
    pub(crate) fn on_echo(&self, bytes: &[u8]) {
        let Ok(bytes) = <[u8; PING_LEN]>::try_from(bytes) else {
            return;
        };
        let mut inner = self.inner.lock();
        if let Some(ping) = inner.pings.remove(&bytes) {
            inner.last_round_trip = Some(ping.started.elapsed().max(Duration::from_nanos(1)));
            drop(inner);
            // Whoever asked may have given up.
            let _ = ping.answer.send(());
        }
    }

    /// Asks the peer for a sign of life that nobody waits for.
    pub(crate) fn ask(&self) {
        if self.wire != (Wire::Raw { ping: false })
            && let Ok(bytes) = random()
        {
            self.outbox.push_ping(BytesMut::from(&bytes[..]));
        }
    }
}
