use std::path::PathBuf;

use pipe_conformance::Faults;
use pipe_core::{Addr, Listener, Result, Transport};
use pipe_fifo::{FifoListener, FifoStream, FifoTransport};
use pipe_mux::{MuxConn, MuxListener};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::watch;
use tokio::task::JoinSet;

// ANCHOR: cable
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
pub(crate) struct Cabled {
    pub(crate) transport: FifoTransport,
    pub(crate) cable: Option<Cable>,
}

pub(crate) struct CabledListener {
    inner: MuxListener,
    addr: Addr,
}

impl Transport for Cabled {
    type Conn = MuxConn;
    type Listener = CabledListener;

    fn schemes(&self) -> &[&'static str] {
        self.transport.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        self.transport.dial(addr).await
    }

    async fn listen(&self, addr: &Addr) -> Result<CabledListener> {
        let inner = self.transport.listen(addr).await?;
        let addr = match &self.cable {
            Some(cable) => lay(addr, cable)?,
            None => inner.local_addr(),
        };
        Ok(CabledListener { inner, addr })
    }
}
// ANCHOR_END: cable

impl Listener for CabledListener {
    type Conn = MuxConn;

    async fn accept(&self) -> Result<MuxConn> {
        self.inner.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.inner.close();
    }
}

// ANCHOR: lay
/// Listens beside the listener at this address, and connects whoever comes to it through the cable. It
/// ends with the runtime of the case.
fn lay(to: &Addr, cable: &Cable) -> Result<Addr> {
    let target = PathBuf::from(to.path());
    let path = format!("{}.cable", to.path());
    let listener = FifoListener::bind(path.as_ref())?;
    let up = cable.0.subscribe();
    tokio::spawn(async move {
        let mut running = JoinSet::new();
        while let Ok(near) = listener.accept().await {
            if let Ok(far) = FifoStream::connect(&target).await {
                let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
                running.spawn(pass(near_read, far_write, up.clone()));
                running.spawn(pass(far_read, near_write, up.clone()));
            }
        }
    });
    format!("fifo://{path}").parse()
}

/// Passes bytes on while the cable is whole; what arrives meanwhile waits.
async fn pass<R, W>(mut from: R, mut to: W, mut up: watch::Receiver<bool>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buf = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buf).await {
        let whole = up.wait_for(|up| *up).await.is_ok();
        if !whole || count == 0 || to.write_all(&buf[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
// ANCHOR_END: lay
