use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use pipe_core::{Error, ErrorKind, Result};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};

/// Approximate cost of a message to the engine besides its bytes.
const MESSAGE_COST: u64 = 256;

/// A data channel. Clones stand for the same one.
#[derive(Clone)]
pub(crate) struct Channel {
    inner: Arc<dyn DataChannel>,
    words: Arc<Words>,
}

/// The messages of a channel that the peer has not acknowledged, apart from the bytes of its
/// streams.
#[derive(Debug, Default)]
struct Words {
    /// Bytes of all messages that were sent.
    sent: AtomicU64,
    /// Length of messages since the mark.
    since: AtomicU64,
    /// Number of bytes sent when the last part of the messages began.
    mark: AtomicU64,
}

impl Words {
    fn note(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.since
            .fetch_add(bytes + MESSAGE_COST, Ordering::Relaxed);
    }

    /// Returns whether the length of messages since the mark is less than `most`.
    fn are_few(&self, most: u64) -> bool {
        self.since.load(Ordering::Relaxed) < most
    }

    /// Begins another part, unless the peer lacks some of the one before. Returns whether it does not.
    fn begin(&self, outstanding: usize) -> bool {
        let sent = self.sent.load(Ordering::Relaxed);
        let taken = sent.saturating_sub(outstanding as u64);
        if taken < self.mark.load(Ordering::Relaxed) {
            return false;
        }
        self.mark.store(sent, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        true
    }
}

/// The parameters of a channel to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelOptions {
    pub(crate) protocol: String,
    /// The id that both sides agreed on beforehand; with one, nothing is sent to open the channel.
    pub(crate) negotiated: Option<u16>,
    pub(crate) ordered: bool,
}

/// The parameters of a data channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// Its name, which need not be unique.
    pub label: String,
    /// Name of the channel's protocol.
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

/// An event of a channel.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    Open,
    Text(BytesMut),
    Bytes(BytesMut),
    /// The channel is closed: by the peer, or with the transport under it. Earlier messages may
    /// follow: the engine reports a close first.
    Closed,
    /// The engine has stopped. Nothing follows.
    Gone,
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
        self.words
            .sent
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_waits_for_the_part_before_and_for_no_bytes() {
        const MOST: u64 = 4096;
        let words = Words::default();
        let mut said = 0;
        while words.are_few(MOST) {
            words.note(100);
            said += 100;
        }
        assert!(words.begin(said));
        while words.are_few(MOST) {
            words.note(100);
        }
        // Nothing was taken, and all of it is outstanding.
        let sent = words.sent.load(Ordering::Relaxed) as usize;
        assert!(!words.begin(sent));
        // The first part has arrived, and many bytes of a stream are on their way behind.
        words.sent.fetch_add(1 << 20, Ordering::Relaxed);
        assert!(words.begin(sent + (1 << 20) - said));
    }
}
