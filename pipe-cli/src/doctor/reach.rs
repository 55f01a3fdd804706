use std::net::SocketAddr;
use std::time::Duration;

use pipewerks::Addr;
use pipewerks::tcp::{HostPort, Proxy};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::{Instant, timeout};

use super::steps::Steps;
use crate::failure::io_text;
use crate::proxy::target;

/// Time limit for the answer of one address.
const LIMIT: Duration = Duration::from_secs(3);

/// Time limit for the network to report that a port of UDP is closed.
const UDP_LIMIT: Duration = Duration::from_millis(300);

/// The reachability of the listener, before the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// A socket answers.
    Yes,
    No,
    /// UDP gives no answer.
    Unknown,
}

/// Resolves the name, and tries the sockets: those of the proxy, if there is one.
pub(super) async fn reach(
    addr: &Addr,
    under: &str,
    proxy: Option<&Proxy>,
    steps: &mut Steps,
) -> Reached {
    if under == "unix" {
        return reach_unix(addr, steps).await;
    }
    let to = match proxy {
        Some(proxy) => Some(proxy.host_port().clone()),
        None => target(addr, under),
    };
    // Where they are missing, the dial reports it.
    let Some(HostPort { host, port }) = to else {
        return Reached::Unknown;
    };
    let began = Instant::now();
    let found: Vec<_> = match timeout(LIMIT, lookup_host((host.as_str(), port))).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            steps.failed("name", began, &format!("{host}: {}", io_text(&error)));
            return Reached::No;
        }
        Err(_) => {
            let why = format!("{host}: the name service does not answer within {LIMIT:?}");
            steps.failed("name", began, &why);
            return Reached::No;
        }
    };
    let shown: Vec<_> = found.iter().map(|found| found.ip().to_string()).collect();
    steps.passed("name", began, format!("{host} is {}", shown.join(", ")));
    let mut reached = Reached::No;
    for found in found {
        let began = Instant::now();
        let tried = if matches!(under, "quic" | "wt") {
            udp(found).await
        } else {
            tcp(found).await
        };
        match tried {
            Ok((now, detail)) => {
                steps.passed("socket", began, detail);
                if reached != Reached::Yes {
                    reached = now;
                }
            }
            Err(why) => steps.failed("socket", began, &why),
        }
    }
    reached
}

async fn tcp(to: SocketAddr) -> Result<(Reached, String), String> {
    match timeout(LIMIT, TcpStream::connect(to)).await {
        Ok(Ok(_)) => Ok((Reached::Yes, format!("TCP {to} takes connections"))),
        Ok(Err(error)) => Err(format!("TCP {to}: {}", io_text(&error))),
        Err(_) => Err(format!("TCP {to}: no answer within {LIMIT:?}")),
    }
}

async fn udp(to: SocketAddr) -> Result<(Reached, String), String> {
    let any: SocketAddr = if to.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let ask = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        // One byte is no packet of QUIC, and a listener drops it.
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 16]).await
    };
    match timeout(UDP_LIMIT, ask).await {
        Ok(Err(error)) => Err(format!("UDP {to}: {}", io_text(&error))),
        Ok(Ok(_)) => Ok((Reached::Yes, format!("UDP {to} answers"))),
        Err(_) => Ok((
            Reached::Unknown,
            format!("UDP {to}: nothing speaks against it"),
        )),
    }
}

#[cfg(unix)]
async fn reach_unix(addr: &Addr, steps: &mut Steps) -> Reached {
    use std::os::unix::fs::FileTypeExt;
    // Abstract names have no file, and escaped ones are for the dial to read.
    let path = addr.path();
    if path.starts_with("/@") || path.contains('%') {
        return Reached::Unknown;
    }
    let began = Instant::now();
    match tokio::fs::symlink_metadata(path).await {
        Ok(metadata) if metadata.file_type().is_symlink() => {}
        Ok(metadata) if metadata.file_type().is_socket() => {
            steps.passed("file", began, format!("{path} is a socket"));
        }
        Ok(_) => {
            steps.failed("file", began, &format!("{path} is no socket"));
            return Reached::No;
        }
        Err(error) => {
            steps.failed("file", began, &format!("{path}: {}", io_text(&error)));
            return Reached::No;
        }
    }
    let began = Instant::now();
    match timeout(LIMIT, tokio::net::UnixStream::connect(path)).await {
        Ok(Ok(_)) => {
            steps.passed("socket", began, "it takes connections");
            Reached::Yes
        }
        Ok(Err(error)) => {
            steps.failed("socket", began, &io_text(&error));
            Reached::No
        }
        Err(_) => {
            steps.failed("socket", began, &format!("no answer within {LIMIT:?}"));
            Reached::No
        }
    }
}

#[cfg(not(unix))]
async fn reach_unix(_: &Addr, _: &mut Steps) -> Reached {
    Reached::Unknown
}
