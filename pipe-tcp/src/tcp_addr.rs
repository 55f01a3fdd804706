use pipe_core::{Addr, Result, Wire};
use pipe_net::{HostPort, addr_of};

pub(crate) const SCHEME: &str = "tcp";

/// The parts of a `tcp://` address.
#[derive(Debug)]
pub(crate) struct TcpAddr {
    pub(crate) at: HostPort,
    pub(crate) wire: Wire,
}

impl TcpAddr {
    /// Reads an address.
    pub(crate) fn of(addr: &Addr) -> Result<Self> {
        let at = HostPort::of(addr, SCHEME)?;
        addr.check_params(&["wire"])?;
        let wire = Wire::from_addr(addr)?;
        Ok(Self { at, wire })
    }

    /// Returns the address of an end of a connection on this wire.
    pub(crate) fn end(at: impl Into<HostPort>, wire: Wire) -> Result<Addr> {
        addr_of(SCHEME, at).map(|addr| wire.add_to(addr))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use pipe_core::ErrorKind;

    use super::*;

    fn read(text: &str) -> Result<TcpAddr> {
        TcpAddr::of(&Addr::parse(text)?)
    }

    #[test]
    fn an_address_is_a_host_a_port_and_a_wire() {
        let addr = read("tcp://[::1]:7?wire=raw").unwrap();
        assert_eq!((addr.at.host.as_str(), addr.at.port), ("::1", 7));
        assert_eq!(addr.wire, Wire::Raw);
        assert_eq!(read("tcp://a:1").unwrap().wire, Wire::Pipe);
    }

    #[test]
    fn the_address_of_an_end_is_read_as_it_is_written() {
        let socket: SocketAddr = "0.0.0.0:7".parse().unwrap();
        for (wire, text) in [
            (Wire::Pipe, "tcp://127.0.0.1:7"),
            (Wire::Raw, "tcp://127.0.0.1:7?wire=raw"),
        ] {
            let addr = TcpAddr::end(socket, wire).unwrap();
            assert_eq!(addr.as_str(), text);
            assert_eq!(TcpAddr::of(&addr).unwrap().wire, wire);
        }
    }

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        for (text, why) in [
            ("tcp://a:1?wire=mud", "there are pipe and raw"),
            ("tcp://a:1?wier=raw", "the option \"wier\" is unknown"),
            (
                "tcp://a:1?wire=raw&wire=pipe",
                "the option \"wire\" is given twice",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
