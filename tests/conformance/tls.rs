use pipe_conformance::{Fixture, Setup};
use pipe_core::{Addr, Config, Result};
use pipewerks::tls::{Identity, Roots, TlsOptions, TlsTransport};

use crate::proxied::Proxied;
use crate::tcp::vacant_socket;

/// TLS over TCP on loopback, with certificates on both sides.
pub(crate) struct Tls {
    options: TlsOptions,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let identity = Identity::self_signed(["localhost"]).expect("a certificate");
        let roots = Roots::of(&identity).expect("a root");
        let options = TlsOptions::new()
            .with_identity(identity)
            .with_roots(roots.clone())
            .with_client_roots(roots);
        Self { options }
    }

    fn transport(&self, config: Config) -> Result<TlsTransport> {
        let transport = TlsTransport::new().with_tls(self.options.clone());
        transport.with_config(config)
    }
}

impl Fixture for Tls {
    type Transport = Proxied<TlsTransport>;

    fn name(&self) -> &str {
        "tls"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Proxied::setup(self.transport(config)?))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        Ok(Proxied::setup_with_faults(self.transport(config)?))
    }

    fn listen_addr(&self) -> Addr {
        "tls://127.0.0.1:0".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        let addr = format!("tls://{}", vacant_socket());
        addr.parse().expect("an address")
    }
}
