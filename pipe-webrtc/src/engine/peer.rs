use std::future::Future;

use bytes::Bytes;
use pipe_core::{Error, Result};
#[cfg(feature = "webrtc")]
use tokio::sync::mpsc;

use super::channel::Channel;
use super::channel_info::ChannelOptions;
use super::event::{Candidate, PeerEvent};
use super::options::PeerOptions;
use super::own;
use super::stats::{CandidatePair, SctpStats};
#[cfg(feature = "webrtc")]
use super::webrtc_crate;
use crate::ice_server::IceServer;
use crate::settings::Engine;

/// A peer connection.
///
/// It has to be [closed](Self::close): dropping it starts that in the background.
#[derive(Debug)]
pub(crate) enum Peer {
    Own(own::Peer),
    #[cfg(feature = "webrtc")]
    Crate(webrtc_crate::Peer),
}

/// The events of a peer connection, in their order.
#[derive(Debug)]
pub(crate) enum PeerEvents {
    Own(own::Events),
    #[cfg(feature = "webrtc")]
    Crate(mpsc::Receiver<PeerEvent<webrtc_crate::Channel>>),
}

impl PeerEvents {
    /// Returns the next event; `None` once the engine has stopped.
    pub(crate) async fn recv(&mut self) -> Option<PeerEvent<Channel>> {
        match self {
            Self::Own(events) => Some(events.recv().await?.map(Channel::Own)),
            #[cfg(feature = "webrtc")]
            Self::Crate(events) => Some(events.recv().await?.map(Channel::Crate)),
        }
    }
}

/// Calls the same method of the peer connection of either engine.
macro_rules! either {
    ($peer:expr, $inner:ident => $call:expr) => {
        match $peer {
            Peer::Own($inner) => $call,
            #[cfg(feature = "webrtc")]
            Peer::Crate($inner) => $call,
        }
    };
}

impl Peer {
    /// Binds the sockets of a new peer connection.
    ///
    /// Dropping the future leaves nothing behind.
    pub(crate) async fn new(options: PeerOptions) -> Result<(Self, PeerEvents)> {
        match options.engine {
            Engine::Own => {
                let (peer, events) = own::Peer::new(options)?;
                Ok((Self::Own(peer), PeerEvents::Own(events)))
            }
            #[cfg(feature = "webrtc")]
            Engine::WebRtcCrate => {
                let (peer, events) = webrtc_crate::Peer::new(options).await?;
                Ok((Self::Crate(peer), PeerEvents::Crate(events)))
            }
        }
    }

    /// Runs this in the task of the engine, where handing something to the engine and back costs the least.
    /// The engine goes on when this waits, so it may take all that there is to do.
    pub(crate) fn run_beside(&self, part: impl Future<Output = ()> + Send + 'static) {
        either!(self, peer => peer.run_beside(part));
    }

    /// Waits until a part of the task of the engine has panicked.
    pub(crate) async fn panicked(&self) {
        either!(self, peer => peer.panicked().await);
    }

    /// Waits until the association under the channels is broken, and gives the reason.
    /// `connecting` is whether the connection is not made yet.
    pub(crate) async fn broken(&self, connecting: bool) -> Error {
        match self {
            Self::Own(peer) => {
                // Its reasons say by themselves what has failed.
                let _ = connecting;
                peer.broken().await
            }
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.broken(connecting).await,
        }
    }

    /// Returns how the peer has ended the transport, if that is known.
    pub(crate) fn goodbye(&self) -> Option<String> {
        match self {
            Self::Own(peer) => peer.goodbye(),
            #[cfg(feature = "webrtc")]
            Self::Crate(_) => None,
        }
    }

    /// Returns how many packets of the peer have come, ever.
    pub(crate) fn heard(&self) -> u64 {
        either!(self, peer => peer.heard())
    }

    /// Returns the number of sockets.
    pub(crate) fn sockets(&self) -> usize {
        either!(self, peer => peer.sockets())
    }

    /// Returns why STUN and TURN servers do not help, as far as they gave a reason.
    pub(crate) fn refusals(&self) -> Option<String> {
        either!(self, peer => peer.refusals())
    }

    /// Sets whether a path is looked for, and the engine is to hurry.
    pub(crate) fn set_connecting(&self, connecting: bool) {
        match self {
            // It is as fast as it can be at any time.
            Self::Own(_) => {
                let _ = connecting;
            }
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.vitals().set_connecting(connecting),
        }
    }

    /// Waits while the engine has been given much at once, and has not had a turn since.
    pub(crate) async fn keep_pace(&self) {
        match self {
            // Its association bounds what it takes.
            Self::Own(_) => {}
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.keep_pace().await,
        }
    }

