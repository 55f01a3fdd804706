use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use pipe_core::{Addr, Conn};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// Passes datagrams on between dialers and a listener, and can do to them what an attacker on the way can.
#[derive(Clone)]
pub(crate) struct Relay(Arc<State>);

struct State {
    target: SocketAddr,
    held_back: watch::Sender<bool>,
    passed_back: AtomicUsize,
    swallows: AtomicBool,
    recorded: Mutex<HashMap<u16, Vec<Vec<u8>>>>,
}

impl Relay {
    /// One to this listener, with the address to dial.
    pub(crate) async fn to(addr: &Addr) -> (Self, Addr) {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let mut url = addr.as_url().clone();
        let port = near.local_addr().unwrap().port();
        url.set_port(Some(port)).unwrap();
        let relay = Self(Arc::new(State {
            target: ([127, 0, 0, 1], addr.port().unwrap()).into(),
            held_back: watch::Sender::new(false),
            passed_back: AtomicUsize::new(0),
            swallows: AtomicBool::new(false),
            recorded: Mutex::new(HashMap::new()),
        }));
        // It ends with the runtime of the test.
        tokio::spawn(relay.clone().serve(near));
        (relay, url.as_str().parse().unwrap())
    }

    /// Lets the listener's datagrams wait, or go.
    pub(crate) fn hold_back(&self, held: bool) {
        self.0.passed_back.store(0, Ordering::SeqCst);
        self.0.held_back.send_replace(held);
    }

    /// How many datagrams of the listener went since then.
    pub(crate) fn passed_back(&self) -> usize {
        self.0.passed_back.load(Ordering::SeqCst)
    }

    /// Keeps from the listener whatever comes from dialers that are there while this is on.
    pub(crate) fn swallow(&self, swallow: bool) {
        self.0.swallows.store(swallow, Ordering::SeqCst);
    }

    /// What this dialer has sent.
    pub(crate) fn recorded(&self, dialer: &impl Conn) -> Vec<Vec<u8>> {
        let port = dialer.local_addr().port().unwrap();
        let recorded = self.0.recorded.lock();
        recorded.get(&port).cloned().unwrap_or_default()
    }

    /// Sends datagrams to the listener, from an address of its own.
    pub(crate) async fn send(&self, datagrams: &[Vec<u8>]) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in datagrams {
            socket.send_to(datagram, self.0.target).await.unwrap();
        }
    }

    async fn serve(self, near: Arc<UdpSocket>) {
        let mut far_of = HashMap::<SocketAddr, Arc<UdpSocket>>::new();
        let mut swallowed = HashSet::new();
        let mut buf = vec![0; 64 * 1024];
        loop {
            // An error tells of a datagram before, which is lost.
            let Ok((count, dialer)) = near.recv_from(&mut buf).await else {
                continue;
            };
            let datagram = &buf[..count];
            self.record(dialer, datagram);
            if self.0.swallows.load(Ordering::SeqCst) {
                swallowed.insert(dialer);
            }
            if swallowed.contains(&dialer) {
                continue;
            }
            let far = match far_of.get(&dialer) {
                Some(far) => far.clone(),
                None => {
                    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    tokio::spawn(self.clone().pass_back(far.clone(), near.clone(), dialer));
                    far_of.insert(dialer, far.clone());
                    far
                }
            };
            let _ = far.send_to(datagram, self.0.target).await;
        }
    }

    fn record(&self, dialer: SocketAddr, datagram: &[u8]) {
        let mut recorded = self.0.recorded.lock();
        let of_dialer = recorded.entry(dialer.port()).or_default();
        of_dialer.push(datagram.to_vec());
    }

    async fn pass_back(self, far: Arc<UdpSocket>, near: Arc<UdpSocket>, dialer: SocketAddr) {
        let mut held_back = self.0.held_back.subscribe();
        let mut buf = vec![0; 64 * 1024];
        loop {
            let Ok(count) = far.recv(&mut buf).await else {
                continue;
            };
            let _ = held_back.wait_for(|held| !held).await;
            self.0.passed_back.fetch_add(1, Ordering::SeqCst);
            let _ = near.send_to(&buf[..count], dialer).await;
        }
    }
}
