use std::net::SocketAddr;
use std::sync::LazyLock;

use pipe_conformance::{Cabled, Fixture, Setup};
use pipe_core::{Addr, Config, Result};
use pipewerks::tcp::TcpTransport;
use socket2::{Domain, Socket, Type};

use crate::cable::lay_tcp;

/// TCP on loopback.
pub(crate) struct Tcp;

impl Fixture for Tcp {
    type Transport = Cabled<TcpTransport>;

    fn name(&self) -> &str {
        "tcp"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = TcpTransport::new().with_config(config)?;
        Ok(Cabled::setup(transport))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let transport = TcpTransport::new().with_config(config)?;
        Ok(Cabled::setup_with_faults(transport, lay_tcp))
    }

    fn listen_addr(&self) -> Addr {
        "tcp://127.0.0.1:0".parse().expect("an address")
    }

    fn vacant_addr(&self) -> Addr {
        format!("tcp://{}", vacant_socket())
            .parse()
            .expect("an address")
    }
}

/// An address of a socket that is bound, so that nobody else gets the port, but does not listen.
pub(crate) fn vacant_socket() -> SocketAddr {
    static VACANT: LazyLock<SocketAddr> = LazyLock::new(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("a free port");
        let addr = socket.local_addr().expect("its address");
        std::mem::forget(socket);
        addr.as_socket().expect("an address of IP")
    });
    *VACANT
}
