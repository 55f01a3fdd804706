use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pipe_core::Result;

use super::channel_state::{ChannelState, cost};
use super::sctp_transport::Taken;
use super::shared::Shared;
use crate::engine::channel_info::ChannelInfo;
use crate::engine::event::ChannelEvent;

/// A data channel. Clones stand for the same one.
#[derive(Clone)]
pub(crate) struct Channel {
    inner: Arc<ChannelState>,
    shared: Arc<Shared>,
}

impl Channel {
    pub(super) fn new(inner: Arc<ChannelState>, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// Returns a number of this side's own, unique among its channels.
    pub(crate) fn key(&self) -> usize {
        self.inner.key()
    }

    pub(crate) fn info(&self) -> ChannelInfo {
        self.inner.info().clone()
    }

    /// Queues a message of bytes.
    pub(crate) async fn send(&self, bytes: BytesMut) -> Result<()> {
        self.inner.words.note_sent(bytes.len());
        self.queue(false, bytes.freeze()).await
    }

    /// Queues a message of bytes that counts towards [`takes_words`](Self::takes_words).
    pub(crate) async fn send_word(&self, bytes: BytesMut) -> Result<()> {
        self.inner.words.note(bytes.len());
        self.queue(false, bytes.freeze()).await
    }

    /// Queues a message of text.
    pub(crate) async fn send_text(&self, text: &str) -> Result<()> {
        self.inner.words.note(text.len());
        self.queue(true, Bytes::copy_from_slice(text.as_bytes()))
            .await
    }

    /// Waits until the association takes a message: it is established, and its buffer has room.
    async fn queue(&self, is_text: bool, bytes: Bytes) -> Result<()> {
        loop {
            // Before the attempt, so that nothing is missed.
            let acknowledged = self.shared.acknowledged();
            match self.shared.lock().send(self.inner.key(), is_text, &bytes)? {
                Taken::Yes => break,
                Taken::NotNow => {}
            }
            acknowledged.await;
        }
        self.shared.wake();
        Ok(())
    }

    /// Returns whether more messages can be sent: at most twice as much as `most` waits for the peer.
    pub(crate) fn takes_words(&self, most: u64) -> bool {
        self.inner.words.are_few(most) || self.inner.words.begin(self.outstanding())
    }

    /// Returns how many bytes the peer's SCTP has not acknowledged.
    pub(crate) fn outstanding(&self) -> usize {
        self.shared.lock().sctp.outstanding(self.inner.key())
    }

    /// Returns the next event. After [`ChannelEvent::Gone`] there is none.
    pub(crate) async fn next(&self) -> ChannelEvent {
        let event = poll_fn(|cx| self.inner.poll(cx)).await;
        self.shared.note_read(cost(&event));
        event
    }

    /// Closes both directions, after the messages that this side has queued. Those of the peer are dropped.
    pub(crate) fn close(&self) {
        self.shared.lock().sctp.close_channel(self.inner.key());
        self.shared.note_read(self.inner.discard());
        self.shared.wake();
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.key()).finish()
    }
}
