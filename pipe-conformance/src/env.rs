use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pipe_core::{Addr, BoxTransport, Config, Conn, Listener, Result, Transport};

use crate::fixture::{Capability, Faults, Stalled};
use crate::payload;
use crate::subject::Subject;
use crate::waits::in_time;

/// The streams of a transport.
pub(crate) type StreamOf<T> = <<T as Transport>::Conn as Conn>::Stream;

/// The environment of a case: a transport of its own, addresses, payloads, and its sense of time.
///
/// Clones share it. Most cases take the erased transport, so that they are compiled once.
pub(crate) struct Env<T = BoxTransport>(Arc<Inner<T>>);

struct Inner<T> {
    transport: T,
    context: Context,
}

/// What surrounds one run of a case, without the type of its transport.
pub(crate) struct Context {
    pub(crate) subject: Arc<dyn Subject>,
    pub(crate) faults: Option<Arc<dyn Faults>>,
    pub(crate) config: Config,
    pub(crate) role: Role,
    pub(crate) seed: u64,
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
    pub(crate) fn new(transport: T, context: Context) -> Self {
        Self(Arc::new(Inner { transport, context }))
    }

    pub(crate) fn transport(&self) -> &T {
        &self.0.transport
    }

    /// The configuration that the transport was made with.
    pub(crate) fn config(&self) -> &Config {
        &self.0.context.config
    }

    pub(crate) fn role(&self) -> Role {
        self.0.context.role
    }

    /// Whether the transport has this capability.
    pub(crate) fn has(&self, capability: Capability) -> bool {
        let lacks = self.0.context.subject.lacks();
        lacks.iter().all(|(lack, _)| *lack != capability)
    }

    /// For cases that need [`Capability::Faults`].
    pub(crate) fn faults(&self) -> &dyn Faults {
        let faults = self.0.context.faults.as_deref();
        faults.expect("the fixture's setup has no faults, and its lacks() does not say so")
    }

    /// A free address to listen on.
    pub(crate) fn listen_addr(&self) -> Addr {
        self.0.context.subject.listen_addr()
    }

    /// An address to listen on that leaves the port or the name to the transport.
    pub(crate) fn open_addr(&self) -> Addr {
        self.0.context.subject.open_addr()
    }

    /// An address without a listener.
    pub(crate) fn vacant_addr(&self) -> Addr {
        self.0.context.subject.vacant_addr()
    }

    /// What comes of another transport of this configuration, which is not valid: the error of making it,
    /// else the results of a listen and of a dial.
    pub(crate) async fn misconfigured(&self, config: Config) -> Result<[Result<()>; 2]> {
        let transport = self.0.context.subject.erased(config)?;
        let listen = transport.listen(&self.listen_addr()).await;
        let dial = transport.dial(&self.vacant_addr()).await;
        Ok([listen.map(drop), dial.map(drop)])
    }

    /// A peer that stalls in its handshake on the wire, if the fixture can make one.
    pub(crate) fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        self.0.context.subject.stall(addr)
    }

    /// A listener on an address of its own.
    pub(crate) async fn listen(&self) -> T::Listener {
        self.listen_on(&self.listen_addr()).await
    }

    /// A listener on this address, which is free.
    pub(crate) async fn listen_on(&self, addr: &Addr) -> T::Listener {
        self.soon("a listen", self.transport().listen(addr))
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
    /// There may be no other dial to the listener, and no other accept from it, at the time.
    #[track_caller]
    pub(crate) fn pair_on(
        &self,
        listener: &T::Listener,
    ) -> impl Future<Output = (T::Conn, T::Conn)> {
        let addr = listener.local_addr();
        let both = async {
            let both = tokio::join!(self.transport().dial(&addr), listener.accept());
            (both, addr)
        };
        let both = self.soon("a dial and its accept", both);
        async {
            let ((dialed, accepted), addr) = both.await;
            (
                dialed.unwrap_or_else(|e| panic!("dialing {addr} failed: {e:?}")),
                accepted.unwrap_or_else(|e| panic!("accepting on {addr} failed: {e:?}")),
            )
        }
    }

    /// Random bytes of the run's seed.
    pub(crate) fn payload(&self, len: usize) -> Vec<u8> {
        self.payload_of(0, len)
    }

    /// Random bytes of the run's seed, others for each index.
    pub(crate) fn payload_of(&self, index: u64, len: usize) -> Vec<u8> {
        payload::random(self.0.context.seed, index, len)
    }

    /// Waits for what has to happen soon, and panics if it does not; `what` is what the message says.
    ///
    /// Soon is [`Fixture::soon`](crate::Fixture::soon), counted so that a stall of the machine does not use it up. The
    /// future is polled only when it is woken: a lost wake-up shows.
    #[track_caller]
    pub(crate) fn soon<F: Future>(
        &self,
        what: &str,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F, T> {
        in_time(what.to_owned(), self.0.context.subject.soon(), future)
    }

    /// Waits for what may take longer than [`soon`](Self::soon) by what a few others may take before.
    #[track_caller]
    pub(crate) fn in_turn<F: Future>(
        &self,
        what: &str,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F, T> {
        in_time(what.to_owned(), 5 * self.0.context.subject.soon(), future)
    }

    /// Waits until the condition holds, which has to be soon.
    ///
    /// For what nothing announces, such as statistics; where there is an event, await that.
    #[track_caller]
    pub(crate) fn eventually<C: FnMut() -> bool>(
        &self,
        what: &str,
        mut condition: C,
    ) -> impl Future<Output = ()> + use<C, T> {
        let watch = async move {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.soon(what, watch)
    }
}

/// The two ends of a connection, by the role of the run.
pub(crate) struct Pair<T: Transport = BoxTransport> {
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
    /// There may be no other open at the opener, and no other accept at the acceptor, at the time.
    #[track_caller]
    pub(crate) fn stream(&self) -> impl Future<Output = (StreamOf<T>, StreamOf<T>)> {
        let both = async { tokio::join!(self.opener.open_stream(), self.acceptor.accept_stream()) };
        let both = self.env.soon("a stream and its accept", both);
        async {
            let (opened, accepted) = both.await;
            (
                opened.unwrap_or_else(|e| panic!("opening a stream failed: {e:?}")),
                accepted.unwrap_or_else(|e| panic!("accepting a stream failed: {e:?}")),
            )
        }
    }
}
