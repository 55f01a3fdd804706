//! What the tests of this crate share.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pipe_core::{Config, Conn, Result};
use pipe_inproc::{InprocTransport, Namespace};
use pipe_webrtc::signaling::{Signal, Signaling};
use pipe_webrtc::{
    Engine, MemorySignaling, WebRtcConn, WebRtcSettings, WebRtcStream, WebRtcTransport,
};
use tokio::time::timeout;

/// Far above what is usual, for a machine that is busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A transport on loopback.
pub(crate) fn transport() -> WebRtcTransport<InprocTransport> {
    WebRtcTransport::new(InprocTransport::new().with_namespace(Namespace::new()))
        .with_settings(loopback())
        .expect("settings that are valid")
}

/// One on the crate `webrtc`, by whose peer connection a test can do what a connection does not.
pub(crate) fn crate_transport() -> WebRtcTransport<InprocTransport> {
    let settings = loopback().with_engine(Engine::WebRtcCrate);
    let transport = transport().with_settings(settings);
    transport.expect("settings that are valid")
}

pub(crate) fn loopback() -> WebRtcSettings {
    WebRtcSettings::default().with_bind_addrs(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
}

/// Waits for what has to come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not happen within {LIMIT:?}"),
    }
}

/// The two ends of a connection: the offerer's and the answerer's.
pub(crate) async fn pair(transport: &WebRtcTransport<InprocTransport>) -> (WebRtcConn, WebRtcConn) {
    pair_of(transport, transport).await
}

/// The same, of two transports.
pub(crate) async fn pair_of(
    offerer: &WebRtcTransport<InprocTransport>,
    answerer: &WebRtcTransport<InprocTransport>,
) -> (WebRtcConn, WebRtcConn) {
    let (here, there) = MemorySignaling::pair();
    let both = async { tokio::join!(offerer.offer_over(here), answerer.answer_over(there)) };
    let (here, there) = soon("a connection", both).await;
    (
        here.expect("the offerer's end"),
        there.expect("the answerer's end"),
    )
}

/// The two ends of a stream: the opener's and the acceptor's.
pub(crate) async fn stream(
    opener: &WebRtcConn,
    acceptor: &WebRtcConn,
) -> (WebRtcStream, WebRtcStream) {
    let both = async { tokio::join!(opener.open_stream(), acceptor.accept_stream()) };
    let (opened, accepted) = soon("a stream", both).await;
    (opened.expect("an open"), accepted.expect("an accept"))
}

/// Times that pass quickly, in milliseconds.
pub(crate) fn times(keep_alive: u64, disconnected_after: u64, failed_after: u64) -> Config {
    Config::default()
        .with_keep_alive(Duration::from_millis(keep_alive))
        .with_disconnected_after(Duration::from_millis(disconnected_after))
        .with_failed_after(Duration::from_millis(failed_after))
}

/// Random bytes.
pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::fill(&mut bytes);
    bytes
}

/// Signalling whose messages are changed on their way to the receiver. `change` gives what is to be
/// delivered now.
pub(crate) struct Changed<S, F> {
    pub inner: S,
    pub change: F,
    pub ready: Vec<Signal>,
}

impl<S, F> Changed<S, F> {
    pub(crate) fn new(inner: S, change: F) -> Self {
        Self {
            inner,
            change,
            ready: Vec::new(),
        }
    }
}

impl<S, F> Signaling for Changed<S, F>
where
    S: Signaling,
    F: FnMut(Signal) -> Vec<Signal> + Send + 'static,
{
    fn send(&mut self, signal: Signal) -> impl Future<Output = Result<()>> + Send {
        self.inner.send(signal)
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        loop {
            if !self.ready.is_empty() {
                return Ok(Some(self.ready.remove(0)));
            }
            match self.inner.receive().await? {
                Some(signal) => self.ready = (self.change)(signal),
                None => return Ok(None),
            }
        }
    }
}

/// Notes the address in a candidate, and has it name this port.
pub(crate) fn through(
    port: u16,
    addr: Arc<OnceLock<SocketAddr>>,
) -> impl FnMut(Signal) -> Vec<Signal> + Send + 'static {
    move |mut signal| {
        if let Signal::Candidate(candidate) = &mut signal {
            let mut words: Vec<_> = candidate.candidate.split(' ').map(String::from).collect();
            let ip = words[4].parse().expect("an address");
            let own = SocketAddr::new(ip, words[5].parse().expect("a port"));
            let _ = addr.set(own);
            words[5] = port.to_string();
            candidate.candidate = words.join(" ");
        }
        vec![signal]
    }
}
