//! Alerts of DTLS, which a relay puts in the place of packets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pipe_core::{Conn, ErrorKind, Result};
use pipe_webrtc::{MemorySignaling, WebRtcConn};

use crate::common::{Changed, soon, through, transport};

/// What becomes of a datagram on its way: it may be replaced, or lost.
type Carry = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// The way of datagrams from one side to the other and back: two sockets, each of which stands for a side.
struct Relay {
    /// Where the offerer finds the answerer, and the answerer the offerer.
    ports: [u16; 2],
    is_over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Relay {
    /// Carries datagrams between the two sides as soon as their addresses are known; `carry` says how, for those to
    /// the offerer and to the answerer.
    fn new(carry: [Carry; 2], addrs: [Arc<OnceLock<SocketAddr>>; 2]) -> Self {
        let sockets = [(); 2].map(|()| Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()));
        let ports = sockets
            .each_ref()
            .map(|one| one.local_addr().unwrap().port());
        let is_over = Arc::new(AtomicBool::new(false));
        let [to_offerer, to_answerer] = carry;
        let [offerer, answerer] = addrs;
        let [near, far] = sockets;
        // What the offerer sends comes to `near`, and leaves from `far`.
        let ways = [
            (near.clone(), far.clone(), to_answerer, answerer),
            (far, near, to_offerer, offerer),
        ];
        let threads = ways.map(|(from, to, carry, addr)| {
            let is_over = is_over.clone();
            from.set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            std::thread::spawn(move || {
                let mut buf = [0; 2048];
                while !is_over.load(Ordering::SeqCst) {
                    let Ok((len, _)) = from.recv_from(&mut buf) else {
                        continue;
                    };
                    if let (Some(addr), Some(datagram)) = (addr.get(), carry(&buf[..len])) {
                        let _ = to.send_to(&datagram, addr);
                    }
                }
            })
        });
        Self {
            ports,
            is_over,
            threads: threads.into(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Makes a connection through a relay. Returns the outcomes of the offerer and the answerer, and how long they took.
async fn connect_through(carry: [Carry; 2]) -> ([Result<WebRtcConn>; 2], Duration, Relay) {
    let addrs = [(); 2].map(|()| Arc::new(OnceLock::new()));
    let relay = Relay::new(carry, addrs.clone());
    let (here, there) = MemorySignaling::pair();
    let [offerer, answerer] = addrs;
    // What the answerer hears of is the offerer, and it finds it at the relay.
    let here = Changed::new(here, through(relay.ports[0], answerer));
    let there = Changed::new(there, through(relay.ports[1], offerer));
    let transport = transport();
    let start = Instant::now();
    let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
    let (here, there) = soon("an outcome", both).await;
    ([here, there], start.elapsed(), relay)
}

fn is_dtls(datagram: &[u8]) -> bool {
    (20..=63).contains(&datagram[0])
}

fn unchanged() -> Carry {
    Arc::new(|datagram| Some(datagram.to_vec()))
}

/// Puts this record in the clear in the place of every datagram of DTLS.
fn replaced_by(level: u8, description: u8) -> Carry {
    let alert = vec![
        21,
        0xfe,
        0xfd,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        1,
        0,
        2,
        level,
        description,
    ];
    Arc::new(move |datagram| {
        Some(match is_dtls(datagram) {
            true => alert.clone(),
            false => datagram.to_vec(),
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_in_the_handshake_ends_it_at_once_and_is_named() {
    let cases = [
        (
            2,
            40,
            ErrorKind::Handshake,
            "the fatal alert handshake_failure (40)",
        ),
        (
            2,
            70,
            ErrorKind::Handshake,
            "the fatal alert protocol_version (70)",
        ),
        (
            2,
            42,
            ErrorKind::Unauthenticated,
            "the fatal alert bad_certificate (42)",
        ),
        (1, 0, ErrorKind::Handshake, "the alert close_notify (0)"),
    ];
    for (level, description, kind, name) in cases {
        for to_offerer in [true, false] {
            let mut carry = [unchanged(), unchanged()];
            carry[usize::from(!to_offerer)] = replaced_by(level, description);
            let (ends, took, _relay) = connect_through(carry).await;
            let [here, there] = ends.map(|end| end.expect_err("no connection"));
            let (told, other) = if to_offerer {
                (here, there)
            } else {
                (there, here)
            };
            assert_eq!(told.kind(), kind, "{told}");
            assert!(told.to_string().contains(name), "{told}");
            // The other side is told the reason by the signalling.
            assert!(other.to_string().contains(name), "{other}");
            // The limit of a dial is ten seconds.
            assert!(took < Duration::from_secs(8), "{took:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warning_in_the_handshake_is_no_end_of_it() {
    for to_offerer in [true, false] {
        let is_first = AtomicBool::new(true);
        let warning = replaced_by(1, 90);
        let mut carry = [unchanged(), unchanged()];
        carry[usize::from(!to_offerer)] = Arc::new(move |datagram| {
            if is_dtls(datagram) && is_first.swap(false, Ordering::SeqCst) {
                return warning(datagram);
            }
            Some(datagram.to_vec())
        });
        let (ends, _, _relay) = connect_through(carry).await;
        let [here, there] = ends.map(|end| end.expect("a connection"));
        assert!(here.ping().await.unwrap() > Duration::ZERO);
        assert!(there.ping().await.unwrap() > Duration::ZERO);
    }
}

/// Alerts in the clear prove nothing once there are keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_in_the_clear_does_not_end_a_connection() {
    let is_made = Arc::new(AtomicBool::new(false));
    let carry = [(); 2].map(|()| -> Carry {
        let (is_made, is_first) = (is_made.clone(), AtomicBool::new(true));
        let alert = replaced_by(2, 40);
        Arc::new(move |datagram| {
            let made = is_made.load(Ordering::SeqCst);
            if made && is_dtls(datagram) && is_first.swap(false, Ordering::SeqCst) {
                return alert(datagram);
            }
            Some(datagram.to_vec())
        })
    });
    let (ends, _, _relay) = connect_through(carry).await;
    let [here, there] = ends.map(|end| end.expect("a connection"));
    is_made.store(true, Ordering::SeqCst);
    // Each loses one packet, and has an alert instead.
    for conn in [&here, &there] {
        assert!(soon("a ping", conn.ping()).await.unwrap() > Duration::ZERO);
    }
}

/// A datagram of the server's flight that comes before the answer to the hello ends no handshake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datagram_that_overtakes_the_answer_to_the_hello_is_no_end_of_the_handshake() {
    // The offerer is asked first, whichever side is the client.
    for to_offerer in [true, false] {
        let is_first = AtomicBool::new(true);
        let mut carry = [unchanged(), unchanged()];
        carry[usize::from(!to_offerer)] = Arc::new(move |datagram| {
            if is_dtls(datagram) && is_first.swap(false, Ordering::SeqCst) {
                // An encrypted record of DTLS 1.3.
                return Some([&[0x2e, 0, 1, 0, 20][..], &[7; 20]].concat());
            }
            Some(datagram.to_vec())
        });
        let (ends, _, _relay) = connect_through(carry).await;
        let [here, _there] = ends.map(|end| end.expect("a connection"));
        assert!(here.ping().await.unwrap() > Duration::ZERO);
    }
}
