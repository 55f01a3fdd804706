use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pipe_core::{Addr, Config, Conn, Listener, Result, Transport};

use crate::fixture::{Capability, Faults, Fixture};
use crate::payload;
use crate::time::within;

/// The streams of a transport.
pub(crate) type StreamOf<T> = <<T as Transport>::Conn as Conn>::Stream;

/// What a case gets: a transport of its own, addresses, payloads, and its sense of time.
///
/// Clones share it.
pub(crate) struct Env<T>(Arc<Inner<T>>);

pub(crate) struct Inner<T> {
    pub(crate) transport: T,
    pub(crate) faults: Option<Arc<dyn Faults>>,
    pub(crate) addrs: Arc<dyn Addrs>,
    pub(crate) config: Config,
    pub(crate) lacks: Vec<Capability>,
    pub(crate) role: Role,
    pub(crate) soon: Duration,
    pub(crate) seed: u64,
}

/// The part of a fixture that a case uses, without its transport's type.
pub(crate) trait Addrs: Send + Sync {
    fn listen_addr(&self) -> Addr;
    fn open_addr(&self) -> Addr;
    fn vacant_addr(&self) -> Addr;
    fn misconfigured(&self, config: Config) -> BoxFuture<'_, Result<()>>;
}

impl<F: Fixture> Addrs for F {
    fn listen_addr(&self) -> Addr {
        Fixture::listen_addr(self)
    }

    fn open_addr(&self) -> Addr {
        Fixture::open_addr(self)
    }

    fn vacant_addr(&self) -> Addr {
        Fixture::vacant_addr(self)
    }

    fn misconfigured(&self, config: Config) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let transport = self.setup(config)?.transport;
            transport.listen(&Fixture::listen_addr(self)).await?;
            transport.dial(&Fixture::vacant_addr(self)).await?;
            Ok(())
        })
    }
}

/// Which side of a connection opens the streams of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    DialerOpens,
    ListenerOpens,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DialerOpens => "the dialer opens",
            Self::ListenerOpens => "the listener opens",
        })
    }
}

impl<T> Clone for Env<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Transport> Env<T> {
    pub(crate) fn new(inner: Inner<T>) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn transport(&self) -> &T {
        &self.0.transport
    }

    /// The configuration that the transport was made with.
    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn role(&self) -> Role {
        self.0.role
    }

    /// Whether the transport has this capability.
    pub(crate) fn has(&self, capability: Capability) -> bool {
        !self.0.lacks.contains(&capability)
    }

    /// For cases that need [`Capability::Faults`].
    pub(crate) fn faults(&self) -> &dyn Faults {
        self.0
            .faults
            .as_deref()
            .expect("the fixture's setup has no faults, and its lacks() does not say so")
    }

    /// An address to listen on that nobody else uses.
    pub(crate) fn listen_addr(&self) -> Addr {
        self.0.addrs.listen_addr()
    }

    /// An address to listen on that leaves the port or the name to the transport.
    pub(crate) fn open_addr(&self) -> Addr {
        self.0.addrs.open_addr()
    }

    /// An address where nobody listens.
    pub(crate) fn vacant_addr(&self) -> Addr {
        self.0.addrs.vacant_addr()
    }

    /// What comes of another transport of this configuration, which is not valid: of making it, else
    /// of listening and dialing.
    pub(crate) async fn misconfigured(&self, config: Config) -> Result<()> {
        self.0.addrs.misconfigured(config).await
    }

    /// A listener on an address of its own.
    pub(crate) async fn listen(&self) -> T::Listener {
        self.listen_on(&self.listen_addr()).await
    }

    /// A listener on this address, which nobody uses.
    pub(crate) async fn listen_on(&self, addr: &Addr) -> T::Listener {
        self.soon("listening", self.transport().listen(addr))
            .await
            .unwrap_or_else(|e| panic!("listening on {addr} failed: {e:?}"))
    }

    /// A connection by a listener of its own.
    pub(crate) async fn pair(&self) -> Pair<T> {
        let listener = self.listen().await;
        let (dialed, accepted) = self.pair_on(&listener).await;
        let (opener, acceptor) = match self.role() {
            Role::DialerOpens => (dialed, accepted),
            Role::ListenerOpens => (accepted, dialed),
        };
        Pair {
            opener,
            acceptor,
            listener,
            env: self.clone(),
        }
    }

    /// Another connection by this listener: the dialer's end, and the listener's.
    ///
    /// Nobody else may be dialing the listener or accepting from it.
    pub(crate) async fn pair_on(&self, listener: &T::Listener) -> (T::Conn, T::Conn) {
        let addr = listener.local_addr();
        let both = async { tokio::join!(self.transport().dial(&addr), listener.accept()) };
        let (dialed, accepted) = self.soon("connecting", both).await;
        (
            dialed.unwrap_or_else(|e| panic!("dialing {addr} failed: {e:?}")),
            accepted.unwrap_or_else(|e| panic!("accepting on {addr} failed: {e:?}")),
        )
    }

    /// Random bytes of the run's seed.
    pub(crate) fn payload(&self, len: usize) -> Vec<u8> {
        self.payload_of(0, len)
    }

    /// Random bytes of the run's seed, others for each index.
    pub(crate) fn payload_of(&self, index: u64, len: usize) -> Vec<u8> {
        payload::random(self.0.seed, index, len)
    }

    /// Waits for what has to happen soon, and panics if it does not; `what` is what the message says.
    ///
    /// Soon is [`Fixture::soon`], counted so that a stall of the machine does not use it up. The
    /// future is polled only when it is woken: a lost wake-up shows.
    pub(crate) async fn soon<F: Future>(&self, what: &str, future: F) -> F::Output {
        match within(self.0.soon, future).await {
            Some(output) => output,
            None => panic!("{what} did not happen soon"),
        }
    }

    /// Waits until the condition holds, which has to be soon.
    ///
    /// For what nothing announces, such as statistics; where there is an event, await that.
    pub(crate) async fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let watch = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.soon(what, watch).await;
    }
}

/// The two ends of a connection, by the role of the run.
pub(crate) struct Pair<T: Transport> {
    /// The end that opens streams.
    pub(crate) opener: T::Conn,
    /// The end that accepts them.
    pub(crate) acceptor: T::Conn,
    /// The listener that the connection came by.
    pub(crate) listener: T::Listener,
    env: Env<T>,
}

impl<T: Transport> Pair<T> {
    /// A stream: the opener's end, and the acceptor's.
    ///
    /// Nobody else may be opening streams at the opener or accepting them at the acceptor.
    pub(crate) async fn stream(&self) -> (StreamOf<T>, StreamOf<T>) {
        let both = async { tokio::join!(self.opener.open_stream(), self.acceptor.accept_stream()) };
        let (opened, accepted) = self.env.soon("opening a stream", both).await;
        (
            opened.unwrap_or_else(|e| panic!("opening a stream failed: {e:?}")),
            accepted.unwrap_or_else(|e| panic!("accepting a stream failed: {e:?}")),
        )
    }
}
