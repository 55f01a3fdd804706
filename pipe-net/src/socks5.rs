//! SOCKS5 (RFC 1928), with users and passwords (RFC 1929).

use std::net::{IpAddr, SocketAddr};

use pipe_core::ErrorKind;
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{Error, TargetAddr};

use crate::host_port::HostPort;
use crate::login::Login;
use crate::refusal::Refusal;

/// Maximum length of a name, in bytes: its length is one byte (RFC 1928, section 5).
const MAX_NAME: usize = 255;

/// Asks a proxy for a connection. What comes behind its answer stays in the socket.
pub(crate) async fn ask(
    socket: TcpStream,
    to: &HostPort,
    login: Option<&Login>,
) -> Result<TcpStream, Refusal> {
    let target = match to.host.parse::<IpAddr>() {
        Ok(ip) => TargetAddr::Ip(SocketAddr::new(ip, to.port)),
        Err(_) if to.host.len() > MAX_NAME => {
            let why = format!("a name has at most {MAX_NAME} bytes over SOCKS5");
            return Err(Refusal::new(ErrorKind::AddrInvalid, why));
        }
        Err(_) => TargetAddr::Domain(to.host.as_str().into(), to.port),
    };
    let asked = match login {
        None => Socks5Stream::connect_with_socket(socket, target).await,
        Some(Login { user, password }) => {
            Socks5Stream::connect_with_password_and_socket(socket, target, user, password).await
        }
    };
    asked.map(Socks5Stream::into_inner).map_err(explain)
}

fn explain(error: Error) -> Refusal {
    let (kind, why) = match error {
        Error::Io(error) => return Refusal::from_io(error),
        Error::GeneralSocksServerFailure => (
            ErrorKind::Unreachable,
            "it does not reach the host (1, general failure)",
        ),
        Error::ConnectionNotAllowedByRuleset => (
            ErrorKind::Unauthenticated,
            "it does not let this side connect there (2, not allowed by its rules)",
        ),
        Error::NetworkUnreachable => (
            ErrorKind::Unreachable,
            "it does not reach the host (3, network unreachable)",
        ),
        Error::HostUnreachable => (
            ErrorKind::Unreachable,
            "it does not reach the host (4, host unreachable)",
        ),
        Error::ConnectionRefused => (
            ErrorKind::Refused,
            "the host refuses its connection (5, connection refused)",
        ),
        Error::TtlExpired => (
            ErrorKind::TimedOut,
            "the host did not answer it (6, TTL expired)",
        ),
        Error::CommandNotSupported => (
            ErrorKind::Unsupported,
            "it makes no connections (7, command not supported)",
        ),
        Error::AddressTypeNotSupported => (
            ErrorKind::Unsupported,
            "it does not know this kind of address (8, address type not supported)",
        ),
        Error::AuthorizationRequired | Error::NoAcceptableAuthMethods => (
            ErrorKind::Unauthenticated,
            "it accepts none of the ways to log in that were offered: it may want a user and a password, or none",
        ),
        Error::PasswordAuthFailure(_) => (
            ErrorKind::Unauthenticated,
            "it does not accept the user and the password",
        ),
        Error::InvalidResponseVersion => (ErrorKind::Handshake, "its answer is no SOCKS5"),
        Error::UnknownAuthMethod => (
            ErrorKind::Handshake,
            "its answer has a method or a code that SOCKS5 does not have",
        ),
        _ => (
            ErrorKind::Handshake,
            "its answer breaks the rules of SOCKS5",
        ),
    };
    Refusal::new(kind, why)
}
