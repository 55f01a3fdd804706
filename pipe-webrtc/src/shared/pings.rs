use pipe_core::Result;
use pipe_core::backend::SessionConn;
use pipe_core::backend::proto::{Frame, PingBytes};

use super::Shared;
use crate::error::protocol;
use crate::wire::Wire;

impl Shared {
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
        SessionConn::keep_alive(self);
    }
}
