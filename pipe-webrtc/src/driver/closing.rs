use std::time::Duration;

use futures::stream::StreamExt;
use pipe_core::backend::proto::Frame;
use pipe_core::backend::proto::codec::text::decode_control;
use pipe_core::{CloseReason, ConnState};
use tokio::time::{sleep, timeout};

use super::kind::Kind;
use super::{CLOSE_TIMEOUT, Driver, LAST_WORDS, LINGER};
use crate::engine::{ChannelEvent, IceState, PeerEvent};
use crate::outbound::{Outbound, say_got};
use crate::outbox::Job;

impl Driver {
    /// Ends the layers under the connection, in the way that its end requires.
    pub(super) async fn finish(mut self) {
        let outbound = match self.outbound.take() {
            Some(task) => timeout(LINGER, task).await.ok().and_then(Result::ok),
            None => None,
        };
        if self.shared.wire.is_raw() && self.ready.is_none() {
            let outbound = outbound.filter(|_| self.shared.status.state() == ConnState::Closed);
            if let Some(outbound) = outbound {
                // Accepted bytes are sent, as far as the peer's window allows.
                let _ = timeout(LINGER, self.flush_raw(&outbound)).await;
            }
            if let Some(CloseReason::Local { .. }) = self.shared.status.reason() {
                let _ = timeout(LAST_WORDS, self.until_ended()).await;
            }
        } else if let (Some(outbound), None) = (outbound, &self.ready) {
            let ended = match self.shared.status.reason() {
                Some(CloseReason::Local { .. }) => {
                    timeout(CLOSE_TIMEOUT, self.close(&outbound)).await
                }
                Some(CloseReason::Remote { .. }) => {
                    timeout(LINGER, self.closed_by_peer(&outbound)).await
                }
                _ => Ok(()),
            };
            if ended.is_err() {
                tracing::debug!(peer = %self.shared.remote_addr, "the peer does not answer a close");
            }
        } else if self.shared.status.state() == ConnState::Failed && !self.negotiated {
            // The error of a connection that was not made is sent to the peer.
            let _ = timeout(LINGER, &mut self.negotiation).await;
        }
        self.negotiation.abort();
        if timeout(CLOSE_TIMEOUT, self.peer.close()).await.is_err() {
            tracing::debug!(peer = %self.shared.remote_addr, "the engine does not stop");
        }
        self.shared.clear();
    }

    pub(super) async fn flush_raw(&mut self, outbound: &Outbound) {
        loop {
            if outbound.flush().await.is_err() || !self.shared.outbox.has_waiting() {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the peer has ended the transport.
    async fn until_ended(&mut self) {
        while self.next_last_word().await.is_some() {}
    }

    /// Sends the close of this side, after all of its data, and waits until the peer has
    /// acknowledged it.
    pub(super) async fn close(&mut self, outbound: &Outbound) {
        if outbound.flush().await.is_err() {
            return;
        }
        if let Some(CloseReason::Local { code, reason }) = self.shared.status.reason() {
            self.shared.say(&Frame::Close {
                code: *code,
                messages: self.shared.messages_sent(),
                reason: reason.as_ref().to_owned(),
            });
        }
        loop {
            if outbound.flush().await.is_err() {
                return;
            }
            match self.next_last_word().await {
                Some(Frame::Closed) | None => return,
                Some(Frame::Close { .. }) => {
                    self.shared.say(&Frame::Closed);
                    let _ = outbound.flush().await;
                    return self.until_heard().await;
                }
                Some(Frame::Received(bytes)) => {
                    let _ = self.shared.outbox.note_arrived(bytes);
                }
                Some(_) => {}
            }
        }
    }

    /// Confirms the peer's close and waits until it ends the transport.
    pub(super) async fn closed_by_peer(&mut self, outbound: &Outbound) {
        self.shared.say(&Frame::Closed);
        if outbound.flush().await.is_err() {
            return;
        }
        self.until_ended().await;
    }

    /// Waits until the peer's side of the transport has acknowledged all messages.
    pub(super) async fn until_heard(&mut self) {
        while self.fixed.control.outstanding().await > 0 {
            tokio::select! {
                word = self.next_last_word() => if word.is_none() { return },
                () = sleep(Duration::from_millis(2)) => {}
            }
        }
    }

    /// Returns the next message of the peer about the connection; `None` when the transport has
    /// ended. Other messages are dropped.
    pub(super) async fn next_last_word(&mut self) -> Option<Frame> {
        loop {
            tokio::select! {
                biased;
                () = self.peer.panicked() => return None,
                event = self.events.recv() => match event {
                    None | Some(PeerEvent::Closed | PeerEvent::Ice(IceState::Failed)) => return None,
                    Some(_) => {}
                },
                event = self.channels.next() => match event {
                    None | Some((Kind::Control, _, ChannelEvent::Closed | ChannelEvent::Gone)) => {
                        return None;
                    }
                    Some((Kind::Control, _, ChannelEvent::Text(text))) => {
                        if let Ok(Some(frame)) = decode_control(&text) {
                            return Some(frame);
                        }
                    }
                    Some((Kind::Ours | Kind::Theirs, _, ChannelEvent::Bytes(bytes))) => {
                        // The peer may have to send the rest before it can read the close.
                        self.shared.note_arrived(bytes.len());
                        let control = &self.fixed.control;
                        match self.shared.outbox.try_text() {
                            Some(Job::Text(text)) => drop(control.send_text(&text).await),
                            Some(Job::Got(bytes)) => {
                                drop(say_got(&self.shared, control, bytes).await);
                            }
                            _ => {}
                        }
                    }
                    Some(_) => {}
                },
            }
        }
    }
}
