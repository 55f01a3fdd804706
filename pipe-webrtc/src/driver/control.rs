use pipe_core::backend::proto::{Frame, Hello};
use pipe_core::{PeerIdentity, Result};
use tokio::time::Instant;

use super::{CLOSE_TIMEOUT, Closing, Driver};
use crate::error::protocol;
use crate::events::ConnEvent;
use crate::wire::MAX_MESSAGE;

impl Driver {
    pub(super) async fn on_control(&mut self, frame: Frame) -> Result<()> {
        if self.ready.is_some() && !matches!(frame, Frame::Hello(_)) {
            return Err(protocol("a message before its hello"));
        }
        match frame {
            Frame::Hello(hello) => return self.on_hello(hello).await,
            Frame::Received(bytes) => self.shared.outbox.note_arrived(bytes)?,
            Frame::Drain | Frame::Drained { .. } => self.shared.on_frame(frame)?,
            Frame::Close {
                code,
                messages,
                reason,
            } => {
                let deadline = Instant::now() + CLOSE_TIMEOUT;
                self.alarm.as_mut().reset(deadline);
                self.closing = Some(Closing {
                    code,
                    messages,
                    reason,
                    deadline,
                });
            }
            Frame::Closed => return Err(protocol("an answer to a close that was not")),
            Frame::Ping(_) | Frame::Pong(_) | Frame::Stream { .. } => {
                return Err(protocol("a message of another channel"));
            }
        }
        Ok(())
    }

    /// The connection is made, unless it was.
    pub(super) async fn on_hello(&mut self, hello: Hello) -> Result<()> {
        if !self.shared.greet(&hello)? {
            return Ok(());
        }
        let raw = self.shared.wire.is_raw();
        if self.shared.offerer && !raw {
            self.shared.say(&self.shared.hello());
        }
        let most = self.peer.max_message().await.unwrap_or(0) as usize;
        self.shared
            .set_largest_message(if most == 0 { MAX_MESSAGE } else { most });
        let chain = self.peer.certificates().await;
        if !chain.is_empty() {
            // An identity from the signalling takes precedence, and is there already.
            let _ = self
                .shared
                .identity
                .set(PeerIdentity::SelfSigned(chain.into()));
        }
        self.peer.set_connecting(false);
        self.signs = Self::signs(&self.shared, &self.peer);
        self.alarm.as_mut().reset(self.signs.deadline());
        self.note_pair().await;
        self.shared
            .tell(ConnEvent::State(self.shared.status.state()));
        self.unreachable_at = None;
        self.greet(Ok(()));
        Ok(())
    }

    /// Reports the result to the task that makes the connection.
    pub(super) fn greet(&mut self, made: Result<()>) {
        self.progress = None;
        if let Some(ready) = self.ready.take() {
            // The task may have gone; then the handle that it held closes the connection.
            let _ = ready.send(made);
        }
    }
}
