use std::io;

use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_conformance::Faults;
use pipe_core::backend::HandshakeQueue;
use pipe_core::{Addr, Listener, Result, Transport};
use pipe_sockets::{SocketsConn, SocketsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Passes bytes on, or keeps them to itself.
#[derive(Clone)]
pub(crate) struct Cable(watch::Sender<bool>);

impl Cable {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(true))
    }
}

impl Faults for Cable {
    fn cut(&self) {
        self.0.send_replace(false);
    }

    fn heal(&self) {
        self.0.send_replace(true);
    }

    fn kill_listening_side(&self) {
        self.cut();
    }
}

/// The transport, with a cable between the ends if there is one.
pub(crate) struct Proxied {
    pub(crate) transport: SocketsTransport,
    pub(crate) cable: Option<Cable>,
}

pub(crate) struct ProxiedListener {
    inner: HandshakeQueue<SocketsConn>,
    addr: Addr,
}

impl Transport for Proxied {
    type Conn = SocketsConn;
    type Listener = ProxiedListener;

    fn schemes(&self) -> &[&'static str] {
        self.transport.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<SocketsConn> {
        self.transport.dial(addr).await
    }

    async fn listen(&self, addr: &Addr) -> Result<ProxiedListener> {
        let inner = self.transport.listen(addr).await?;
        let mut addr = inner.local_addr();
        if let Some(cable) = &self.cable {
            let port = addr.port().unwrap_or_default();
            let port = lay(port, true, &cable.0.subscribe()).await?;
            addr = format!("sockets://127.0.0.1:{port}").parse()?;
        }
        Ok(ProxiedListener { inner, addr })
    }
}

impl Listener for ProxiedListener {
    type Conn = SocketsConn;

    async fn accept(&self) -> Result<SocketsConn> {
        self.inner.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.inner.close();
    }
}

/// Lays a cable to a port, and returns the port at its other end. The cable of a control socket lays another one, for
/// the sockets of streams. They end with the runtime of the case.
fn lay(
    port: u16,
    is_control: bool,
    up: &watch::Receiver<bool>,
) -> BoxFuture<'static, io::Result<u16>> {
    let up = up.clone();
    let laid = async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let near_port = listener.local_addr()?.port();
        tokio::spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                running.spawn(connect(near, port, is_control, up.clone()));
            }
        });
        Ok(near_port)
    };
    laid.boxed()
}

async fn connect(
    near: TcpStream,
    port: u16,
    is_control: bool,
    mut up: watch::Receiver<bool>,
) -> io::Result<()> {
    let far = TcpStream::connect(("127.0.0.1", port)).await?;
    // What the kernel holds back must not hide a cut from the ends.
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, mut near_write), (mut far_read, far_write)) =
        (near.into_split(), far.into_split());
    let mut running = JoinSet::new();
    running.spawn(pass(near_read, far_write, up.clone()));
    if is_control {
        let mut magic = [0; 9];
        far_read.read_exact(&mut magic).await?;
        let port = far_read.read_u16().await?;
        let port = lay(port, false, &up).await?;
        let _ = up.wait_for(|up| *up).await;
        near_write.write_all(&magic).await?;
        near_write.write_u16(port).await?;
    }
    running.spawn(pass(far_read, near_write, up));
    running.join_all().await;
    Ok(())
}

/// Passes bytes on while the cable is whole; what arrives meanwhile waits. An end is passed on as well, and so is a
/// reset.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut up: watch::Receiver<bool>) {
    let mut buf = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buf).await;
        let whole = up.wait_for(|up| *up).await.is_ok();
        match read {
            Ok(count) if whole && count > 0 => {
                if to.write_all(&buf[..count]).await.is_err() {
                    break;
                }
            }
            Ok(_) => {
                let _ = to.shutdown().await;
                break;
            }
            Err(_) => {
                let _ = to.as_ref().set_zero_linger();
                break;
            }
        }
    }
}
