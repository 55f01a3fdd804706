use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use pipe_core::{Error, ErrorKind, Result};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};

/// A data channel. Clones stand for the same one.
#[derive(Clone)]
pub(crate) struct Channel(Arc<dyn DataChannel>);

/// How to open a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelOptions {
    pub(crate) protocol: String,
    /// The id that both sides agreed on beforehand; with one, nothing is sent to open the channel.
    pub(crate) negotiated: Option<u16>,
    pub(crate) ordered: bool,
}

/// What a data channel was opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// Its name, which need not be unique.
    pub label: String,
    /// The name of what is spoken on it.
    pub protocol: String,
    /// Whether messages arrive in the order in which they were sent.
    pub ordered: bool,
}

impl ChannelInfo {
    pub(crate) fn new(label: &str, protocol: &str, ordered: bool) -> Self {
        Self {
            label: label.to_owned(),
            protocol: protocol.to_owned(),
            ordered,
        }
    }
}

/// What happens on a channel.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    Open,
    Text(BytesMut),
    Bytes(BytesMut),
    /// The peer has closed it, or the connection under it is over.
    Closed,
}

impl Channel {
    pub(super) fn new(inner: Arc<dyn DataChannel>) -> Self {
        Self(inner)
    }

    /// A number of this side's own, unique among its channels.
    pub(crate) fn key(&self) -> usize {
        self.0.id()
    }

    pub(crate) async fn info(&self) -> Result<ChannelInfo> {
        let get = async {
            Ok(ChannelInfo {
                label: self.0.label().await?,
                protocol: self.0.protocol().await?,
                ordered: self.0.ordered().await?,
            })
        };
        get.await.map_err(failed)
    }

    /// Spares the engine an event for each message that was acknowledged, which nobody waits for.
    pub(crate) async fn set_quiet(&self) {
        // A channel that is gone makes no events either.
        let _ = self.0.set_buffered_amount_low_threshold(u32::MAX).await;
    }

    /// Queues a message of bytes. What bounds the queue is up to the caller.
    pub(crate) async fn send(&self, bytes: BytesMut) -> Result<()> {
        self.0.send(bytes).await.map_err(failed)
    }

    /// Queues a message of text.
    pub(crate) async fn send_text(&self, text: &str) -> Result<()> {
        self.0.send_text(text).await.map_err(failed)
    }

    /// How many bytes the peer's SCTP has not acknowledged.
    pub(crate) async fn outstanding(&self) -> usize {
        self.0.outstanding_bytes().await.unwrap_or(0)
    }

    /// The next event. After [`ChannelEvent::Closed`] there is none.
    pub(crate) async fn next(&self) -> ChannelEvent {
        loop {
            match self.0.poll().await {
                Some(DataChannelEvent::OnMessage(message)) if message.is_string => {
                    return ChannelEvent::Text(message.data);
                }
                Some(DataChannelEvent::OnMessage(message)) => {
                    return ChannelEvent::Bytes(message.data);
                }
                Some(DataChannelEvent::OnOpen) => return ChannelEvent::Open,
                Some(DataChannelEvent::OnClose) | None => return ChannelEvent::Closed,
                Some(_) => {}
            }
        }
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.0.close().await {
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
