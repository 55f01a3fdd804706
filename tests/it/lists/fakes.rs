//! Transports over `inproc://` that do what a test tells them, in tokio's paused time.

use std::future::pending;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use pipewerks::inproc::{InprocTransport, Namespace};
use pipewerks::{Addr, BoxConn, BoxListener, Error, Listener, Registry, Result, Transport};
use tokio::sync::watch;
use tokio::time::sleep;

/// A registry of `inproc://` in a namespace of its own, and of [`Fake`] over it.
pub(super) fn registry() -> (Registry, Fake) {
    let inproc = InprocTransport::new().with_namespace(Namespace::new());
    let fake = Fake {
        under: Registry::new().with(inproc.clone()),
        dialed: Arc::default(),
        end: watch::Sender::new(None),
    };
    (Registry::new().with(inproc).with(fake.clone()), fake)
}

/// The transport of `fake://name`, which stands for `inproc://name`. By its options, a dial never connects
/// (`?hangs`), or takes so many milliseconds before it dials (`?before=`) and once it has connected (`?after=`).
#[derive(Clone)]
pub(super) struct Fake {
    under: Registry,
    /// The addresses that were dialed.
    dialed: Arc<Mutex<Vec<Addr>>>,
    /// The error that its listeners end with.
    pub(super) end: watch::Sender<Option<Error>>,
}

impl Fake {
    /// Returns the names that were dialed since it was asked last.
    pub(super) fn dialed(&self) -> Vec<String> {
        let dialed = std::mem::take(&mut *self.dialed.lock().unwrap());
        let name = |addr: &Addr| addr.host().unwrap_or_default().to_owned();
        dialed.iter().map(name).collect()
    }
}

fn under(addr: &Addr) -> Addr {
    let name = addr.host().unwrap_or_default();
    format!("inproc://{name}").parse().expect("an address")
}

impl Transport for Fake {
    type Conn = BoxConn;
    type Listener = FakeListener;

    fn schemes(&self) -> &[&'static str] {
        &["fake"]
    }

    async fn dial(&self, addr: &Addr) -> Result<BoxConn> {
        self.dialed.lock().unwrap().push(addr.clone());
        let wait = async |option| {
            if let Some(time) = addr.param(option) {
                sleep(Duration::from_millis(time.parse().expect("a number"))).await;
            }
        };
        if addr.param("hangs").is_some() {
            pending::<()>().await;
        }
        wait("before").await;
        let conn = self.under.dial(&under(addr)).await?;
        wait("after").await;
        Ok(conn)
    }

    async fn listen(&self, addr: &Addr) -> Result<FakeListener> {
        Ok(FakeListener {
            addr: addr.clone(),
            under: self.under.listen(&under(addr)).await?,
            end: self.end.subscribe(),
        })
    }
}

pub(super) struct FakeListener {
    addr: Addr,
    under: BoxListener,
    end: watch::Receiver<Option<Error>>,
}

impl Listener for FakeListener {
    type Conn = BoxConn;

    async fn accept(&self) -> Result<BoxConn> {
        let mut end = self.end.clone();
        tokio::select! {
            biased;
            Ok(end) = end.wait_for(Option::is_some) => Err(end.clone().expect("an error")),
            accepted = self.under.accept() => accepted,
        }
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.under.close();
    }
}
