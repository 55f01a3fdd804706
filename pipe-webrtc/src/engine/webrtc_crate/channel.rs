use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use pipe_core::{Error, ErrorKind, Result};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};

use super::super::channel_info::{ChannelInfo, ChannelOptions};
use super::super::event::ChannelEvent;
use super::super::words::Words;

/// A data channel. Clones stand for the same one.
#[derive(Clone)]
pub(crate) struct Channel {
    inner: Arc<dyn DataChannel>,
    words: Arc<Words>,
}

impl Channel {
    pub(super) fn new(inner: Arc<dyn DataChannel>) -> Self {
        Self {
            inner,
            words: Arc::default(),
        }
    }

    /// Returns a number of this side's own, unique among its channels.
    pub(crate) fn key(&self) -> usize {
        self.inner.id()
    }

    pub(crate) async fn info(&self) -> Result<ChannelInfo> {
        let get = async {
            Ok(ChannelInfo {
                label: self.inner.label().await?,
                protocol: self.inner.protocol().await?,
                ordered: self.inner.ordered().await?,
            })
        };
        get.await.map_err(failed)
    }

    /// Disables the engine's event for each acknowledged message, which is not used.
    pub(crate) async fn set_quiet(&self) {
        // A channel that is gone makes no events either.
        let _ = self.inner.set_buffered_amount_low_threshold(u32::MAX).await;
    }

    /// Queues a message of bytes. The caller bounds the queue.
    pub(crate) async fn send(&self, bytes: BytesMut) -> Result<()> {
        self.words.note_sent(bytes.len());
        self.inner.send(bytes).await.map_err(failed)
    }

    /// Queues a message of bytes that counts towards [`takes_words`](Self::takes_words), such as an
    /// echo.
    pub(crate) async fn send_word(&self, bytes: BytesMut) -> Result<()> {
        self.words.note(bytes.len());
        self.inner.send(bytes).await.map_err(failed)
    }

    /// Queues a message of text.
    pub(crate) async fn send_text(&self, text: &str) -> Result<()> {
        self.words.note(text.len());
        self.inner.send_text(text).await.map_err(failed)
    }

    /// Returns whether more messages can be sent: at most twice as much as `most`, in bytes and the
    /// cost of messages, waits for the peer. The bytes of streams do not count, so that they delay
    /// no message.
    pub(crate) async fn takes_words(&self, most: u64) -> bool {
        self.words.are_few(most) || self.words.begin(self.outstanding().await)
    }

    /// Returns how many bytes the peer's SCTP has not acknowledged.
    pub(crate) async fn outstanding(&self) -> usize {
        self.inner.outstanding_bytes().await.unwrap_or(0)
    }

    /// Returns the next event. After [`ChannelEvent::Gone`] there is none.
    pub(crate) async fn next(&self) -> ChannelEvent {
        loop {
            match self.inner.poll().await {
                Some(DataChannelEvent::OnMessage(message)) if message.is_string => {
                    return ChannelEvent::Text(message.data);
                }
                Some(DataChannelEvent::OnMessage(message)) => {
                    return ChannelEvent::Bytes(message.data);
                }
                Some(DataChannelEvent::OnOpen) => return ChannelEvent::Open,
                Some(DataChannelEvent::OnClose) => return ChannelEvent::Closed,
                Some(_) => {}
                None => return ChannelEvent::Gone,
            }
        }
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.inner.close().await {
            tracing::debug!(%error, "closing a channel failed");
        }
    }
}

impl From<ChannelOptions> for RTCDataChannelInit {
    fn from(options: ChannelOptions) -> Self {
        Self {
            ordered: options.ordered,
            protocol: options.protocol,
            negotiated: options.negotiated,
            ..Self::default()
        }
    }
}

/// A channel that takes nothing belongs to a connection that is over, or was closed by the peer.
fn failed(error: webrtc::error::Error) -> Error {
    let why = format!("the data channel failed: {error}");
    Error::with_source(ErrorKind::Failed, why, error)
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(&self.key()).finish()
    }
}
