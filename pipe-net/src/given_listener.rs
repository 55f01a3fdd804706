use std::io;
use std::net;

use pipe_core::{Addr, ErrorKind, Result};
use tokio::net::TcpListener;

use crate::error::listen_error;

/// Takes over a TCP socket that listens already, for the runtime. `addr` is for errors.
///
/// # Errors
///
/// [`Io`](ErrorKind::Io) where the socket does not listen, and for errors of the operating system.
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn given_listener(addr: &Addr, socket: net::TcpListener) -> Result<TcpListener> {
    let taken = || {
        check_listening(&socket)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    };
    taken().map_err(|error| {
        let why = format!("the given socket cannot be used: {error}");
        listen_error(addr, ErrorKind::Io, why, Some(error))
    })
}

/// One that does not would fail at every accept, and never say so.
#[cfg(any(target_os = "android", target_os = "linux"))]
fn check_listening(socket: &net::TcpListener) -> io::Result<()> {
    if socket2::SockRef::from(socket).is_listener()? {
        return Ok(());
    }
    let why = "it does not listen";
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn check_listening(_: &net::TcpListener) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_that_does_not_listen_is_refused() {
        let addr = Addr::parse("tcp://a:1").unwrap();
        let kind = (socket2::Domain::IPV4, socket2::Type::STREAM);
        let socket = socket2::Socket::new(kind.0, kind.1, None).unwrap();
        let error = given_listener(&addr, socket.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("it does not listen"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_blocks_is_taken_over() {
        let addr = Addr::parse("tcp://a:1").unwrap();
        let socket = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let listener = given_listener(&addr, socket).unwrap();
        let dialed = tokio::net::TcpStream::connect(at);
        let (dialed, accepted) = tokio::join!(dialed, listener.accept());
        assert_eq!(accepted.unwrap().1, dialed.unwrap().local_addr().unwrap());
    }
}
