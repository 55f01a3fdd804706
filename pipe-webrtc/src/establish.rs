use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::proto::codec::text::PROTOCOL;
use pipe_core::backend::{Progress, dial_within};
use pipe_core::{Addr, CloseReason, Config, Error, ErrorKind, PeerIdentity, Result};
use tokio::sync::{mpsc, oneshot};

use crate::conn::WebRtcConn;
use crate::driver::{Driver, NewDriver};
use crate::engine::{Channel, ChannelOptions, Faults, Peer, PeerOptions, SharedPort};
use crate::negotiation::Negotiation;
use crate::outbound::Fixed;
use crate::settings::{Engine, WebRtcSettings};
use crate::shared::Shared;
use crate::signaling::Signaling;
use crate::wire::Wire;

/// The ids of the channels that every connection has; the first two by the side that offers.
const PING_OF_OFFERER: u16 = 2;
const PING_OF_ANSWERER: u16 = 1;
const CONTROL: u16 = 0;
/// An id that no peer takes by itself.
const PROBE: u16 = 1022;

/// Maximum number of attempts to find free ports.
const MAX_BINDS: u32 = 32;

/// Time limit of the engine's search for a path.
const ICE_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Maximum number of commands queued for the negotiation.
const COMMANDS: usize = 256;

/// The parameters of a connection.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) settings: Arc<WebRtcSettings>,
    pub(crate) faults: Option<Faults>,
    pub(crate) wire: Wire,
    /// Whether this side makes the offer.
    pub(crate) offerer: bool,
    /// The name to dial, or to be dialed by.
    pub(crate) name: Option<String>,
    /// Whether the peer is on this machine.
    pub(crate) local: bool,
    /// The port that it shares with other connections, if it does.
    pub(crate) port: Option<Arc<SharedPort>>,
    /// Time limit; absent if a person carries the messages.
    pub(crate) limit: Option<Duration>,
    pub(crate) local_addr: Addr,
    pub(crate) remote_addr: Addr,
    /// The identity that the peer has proved to the signalling.
    pub(crate) identity: Option<PeerIdentity>,
    /// Where the listener follows the handshake.
    pub(crate) progress: Option<Progress>,
}

impl Plan {
    /// Makes the connection over this signalling.
    ///
    /// Dropping the future gives it up and leaves nothing behind.
    pub(crate) async fn establish(self, signaling: impl Signaling) -> Result<WebRtcConn> {
        let (limit, remote) = (self.limit, self.remote_addr.clone());
        let Some(limit) = limit else {
            return self.connect(signaling).await;
        };
        dial_within(&remote, limit, self.connect(signaling)).await
    }

    async fn connect(self, signaling: impl Signaling) -> Result<WebRtcConn> {
        let (mut options, ice_patience) = (self.options(), self.ice_patience());
        let shared = Shared::new(
            self.config,
            self.wire,
            self.settings.receive_buffer,
            self.offerer,
            self.local_addr,
            self.remote_addr,
        );
        if let Some(identity) = self.identity {
            // The cell is new.
            let _ = shared.identity.set(identity);
        }
        // Held from here on: giving this future up closes the connection.
        let conn = WebRtcConn::new(shared.clone());
        let host = shared.remote_addr.host();
        let signaling_ip = host.and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        let mut tries = 0;
        let (peer, events) = loop {
            tries += 1;
            if let Some(port) = &self.port {
                let addrs = self.settings.local_ips(self.local, signaling_ip)?;
                options.port = Some(port.open(&addrs)?);
            } else {
                options.bind = self.settings.socket_addrs(self.local, signaling_ip)?;
            }
            match Peer::new(options.clone()).await {
                // Another program has bound a port between the search for a free one and its use.
                Err(error)
                    if error.kind() == ErrorKind::AddrInUse
                        && self.port.is_none()
                        && tries < MAX_BINDS => {}
                made => break made?,
            }
        };
        let peer = Arc::new(peer);
        let fixed = open_fixed(&peer, self.wire, self.offerer).await?;
        let (commands, obeyed) = mpsc::channel(COMMANDS);
        // The cells are new.
        let _ = shared.peer.set(peer.clone());
        let _ = shared.commands.set(commands);
        let negotiation =
            Negotiation::new(shared.clone(), peer.clone(), signaling, obeyed, self.name);
        let (ready, made) = oneshot::channel();
        let driver = Driver::new(NewDriver {
            shared: shared.clone(),
            peer: peer.clone(),
            fixed,
            events,
            negotiation: tokio::spawn(negotiation.run()),
            ready,
            progress: self.progress,
            gather_timeout: self.settings.gather_timeout,
            relay_only: self.settings.relay_only,
            ice_patience,
        });
        peer.run_beside(driver.run());
        drop(peer);
        match made.await {
            Ok(Ok(())) => Ok(conn),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let error = || {
                    let why = "the connection ended in its handshake";
                    Error::new(ErrorKind::Failed, why)
                };
                let error = shared.status.error().unwrap_or_else(error);
                shared.end(&CloseReason::Failed(error.clone()));
                Err(error)
            }
        }
    }

    /// Returns how long ICE may look for the first path. Messages that are carried by hand take
    /// their time.
    fn ice_patience(&self) -> Duration {
        match self.limit {
            Some(_) => self.config.failed_after,
            None => ICE_PATIENCE,
        }
    }

    fn options(&self) -> PeerOptions {
        let (config, settings) = (&self.config, &self.settings);
        PeerOptions {
            engine: settings.engine,
            offerer: self.offerer,
            bind: Vec::new(),
            port: None,
            ice_servers: settings.ice_servers.clone(),
            relay_only: settings.relay_only,
            turn_tls: settings.turn_tls.clone(),
            turn_dialer: settings.turn_dialer.clone(),
            disconnected_after: config.disconnected_after,
            // The driver decides, since it tracks whether this side could receive from the peer.
            failed_after: match settings.engine {
                Engine::Own => self.ice_patience(),
                #[cfg(feature = "webrtc")]
                Engine::WebRtcCrate => config.failed_after.max(ICE_PATIENCE),
            },
            keep_alive: config.keep_alive,
            receive_buffer: settings.receive_buffer,
            max_message: settings.max_message,
            mtu: settings.mtu,
            mdns: settings.mdns,
            external_addrs: settings.external_addrs.clone(),
            certificate: settings.certificate.clone(),
            socket_buffer: settings.socket_buffer,
            resolve_timeout: settings.gather_timeout,
            faults: self.faults.clone(),
        }
    }
}

/// Opens the channels that are negotiated beforehand.
async fn open_fixed(peer: &Peer, wire: Wire, offerer: bool) -> Result<Fixed> {
    let (ping, echo) = if offerer {
        (PING_OF_OFFERER, PING_OF_ANSWERER)
    } else {
        (PING_OF_ANSWERER, PING_OF_OFFERER)
    };
    let (mut pings, mut echoes) = (None, None);
    if wire != (Wire::Raw { ping: false }) {
        pings = Some(open(peer, "ping", "", ping).await?);
        echoes = Some(open(peer, "echo", "", echo).await?);
    }
    // A plain peer has no control channel; it shows this side that the association is established.
    let id = if wire.is_raw() { PROBE } else { CONTROL };
    Ok(Fixed {
        control: open(peer, "pipe-control", PROTOCOL, id).await?,
        ping: pings,
        echo: echoes,
    })
}

async fn open(peer: &Peer, label: &str, protocol: &str, id: u16) -> Result<Channel> {
    let options = ChannelOptions {
        protocol: protocol.to_owned(),
        negotiated: Some(id),
        ordered: true,
    };
    peer.open_channel(label, options).await
}
