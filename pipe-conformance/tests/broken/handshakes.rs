//! Handshakes, side by side and bounded, for the faults that are about them.

use std::collections::VecDeque;
use std::sync::Arc;

use pipe_core::{Conn, Error, ErrorKind, Listener, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::fault::Fault;
use crate::shared::Setting;

/// What a dialer says first.
const HELLO: &[u8] = b"hello";

/// The dialer's part of the handshake.
pub(crate) async fn greet(conn: &impl Conn) -> Result<()> {
    let mut banner = conn.accept_stream().await?;
    banner.read_to_end(&mut Vec::new()).await?;
    let mut stream = conn.open_stream().await?;
    stream.write_all(HELLO).await?;
    stream.shutdown().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// The listener's part of the handshake: a banner, by which the dialer knows that it has begun, and the
/// answer to the dialer's hello.
pub(crate) async fn welcome(conn: &impl Conn) -> Result<()> {
    let mut banner = conn.open_stream().await?;
    banner.shutdown().await?;
    let mut stream = conn.accept_stream().await?;
    stream.read_to_end(&mut Vec::new()).await?;
    stream.shutdown().await?;
    Ok(())
}

/// Connections whose handshakes are over.
pub(crate) struct Welcomed<C>(Mutex<mpsc::UnboundedReceiver<C>>);

impl<C: Conn> Welcomed<C> {
    /// Makes the handshakes of a listener's connections, until it is closed.
    pub(crate) fn spawn<L: Listener<Conn = C>>(listener: Arc<L>, setting: Arc<Setting>) -> Self {
        let (made, welcomed) = mpsc::unbounded_channel();
        tokio::spawn(run(listener, setting, made));
        Self(Mutex::new(welcomed))
    }

    /// The next connection; `None` once the listener is closed.
    pub(crate) async fn next(&self) -> Option<C> {
        self.0.lock().await.recv().await
    }
}

async fn run<L: Listener>(
    listener: Arc<L>,
    setting: Arc<Setting>,
    made: mpsc::UnboundedSender<L::Conn>,
) {
    let most = setting.config.max_handshakes as usize;
    let mut under_way = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let conn = tokio::select! {
            conn = listener.accept() => match conn {
                Ok(conn) => conn,
                Err(_) => return,
            },
            Some(_) = under_way.join_next() => continue,
        };
        while under_way.len() >= most && setting.fault != Fault::HandshakesAreUnbounded {
            if setting.fault != Fault::StallsShutNewcomersOut {
                oldest.retain(|handshake| !handshake.is_finished());
                if let Some(oldest) = oldest.pop_front() {
                    oldest.abort();
                }
            }
            under_way.join_next().await;
        }
        let (made, setting) = (made.clone(), setting.clone());
        oldest.push_back(under_way.spawn(async move {
            if welcome_in_time(&conn, &setting).await.is_ok() {
                let _ = made.send(conn);
            }
        }));
    }
}

async fn welcome_in_time(conn: &impl Conn, setting: &Setting) -> Result<()> {
    if setting.fault == Fault::StalledHandshakeStays {
        return welcome(conn).await;
    }
    match timeout(setting.config.handshake_timeout, welcome(conn)).await {
        Ok(welcomed) => welcomed,
        Err(_) => Err(Error::new(ErrorKind::TimedOut, "the dialer says nothing")),
    }
}
