use std::sync::atomic::{AtomicU64, Ordering};

use pipe_conformance::{Cable, Cabled, Fixture, Setup};
use pipe_core::{Addr, BoxConn, BoxListener, Config, Listener, Registry, Result, Transport};
use pipewerks::tcp::TcpTransport;
use pipewerks::unix::UnixTransport;
use tempfile::TempDir;

use crate::cable::{lay_tcp, lay_unix};
use crate::tcp::vacant_socket;

/// TCP and Unix sockets as one listener, by addresses that are lists. A dial is of a list, too: its first address fails,
/// and the second is one of the listener's, by turns. That a list of both may reach it twice is no matter of the contract.
pub(crate) struct List {
    folder: TempDir,
    next: AtomicU64,
}

impl List {
    pub(crate) fn new() -> Self {
        Self {
            folder: TempDir::new().expect("a folder for sockets"),
            next: AtomicU64::new(0),
        }
    }

    fn fresh_path(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(number.to_string());
        format!("unix://{}", path.display())
    }

    /// By turns, one or the other stands first, and is dialed.
    fn fresh_list(&self) -> Addr {
        let (unix, tcp) = (self.fresh_path(), "tcp://127.0.0.1:0".to_owned());
        let is_even = self.next.load(Ordering::Relaxed).is_multiple_of(2);
        list(if is_even { [unix, tcp] } else { [tcp, unix] })
    }
}

impl Fixture for List {
    type Transport = Cabled<Failing>;

    fn name(&self) -> &str {
        "list"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let refusing = format!("tcp://{}", vacant_socket());
        Ok(Cabled::setup(Failing::new(&config, &refusing)?))
    }

    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        // One that refuses would have come further than the others over a cut link, and give the error.
        let failing = Failing::new(&config, "unknown://nowhere")?;
        Ok(Cabled::setup_with_faults(failing, lay))
    }

    fn listen_addr(&self) -> Addr {
        self.fresh_list()
    }

    fn vacant_addr(&self) -> Addr {
        list([format!("tcp://{}", vacant_socket()), self.fresh_path()])
    }
}

/// Lays a cable to the address that is dialed second.
async fn lay(addr: Addr, cable: Cable) -> Result<Addr> {
    let [first, second] = addr.alternatives() else {
        unreachable!("a listener here has two addresses");
    };
    let second = second.clone();
    let laid = match second.scheme() {
        "unix" => lay_unix(second, cable).await?,
        _ => lay_tcp(second, cable).await?,
    };
    Addr::list([first, &laid])
}

fn list(parts: [String; 2]) -> Addr {
    Addr::list(parts).expect("an address")
}

/// A registry whose listeners are dialed at a list of an address that fails, and one of theirs.
pub(crate) struct Failing {
    registry: Registry,
    first: Addr,
}

pub(crate) struct FailingListener {
    inner: BoxListener,
    addr: Addr,
}

impl Failing {
    fn new(config: &Config, first: &str) -> Result<Self> {
        let tcp = TcpTransport::new().with_config(config.clone())?;
        let unix = UnixTransport::new().with_config(config.clone())?;
        Ok(Self {
            registry: Registry::new().with(tcp).with(unix),
            first: first.parse()?,
        })
    }
}

impl Transport for Failing {
    type Conn = BoxConn;
    type Listener = FailingListener;

    fn schemes(&self) -> &[&'static str] {
        self.registry.schemes()
    }

    async fn dial(&self, addr: &Addr) -> Result<BoxConn> {
        self.registry.dial(addr).await
    }

    /// An address that was dialed can be listened on as well.
    async fn listen(&self, addr: &Addr) -> Result<FailingListener> {
        let parts = addr.alternatives().iter();
        let list = Addr::list(parts.filter(|part| **part != self.first))?;
        let inner = self.registry.listen(&list).await?;
        let local = inner.local_addr();
        let addr = Addr::list([&self.first, &local.alternatives()[0]])?;
        Ok(FailingListener { inner, addr })
    }
}

impl Listener for FailingListener {
    type Conn = BoxConn;

    async fn accept(&self) -> Result<BoxConn> {
        self.inner.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.inner.close();
    }
}
