//! Connections that share one UDP port, and what others send to that port.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures::future::join_all;
use parking_lot::Mutex;
use pipe_core::{Config, Conn, ConnState};
use pipe_inproc::InprocTransport;
use pipe_webrtc::signaling::Signal;
use pipe_webrtc::{Faults, MemorySignaling, WebRtcConn, WebRtcTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use crate::common::{Changed, loopback, soon, stream, through, times, transport};

type Inproc = WebRtcTransport<InprocTransport>;

/// A NAT that shows all dialers behind it as one address, one after another.
struct Nat {
    /// Where dialers send to.
    inside: UdpSocket,
    /// What the answerer sees.
    outside: UdpSocket,
    answerer: Arc<OnceLock<SocketAddr>>,
    /// The dialer that has the address now, after those that have had it.
    dialers: Mutex<Vec<SocketAddr>>,
    /// Whether the next dialer gets it.
    is_free: Mutex<bool>,
}

impl Nat {
    async fn start() -> Arc<Self> {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let nat = Arc::new(Self {
            inside: bind().await.unwrap(),
            outside: bind().await.unwrap(),
            answerer: Arc::default(),
            dialers: Mutex::default(),
            is_free: Mutex::new(true),
        });
        let running = nat.clone();
        tokio::spawn(async move {
            let (mut out, mut back) = ([0; 2000], [0; 2000]);
            loop {
                tokio::select! {
                    Ok((len, from)) = running.inside.recv_from(&mut out) => {
                        if running.admits(from) && let Some(to) = running.answerer.get() {
                            let _ = running.outside.send_to(&out[..len], to).await;
                        }
                    }
                    Ok((len, _)) = running.outside.recv_from(&mut back) => {
                        let dialer = running.dialers.lock().last().copied();
                        if let Some(dialer) = dialer {
                            let _ = running.inside.send_to(&back[..len], dialer).await;
                        }
                    }
                }
            }
        });
        nat
    }

    fn admits(&self, from: SocketAddr) -> bool {
        let mut dialers = self.dialers.lock();
        if !dialers.contains(&from) && std::mem::take(&mut *self.is_free.lock()) {
            dialers.push(from);
        }
        dialers.last() == Some(&from)
    }

    /// Gives the address to the next dialer.
    fn pass_on(&self) {
        *self.is_free.lock() = true;
    }

    /// Sends to the answerer from the address of the dialer, as one can who forges its source.
    async fn forge(&self, datagram: &[u8]) {
        let to = self.answerer.get().expect("an address");
        self.outside.send_to(datagram, to).await.unwrap();
    }
}

/// Connects behind the NAT. Returns the dialer's end, the answerer's, and the user fragment of that one.
async fn connect(
    dialer: &Inproc,
    answerer: &Inproc,
    nat: &Nat,
) -> (WebRtcConn, WebRtcConn, String) {
    let (here, there) = MemorySignaling::pair();
    let ufrag = Arc::new(OnceLock::new());
    let noted = ufrag.clone();
    let port = nat.inside.local_addr().unwrap().port();
    let mut through = through(port, nat.answerer.clone());
    let here = Changed::new(here, move |signal| {
        if let Signal::Answer(answer) = &signal {
            let mut lines = answer.sdp.lines();
            let line = lines.find_map(|line| line.strip_prefix("a=ice-ufrag:"));
            let _ = noted.set(line.expect("a user fragment").to_owned());
        }
        through(signal)
    });
    // The answerer sees what the NAT shows.
    let there = Changed::new(there, |signal| match signal {
        Signal::Candidate(_) => Vec::new(),
        signal => vec![signal],
    });
    let both = async { tokio::try_join!(dialer.offer_over(here), answerer.answer_over(there)) };
    let (here, there) = soon("a connection", both).await.expect("a connection");
    (here, there, ufrag.get().expect("a user fragment").clone())
}

async fn echo(here: &WebRtcConn, there: &WebRtcConn) {
    let (mut opened, mut accepted) = stream(here, there).await;
    let to_and_fro = async {
        opened.write_all(b"question").await.unwrap();
        let mut text = [0; 8];
        accepted.read_exact(&mut text).await.unwrap();
        accepted.write_all(b"answer!!").await.unwrap();
        opened.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"answer!!");
    };
    soon("an echo", to_and_fro).await;
}

fn sides(config: Config) -> (Inproc, Inproc) {
    let dialer = transport().with_config(config.clone()).unwrap();
    let answerer = transport().with_config(config).unwrap();
    let answerer = answerer.with_settings(loopback().with_udp_port(0)).unwrap();
    (dialer, answerer)
}

