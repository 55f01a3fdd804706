//! The conformance suite over QUIC on loopback.

mod proxy;

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock};

use pipe_conformance::{Fixture, Setup, conformance};
use pipe_core::{Addr, Config, Result};
use pipe_quic::QuicTransport;

use proxy::{Cable, Proxied};

/// QUIC on loopback.
struct Quic;

impl Fixture for Quic {
    type Transport = Proxied;

    fn name(&self) -> &str {
        "quic"
    }

    fn setup(&self, config: Config) -> Result<Setup<Proxied>> {
        Ok(Setup::new(Proxied {
            transport: QuicTransport::new().with_config(config)?,
            cable: None,
        }))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Proxied>> {
        let cable = Arc::new(Cable::default());
        let mut setup = Setup::new(Proxied {
            transport: QuicTransport::new().with_config(config)?,
            cable: Some(cable.clone()),
        });
        setup.faults = Some(cable);
        Ok(setup)
    }

    fn listen_addr(&self) -> Addr {
        "quic://127.0.0.1:0".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        // Bound, so that nobody else gets the port, and connected, so that it takes no datagrams of
        // others.
        static VACANT: LazyLock<(UdpSocket, SocketAddr)> = LazyLock::new(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            let addr = socket.local_addr().expect("its address");
            socket.connect(addr).expect("a socket of one peer");
            (socket, addr)
        });
        format!("quic://{}", VACANT.1).parse().expect("an address")
    }
}

conformance!(Quic);
