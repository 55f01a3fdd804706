use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pipe_core::{Addr, Listener, Result, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::fixture::{Faults, Setup};

/// The largest piece that is passed on at once, in bytes.
const PIECE: usize = 16 * 1024;

/// The cables of one transport, which pass bytes on as long as they are whole.
#[derive(Clone, Debug)]
pub struct Cable {
    whole: watch::Sender<bool>,
    delay: watch::Sender<Duration>,
}

/// A transport whose listeners are reached through a [`Cable`], or without one as they are.
#[derive(Clone)]
pub struct Cabled<T> {
    transport: T,
    lay: Option<Arc<Lay>>,
}

type Lay = dyn Fn(Addr) -> BoxFuture<'static, Result<Addr>> + Send + Sync;

/// A listener behind a [`Cable`].
#[derive(Debug)]
pub struct CabledListener<L> {
    inner: L,
    addr: Addr,
}

impl Cable {
    fn new() -> Self {
        Self {
            whole: watch::Sender::new(true),
            delay: watch::Sender::default(),
        }
    }

    /// Waits while the cable is cut.
    pub async fn whole(&self) {
        let mut is_whole = self.whole.subscribe();
        // The sender is here.
        let _ = is_whole.wait_for(|is_whole| *is_whole).await;
    }

    /// Passes bytes on while the cable is whole; what arrives meanwhile waits. An end is passed on as well.
    ///
    /// # Errors
    ///
    /// That of a read, such as a reset.
    pub async fn pass<R, W>(&self, from: &mut R, to: &mut W) -> std::io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let delay = *self.delay.borrow();
        if !delay.is_zero() {
            return self.pass_later(delay, from, to).await;
        }
        let mut buf = vec![0; PIECE];
        loop {
            let read = from.read(&mut buf).await;
            self.whole().await;
            let count = read?;
            if count == 0 {
                return to.shutdown().await;
            }
            if to.write_all(&buf[..count]).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Passes bytes on that each take so long, however many are under way.
    async fn pass_later<R, W>(
        &self,
        delay: Duration,
        from: &mut R,
        to: &mut W,
    ) -> std::io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let read = async {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = from.read_buf(&mut piece).await;
                let is_over = !matches!(read, Ok(1..));
                let sent = sender.send((Instant::now() + delay, read.map(|_| piece)));
                if is_over || sent.is_err() {
                    return;
                }
            }
        };
        let write = async {
            while let Some((at, read)) = receiver.recv().await {
                sleep_until(at).await;
                self.whole().await;
                let piece = read?;
                if piece.is_empty() {
                    return to.shutdown().await;
                }
                if to.write_all(&piece).await.is_err() {
                    return Ok(());
                }
            }
            Ok(())
        };
        tokio::pin!(read, write);
        tokio::select! {
            written = &mut write => written,
            () = &mut read => write.await,
        }
    }

    /// Connects two byte streams, in tasks of this set.
    pub fn connect<A, B>(&self, running: &mut JoinSet<()>, near: A, far: B)
    where
        A: AsyncRead + AsyncWrite + Send + 'static,
        B: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut near_read, mut near_write) = split(near);
        let (mut far_read, mut far_write) = split(far);
        let (there, back) = (self.clone(), self.clone());
        running.spawn(async move {
            let _ = there.pass(&mut near_read, &mut far_write).await;
        });
        running.spawn(async move {
            let _ = back.pass(&mut far_read, &mut near_write).await;
        });
    }
}

impl Faults for Cable {
    fn cut(&self) {
        self.whole.send_replace(false);
    }

    fn heal(&self) {
        self.whole.send_replace(true);
    }

    fn kill_listening_side(&self) {
        self.cut();
    }

    fn delay(&self, time: Duration) -> bool {
        self.delay.send_replace(time);
        true
    }
}

impl<T: Transport> Cabled<T> {
    /// Sets up a transport without cables.
    pub fn setup(transport: T) -> Setup<Self> {
        let lay = None;
        Setup::new(Self { transport, lay })
    }

    /// Sets up a transport whose listeners are reached through a cable. `lay` gets the address of a listener, and
    /// returns the one at the other end of the cable, which ends with the runtime of the case.
    pub fn setup_with_faults<F>(
        transport: T,
        lay: impl Fn(Addr, Cable) -> F + Send + Sync + 'static,
    ) -> Setup<Self>
    where
        F: Future<Output = Result<Addr>> + Send + 'static,
    {
        let cable = Cable::new();
        let laid = cable.clone();
        let lay = move |addr| lay(addr, laid.clone()).boxed();
        let cabled = Self {
            transport,
            lay: Some(Arc::new(lay)),
        };
        Setup::new(cabled).with_faults(cable)
    }
}

impl<T: Transport> Transport for Cabled<T> {
    type Conn = T::Conn;
    type Listener = CabledListener<T::Listener>;

    fn schemes(&self) -> &[&'static str] {
        self.transport.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<T::Conn> {
        self.transport.dial(addr).await
    }

    async fn listen(&self, addr: &Addr) -> Result<Self::Listener> {
        let inner = self.transport.listen(addr).await?;
        let mut addr = inner.local_addr();
        if let Some(lay) = &self.lay {
            addr = lay(addr).await?;
        }
        Ok(CabledListener { inner, addr })
    }
}

impl<L: Listener> Listener for CabledListener<L> {
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

impl<T: fmt::Debug> fmt::Debug for Cabled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cabled")
            .field("transport", &self.transport)
            .field("has_cable", &self.lay.is_some())
            .finish()
    }
}
