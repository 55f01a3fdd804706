use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How much longer a datagram is on its way that others overtake.
const DETOUR: Duration = Duration::from_millis(10);

/// The kernel's buffers of the sockets, in bytes: what is lost is to be lost by choice.
const BUFFER: usize = 4 * 1024 * 1024;

/// What becomes of datagrams, in each direction, as shares of 1.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: f64,
    pub(crate) overtaken: f64,
}

/// A bad path for datagrams between one dialer and one listener, on the loopback device. The same
/// datagrams of a direction are hit in each run: the first, the third and so on, not those of the same
/// bytes.
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    rebind: Notify,
    lost: AtomicU64,
    overtaken: AtomicU64,
    rebound: AtomicU64,
}

struct Path {
    weather: Weather,
    near: UdpSocket,
    /// Towards the listener, who sees its address as the dialer's.
    far: UdpSocket,
    target: SocketAddr,
    dialer: Option<SocketAddr>,
    /// A generator for each direction, so that the one does not depend on the other.
    random: [Rng; 2],
    /// Those that others overtake, by when they go on.
    detour: VecDeque<(Instant, Direction, Vec<u8>)>,
    shared: Arc<Shared>,
}

#[derive(Clone, Copy)]
enum Direction {
    ToListener,
    ToDialer,
}

impl Relay {
    /// A path to this address. It ends with the runtime.
    pub(crate) fn new(target: SocketAddr, weather: Weather) -> io::Result<Self> {
        let near = bind()?;
        let addr = near.local_addr()?;
        let shared = Arc::new(Shared::default());
        let path = Path {
            weather,
            near,
            far: bind()?,
            target,
            dialer: None,
            random: [Rng::with_seed(1), Rng::with_seed(2)],
            detour: VecDeque::new(),
            shared: shared.clone(),
        };
        tokio::spawn(path.run());
        Ok(Self { addr, shared })
    }

    /// Gives the dialer another address, as address translation does that has forgotten it.
    pub(crate) fn rebind(&self) {
        self.shared.rebind.notify_one();
    }

    /// How many datagrams were lost, and how many overtaken, and how often the dialer had another address.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let Shared {
            lost,
            overtaken,
            rebound,
            ..
        } = &*self.shared;
        [lost, overtaken, rebound].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Path {
    async fn run(mut self) {
        let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            let due = self.detour.front().map(|(at, ..)| *at);
            let due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // An error tells of a datagram before, which is lost.
                got = self.near.recv_from(&mut up) => if let Ok((count, from)) = got {
                    // A single byte asks whether anybody is there.
                    if count > 1 {
                        self.dialer = Some(from);
                    }
                    self.pass(Direction::ToListener, &up[..count]).await;
                },
                got = self.far.recv_from(&mut down) => if let Ok((count, _)) = got {
                    self.pass(Direction::ToDialer, &down[..count]).await;
                },
                () = due => if let Some((_, direction, datagram)) = self.detour.pop_front() {
                    self.send(direction, &datagram).await;
                },
                () = self.shared.rebind.notified() => if let Ok(far) = bind() {
                    self.far = far;
                    self.shared.rebound.fetch_add(1, Ordering::Relaxed);
                },
            }
        }
    }

    async fn pass(&mut self, direction: Direction, datagram: &[u8]) {
        let chance = self.random[direction as usize].f64();
        let Weather { lost, overtaken } = self.weather;
        if chance < lost {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        } else if chance < lost + overtaken {
            self.shared.overtaken.fetch_add(1, Ordering::Relaxed);
            let arrival = Instant::now() + DETOUR;
            self.detour
                .push_back((arrival, direction, datagram.to_vec()));
        } else {
            self.send(direction, datagram).await;
        }
    }

    async fn send(&self, direction: Direction, datagram: &[u8]) {
        let (socket, to) = match (direction, self.dialer) {
            (Direction::ToListener, _) => (&self.far, self.target),
            (Direction::ToDialer, Some(dialer)) => (&self.near, dialer),
            (Direction::ToDialer, None) => return,
        };
        // What cannot be sent is lost.
        let _ = socket.send_to(datagram, to).await;
    }
}

fn bind() -> io::Result<UdpSocket> {
    let socket = StdUdpSocket::bind("127.0.0.1:0")?;
    let options = SockRef::from(&socket);
    options.set_recv_buffer_size(BUFFER)?;
    options.set_send_buffer_size(BUFFER)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
