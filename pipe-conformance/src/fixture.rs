use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pipe_core::{Addr, Config, Result, Transport};

/// Tells the suite how to make a transport, and where it listens.
///
/// Only the four methods without a body are needed for a transport that keeps the whole contract on
/// a fast link.
pub trait Fixture: Send + Sync + 'static {
    /// The transport under test.
    type Transport: Transport;

    /// The name of the column in the matrix, and the first part of the test names: short, of letters,
    /// digits and dashes, and different from those of the other fixtures.
    fn name(&self) -> &str;

    /// Makes a fresh transport that honours this configuration.
    ///
    /// Called once for each run of a case, inside the tokio runtime of the case. What must live as
    /// long as the transport (a folder for sockets, a certificate) belongs into the transport or
    /// into the fixture.
    ///
    /// # Errors
    ///
    /// An error fails the case.
    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>>;

    /// The same for the cases that harm connections: [`setup`](Self::setup) unless told otherwise. For
    /// fixtures whose faults have a price, such as a proxy that hides the addresses of the ends.
    ///
    /// # Errors
    ///
    /// An error fails the case.
    fn setup_with_faults(&self, config: Config) -> Result<Setup<Self::Transport>> {
        self.setup(config)
    }

    /// A free address to listen on: each call gives another one, or one that leaves the choice to the
    /// transport (port 0, say).
    fn listen_addr(&self) -> Addr;

    /// An address of this transport without a listener.
    fn vacant_addr(&self) -> Addr;

    /// An address to listen on that leaves the port or the name to the transport: for the case
    /// `a_listener_tells_an_address_that_can_be_dialed`. The [`listen_addr`](Self::listen_addr) unless told
    /// otherwise.
    fn open_addr(&self) -> Addr {
        self.listen_addr()
    }

    /// Begins a handshake with the listener at an address, on the wire, and stalls where the listener has
    /// answered and waits for the peer: for the case `no_more_handshakes_run_at_once_than_allowed`,
    /// which without it only checks that newcomers get in. `None` unless told otherwise, as for a transport whose handshake is a single message of the dialer.
    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        let _ = addr;
        None
    }

    /// What the transport cannot do, each with the reason, which is printed with the cases that are
    /// skipped for it.
    fn lacks(&self) -> Vec<(Capability, &'static str)> {
        Vec::new()
    }

    /// The clock that the cases run by.
    fn clock(&self) -> Clock {
        Clock::Real
    }

    /// How long one role of one case may take: 10 s unless told otherwise. A heavy case multiplies it.
    fn limit(&self) -> Duration {
        DEFAULT_LIMIT
    }

    /// What the contract calls "soon": 1 s unless told otherwise. A slow link needs more.
    fn soon(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// The configuration that every case starts from. A case changes what it is about.
    fn config(&self) -> Config {
        Config::default()
    }
}

/// How long one role of one case may take by default.
pub(crate) const DEFAULT_LIMIT: Duration = Duration::from_secs(10);

/// What [`Fixture::setup`] makes for one run of a case.
pub struct Setup<T> {
    /// The transport, which both sides use.
    pub transport: T,
    /// The means to harm its connections; `None` only if the fixture
    /// [lacks](Fixture::lacks) [`Capability::Faults`].
    pub faults: Option<Arc<dyn Faults>>,
}

impl<T> Setup<T> {
    /// A transport whose connections cannot be harmed.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            faults: None,
        }
    }

    /// The same, with the means to harm the connections.
    #[must_use]
    pub fn with_faults(mut self, faults: impl Faults + 'static) -> Self {
        self.faults = Some(Arc::new(faults));
        self
    }
}

impl<T> fmt::Debug for Setup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("faults", &self.faults.is_some())
            .finish_non_exhaustive()
    }
}

/// A peer that goes on with its handshake no more: see [`Fixture::stall`]. A drop ends its connection.
pub struct Stalled {
    answered: BoxFuture<'static, ()>,
    ended: BoxFuture<'static, ()>,
}

impl Stalled {
    /// A peer that is told by `answered` when the listener has answered it, so that its handshake is under
    /// way, and by `ended` when the listener has ended the handshake. A peer may be ended without an answer.
    pub fn new(
        answered: impl Future<Output = ()> + Send + 'static,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            answered: Box::pin(answered),
            ended: Box::pin(ended),
        }
    }

    /// Waits for the answer, and calls `answered` once it has come; then waits for the end.
    pub(crate) async fn watch(mut self, answered: impl FnOnce()) {
        tokio::select! {
            biased;
            () = &mut self.ended => return,
            () = &mut self.answered => answered(),
        }
        self.ended.await;
    }
}

impl fmt::Debug for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stalled").finish_non_exhaustive()
    }
}

/// Harms all connections of the transport of one [`Setup`].
pub trait Faults: Send + Sync {
    /// From now on nothing that is sent arrives, in either direction, and neither side is told.
    fn cut(&self);

    /// Ends the [`cut`](Self::cut).
    fn heal(&self);

    /// The listening side of every connection vanishes without a word, as if its process had been
    /// killed on a machine that stays silent. The dialing side is told nothing.
    fn kill_listening_side(&self);

    /// Makes all that is sent over connections made from now on take so long in each direction. Returns whether the
    /// fixture can: by default it cannot, and the cases show what holds over any path.
    fn delay(&self, _time: Duration) -> bool {
        false
    }
}

/// Something that a transport may lack for good reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// The fixture can cut, heal and kill ([`Setup::faults`]). Without it the cases about a lost peer
    /// are skipped.
    Faults,
    /// The remote address of one end is the local address of the other. Without it the case
    /// `the_addresses_of_the_ends_mirror_each_other` is skipped.
    MirroredAddrs,
    /// A dial without a listener is told so. Without it (the wire is silent) the cases about such dials
    /// accept [`TimedOut`](pipe_core::ErrorKind::TimedOut) and
    /// [`Unreachable`](pipe_core::ErrorKind::Unreachable) as well as
    /// [`Refused`](pipe_core::ErrorKind::Refused).
    RefusedDials,
    /// The windows of streams are those of the configuration, and grow by it over a path that takes time
    /// ([`Faults::delay`]). Without it the cases `a_window_grows_only_while_it_is_read` and
    /// `windows_grow_out_of_one_budget_and_return_it` are skipped.
    GrowingWindows,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The clock of a case's runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// Real time, on a multi-thread runtime of two workers.
    Real,
    /// Tokio's paused time, on a current-thread runtime: it jumps to the next timer whenever nothing
    /// is left to do. For links that are simulated on tokio's clock; all times of the fixture are
    /// then virtual.
    Paused,
}
