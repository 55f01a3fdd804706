//! Clients that begin a handshake and close at once: quinn keeps what they leave for some seconds, and there is a
//! bound on how much that may be.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pipe_core::{Config, Listener, Transport};
use pipe_quic::TlsOptions;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, DatagramEvent, Endpoint, EndpointConfig, EndpointEvent};

use crate::common::{echo, listen, soon, with};

/// Connections of failed handshakes that are kept for the clients of one network.
const MOST: usize = 1024;

/// How many clients come in a row.
const CLIENTS: usize = 2000;

/// A client without a runtime, which is as fast as its packets are made.
struct Rude {
    endpoint: Endpoint,
    config: ClientConfig,
    socket: UdpSocket,
    to: SocketAddr,
}

impl Rude {
    fn new(pin: &str, from: IpAddr, to: SocketAddr) -> Self {
        let tls = TlsOptions::new().client_config(Some(pin.parse().unwrap()), &[b"pipe/1"]);
        let tls = QuicClientConfig::try_from(tls.unwrap()).unwrap();
        let socket = UdpSocket::bind((from, 0)).unwrap();
        let patience = Some(Duration::from_millis(20));
        socket.set_read_timeout(patience).unwrap();
        Self {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None),
            config: ClientConfig::new(Arc::new(tls)),
            socket,
            to,
        }
    }

    /// Sends a first packet, once more with the token of a retry if there is one, and a close in a packet of its own.
    fn come_and_go(&mut self) {
        let now = Instant::now();
        let connected = self
            .endpoint
            .connect(now, self.config.clone(), self.to, "localhost");
        let (handle, mut conn) = connected.unwrap();
        self.transmit(&mut conn);
        let mut datagram = [0; 2000];
        while let Ok((len, _)) = self.socket.recv_from(&mut datagram) {
            let data = BytesMut::from(&datagram[..len]);
            let now = Instant::now();
            let event = self
                .endpoint
                .handle(now, self.to, None, None, data, &mut Vec::new());
            // What comes for those that were before is passed over.
            if let Some(DatagramEvent::ConnectionEvent(of, event)) = event
                && of == handle
            {
                conn.handle_event(event);
                self.transmit(&mut conn);
                break;
            }
        }
        conn.close(Instant::now(), 0_u32.into(), Bytes::new());
        self.transmit(&mut conn);
        self.endpoint.handle_event(handle, EndpointEvent::drained());
    }

    fn transmit(&self, conn: &mut quinn_proto::Connection) {
        let mut datagram = Vec::new();
        if let Some(sent) = conn.poll_transmit(Instant::now(), 1, &mut datagram) {
            // The system may have no room for it.
            let _ = self.socket.send_to(&datagram[..sent.size], self.to);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_close_behind_their_first_packet_leave_a_bounded_number_behind() {
    let config = Config::default();
    let places = config.max_handshakes as usize;
    let transport = with(config);
    let listener = listen(&transport).await;
    let pin = listener.local_addr().param("cert-sha256").unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().port().unwrap()));
    // Another network than that of the honest dial, where the system has it.
    let elsewhere = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    let is_there = UdpSocket::bind((elsewhere, 0)).is_ok();
    let from = if is_there { elsewhere } else { to.ip() };
    let mut rude = Rude::new(&pin, from, to);
    let (come, enough) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let flood = thread::spawn({
        let (come, enough) = (come.clone(), enough.clone());
        move || {
            while !enough.load(Ordering::Relaxed) {
                rude.come_and_go();
                come.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let mut most = 0;
    while come.load(Ordering::Relaxed) < CLIENTS {
        assert!(!flood.is_finished(), "the clients have stopped");
        most = most.max(listener.endpoint().open_connections());
        tokio::task::yield_now().await;
    }
    if is_there {
        let there = soon(transport.dial(&listener.local_addr())).await.unwrap();
        let here = soon(listener.accept()).await.unwrap();
        soon(echo(&there, &here)).await.unwrap();
    }
    enough.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    assert!(most <= MOST + places + 1, "{most} connections are kept");
}
