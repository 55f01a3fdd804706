use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pipe_core::backend::{Accept, Admission, HandshakeQueue, Progress};
use pipe_core::{Addr, BoxConn, BoxListener, Conn, Error, Incoming, Listener, Result};
use tokio::time::timeout;

use crate::addr::{Target, is_local, outer};
use crate::conn::WebRtcConn;
use crate::engine::{SharedPort, UdpPortStats};
use crate::error::{handshake, protocol};
use crate::setup::Setup;
use crate::signaling::{Refusal, Signal, Signaling, StreamSignaling};

/// Maximum number of signals before the offer, and the maximum length of a candidate among them, in
/// bytes.
const MAX_BEFORE_OFFER: usize = 64;
const MAX_CANDIDATE: usize = 512;

/// Time for which a refusal waits until the peer has read it.
const LINGER: Duration = Duration::from_secs(1);

/// Accepts connections over WebRTC, with their negotiations side by side and bounded: see
/// [`HandshakeQueue`]. A negotiation begins, and opens its sockets, once the peer's first message has come.
pub struct WebRtcListener {
    addr: Addr,
    queue: HandshakeQueue<WebRtcConn>,
    /// The port that its connections share, until it is closed.
    port: Mutex<Option<Arc<SharedPort>>>,
}

impl WebRtcListener {
    pub(crate) fn new(
        setup: Setup,
        admission: Admission,
        signaling: BoxListener,
        addr: Addr,
        target: Target,
        port: Option<Arc<SharedPort>>,
    ) -> Self {
        let config = setup.config.clone();
        let source = Negotiations {
            setup,
            signaling,
            target,
        };
        let queue = HandshakeQueue::spawn(Arc::new(source), addr.clone(), &config, admission);
        Self::of_queue(queue, addr, port)
    }

    /// Accepts by this queue.
    pub(crate) fn of_queue(
        queue: HandshakeQueue<WebRtcConn>,
        addr: Addr,
        port: Option<Arc<SharedPort>>,
    ) -> Self {
        Self {
            queue,
            addr,
            port: Mutex::new(port),
        }
    }

    /// Returns the addresses of the UDP sockets that its connections share by
    /// [`udp_port`](crate::WebRtcSettings::udp_port), all of one port. There are none without that setting, and
    /// once the listener is closed.
    pub fn udp_addrs(&self) -> Vec<SocketAddr> {
        self.port
            .lock()
            .as_ref()
            .map(|port| port.addrs())
            .unwrap_or_default()
    }

    /// Returns the statistics of the UDP port that its connections share. It is `None` without
    /// [`udp_port`](crate::WebRtcSettings::udp_port), and once the listener is closed.
    pub fn udp_stats(&self) -> Option<UdpPortStats> {
        self.port.lock().as_ref().map(|port| port.stats())
    }
}

/// Makes connections of those that come for the signalling.
struct Negotiations {
    setup: Setup,
    signaling: BoxListener,
    target: Target,
}

impl Accept for Negotiations {
    type Raw = BoxConn;
    type Conn = WebRtcConn;

    // The peer makes its offer after it has come.
    const FIRST_LOOK: Duration = Duration::from_millis(5);

    async fn accept(&self) -> Result<BoxConn> {
        self.signaling.accept().await
    }

    fn incoming(&self, signaling: &BoxConn) -> Incoming {
        Incoming::from_addr(&signaling.remote_addr()).with_identity(signaling.peer_identity())
    }

    async fn handshake(
        self: Arc<Self>,
        signaling: BoxConn,
        progress: Progress,
    ) -> Result<WebRtcConn> {
        let stream = signaling.accept_stream().await?;
        let mut stream = StreamSignaling::new(stream);
        let first = match first_signals(&mut stream).await {
            Ok(first) => first,
            Err(error) => {
                refuse(&mut stream, &error).await;
                return Err(error);
            }
        };
        progress.begin().await;
        let mut target = self.target.clone();
        let (local, remote) = (signaling.local_addr(), signaling.remote_addr());
        target.local = is_local(&remote);
        let addrs = (outer(&local, &target)?, outer(&remote, &target.unnamed())?);
        let mut plan = self.setup.plan(false, target, addrs)?;
        plan.identity = signaling.peer_identity();
        plan.progress = Some(progress);
        let signaling = Begun {
            first,
            rest: stream,
        };
        plan.establish(signaling).await
    }

    fn close(&self) {
        self.signaling.close();
    }
}

/// Receives up to the offer, before which nothing is opened for the peer. The offer comes first in
/// the result, candidates that came before it follow.
async fn first_signals(stream: &mut impl Signaling) -> Result<VecDeque<Signal>> {
    let mut signals = VecDeque::new();
    for _ in 0..MAX_BEFORE_OFFER {
        match stream.receive().await? {
            Some(offer @ Signal::Offer(_)) => {
                signals.push_front(offer);
                return Ok(signals);
            }
            Some(Signal::Candidate(candidate)) if candidate.candidate.len() <= MAX_CANDIDATE => {
                signals.push_back(Signal::Candidate(candidate));
            }
            Some(Signal::Candidate(_) | Signal::EndOfCandidates | Signal::Unknown) => {}
            Some(Signal::Refused(refusal)) => return Err(refusal.error()),
            Some(Signal::Answer(_)) => return Err(protocol("an answer by the dialer")),
            Some(Signal::Restart) => return Err(protocol("a restart request from the dialer")),
            None => return Err(handshake("the peer ended the signalling before its offer")),
        }
    }
    let most = MAX_BEFORE_OFFER;
    Err(protocol(format_args!("{most} signals without an offer")))
}

/// Sends the peer the error, and waits briefly until it is read: the message is lost if the channel
/// closes before.
async fn refuse(stream: &mut impl Signaling, error: &Error) {
    let telling = async {
        let refused = Signal::Refused(Refusal::of(error));
        if stream.send(refused).await.is_ok() {
            while let Ok(Some(_)) = stream.receive().await {}
        }
    };
    let _ = timeout(LINGER, telling).await;
}

/// A signalling whose first messages have been received.
struct Begun<S> {
    first: VecDeque<Signal>,
    rest: S,
}

impl<S: Signaling> Signaling for Begun<S> {
    async fn send(&mut self, signal: Signal) -> Result<()> {
        self.rest.send(signal).await
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        match self.first.pop_front() {
            Some(first) => Ok(Some(first)),
            None => self.rest.receive().await,
        }
    }
}

impl Listener for WebRtcListener {
    type Conn = WebRtcConn;

    async fn accept(&self) -> Result<WebRtcConn> {
        self.queue.accept().await
    }

    fn local_addr(&self) -> Addr {
        self.addr.clone()
    }

    fn close(&self) {
        self.queue.close();
        *self.port.lock() = None;
    }
}

impl fmt::Debug for WebRtcListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtcListener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
