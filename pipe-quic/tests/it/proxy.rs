use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use pipe_conformance::Faults;
use pipe_core::{Addr, Listener, Result, Transport};
use pipe_quic::{QuicConn, QuicListener, QuicTransport};
use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The transport, whose listeners are reached through a proxy that can be cut like a cable.
///
/// Without faults it is the transport as it is.
pub(crate) struct Proxied {
    pub(crate) transport: QuicTransport,
    pub(crate) cable: Option<Arc<Cable>>,
}

/// What the proxies of one transport follow.
pub(crate) struct Cable {
    up: watch::Sender<bool>,
    /// The proxies, which end with the cable.
    proxies: Mutex<JoinSet<()>>,
}

/// Where the proxies run: in a case's runtime they would be counted as what a transport leaves behind.
static ELSEWHERE: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_io();
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
}

impl Transport for Proxied {
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
        let proxy = serve(Arc::new(socket), target, cable.up.subscribe());
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

/// Passes datagrams on while the cable is whole; those that come meanwhile are lost.
async fn serve(near: Arc<UdpSocket>, target: SocketAddr, up: watch::Receiver<bool>) {
    let mut far_of = HashMap::<SocketAddr, Arc<UdpSocket>>::new();
    let mut running = JoinSet::new();
    let mut buf = vec![0; 64 * 1024];
    loop {
        // An error tells of a datagram before, which is lost.
        let Ok((count, client)) = near.recv_from(&mut buf).await else {
            continue;
        };
        if !*up.borrow() {
            continue;
        }
        let far = match far_of.get(&client) {
            Some(far) => far.clone(),
            None => {
                let Ok(far) = UdpSocket::bind("127.0.0.1:0").await else {
                    continue;
                };
                let far = Arc::new(far);
                running.spawn(pass_back(far.clone(), near.clone(), client, up.clone()));
                far_of.insert(client, far.clone());
                far
            }
        };
        let _ = far.send_to(&buf[..count], target).await;
    }
}

async fn pass_back(
    far: Arc<UdpSocket>,
    near: Arc<UdpSocket>,
    client: SocketAddr,
    up: watch::Receiver<bool>,
) {
    let mut buf = vec![0; 64 * 1024];
    loop {
        let Ok(count) = far.recv(&mut buf).await else {
            continue;
        };
        if *up.borrow() {
            let _ = near.send_to(&buf[..count], client).await;
        }
    }
}