/// A check of ICE to the author of a user fragment, which proves nothing, of this type.
fn forged(kind: u16, ufrag: &str) -> Vec<u8> {
    let username = format!("{ufrag}:some");
    let padded = username.len().next_multiple_of(4);
    let mut message = kind.to_be_bytes().to_vec();
    let length = 4 + padded + 24 + 8;
    message.extend_from_slice(&(length as u16).to_be_bytes());
    message.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    message.extend_from_slice(&fastrand::u128(..).to_be_bytes()[..12]);
    message.extend_from_slice(&[0, 6]);
    message.extend_from_slice(&(username.len() as u16).to_be_bytes());
    message.extend_from_slice(username.as_bytes());
    message.resize(20 + 4 + padded, 0);
    // A MESSAGE-INTEGRITY by guess, and the right FINGERPRINT (RFC 8489, section 14).
    message.extend_from_slice(&[0, 8, 0, 20]);
    message.extend_from_slice(&[fastrand::u8(..); 20]);
    let fingerprint = crc32(&message) ^ 0x5354_554e;
    message.extend_from_slice(&[0x80, 0x28, 0, 4]);
    message.extend_from_slice(&fingerprint.to_be_bytes());
    message
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_goes_over_to_the_next_connection_whose_peer_has_it() {
    // The first connection is not given up before the second one has to be made.
    let (dialer, answerer) = sides(times(200, 500, 60_000));
    let nat = Nat::start().await;
    let faults = Faults::new();
    let gone = dialer.clone().with_faults(faults.clone());
    let (here, there, _) = connect(&gone, &answerer, &nat).await;
    echo(&here, &there).await;

    // The answerer does not know that the first dialer is gone.
    faults.cut();
    nat.pass_on();
    let (next, next_there, _) = connect(&dialer, &answerer, &nat).await;
    echo(&next, &next_there).await;
    let mut state = there.state();
    let silent = state.wait_for(|state| *state == ConnState::Disconnected);
    soon("silence of the first", silent).await.expect("a state");
    echo(&next, &next_there).await;
    // Its end takes nothing of the second along.
    there.close(0, "");
    soon("its end", there.closed()).await;
    echo(&next, &next_there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_with_a_forged_source_move_no_address() {
    let (dialer, answerer) = sides(times(2000, 5000, 30_000));
    let nats = [Nat::start().await, Nat::start().await];
    let (here, there, ufrag) = connect(&dialer, &answerer, &nats[0]).await;
    let (other, other_there, others) = connect(&dialer, &answerer, &nats[1]).await;
    assert_ne!(ufrag, others);
    for _ in 0..20 {
        for (nat, ufrag) in [(&nats[0], &others), (&nats[1], &ufrag)] {
            // Requests, indications and responses, for the other one and for none, and data of no connection.
            for kind in [0x0001, 0x0011, 0x0101, 0x0111] {
                nat.forge(&forged(kind, ufrag)).await;
                nat.forge(&forged(kind, "none")).await;
            }
            nat.forge(&[22, 254, 253, 0, 0]).await;
            nat.forge(&[]).await;
        }
        echo(&here, &there).await;
        echo(&other, &other_there).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_flood_the_port_disturb_no_connection() {
    const STRANGERS: usize = 20;
    const DATAGRAMS: usize = 500;
    let (dialer, answerer) = sides(times(2000, 5000, 30_000));
    let listener = {
        use pipe_core::Transport;
        let addr = "webrtc+inproc://".parse().unwrap();
        answerer.listen(&addr).await.unwrap()
    };
    let nat = Nat::start().await;
    let (here, there, ufrag) = connect(&dialer, &answerer, &nat).await;
    let to = listener.udp_addrs()[0];
    let floods = (0..STRANGERS).map(|_| async {
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..DATAGRAMS {
            let garbage: Vec<u8> = (0..fastrand::usize(0..1200))
                .map(|_| fastrand::u8(..))
                .collect();
            for datagram in [&garbage, &forged(1, "guessed"), &forged(1, &ufrag)] {
                stranger.send_to(datagram, to).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    });
    let innocent = async {
        for _ in 0..50 {
            echo(&here, &there).await;
        }
    };
    tokio::join!(join_all(floods), innocent);
    echo(&here, &there).await;
    let stats = listener.udp_stats().unwrap();
    assert!(stats.strangers > 0 && stats.connections == 1, "{stats:?}");
}
