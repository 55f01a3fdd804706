use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use pipe_core::backend::Admission;
use pipe_core::{Config, Incoming};
use pipe_net::HttpRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::addr::WsAddr;
use crate::fed::Fed;
use crate::gate::{Accepted, Gate};
use crate::refusal::Refusal;
use crate::request::request_for;

/// Answers the requests for WebSockets that come to a web server, and hands their connections to a listener. See
/// [`WsTransport::listen_behind`](crate::WsTransport::listen_behind).
///
/// Cheap to clone. With the feature `tower` it is a `tower_service::Service`, which a router takes as it is. For
/// any other server, [`answer`](Self::answer) says what to answer.
///
/// It answers with 503 while as many connections as [`Config::max_handshakes`] wait for their handshake, and once the
/// listener is closed.
#[derive(Clone)]
pub struct WsService(Arc<Inner>);

struct Inner {
    on: WsAddr,
    gate: Gate,
    admission: Admission,
    #[cfg_attr(
        not(feature = "tower"),
        expect(dead_code, reason = "the service alone waits")
    )]
    config: Config,
    feed: mpsc::Sender<Fed>,
}

/// The answer to a request for a WebSocket.
#[derive(Debug)]
pub struct WsAnswer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    upgrade: Option<WsUpgrade>,
}

/// The place of a connection at a listener, for when the server has sent its answer. A drop gives it up.
pub struct WsUpgrade {
    place: mpsc::OwnedPermit<Fed>,
    request: HttpRequest,
}

impl WsService {
    pub(crate) fn new(
        on: WsAddr,
        gate: Gate,
        admission: Admission,
        config: Config,
        feed: mpsc::Sender<Fed>,
    ) -> Self {
        Self(Arc::new(Inner {
            on,
            gate,
            admission,
            config,
            feed,
        }))
    }

    /// Decides about a GET request over HTTP/1.1 with this target (`/path?query`) and these headers, from a peer at
    /// `remote`, where that is known.
    pub fn answer<'a>(
        &self,
        target: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        remote: Option<SocketAddr>,
    ) -> WsAnswer {
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
            .collect();
        let decided = request_for(target, headers, remote).and_then(|request| {
            let accepted = self.decide(&request)?;
            let place = self.0.feed.clone().try_reserve_owned();
            let place = place.map_err(|error| {
                let why = match error {
                    TrySendError::Full(_) => "too many connections wait for their handshake",
                    TrySendError::Closed(_) => "the listener is closed",
                };
                Refusal::new(503, why)
            })?;
            Ok((accepted, WsUpgrade { place, request }))
        });
        match decided {
            Ok((accepted, upgrade)) => WsAnswer {
                status: 101,
                headers: accepted.headers(),
                body: String::new(),
                upgrade: Some(upgrade),
            },
            Err(refusal) => WsAnswer::refused(refusal),
        }
    }

    fn decide(&self, request: &HttpRequest) -> Result<Accepted, Refusal> {
        let remote = request.remote();
        let incoming = remote.map_or_else(Incoming::unknown, Incoming::from_socket);
        if !self.0.admission.admits(&incoming) {
            return Err(Refusal::new(403, "the peer is not admitted"));
        }
        // The server has chosen this service by the path.
        self.0.gate.open(&self.0.on, request)
    }

    /// Returns how long a server may take to hand a connection over.
    #[cfg(feature = "tower")]
    pub(crate) fn limit(&self) -> std::time::Duration {
        self.0.config.handshake_timeout
    }
}

impl WsAnswer {
    pub(crate) fn refused(refusal: Refusal) -> Self {
        let Refusal { code, why, header } = refusal;
        let headers = header.map(|(name, value)| (name, value.to_owned()));
        Self {
            status: code,
            headers: headers.into_iter().collect(),
            body: format!("{why}\n"),
            upgrade: None,
        }
    }

    /// Returns the status: 101 for a request that is accepted.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the headers, beside those that the server sets by itself.
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// Returns the body, a line of text that says why a request is refused.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Takes the place of the connection at the listener. `None` for a request that is refused, and the second time.
    pub fn take_upgrade(&mut self) -> Option<WsUpgrade> {
        self.upgrade.take()
    }
}

impl WsUpgrade {
    /// Hands the connection over, once the answer was sent: the byte stream after the head of the request, whose next
    /// bytes are the first frame.
    pub fn complete<T>(self, io: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { place, request } = self;
        let io = Box::new(io);
        place.send(Fed { io, request });
    }
}

impl fmt::Debug for WsService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsService")
            .field("on", &self.0.on)
            .field("gate", &self.0.gate)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WsUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsUpgrade")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
