use std::time::Duration;

use bytes::BytesMut;
use pipe_core::backend::proto::{Frame, PingBytes};
use pipe_core::backend::{PingWaiter, random_ping};
use pipe_core::{Error, ErrorKind, Result};

use super::{Shared, now};
use crate::error::protocol;
use crate::wire::Wire;

impl Shared {
    /// Measures a round trip.
    pub(crate) async fn ping(&self) -> Result<Duration> {
        self.status.check()?;
        if !self.has_pings() {
            let why = "this connection has no channel for pings";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let send = |bytes, waiter| self.start_ping(bytes, waiter);
        self.pings.round_trip(&self.status, send).await
    }

    /// Sends a ping, unless the connection has ended.
    fn start_ping(&self, bytes: PingBytes, waiter: PingWaiter) {
        let mut inner = self.inner.lock();
        let is_sent = inner.session.ping(bytes, waiter, now()).is_ok();
        self.settle(inner);
        if is_sent && self.wire.is_raw() {
            self.outbox.push_ping(BytesMut::from(&bytes[..]));
        }
    }

    /// Returns whether the peer has a channel for pings.
    pub(crate) fn has_pings(&self) -> bool {
        self.wire != (Wire::Raw { ping: false })
    }

    /// Notes that the answer to a ping has come.
    pub(crate) fn on_echo(&self, bytes: &[u8]) -> Result<()> {
        let Ok(bytes) = PingBytes::try_from(bytes) else {
            let length = bytes.len();
            return Err(protocol(format_args!(
                "an echo of {length} bytes that are those of no ping"
            )));
        };
        self.on_frame(Frame::Pong(bytes))
    }

    /// Sends a liveness ping, unless many are unanswered.
    pub(crate) fn keep_alive(&self) {
        if !self.has_pings() {
            return;
        }
        let Ok(bytes) = random_ping() else {
            return tracing::debug!("the system gives no random bytes for a ping");
        };
        let mut inner = self.inner.lock();
        let is_ours_to_send = inner.session.keep_alive(bytes, now());
        self.settle(inner);
        if is_ours_to_send {
            self.outbox.push_ping(BytesMut::from(&bytes[..]));
        }
    }
}
