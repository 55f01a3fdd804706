use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pipe_core::backend::Admission;
use pipe_core::{Config, Error, ErrorKind, Result, Wire};
use pipe_tls::{Identity, TlsOptions, rustls};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ServerConfig};

use crate::addr::QuicAddr;
use crate::dial_endpoints::DialEndpoints;
use crate::first_packet::OpensOnly;
use crate::profile::Profile;
use crate::sessions::Sessions;

/// Maximum number of bytes of a client's first packets that are kept until its turn comes, and of
/// all clients'.
const INCOMING_BUFFER: u64 = 32 * 1024;
const INCOMING_BUFFERS: u64 = 8 * 1024 * 1024;

/// Number of sessions that a listener with early data keeps.
const SESSIONS: usize = 1024;

/// The settings of a transport, and what its clones share.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) tls: TlsOptions,
    pub(crate) profile: Profile,
    pub(crate) zero_rtt: bool,
    pub(crate) admission: Admission,
    /// Sessions with listeners that were dialed with early data.
    pub(crate) sessions: Sessions,
    /// Endpoints of the dials, unless each has its own.
    pub(crate) endpoints: DialEndpoints,
    pub(crate) socket_per_dial: bool,
}

impl Settings {
    /// Shares nothing with other transports from now on.
    pub(crate) fn part(&mut self) {
        self.sessions = Sessions::default();
        self.endpoints = DialEndpoints::default();
    }

    /// Returns whether early data is used at this address.
    pub(crate) fn wants_early_data(&self, at: &QuicAddr) -> bool {
        at.zero_rtt.unwrap_or(self.zero_rtt) && at.params.wire == Wire::Pipe
    }

    /// Returns the cryptography of a dial over this TLS.
    pub(crate) fn client_crypto(tls: Arc<rustls::ClientConfig>) -> Result<Arc<QuicClientConfig>> {
        let tls = QuicClientConfig::try_from(tls).map_err(unusable)?;
        Ok(Arc::new(tls))
    }

    /// Returns the configuration of a dial to this address.
    pub(crate) fn client_config(
        &self,
        crypto: Arc<QuicClientConfig>,
        at: &QuicAddr,
        to: SocketAddr,
    ) -> ClientConfig {
        let mut client = ClientConfig::new(crypto);
        client.transport_config(self.profile.transport(&self.config, at.use_of_quic(), to));
        client
    }

    /// Returns the configuration of a listener for all clients, and for those at loopback addresses.
    pub(crate) fn server_configs(
        &self,
        on: &QuicAddr,
        identity: &Identity,
    ) -> Result<[ServerConfig; 2]> {
        let tls = if self.wants_early_data(on) {
            let (tls, protocols) = (&self.tls, on.protocols());
            tls.server_config_with_early_data(identity, &protocols, SESSIONS)?
        } else {
            self.tls.server_config(identity, &on.protocols())?
        };
        let tls = QuicServerConfig::try_from(tls).map_err(unusable)?;
        let mut server = ServerConfig::with_crypto(Arc::new(OpensOnly(Arc::new(tls))));
        let waiting = self.config.accept_backlog + 4 * self.config.max_handshakes;
        server
            .max_incoming(waiting as usize)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS);
        let clients = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST];
        Ok(clients.map(|client| {
            let (profile, client) = (self.profile, (client, 0).into());
            let mut server = server.clone();
            server.transport_config(profile.transport(&self.config, on.use_of_quic(), client));
            server
        }))
    }
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let why = format!("the TLS options are not usable over QUIC: {error}");
    Error::with_source(ErrorKind::ConfigInvalid, why, error)
}
