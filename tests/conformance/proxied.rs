use std::sync::Arc;

use pipe_conformance::Faults;
use pipe_core::{Addr, Listener, Result, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A transport over TCP whose listeners are reached through a proxy, which can be cut like a cable.
///
/// Without faults it is the transport as it is.
pub(crate) struct Proxied<T> {
    pub(crate) transport: T,
    pub(crate) cable: Option<Arc<Cable>>,
}

/// What the proxies of one transport follow.
pub(crate) struct Cable {
    up: watch::Sender<bool>,
}

pub(crate) struct ProxiedListener<L> {
    inner: L,
    addr: Addr,
}

impl Default for Cable {
    fn default() -> Self {
        Self {
            up: watch::Sender::new(true),
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

impl<T: Transport> Transport for Proxied<T> {
    type Conn = T::Conn;
    type Listener = ProxiedListener<T::Listener>;

    fn schemes(&self) -> &[&'static str] {
        self.transport.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<T::Conn> {
        self.transport.dial(addr).await
    }

    async fn listen(&self, addr: &Addr) -> Result<Self::Listener> {
        let inner = self.transport.listen(addr).await?;
        let addr = inner.local_addr();
        let Some(cable) = &self.cable else {
            return Ok(ProxiedListener { inner, addr });
        };
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let target = format!("127.0.0.1:{}", addr.port().unwrap_or_default());
        let mut url = addr.as_url().clone();
        let port = socket.local_addr()?.port();
        url.set_port(Some(port)).expect("an address with a host");
        // It ends with the runtime of the case.
        tokio::spawn(serve(socket, target, cable.up.subscribe()));
        Ok(ProxiedListener {
            inner,
            addr: url.as_str().parse()?,
        })
    }
}

impl<L: Listener> Listener for ProxiedListener<L> {
    type Conn = L::Conn;

    async fn accept(&self) -> Result<L::Conn> {
        self.inner.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// Passes connections on.
async fn serve(socket: TcpListener, target: String, up: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    loop {
        let Ok((near, _)) = socket.accept().await else {
            return;
        };
        let Ok(far) = TcpStream::connect(&target).await else {
            continue;
        };
        // What is held in the kernel must not hide a cut from the ends.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_read, near_write), (far_read, far_write)) =
            (near.into_split(), far.into_split());
        running.spawn(pass(near_read, far_write, up.clone()));
        running.spawn(pass(far_read, near_write, up.clone()));
    }
}

/// Passes bytes on while the cable is whole; what arrives meanwhile waits.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut up: watch::Receiver<bool>) {
    let mut buf = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buf).await {
        if up.wait_for(|up| *up).await.is_err() {
            return;
        }
        if count == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buf[..count]).await.is_err() {
            return;
        }
    }
}
