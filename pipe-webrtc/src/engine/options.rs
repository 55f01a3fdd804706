use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipe_net::TcpDialer;
use pipe_tls::TlsOptions;

use super::certificate::Certificate;
use super::faults::Faults;
use super::own::PortSockets;
use crate::ice_server::IceServer;
use crate::settings::Engine;

/// The options of a peer connection.
#[derive(Clone, Debug)]
pub(crate) struct PeerOptions {
    pub(crate) engine: Engine,
    /// Whether this side makes the offer.
    pub(crate) offerer: bool,
    /// The addresses of the sockets to bind.
    pub(crate) bind: Vec<SocketAddr>,
    /// The sockets that are shared with other connections; no others are bound then.
    pub(crate) port: Option<PortSockets>,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) relay_only: bool,
    pub(crate) turn_tls: TlsOptions,
    pub(crate) turn_dialer: TcpDialer,
    /// From silence to [`IceState::Disconnected`].
    #[cfg_attr(
        not(feature = "webrtc"),
        expect(dead_code, reason = "the driver notices by itself")
    )]
    pub(crate) disconnected_after: Duration,
    /// From there to [`IceState::Failed`].
    pub(crate) failed_after: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) receive_buffer: u32,
    pub(crate) max_message: u32,
    pub(crate) mtu: Option<u32>,
    pub(crate) mdns: bool,
    pub(crate) external_addrs: Vec<IpAddr>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) socket_buffer: u32,
    pub(crate) resolve_timeout: Duration,
    pub(crate) faults: Option<Faults>,
}
