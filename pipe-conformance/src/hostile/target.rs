use std::fmt;
use std::sync::Arc;

use pipe_core::{Addr, BoxTransport, Config, Result};

use super::attack::Attack;
use super::catalog;
use super::peer::Attacker;
use super::setting::config;
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
    pub(crate) stream_cost: usize,
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
            stream_cost: 0,
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

    /// Sets the bytes that a stream may hold beside what it counts, which matter where there are a thousand: none
    /// unless told otherwise.
    #[must_use]
    pub fn with_stream_cost(mut self, bytes: usize) -> Self {
        self.stream_cost = bytes;
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
            .or_else(|| catalog::lacks(attack, self.attacker.as_deref()))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
