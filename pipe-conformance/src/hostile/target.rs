use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::{Addr, BoxTransport, Config, Result};

use super::attack::{self, Attack};
use super::peer::Attacker;
use crate::fixture::Fixture;

/// A transport to attack.
pub struct Target {
    pub(crate) name: String,
    setup: Box<dyn Fn(Config) -> Result<BoxTransport> + Send + Sync>,
    listen_addr: Box<dyn Fn() -> Addr + Send + Sync>,
    pub(crate) attacker: Option<Arc<dyn Attacker>>,
    pub(crate) in_process: bool,
    pub(crate) conn_cost: usize,
    pub(crate) windows: usize,
    exempt: Vec<(&'static str, &'static str)>,
}

impl Target {
    /// A target that is attacked through the public traits.
    ///
    /// The fixture's listener has to be reachable from another process by its
    /// [`local_addr`](pipe_core::Listener::local_addr), unless the target is [`in_process`](Self::in_process).
    pub fn new(fixture: impl Fixture) -> Self {
        let fixture = Arc::new(fixture);
        let addrs = fixture.clone();
        Self {
            name: fixture.name().to_owned(),
            setup: Box::new(move |config| Ok(BoxTransport::new(fixture.setup(config)?.transport))),
            listen_addr: Box::new(move || addrs.listen_addr()),
            attacker: None,
            in_process: false,
            conn_cost: 512 << 10,
            windows: 2 * config().connection_window as usize,
            exempt: Vec::new(),
        }
    }

    /// Attacks it on its wire as well.
    #[must_use]
    pub fn with_attacker(mut self, attacker: impl Attacker) -> Self {
        self.attacker = Some(Arc::new(attacker));
        self
    }

    /// Runs all sides in one process, for a transport that leaves none. The heap is then that of all sides.
    #[must_use]
    pub fn in_process(mut self) -> Self {
        self.in_process = true;
        self
    }

    /// Sets the bytes that a connection may cost beside what its windows hold: 512 KiB unless told otherwise.
    #[must_use]
    pub fn with_conn_cost(mut self, bytes: usize) -> Self {
        self.conn_cost = bytes;
        self
    }

    /// Sets the bytes that a connection may cost where its windows are full, for a wire whose windows are not
    /// those of the configuration: twice the connection window unless told otherwise.
    #[must_use]
    pub fn with_windows(mut self, bytes: usize) -> Self {
        self.windows = bytes;
        self
    }

    /// Skips an attack, by its name, for a reason.
    #[must_use]
    pub fn without(mut self, attack: &'static str, why: &'static str) -> Self {
        self.exempt.push((attack, why));
        self
    }

    pub(crate) fn transport(&self, config: Config) -> Result<BoxTransport> {
        (self.setup)(config)
    }

    pub(crate) fn listen_addr(&self) -> Addr {
        (self.listen_addr)()
    }

    /// Returns why an attack is not made, if it is not.
    pub(crate) fn skips(&self, attack: &Attack) -> Option<String> {
        let exempt = self.exempt.iter().find(|(name, _)| *name == attack.name);
        exempt
            .map(|(_, why)| (*why).to_owned())
            .or_else(|| attack::lacks(attack, self.attacker.as_deref()))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The settings of a listener that is open to strangers, as the book has them, but that gives peers up early: one
/// that is killed says nothing over a wire of datagrams.
pub(crate) fn config() -> Config {
    Config::default()
        .with_max_streams(32)
        .with_stream_window(64 * 1024)
        .with_connection_window(1024 * 1024)
        .with_max_handshakes(16)
        .with_accept_backlog(32)
        .with_handshake_timeout(Duration::from_secs(5))
        .with_keep_alive(Duration::from_secs(1))
        .with_disconnected_after(Duration::from_secs(3))
        .with_failed_after(Duration::from_secs(6))
}
