//! A listener.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::select_all;
use parking_lot::Mutex;
use pipe_core::{Addr, Conn, Error, ErrorKind, Listener, Result, Transport};
use tokio::sync::oneshot;

use crate::conn::{BrokenConn, FirstWaker, at_once};
use crate::fault::Fault;
use crate::handshakes::{Welcomed, welcome};
use crate::shared::{Flag, Side};
use crate::transport::Host;

/// A listener that breaks the contract in one way.
pub(crate) struct BrokenListener<T: Transport> {
    inner: Arc<T::Listener>,
    /// The address that the application asked for.
    asked: Addr,
    host: Arc<Host<T>>,
    closed: Flag,
    /// Calls of `accept` under way.
    accepting: AtomicUsize,
    /// Where handshakes run side by side: those that are over.
    welcomed: Option<Welcomed<T::Conn>>,
    /// Connections that came and were not given out yet.
    waiting: Mutex<Vec<T::Conn>>,
    /// Connections that were given out.
    accepted: Mutex<Vec<T::Conn>>,
}

impl<T: Transport> BrokenListener<T> {
    pub(crate) fn new(inner: T::Listener, asked: Addr, host: Arc<Host<T>>) -> Self {
        let inner = Arc::new(inner);
        if matches!(
            host.setting.fault,
            Fault::ListenersShareConns | Fault::SecondListenTakesOver | Fault::ListenerDropIsSilent
        ) {
            host.listeners.lock().push(inner.clone());
        }
        let side_by_side = host.setting.fault.has_handshakes_side_by_side();
        let welcomed = || Welcomed::spawn(inner.clone(), host.setting.clone());
        Self {
            accepting: AtomicUsize::new(0),
            welcomed: side_by_side.then(welcomed),
            inner,
            asked,
            host,
            closed: Flag::default(),
            waiting: Mutex::default(),
            accepted: Mutex::default(),
        }
    }

    fn fault(&self) -> Fault {
        self.host.setting.fault
    }

    async fn next_conn(&self) -> Result<T::Conn> {
        if let Some(welcomed) = &self.welcomed
            && let Some(conn) = welcomed.next().await
        {
            return Ok(conn);
        }
        match self.fault() {
            Fault::ListenerKeepsItsFirstWaker => FirstWaker::new(self.inner.accept()).await,
            Fault::SecondAcceptLosesAConn => {
                let others = self.accepting.fetch_add(1, Ordering::SeqCst);
                let mut conn = self.inner.accept().await;
                if others > 0 && conn.is_ok() {
                    conn = self.inner.accept().await;
                }
                self.accepting.fetch_sub(1, Ordering::SeqCst);
                conn
            }
            Fault::CancelledAcceptLosesAConn => {
                let (sender, receiver) = oneshot::channel();
                let inner = self.inner.clone();
                tokio::spawn(async move {
                    let _ = sender.send(inner.accept().await);
                });
                match receiver.await {
                    Ok(accepted) => accepted,
                    Err(_) => pending().await,
                }
            }
            Fault::AcceptAfterCloseHangs if self.closed.is_set() => pending().await,
            Fault::ListenerCloseDoesNotWake => {
                let closed = self.closed.is_set();
                match self.inner.accept().await {
                    Err(_) if !closed => pending().await,
                    accepted => accepted,
                }
            }
            Fault::ListenersShareConns => {
                let all = self.host.listeners.lock().clone();
                let accepts = all.iter().rev().map(|listener| Box::pin(listener.accept()));
                select_all(accepts).await.0
            }
            Fault::HandshakesAreOneByOne | Fault::HandshakeNeverTimesOut => loop {
                let conn = self.inner.accept().await?;
                if welcome(&conn).await.is_ok() {
                    return Ok(conn);
                }
            },
            Fault::BadHandshakeEndsListener => {
                let conn = self.inner.accept().await?;
                let welcomed = welcome(&conn).await;
                if welcomed.is_err() {
                    self.inner.close();
                }
                welcomed.map(|()| conn)
            }
            Fault::FullBacklogLosesConns => {
                let none = self.waiting.lock().is_empty();
                if none {
                    let conn = self.inner.accept().await?;
                    self.waiting.lock().push(conn);
                }
                while let Some(Ok(conn)) = at_once(self.inner.accept()) {
                    self.waiting.lock().push(conn);
                }
                let mut waiting = self.waiting.lock();
                waiting.truncate(self.host.setting.config.accept_backlog as usize);
                Ok(waiting.remove(0))
            }
            Fault::ClosedListenerFails => match self.inner.accept().await {
                Err(_) => Err(Error::new(ErrorKind::Io, "bad file descriptor")),
                accepted => accepted,
            },
            _ => self.inner.accept().await,
        }
    }
}

impl<T: Transport> Listener for BrokenListener<T> {
    type Conn = BrokenConn<T::Conn>;

    async fn accept(&self) -> Result<Self::Conn> {
        let conn = self.next_conn().await?;
        if self.fault() == Fault::ListenerCloseEndsConns {
            self.accepted.lock().push(conn.clone());
        }
        Ok(BrokenConn::new(conn, Side::Listener, &self.host.setting))
    }

    fn local_addr(&self) -> Addr {
        match self.fault() {
            Fault::ListenerEchoesItsAddr => self.asked.clone(),
            _ => self.inner.local_addr(),
        }
    }

    fn close(&self) {
        let again = self.closed.put(true);
        match self.fault() {
            Fault::SecondListenerClosePanics => assert!(!again, "closed twice"),
            Fault::ListenerCloseEndsConns => {
                for conn in self.accepted.lock().drain(..) {
                    conn.close(0, "");
                }
            }
            Fault::ListenerCloseIsIgnored => return,
            Fault::ListenerCloseLeavesWaitingConns => {
                while let Some(Ok(conn)) = at_once(self.inner.accept()) {
                    self.host.setting.leak(conn);
                }
            }
            _ => {}
        }
        self.inner.close();
    }
}

impl<T: Transport> Drop for BrokenListener<T> {
    fn drop(&mut self) {
        if self.fault() != Fault::ListenerDropIsSilent {
            self.inner.close();
        }
    }
}