    /// Waits until the peer has acknowledged more, where that is an event. Otherwise it waits for ever.
    pub(crate) async fn acknowledged(&self) {
        match self {
            Self::Own(peer) => peer.acknowledged().await,
            #[cfg(feature = "webrtc")]
            Self::Crate(_) => std::future::pending().await,
        }
    }

    /// Returns the ids of channels to reserve before another one is opened; `None` if none can be opened now.
    pub(crate) fn before_open(&self) -> Option<Vec<u16>> {
        match self {
            Self::Own(peer) => peer.has_free_id().then(Vec::new),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.before_open(),
        }
    }

    /// Makes SCTP's receive buffer larger, where it is not fixed, and if it is not as large already.
    pub(crate) fn raise_receive_buffer(&self, bytes: u32) {
        match self {
            Self::Own(peer) => peer.raise_receive_buffer(bytes),
            #[cfg(feature = "webrtc")]
            Self::Crate(_) => {}
        }
    }

    /// Returns how many bytes of streams the engine keeps at most until they have arrived.
    pub(crate) fn most_in_flight(&self) -> usize {
        match self {
            Self::Own(_) => own::MAX_FLIGHT,
            #[cfg(feature = "webrtc")]
            Self::Crate(_) => webrtc_crate::MAX_FLIGHT,
        }
    }

    /// Notes that this side closes a channel.
    pub(crate) fn note_close(&self) {
        match self {
            Self::Own(_) => {}
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.vitals().resets().lock().note_close(),
        }
    }

    /// Makes an offer and takes it as this side's description.
    pub(crate) async fn offer(&self) -> Result<String> {
        match self {
            Self::Own(peer) => peer.offer(),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.offer().await,
        }
    }

    /// Answers an offer. Candidates for it may follow.
    pub(crate) async fn answer(&self, offer: String) -> Result<String> {
        match self {
            Self::Own(peer) => peer.answer(&offer),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.answer(offer).await,
        }
    }

    /// Makes an offer that restarts ICE. The path in use stays until its answer is
    /// [accepted](Self::accept_answer).
    pub(crate) async fn offer_restart(&self) -> Result<String> {
        match self {
            Self::Own(peer) => peer.offer_restart(),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.offer_restart().await,
        }
    }

    /// Takes the peer's answer to the last offer.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](pipe_core::ErrorKind::Unsupported) if the offer restarts ICE and the peer does
    /// not: its credentials are those that it had (RFC 8839, section 4.4.1.1). Nothing has changed then.
    pub(crate) async fn accept_answer(&self, answer: String) -> Result<()> {
        match self {
            Self::Own(peer) => peer.accept_answer(&answer),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.accept_answer(answer).await,
        }
    }

    /// Adds a candidate of the peer. It has to come after the description that it belongs to.
    pub(crate) async fn add_candidate(&self, candidate: Candidate) -> Result<()> {
        match self {
            Self::Own(peer) => peer.add_candidate(&candidate),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.add_candidate(candidate).await,
        }
    }

    pub(crate) async fn set_ice_servers(
        &self,
        servers: &[IceServer],
        relay_only: bool,
    ) -> Result<()> {
        match self {
            Self::Own(peer) => peer.set_ice_servers(servers, relay_only),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.set_ice_servers(servers, relay_only).await,
        }
    }

    pub(crate) async fn open_channel(
        &self,
        label: &str,
        options: ChannelOptions,
    ) -> Result<Channel> {
        match self {
            Self::Own(peer) => Ok(Channel::Own(peer.open_channel(label, &options)?)),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => Ok(Channel::Crate(peer.open_channel(label, options).await?)),
        }
    }

    /// Returns the largest message that the peer takes, in bytes.
    pub(crate) async fn max_message(&self) -> Option<u32> {
        match self {
            Self::Own(peer) => peer.max_message(),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.max_message().await,
        }
    }

    /// Returns the peer's certificates, each in DER.
    pub(crate) async fn certificates(&self) -> Vec<Bytes> {
        match self {
            Self::Own(peer) => peer.certificates(),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.certificates().await,
        }
    }

    pub(crate) async fn candidate_pair(&self) -> Option<CandidatePair> {
        match self {
            Self::Own(peer) => peer.candidate_pair(),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.candidate_pair().await,
        }
    }

    pub(crate) async fn stats(&self) -> SctpStats {
        match self {
            Self::Own(peer) => peer.stats(),
            #[cfg(feature = "webrtc")]
            Self::Crate(peer) => peer.stats().await,
        }
    }

    /// Ends the connection and frees its sockets and tasks. Data in flight may be lost.
    pub(crate) async fn close(&self) {
        either!(self, peer => peer.close().await);
    }
}
