use std::sync::Arc;

use pipe_conformance::{Faults, Setup};
use pipe_core::{Addr, Listener, Result, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A transport over TCP or Unix sockets whose listeners are reached through a proxy, which can be cut
/// like a cable.
///
/// Without faults it is the transport as it is.
pub(crate) struct Proxied<T> {
    pub(crate) transport: T,
    pub(crate) cable: Option<Arc<Cable>>,
}

impl<T> Proxied<T> {
    /// The transport as it is.
    pub(crate) fn setup(transport: T) -> Setup<Self> {
        Setup::new(Self {
            transport,
            cable: None,
        })
    }

    /// The transport behind proxies.
    pub(crate) fn setup_with_faults(transport: T) -> Setup<Self> {
        let cable = Arc::new(Cable::default());
        let mut setup = Setup::new(Self {
            transport,
            cable: Some(cable.clone()),
        });
        setup.faults = Some(cable);
        setup
    }
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
        let up = cable.up.subscribe();
        let addr = match addr.scheme() {
            #[cfg(unix)]
            "unix" => proxy_unix(&addr, up)?,
            _ => proxy_tcp(&addr, up).await?,
        };
        Ok(ProxiedListener { inner, addr })
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

/// Starts a proxy for the listener at an address of TCP, and returns the address of the proxy. It ends
/// with the runtime of the case, as does the one for Unix sockets.
async fn proxy_tcp(addr: &Addr, up: watch::Receiver<bool>) -> Result<Addr> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let target = format!("127.0.0.1:{}", addr.port().unwrap_or_default());
    let mut url = addr.as_url().clone();
    let port = socket.local_addr()?.port();
    url.set_port(Some(port)).expect("an address with a host");
    tokio::spawn(async move {
        let mut running = JoinSet::new();
        while let Ok((near, _)) = socket.accept().await {
            let Ok(far) = TcpStream::connect(&target).await else {
                continue;
            };
            // What is held in the kernel must not hide a cut from the ends.
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            pass_both_ways(&mut running, near, far, &up);
        }
    });
    url.as_str().parse()
}

#[cfg(unix)]
fn proxy_unix(addr: &Addr, up: watch::Receiver<bool>) -> Result<Addr> {
    use tokio::net::{UnixListener, UnixStream};

    let target = addr.path().to_owned();
    let path = format!("{target}.proxy");
    let socket = UnixListener::bind(&path)?;
    tokio::spawn(async move {
        let mut running = JoinSet::new();
        while let Ok((near, _)) = socket.accept().await {
            if let Ok(far) = UnixStream::connect(&target).await {
                pass_both_ways(&mut running, near, far, &up);
            }
        }
    });
    format!("unix://{path}").parse()
}

/// Passes the bytes of a connection on.
fn pass_both_ways<S>(running: &mut JoinSet<()>, near: S, far: S, up: &watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
    running.spawn(pass(near_read, far_write, up.clone()));
    running.spawn(pass(far_read, near_write, up.clone()));
}

/// Passes bytes on while the cable is whole; what arrives meanwhile waits.
async fn pass<R, W>(mut from: R, mut to: W, mut up: watch::Receiver<bool>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
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
