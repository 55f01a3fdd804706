use bytes::BytesMut;
use pipe_core::Result;

use super::channel_info::ChannelInfo;
use super::event::ChannelEvent;
use super::own;
#[cfg(feature = "webrtc")]
use super::webrtc_crate;

/// A data channel. Clones stand for the same one.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    Own(own::Channel),
    #[cfg(feature = "webrtc")]
    Crate(webrtc_crate::Channel),
}

/// Calls the same method of the channel of either engine.
macro_rules! either {
    ($channel:expr, $inner:ident => $call:expr) => {
        match $channel {
            Channel::Own($inner) => $call,
            #[cfg(feature = "webrtc")]
            Channel::Crate($inner) => $call,
        }
    };
}

impl Channel {
    /// Returns a number of this side's own, unique among its channels.
    pub(crate) fn key(&self) -> usize {
        either!(self, channel => channel.key())
    }

    pub(crate) async fn info(&self) -> Result<ChannelInfo> {
        match self {
            Self::Own(channel) => Ok(channel.info()),
            #[cfg(feature = "webrtc")]
            Self::Crate(channel) => channel.info().await,
        }
    }

    /// Disables the event of the engine for each acknowledged message, which is not used.
    pub(crate) async fn set_quiet(&self) {
        #[cfg(feature = "webrtc")]
        if let Self::Crate(channel) = self {
            channel.set_quiet().await;
        }
    }

    /// Queues a message of bytes. The caller bounds the queue.
    pub(crate) async fn send(&self, bytes: BytesMut) -> Result<()> {
        either!(self, channel => channel.send(bytes).await)
    }

    /// Queues a message of bytes that counts towards [`takes_words`](Self::takes_words), such as an
    /// echo.
    pub(crate) async fn send_word(&self, bytes: BytesMut) -> Result<()> {
        either!(self, channel => channel.send_word(bytes).await)
    }

    /// Queues a message of text.
    pub(crate) async fn send_text(&self, text: &str) -> Result<()> {
        either!(self, channel => channel.send_text(text).await)
    }

    /// Returns whether more messages can be sent: at most twice as much as `most`, in bytes and the
    /// cost of messages, waits for the peer. The bytes of streams do not count, so that they delay
    /// no message.
    pub(crate) async fn takes_words(&self, most: u64) -> bool {
        match self {
            Self::Own(channel) => channel.takes_words(most),
            #[cfg(feature = "webrtc")]
            Self::Crate(channel) => channel.takes_words(most).await,
        }
    }

    /// Returns how many bytes the peer's SCTP has not acknowledged.
    pub(crate) async fn outstanding(&self) -> usize {
        match self {
            Self::Own(channel) => channel.outstanding(),
            #[cfg(feature = "webrtc")]
            Self::Crate(channel) => channel.outstanding().await,
        }
    }

    /// Returns the next event. After [`ChannelEvent::Gone`] there is none.
    pub(crate) async fn next(&self) -> ChannelEvent {
        either!(self, channel => channel.next().await)
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Own(channel) => channel.close(),
            #[cfg(feature = "webrtc")]
            Self::Crate(channel) => channel.close().await,
        }
    }
}
