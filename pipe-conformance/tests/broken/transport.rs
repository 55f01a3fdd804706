//! The wrapper of a whole transport.

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pipe_core::{Addr, Config, Error, ErrorKind, Listener, Result, Transport};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::conn::{BrokenConn, FirstWaker};
use crate::fault::Fault;
use crate::handshakes::greet;
use crate::listener::BrokenListener;
use crate::shared::{Setting, Side};

/// A transport that breaks the contract in one way, and otherwise does what the one inside does.
pub(crate) struct Broken<T: Transport> {
    host: Arc<Host<T>>,
}

/// What a transport and its listeners share.
pub(crate) struct Host<T: Transport> {
    pub(crate) setting: Arc<Setting>,
    /// Listeners that are known to the others.
    pub(crate) listeners: Mutex<Vec<Arc<T::Listener>>>,
    inner: T,
    /// Connections that were dialed.
    pool: Mutex<HashMap<Addr, BrokenConn<T::Conn>>>,
    /// Addresses that were ever bound.
    bound: Mutex<HashSet<Addr>>,
}

impl<T: Transport> Broken<T> {
    /// Breaks `inner` with this fault; `config` is what the application asked for.
    pub(crate) fn new(inner: T, config: Config, fault: Fault) -> Self {
        Self {
            host: Arc::new(Host {
                setting: Arc::new(Setting::new(fault, config)),
                listeners: Mutex::default(),
                inner,
                pool: Mutex::default(),
                bound: Mutex::default(),
            }),
        }
    }

    fn fault(&self) -> Fault {
        self.host.setting.fault
    }

    /// The address that the transport inside is told.
    fn told(&self, addr: &Addr) -> Addr {
        match self.fault() {
            Fault::UnknownOptionsAreIgnored => {
                let text = addr.as_str().split('?').next().unwrap_or_default();
                Addr::parse(text).unwrap_or_else(|_| addr.clone())
            }
            _ => addr.clone(),
        }
    }

    /// Listens in a task, which goes on if the listener is not wanted any more.
    async fn listen_in_a_task(&self, addr: &Addr) -> Result<T::Listener> {
        let (sender, receiver) = oneshot::channel();
        let (host, addr) = (self.host.clone(), addr.clone());
        tokio::spawn(async move {
            let listening = host.inner.listen(&addr).await;
            if let Err(_unwanted) = sender.send(listening) {
                pending::<()>().await;
            }
        });
        match receiver.await {
            Ok(listening) => listening,
            Err(_) => pending().await,
        }
    }

    fn error(&self, error: Error) -> Error {
        match self.fault() {
            Fault::ErrorsNameNoAddr => Error::new(error.kind(), "it did not work"),
            Fault::InvalidAddrsAreNotNamed if error.kind() == ErrorKind::AddrInvalid => {
                Error::new(ErrorKind::AddrInvalid, "unknown option no-such-option")
            }
            Fault::TimedOutDialsNameNoAddr if error.kind() == ErrorKind::TimedOut => {
                Error::new(ErrorKind::TimedOut, "it took too long")
            }
            _ => error,
        }
    }
}

impl<T: Transport> Transport for Broken<T> {
    type Conn = BrokenConn<T::Conn>;
    type Listener = BrokenListener<T>;

    fn schemes(&self) -> &[&'static str] {
        self.host.inner.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<Self::Conn> {
        let host = &self.host;
        let addr = &self.told(addr);
        if self.fault() == Fault::AddrsAreCheckedLate {
            yield_now().await;
        }
        let dialed = match self.fault() {
            Fault::DialKeepsItsFirstWaker => {
                let dial = async {
                    sleep(Duration::from_millis(1)).await;
                    host.inner.dial(addr).await
                };
                FirstWaker::new(dial).await
            }
            Fault::DialsShareAConn => {
                if let Some(conn) = host.pool.lock().get(addr) {
                    return Ok(conn.clone());
                }
                host.inner.dial(addr).await
            }
            Fault::CancelledDialStays => {
                let (sender, receiver) = oneshot::channel();
                let (host, addr) = (host.clone(), addr.clone());
                tokio::spawn(async move {
                    let dialed = host.inner.dial(&addr).await;
                    // A handshake, which takes a few turns.
                    for _ in 0..4 {
                        yield_now().await;
                    }
                    if let Err(_unwanted) = sender.send(dialed) {
                        pending::<()>().await;
                    }
                });
                match receiver.await {
                    Ok(dialed) => dialed,
                    Err(_) => pending().await,
                }
            }
            fault if fault.has_handshakes() => {
                let conn = host.inner.dial(addr).await?;
                yield_now().await;
                greet(&conn).await.map(|()| conn)
            }
            Fault::DialToNobodyHangs => match host.inner.dial(addr).await {
                Err(e) if e.kind() == ErrorKind::Refused => pending().await,
                dialed => dialed,
            },
            Fault::ForeignSchemeIsUnreachable => {
                host.inner.dial(addr).await.map_err(|e| match e.kind() {
                    ErrorKind::AddrUnsupported => Error::new(ErrorKind::Unreachable, "no route"),
                    _ => e,
                })
            }
            _ => host.inner.dial(addr).await,
        };
        let dialed = dialed.map_err(|e| self.error(e));
        if let (Fault::TimedOutDialKeepsItsTask, Err(e)) = (self.fault(), &dialed)
            && e.kind() == ErrorKind::TimedOut
        {
            tokio::spawn(pending::<()>());
        }
        let conn = BrokenConn::new(dialed?, Side::Dialer, &host.setting);
        if self.fault() == Fault::DialsShareAConn {
            host.pool.lock().insert(addr.clone(), conn.clone());
        }
        Ok(conn)
    }

    async fn listen(&self, addr: &Addr) -> Result<Self::Listener> {
        let host = &self.host;
        let addr = &self.told(addr);
        match self.fault() {
            Fault::AddrsAreCheckedLate => yield_now().await,
            Fault::DialsWithAnyConfig => host.setting.config.validate()?,
            _ => {}
        }
        if self.fault() == Fault::AddrIsNeverFreed && host.bound.lock().contains(addr) {
            return Err(Error::new(ErrorKind::AddrInUse, "in TIME_WAIT"));
        }
        let listening = match self.fault() {
            Fault::CancelledListenStaysBound => self.listen_in_a_task(addr).await,
            _ => host.inner.listen(addr).await,
        };
        let listener = match listening {
            Err(e)
                if self.fault() == Fault::SecondListenTakesOver
                    && e.kind() == ErrorKind::AddrInUse =>
            {
                for listener in host.listeners.lock().iter() {
                    if listener.local_addr() == *addr {
                        listener.close();
                    }
                }
                host.inner.listen(addr).await?
            }
            listener => listener.map_err(|e| self.error(e))?,
        };
        if self.fault() == Fault::AddrIsNeverFreed {
            host.bound.lock().insert(listener.local_addr());
        }
        Ok(BrokenListener::new(listener, addr.clone(), host.clone()))
    }
}
