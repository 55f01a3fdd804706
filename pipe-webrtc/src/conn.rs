use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::fmt_conn;
use pipe_core::{
    Addr, CloseReason, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::sync::{oneshot, watch};
use webrtc::peer_connection::PeerConnection;

use crate::command::Command;
use crate::engine::{CandidatePair, ChannelInfo, SctpStats};
use crate::events::ConnEvents;
use crate::handle::Handle;
use crate::settings::IceServer;
use crate::shared::Shared;
use crate::stream::WebRtcStream;

/// A connection over WebRTC: one peer connection, whose data channels carry the streams.
#[derive(Clone)]
pub struct WebRtcConn(Arc<Handle>);

impl WebRtcConn {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Handle(shared)))
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

    /// Returns the peer connection under this one, to look at. Closing it breaks this one, and so
    /// does a new description.
    pub fn inner(&self) -> Option<&Arc<dyn PeerConnection>> {
        Some(self.shared().peer.get()?.inner())
    }

    /// Opens a plain data channel, on a connection of [`Wire::Raw`](crate::Wire::Raw).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) on a connection of another wire, and those of
    /// [`open_stream`](Conn::open_stream).
    ///
    /// # Cancel safety
    ///
    /// As in [`open_stream`](Conn::open_stream).
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
        self.open(ChannelInfo::new(label, protocol, ordered)).await
    }

    async fn open(&self, info: ChannelInfo) -> Result<WebRtcStream> {
        let shared = self.shared();
        shared.check_open()?;
        let slot = shared.slots.acquire().await;
        shared.check_open()?;
        let over = || Error::new(ErrorKind::Closed, "no more streams");
        let slot = slot.ok_or_else(over)?;
        match shared.open(slot, info).opened().await {
            Some(stream) => Ok(WebRtcStream::new(stream, self.0.clone())),
            None => Err(shared.check_open().err().unwrap_or_else(over)),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl Conn for WebRtcConn {
    type Stream = WebRtcStream;

    async fn open_stream(&self) -> Result<WebRtcStream> {
        self.open(ChannelInfo::new("", "", true)).await
    }

    async fn accept_stream(&self) -> Result<WebRtcStream> {
        let shared = self.shared();
        let stream = shared.status.accept(&shared.backlog).await?;
        shared.on_accepted(&stream);
        Ok(WebRtcStream::new(stream, self.0.clone()))
    }

    async fn ping(&self) -> Result<Duration> {
        self.shared().ping().await
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.shared().status.watch()
    }

    fn stats(&self) -> ConnStats {
        self.shared().stats()
    }

    async fn drain(&self) -> Result<()> {
        let shared = self.shared();
        if shared.status.reason().is_none() {
            shared.drain();
        }
        let (is_drained, ended_idle) = (|| shared.is_drained(), || shared.ended_idle());
        let close = || shared.close(0, "");
        let (status, idle) = (&shared.status, &shared.idle);
        let drained = status.drained(idle, is_drained, close, ended_idle);
        drained.await
    }

    fn close(&self, code: u32, reason: &str) {
        self.shared().close(code, reason);
    }

    async fn closed(&self) -> CloseReason {
        self.shared().status.ended().await.clone()
    }

    fn local_addr(&self) -> Addr {
        self.shared().local_addr.clone()
    }

    fn remote_addr(&self) -> Addr {
        self.shared().remote_addr.clone()
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.shared().identity.get().cloned()
    }
}

impl fmt::Debug for WebRtcConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_conn("WebRtcConn", self, f)
    }
}

#[cfg(test)]
mod tests {
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
