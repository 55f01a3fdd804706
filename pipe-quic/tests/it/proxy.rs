use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use pipe_conformance::Faults;
use pipe_core::{Addr, Listener, Result, Transport};
use pipe_quic::{QuicConn, QuicListener, QuicTransport};
use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The transport, whose listeners are reached through a proxy that can be cut like a cable.
///
/// Without faults it is the transport as it is.
pub(crate) struct Proxied<T = QuicTransport> {
    pub(crate) transport: T,
    pub(crate) cable: Option<Arc<Cable>>,
}

/// What the proxies of one transport follow.
pub(crate) struct Cable {
    up: watch::Sender<bool>,
    /// How long datagrams take in each direction, through the proxies of listeners that start from now on.
    delay: Mutex<Duration>,
    /// The proxies, which end with the cable.
    proxies: Mutex<JoinSet<()>>,
}

/// Where the proxies run: in a case's runtime they would be counted as what a transport leaves behind.
static ELSEWHERE: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all();
    builder.build().expect("a runtime")
});

pub(crate) struct ProxiedListener {
    inner: QuicListener,
    addr: Addr,
}

impl Default for Cable {
    fn default() -> Self {
        Self {
            up: watch::Sender::new(true),
            delay: Mutex::default(),
            proxies: Mutex::default(),
        }
    }
}

impl Faults for Cable {
    fn cut(&self) {
        self.up.send_replace(false);
    }

    fn heal(&self) {
        self.up.send_replace(true);
    }

    fn kill_listening_side(&self) {
        self.cut();
    }

    fn delay(&self, time: Duration) -> bool {
        *self.delay.lock() = time;
        true
    }
}

impl<T: Transport<Conn = QuicConn, Listener = QuicListener>> Transport for Proxied<T> {
    type Conn = QuicConn;
    type Listener = ProxiedListener;

    fn schemes(&self) -> &[&'static str] {
        self.transport.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<QuicConn> {
        self.transport.dial(addr).await
    }

    async fn listen(&self, addr: &Addr) -> Result<ProxiedListener> {
        let inner = self.transport.listen(addr).await?;
        let addr = inner.local_addr();
        let Some(cable) = &self.cable else {
            return Ok(ProxiedListener { inner, addr });
        };
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let socket = {
            let _elsewhere = ELSEWHERE.enter();
            UdpSocket::from_std(socket)?
        };
        let target = ([127, 0, 0, 1], addr.port().unwrap_or_default()).into();
        let mut url = addr.as_url().clone();
        let port = socket.local_addr()?.port();
        url.set_port(Some(port)).expect("an address with a host");
        let proxy = serve(Arc::new(socket), target, Line::new(cable));
        cable.proxies.lock().spawn_on(proxy, ELSEWHERE.handle());
        Ok(ProxiedListener {
            inner,
            addr: url.as_str().parse()?,
        })
    }
}

impl Listener for ProxiedListener {
    type Conn = QuicConn;

    async fn accept(&self) -> Result<QuicConn> {
        self.inner.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// What happens to the datagrams of a proxy: those that come while the cable is cut are lost.
#[derive(Clone)]
struct Line {
    up: watch::Receiver<bool>,
    delay: Duration,
}

/// What is under way in one direction to an address.
struct UnderWay(mpsc::UnboundedSender<(Instant, Vec<u8>)>);

impl Line {
    fn new(cable: &Cable) -> Self {
        Self {
            up: cable.up.subscribe(),
            delay: *cable.delay.lock(),
        }
    }

    fn carry(&self, datagram: &[u8], under_way: &UnderWay) {
        if *self.up.borrow() {
            let arrival = (Instant::now() + self.delay, datagram.to_vec());
            // The proxy is ending otherwise.
            let _ = under_way.0.send(arrival);
        }
    }
}

impl UnderWay {
    /// What arrives at `target`, from this socket.
    fn to(target: SocketAddr, socket: Arc<UdpSocket>, running: &mut JoinSet<()>) -> Self {
        let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
        running.spawn(async move {
            while let Some((at, datagram)) = under_way.recv().await {
                sleep_until(at).await;
                let _ = socket.send_to(&datagram, target).await;
            }
        });
        Self(sender)
    }
}

/// Passes datagrams on in both directions.
async fn serve(near: Arc<UdpSocket>, target: SocketAddr, line: Line) {
    let mut of_clients = HashMap::<SocketAddr, UnderWay>::new();
    let mut running = JoinSet::new();
    let mut buf = vec![0; 64 * 1024];
    loop {
        // An error tells of a datagram before, which is lost.
        let Ok((count, client)) = near.recv_from(&mut buf).await else {
            continue;
        };
        let there = match of_clients.entry(client) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let Ok(far) = UdpSocket::bind("127.0.0.1:0").await else {
                    continue;
                };
                let far = Arc::new(far);
                let back = UnderWay::to(client, near.clone(), &mut running);
                running.spawn(pass_back(far.clone(), back, line.clone()));
                entry.insert(UnderWay::to(target, far, &mut running))
            }
        };
        line.carry(&buf[..count], there);
    }
}

async fn pass_back(far: Arc<UdpSocket>, back: UnderWay, line: Line) {
    let mut buf = vec![0; 64 * 1024];
    loop {
        if let Ok(count) = far.recv(&mut buf).await {
            line.carry(&buf[..count], &back);
        }
    }
}
