use std::sync::Arc;

use pipe_core::backend::Admission;
use pipe_core::{Config, Error, ErrorKind, Result, Wire};
use pipe_tls::{Identity, TlsOptions, rustls};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ServerConfig};

use crate::addr::QuicAddr;
use crate::first_packet::OpensOnly;
use crate::profile::Profile;
use crate::sessions::Sessions;

/// Maximum number of bytes of a client's first packets that are kept until its turn comes, and of
/// all clients'.
const INCOMING_BUFFER: u64 = 32 * 1024;
const INCOMING_BUFFERS: u64 = 8 * 1024 * 1024;

/// Number of sessions that a listener with early data keeps.
const SESSIONS: usize = 1024;

/// The settings of a transport, and the sessions with the listeners that it has dialed.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) tls: TlsOptions,
    pub(crate) profile: Profile,
    pub(crate) zero_rtt: bool,
    pub(crate) admission: Admission,
    /// Sessions with listeners that were dialed with early data.
    pub(crate) sessions: Sessions,
}

impl Settings {
    /// Returns whether early data is used at this address.
    pub(crate) fn wants_early_data(&self, at: &QuicAddr) -> bool {
        at.zero_rtt.unwrap_or(self.zero_rtt) && at.params.wire == Wire::Pipe
    }

    /// Returns the configuration of a dial over this TLS.
    pub(crate) fn client_config(
        &self,
        tls: Arc<rustls::ClientConfig>,
        wire: Wire,
    ) -> Result<ClientConfig> {
        let tls = QuicClientConfig::try_from(tls).map_err(unusable)?;
        let mut client = ClientConfig::new(Arc::new(tls));
        client.transport_config(self.profile.transport(&self.config, wire));
        Ok(client)
    }

    /// Returns the configuration of a listener.
    pub(crate) fn server_config(&self, on: &QuicAddr, identity: &Identity) -> Result<ServerConfig> {
        let tls = if self.wants_early_data(on) {
            let (tls, protocols) = (&self.tls, on.params.protocols());
            tls.server_config_with_early_data(identity, &protocols, SESSIONS)?
        } else {
            self.tls.server_config(identity, &on.params.protocols())?
        };
        let tls = QuicServerConfig::try_from(tls).map_err(unusable)?;
        let mut server = ServerConfig::with_crypto(Arc::new(OpensOnly(Arc::new(tls))));
        let waiting = self.config.accept_backlog + 4 * self.config.max_handshakes;
        server
            .transport_config(self.profile.transport(&self.config, on.params.wire))
            .max_incoming(waiting as usize)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_BUFFERS);
        Ok(server)
    }
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let why = format!("the TLS options are not usable over QUIC: {error}");
    Error::with_source(ErrorKind::ConfigInvalid, why, error)
}
