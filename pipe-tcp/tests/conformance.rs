//! The conformance suite on `tcp://`.

use pipe_conformance::{Fixture, Setup, conformance};
use pipe_core::{Addr, Config, Result};
use pipe_tcp::TcpTransport;

conformance!(Tcp);

struct Tcp;

impl Fixture for Tcp {
    type Transport = TcpTransport;

    fn name(&self) -> &str {
        "tcp"
    }

    fn setup(&self, config: Config) -> Result<Setup<TcpTransport>> {
        Ok(Setup::new(TcpTransport::new().with_config(config)?))
    }

    fn listen_addr(&self) -> Addr {
        "tcp://127.0.0.1:0".parse().unwrap()
    }

    fn vacant_addr(&self) -> Addr {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("tcp://{}", socket.local_addr().unwrap()).parse().unwrap()
    }
}
