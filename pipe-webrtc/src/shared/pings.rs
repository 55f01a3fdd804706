use std::time::Duration;

use bytes::BytesMut;
use pipe_core::backend::proto::PingBytes;
use pipe_core::backend::random_ping;
use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{MAX_PINGS, Ping, PingWaiter, Shared};
use crate::error::protocol;
use crate::wire::Wire;

impl Shared {
    /// Measures a round trip.
    pub(crate) async fn ping(&self) -> Result<Duration> {
        self.status.check()?;
        if !self.can_ask() {
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
        let bytes = random_ping()?;
        {
            let mut inner = self.inner.lock();
            self.status.check()?;
            inner.pings.insert(
                bytes,
                Ping {
                    started,
                    waiter: Some(PingWaiter {
                        answer,
                        _place: place,
                    }),
                },
            );
        }
        self.outbox.push_ping(BytesMut::from(&bytes[..]));
        answered.await.map_err(|_| ended())?;
        Ok(started.elapsed().max(Duration::from_nanos(1)))
    }

    /// Returns whether the peer has a channel for pings.
    pub(crate) fn can_ask(&self) -> bool {
        self.wire != (Wire::Raw { ping: false })
    }

    /// Notes that the answer to a ping has come, or that to a sign of life.
    pub(crate) fn on_echo(&self, bytes: &[u8]) -> Result<()> {
        let mut inner = self.inner.lock();
        let known = PingBytes::try_from(bytes).ok();
        let Some(ping) = known.and_then(|bytes| inner.pings.remove(&bytes)) else {
            let length = bytes.len();
            return Err(protocol(format_args!(
                "an echo of {length} bytes that are those of no ping"
            )));
        };
        match ping.waiter {
            Some(waiter) => {
                inner.last_round_trip = Some(ping.started.elapsed().max(Duration::from_nanos(1)));
                drop(inner);
                // The caller may have gone.
                let _ = waiter.answer.send(());
            }
            None => inner.asked -= 1,
        }
        Ok(())
    }

    /// Sends a liveness ping, unless many are unanswered.
    pub(crate) fn ask(&self) {
        if !self.can_ask() {
            return;
        }
        let Ok(bytes) = random_ping() else { return };
        {
            let mut inner = self.inner.lock();
            if inner.asked >= MAX_PINGS || self.status.reason().is_some() {
                return;
            }
            inner.asked += 1;
            let ping = Ping {
                started: Instant::now(),
                waiter: None,
            };
            inner.pings.insert(bytes, ping);
        }
        self.outbox.push_ping(BytesMut::from(&bytes[..]));
    }
}
