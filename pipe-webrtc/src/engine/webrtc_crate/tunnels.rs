//! TURN servers over TCP and TLS (RFC 8656, section 3.1), for an engine that supports only UDP: it
//! gets names and addresses that exist nowhere else, and datagrams to them go over a stream.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use pipe_tls::TlsOptions;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::tunnel::{QUEUE, Tunnel};
use super::turn_server::Server;
use super::vitals::Vitals;

/// Maximum number of servers over TCP and TLS of a connection, over all its restarts.
const MAX_SERVERS: usize = 256;

/// The servers of a connection that are spoken to over TCP or TLS.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) tls: TlsOptions,
    known: Mutex<Vec<Server>>,
}

impl Servers {
    pub(super) fn new(tls: TlsOptions) -> Arc<Self> {
        Arc::new(Self {
            tls,
            known: Mutex::default(),
        })
    }

    /// Returns the addresses that stand for the server of this name, one of each family; none if
    /// the name stands for no server.
    pub(super) fn resolve(&self, name: &str) -> Option<Vec<SocketAddr>> {
        let server = Server::named(name)?;
        let mut known = self.known.lock();
        let at = match known.iter().position(|other| *other == server) {
            Some(at) => at,
            None if known.len() == MAX_SERVERS => return Some(Vec::new()),
            None => {
                known.push(server.clone());
                known.len() - 1
            }
        };
        let [high, low] = (at as u16).to_be_bytes();
        // Addresses for future use (RFC 1112, section 4), and the discard prefix (RFC 6666): no
        // server has one.
        let v4 = Ipv4Addr::new(240, 0, high, low);
        let v6 = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, at as u16);
        Some(vec![(v4, server.port).into(), (v6, server.port).into()])
    }

    /// Returns the server that an address stands for.
    pub(super) fn at(&self, addr: SocketAddr) -> Option<Server> {
        let at = match addr {
            SocketAddr::V4(addr) => match addr.ip().octets() {
                [240, 0, high, low] => u16::from_be_bytes([high, low]),
                _ => return None,
            },
            SocketAddr::V6(addr) => match addr.ip().segments() {
                [0x100, 0, 0, 0, 0, 0, 0, at] => at,
                _ => return None,
            },
        };
        let known = self.known.lock();
        let server = known.get(usize::from(at))?;
        (server.port == addr.port()).then(|| server.clone())
    }
}

/// The streams of one socket to such servers.
#[derive(Debug)]
pub(super) struct Tunnels {
    servers: Arc<Servers>,
    vitals: Arc<Vitals>,
    streams: Mutex<HashMap<SocketAddr, Tunnel>>,
    /// Datagrams received over all of them.
    came: Mutex<mpsc::Receiver<(SocketAddr, Bytes)>>,
    sender: mpsc::Sender<(SocketAddr, Bytes)>,
}

impl Tunnels {
    pub(super) fn new(servers: Arc<Servers>, vitals: Arc<Vitals>) -> Self {
        let (sender, came) = mpsc::channel(QUEUE);
        Self {
            servers,
            vitals,
            streams: Mutex::default(),
            came: Mutex::new(came),
            sender,
        }
    }

    pub(super) fn server(&self, addr: SocketAddr) -> Option<Server> {
        self.servers.at(addr)
    }

    /// Sends datagrams of this length to a server. As over UDP, datagrams without room are lost,
    /// and those sent while the stream is broken.
    pub(super) fn send(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        server: Server,
        datagrams: &[u8],
        each: usize,
    ) {
        let mut streams = self.streams.lock();
        let tunnel = match streams.get(&to) {
            Some(tunnel) if !tunnel.may_begin_anew(Instant::now()) => tunnel,
            _ => {
                let begun = Tunnel::begin(
                    (from, to),
                    server,
                    self.servers.tls.clone(),
                    self.sender.clone(),
                    self.vitals.clone(),
                );
                streams.insert(to, begun);
                &streams[&to]
            }
        };
        for datagram in datagrams.chunks(each.max(1)) {
            tunnel.send(datagram);
        }
    }

    /// Returns the next datagram that has come, and the address of its server.
    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<(SocketAddr, Bytes)> {
        match self.came.lock().poll_recv(cx) {
            Poll::Ready(Some(came)) => Poll::Ready(came),
            // It has a sender of its own.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_is_over_is_begun_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            tls: false,
        };
        let vitals = Vitals::new();
        let tunnels = Tunnels::new(Servers::new(TlsOptions::new()), vitals.clone());
        let [from, to] = ["127.0.0.1:0", "240.0.0.0:1"].map(|addr| addr.parse().unwrap());
        let data = [0x40, 0, 0, 4, 1, 2, 3, 4];
        let start = Instant::now();
        for round in 0..2 {
            // Datagrams sent while the stream is broken are lost.
            let mut stream = loop {
                tunnels.send(from, to, server.clone(), &data, data.len());
                if let Ok(accepted) = timeout(Duration::from_millis(20), listener.accept()).await {
                    break accepted.unwrap().0;
                }
            };
            // The second is not begun before its time.
            assert!(round == 0 || start.elapsed() >= Duration::from_secs(1));
            let mut heard = [0; 8];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, data);
            stream.write_all(&data).await.unwrap();
            let came = poll_fn(|cx| tunnels.poll_recv(cx)).await;
            assert_eq!(came, (to, Bytes::copy_from_slice(&data)));
        }
        let why = vitals.refusals().to_string();
        assert!(why.contains(&server.to_string()), "{why}");
    }

    #[test]
    fn an_address_stands_for_its_server() {
        let servers = Servers::new(TlsOptions::new());
        assert_eq!(servers.resolve("example.org:1"), None);
        let server = |port| Server {
            host: "example.org".into(),
            port,
            tls: false,
        };
        for port in [1, 2, 1] {
            for addr in servers.resolve(&server(port).name()).unwrap() {
                assert_eq!(servers.at(addr), Some(server(port)));
            }
        }
        assert_eq!(servers.known.lock().len(), 2);
        for addr in [
            "240.0.0.2:1",
            "240.0.0.0:2",
            "10.0.0.1:1",
            "[::1]:1",
            "[100::2]:1",
        ] {
            assert_eq!(servers.at(addr.parse().unwrap()), None, "{addr}");
        }
    }
}
