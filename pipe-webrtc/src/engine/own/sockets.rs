use std::io;
use std::net::SocketAddr;

use pipe_core::{Error, ErrorKind, Result};

use super::port::{Membership, PortSender, PortSockets};
use super::run::RunSocket;
use super::socket::Socket;

/// The sockets of a connection: its own, or those of a port that it shares with others.
pub(super) struct Sockets {
    pub(super) sockets: Vec<RunSocket>,
    pub(super) addrs: Vec<SocketAddr>,
    /// Its place at the port, if it shares one.
    pub(super) membership: Option<Membership>,
}

impl Sockets {
    /// Takes the sockets of a port, or binds one to each address, with buffers of this length in bytes.
    ///
    /// # Errors
    ///
    /// [`AddrInUse`](ErrorKind::AddrInUse) if an address is taken; [`Io`](ErrorKind::Io) if none can be bound.
    pub(super) fn open(
        port: Option<PortSockets>,
        addrs: &[SocketAddr],
        buffer: u32,
    ) -> Result<Self> {
        let Some(port) = port else {
            let sockets = bind(addrs, buffer)?;
            return Ok(Self {
                addrs: sockets.iter().map(Socket::addr).collect(),
                sockets: sockets.into_iter().map(RunSocket::Own).collect(),
                membership: None,
            });
        };
        let senders = port.sockets.iter().cloned().map(PortSender::new);
        Ok(Self {
            sockets: senders.map(RunSocket::Shared).collect(),
            addrs: port.sockets.iter().map(|socket| socket.addr()).collect(),
            membership: Some(Membership::new(port)),
        })
    }
}

/// Binds a socket to each address. Addresses that this machine no longer has are left out.
fn bind(addrs: &[SocketAddr], buffer: u32) -> Result<Vec<Socket>> {
    let mut sockets = Vec::with_capacity(addrs.len());
    let mut last = None;
    for addr in addrs {
        match Socket::bind(*addr, buffer) {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let why = "an address or port that was free is taken now";
                return Err(Error::with_source(ErrorKind::AddrInUse, why, error));
            }
            Err(error) => {
                tracing::debug!(%error, %addr, "an address is not bound");
                last = Some((addr, error));
            }
        }
    }
    match last {
        Some((addr, error)) if sockets.is_empty() => {
            let why = format!("{addr} cannot be bound: {error}");
            Err(Error::with_source(ErrorKind::Io, why, error))
        }
        _ => Ok(sockets),
    }
}
