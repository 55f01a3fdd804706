use std::sync::Arc;

use pipe_core::backend::{ConnRef, session_conn};
use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;
#[cfg(all(feature = "native", feature = "webrtc"))]
use webrtc::peer_connection::PeerConnection;

use crate::command::Command;
#[cfg(all(feature = "native", feature = "webrtc"))]
use crate::engine::Peer;
use crate::engine::{CandidatePair, ChannelInfo, SctpStats};
use crate::events::ConnEvents;
use crate::ice_server::IceServer;
use crate::shared::Shared;
use crate::stream::WebRtcStream;

session_conn! {
    /// A connection over WebRTC: one peer connection, whose data channels carry the streams.
    pub struct WebRtcConn of Shared {
        stream: WebRtcStream,
    }
}

impl WebRtcConn {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(ConnRef::new(shared))
    }

    /// Looks for a new path to the peer, as after a change of the network. Streams go on meanwhile, and
    /// lose nothing. It happens by itself when the peer is not reached for a while.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) when the signalling channel is gone, and when the peer does not
    /// restart ICE: its answer has the credentials that it had. The path in use stays then.
    /// [`Closed`](ErrorKind::Closed) or [`Failed`](ErrorKind::Failed) once the connection is over.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop; the restart goes on.
    pub async fn restart_ice(&self) -> Result<()> {
        self.shared().status.check()?;
        let (done, restarted) = oneshot::channel();
        self.shared().command(Command::Restart(Some(done)));
        let gone = || {
            let why = "ICE cannot be restarted: the signalling channel is gone";
            Error::new(ErrorKind::Unsupported, why)
        };
        restarted
            .await
            .unwrap_or_else(|_| Err(self.shared().status.error().unwrap_or_else(gone)))
    }

    /// Uses other STUN and TURN servers from the next [`restart_ice`](Self::restart_ice) on.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for servers that make no sense;
    /// [`Unsupported`](ErrorKind::Unsupported) for servers over TCP or TLS, and for `relay_only` where the
    /// connection was not made with it: the engine goes on to use the paths that it has;
    /// [`Closed`](ErrorKind::Closed) or [`Failed`](ErrorKind::Failed) once the connection is over.
    pub async fn set_ice_servers(&self, servers: Vec<IceServer>, relay_only: bool) -> Result<()> {
        self.shared().status.check()?;
        crate::WebRtcSettings::default()
            .with_ice_servers(servers.clone())
            .with_relay_only(relay_only)
            .validate()?;
        match self.shared().peer.get() {
            Some(peer) => peer.set_ice_servers(&servers, relay_only).await,
            None => Err(Error::new(ErrorKind::Failed, "there is no peer connection")),
        }
    }

    /// Returns the events of the connection under its streams, from the first event that is kept
    /// on: the candidates of both sides, the path that was chosen, restarts of ICE, and every
    /// change of the state. The same goes to `tracing`, on the level of debugging.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
    /// # use pipe_core::Conn;
    /// # use pipe_inproc::InprocTransport;
    /// use pipe_webrtc::{ConnEvent, MemorySignaling, WebRtcTransport};
    ///
    /// # let transport = WebRtcTransport::new(InprocTransport::new());
    /// let (here, there) = MemorySignaling::pair();
    /// let (conn, _peer) = tokio::try_join!(transport.offer_over(here), transport.answer_over(there))?;
    /// let mut events = conn.events();
    /// conn.close(0, "");
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         ConnEvent::PairSelected(pair) => println!("from {} to {}", pair.local, pair.remote),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok::<(), pipe_core::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn events(&self) -> ConnEvents {
        ConnEvents::new(self.shared().events.clone())
    }

    /// Returns the path that the packets take; none before it was found and after the end.
    pub async fn selected_candidate_pair(&self) -> Option<CandidatePair> {
        self.shared().peer.get()?.candidate_pair().await
    }

    /// Returns statistics of the transport under the connection.
    pub async fn sctp_stats(&self) -> SctpStats {
        match self.shared().peer.get() {
            Some(peer) => peer.stats().await,
            None => SctpStats::default(),
        }
    }

    /// Returns the peer connection of the crate `webrtc` under this one, to look at; none on
    /// [`Engine::Own`](crate::Engine::Own). Closing it breaks this one, and so does a new description.
    /// See the feature `native`.
    #[cfg(all(feature = "native", feature = "webrtc"))]
    pub fn inner(&self) -> Option<&Arc<dyn PeerConnection>> {
        match &**self.shared().peer.get()? {
            Peer::Crate(peer) => Some(peer.inner()),
            Peer::Own(_) => None,
        }
    }

    /// Opens a plain data channel, on a connection of [`Wire::Raw`](crate::Wire::Raw).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) on a connection of another wire, and those of
    /// [`open_stream`](pipe_core::Conn::open_stream).
    ///
    /// # Cancel safety
    ///
    /// As in [`open_stream`](pipe_core::Conn::open_stream).
    pub async fn open_channel(
        &self,
        label: &str,
        protocol: &str,
        ordered: bool,
    ) -> Result<WebRtcStream> {
        if !self.shared().wire.is_raw() {
            let why = "channels of one's own are for plain peers: see Wire::Raw";
            return Err(Error::new(ErrorKind::Unsupported, why));
        }
        let info = ChannelInfo::new(label, protocol, ordered);
        let stream = self.shared().open_channel(info).await?;
        Ok(WebRtcStream::new(stream, self.0.clone()))
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.0.conn()
    }

    /// Returns what is left of the connection when its handles are gone. It holds none.
    #[cfg(feature = "http")]
    pub(crate) fn to_shared(&self) -> Arc<Shared> {
        self.0.conn().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pipe_core::{CloseReason, Conn};
    use pipe_inproc::InprocTransport;

    use super::*;
    use crate::{MemorySignaling, WebRtcSettings, WebRtcTransport};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_under_a_connection_ends_only_it_and_at_once() {
        let loopback = vec![std::net::Ipv4Addr::LOCALHOST.into()];
        let transport = WebRtcTransport::new(InprocTransport::new())
            .with_settings(WebRtcSettings::default().with_bind_addrs(loopback))
            .unwrap();
        let pair = || async {
            let (here, there) = MemorySignaling::pair();
            tokio::try_join!(transport.offer_over(here), transport.answer_over(there)).unwrap()
        };
        let (here, _peer) = pair().await;
        let (other, _other_peer) = pair().await;
        let peer = here.shared().peer.get().unwrap();
        peer.run_beside(async { panic!("as the test wants it") });
        let limit = Duration::from_secs(10);
        let reason = tokio::time::timeout(limit, here.closed()).await.unwrap();
        assert!(
            matches!(&reason, CloseReason::Failed(error) if error.kind() == ErrorKind::Failed),
            "{reason:?}"
        );
        assert!(other.ping().await.unwrap() > Duration::ZERO);
    }
}
