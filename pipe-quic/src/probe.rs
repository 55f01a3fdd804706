use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;

/// Time that a listener has before it is probed: where it is near, its first packet has come by then, and no probe is
/// needed.
const ANSWER: Duration = Duration::from_millis(3);

/// Returns any address of the family of this one, with any port.
pub(crate) fn any_like(addr: SocketAddr) -> SocketAddr {
    if addr.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    }
}

/// Waits until the network reports that no socket takes datagrams at this address, which it need not report.
///
/// The socket of a QUIC endpoint has many peers, and so does not receive the ICMP errors of one of
/// them. This one has a single peer: it sends it one byte, which no QUIC endpoint answers.
pub(crate) async fn refusal_of(to: SocketAddr) -> io::Error {
    sleep(ANSWER).await;
    match probe(to).await {
        Ok(()) => pending().await,
        Err(error) => error,
    }
}

async fn probe(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(any_like(to)).await?;
    socket.connect(to).await?;
    socket.send(&[0]).await?;
    let mut buf = [0];
    loop {
        match socket.recv(&mut buf).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
