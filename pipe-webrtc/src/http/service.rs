use std::convert::Infallible;
use std::fmt::{self, Display};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderName};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Body;
use pipe_core::backend::Admission;
use pipe_core::{Incoming, PeerIdentity};
use pipe_net::HttpRequest;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tower_service::Service;

use super::answering::Answered;
use super::body::read_text;
use super::fragment::Fragment;
use super::gate::{Gate, add_cors};
use super::refusal::Refusal;
use super::resources::{Entry, IceSession, Patch, Resource, Resources, is_name};
use super::wire::{FRAGMENT, SDP};
use crate::signaling::Signal;

/// Answers the requests for connections that come to a web server, and hands them to a listener. See
/// [`WhipTransport::listen_behind`](crate::WhipTransport::listen_behind).
///
/// It is a [`tower_service::Service`] for any body, which a router of axum takes as it is, and cheap to clone. It answers
/// POST and OPTIONS at every path that the server gives it, and PATCH and DELETE at those that end in the name of a
/// resource, which are below the path of the listener's address.
///
/// The address of a peer is the extension of the type [`SocketAddr`] of a request, where a layer has put one there.
///
/// A body has [`MAX_SIGNAL_LEN`](crate::signaling::MAX_SIGNAL_LEN) bytes at most, and has to come within
/// [`Config::handshake_timeout`](pipe_core::Config::handshake_timeout). How many requests there are at once, and how long
/// their heads take, is up to the server. It answers with 503 while as many offers as
/// [`Config::max_handshakes`](pipe_core::Config::max_handshakes) wait for the listener, and once that is closed.
#[derive(Clone)]
pub struct WhipService(Arc<Inner>);

struct Inner {
    /// The path below which the resources are, without a slash at its end.
    base: String,
    gate: Gate,
    admission: Admission,
    limit: Duration,
    feed: mpsc::Sender<Posted>,
    resources: Arc<Resources>,
}

/// An offer, and where it comes from.
pub(crate) struct Posted {
    pub(crate) offer: String,
    pub(crate) peer: Peer,
    pub(crate) entry: Entry,
    pub(crate) patches: mpsc::Receiver<Patch>,
    pub(crate) answer: oneshot::Sender<Answered>,
}

/// What is known of who has sent a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) identity: Option<PeerIdentity>,
}

type Answer = Result<Response<String>, Refusal>;

impl Peer {
    pub(crate) fn incoming(&self) -> Incoming {
        let incoming = self
            .remote
            .map_or_else(Incoming::unknown, Incoming::from_socket);
        incoming.with_identity(self.identity.clone())
    }
}

impl WhipService {
    pub(crate) fn new(
        base: &str,
        gate: Gate,
        admission: Admission,
        limit: Duration,
        feed: mpsc::Sender<Posted>,
    ) -> Self {
        Self(Arc::new(Inner {
            base: base.to_owned(),
            gate,
            admission,
            limit,
            feed,
            resources: Arc::default(),
        }))
    }

    /// Returns whether there is something at a path of the listener's own server.
    pub(crate) fn serves(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&self.0.base) else {
            return false;
        };
        matches!(rest, "" | "/") || rest.strip_prefix('/').is_some_and(is_name)
    }

    /// Answers a request.
    pub(crate) async fn respond<B>(&self, request: Request<B>, peer: Peer) -> Response<String>
    where
        B: Body,
        B::Error: Display,
    {
        let (parts, body) = request.into_parts();
        let target = parts.uri.path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let headers = parts.headers.iter();
        let headers =
            headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
        let asked = HttpRequest::new(target, headers.collect(), peer.remote);
        let Some(asked) = asked else {
            return Refusal::new(400, "the target of the request is no path").into_response();
        };
        let named = parts.uri.authority().map(Authority::as_str);
        let host = named.or_else(|| asked.header("host")).unwrap_or_default();
        if let Err(refusal) = self.0.gate.admit_page(&asked, host) {
            return refusal.into_response();
        }
        let answer = self.decide(&parts.method, &parts.headers, &asked, body, peer);
        let mut response = answer.await.unwrap_or_else(Refusal::into_response);
        add_cors(response.headers_mut(), &asked, &parts.method);
        response
    }

    async fn decide<B>(
        &self,
        method: &Method,
        headers: &HeaderMap,
        asked: &HttpRequest,
        body: B,
        peer: Peer,
    ) -> Answer
    where
        B: Body,
        B::Error: Display,
    {
        let last = asked.path().rsplit('/').next().unwrap_or_default();
        // The path of the endpoint may end like that of a resource.
        let own = self.0.base.rsplit('/').next().unwrap_or_default();
        let name = Some(last).filter(|last| is_name(last) && *last != own);
        match (method, name) {
            // A browser asks with nothing that says who the user is.
            (&Method::OPTIONS, name) => Ok(options(name.is_some())),
            (&Method::POST, None) => {
                self.0.gate.check(asked)?;
                self.post(headers, body, peer).await
            }
            (&Method::PATCH, Some(name)) => {
                self.0.gate.check(asked)?;
                self.patch(name, headers, body).await
            }
            (&Method::DELETE, Some(name)) => {
                self.0.gate.check(asked)?;
                if !self.0.resources.delete(name) {
                    return Err(no_resource());
                }
                Ok(Response::new(String::new()))
            }
            (_, None) => {
                let why = "a connection is asked for by POST";
                Err(Refusal::new(405, why).with(header::ALLOW, "POST, OPTIONS"))
            }
            (_, Some(_)) => {
                let why = "a resource takes PATCH and DELETE";
                Err(Refusal::new(405, why).with(header::ALLOW, "PATCH, DELETE, OPTIONS"))
            }
        }
    }

    /// Answers an offer (RFC 9725, section 4.2).
    async fn post<B>(&self, headers: &HeaderMap, body: B, peer: Peer) -> Answer
    where
        B: Body,
        B::Error: Display,
    {
        if !self.0.admission.admits(&peer.incoming()) {
            return Err(Refusal::new(403, "the peer is not admitted"));
        }
        check_type(headers, SDP, HeaderName::from_static("accept-post"))?;
        let offer = read_text(body, self.0.limit).await?;
        let added = self.0.resources.add(&offer);
        let (entry, patches) =
            added.map_err(|error| Refusal::new(400, format!("the body is no offer: {error}")))?;
        let location = format!("{}/{}", self.0.base, entry.name);
        let resource = entry.resource.clone();
        let (answer, answered) = oneshot::channel();
        let posted = Posted {
            offer,
            peer,
            entry,
            patches,
            answer,
        };
        self.0.feed.try_send(posted).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::later(503, "too many offers wait for the listener"),
            TrySendError::Closed(_) => Refusal::new(503, "the listener is closed"),
        })?;
        let answer = match timeout(self.0.limit, answered).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(refused))) => {
                let code = match refused.cause.as_str() {
                    "unauthenticated" => 403,
                    "refused" => 404,
                    "unreachable" | "timed-out" => 503,
                    _ => 400,
                };
                return Err(Refusal::new(code, refused.reason));
            }
            Ok(Err(_)) => return Err(Refusal::later(503, "the listener has given the offer up")),
            Err(_) => {
                let why = format!("there was no answer within {:?}", self.0.limit);
                return Err(Refusal::later(503, why));
            }
        };
        let mut response = Response::new(answer);
        *response.status_mut() = StatusCode::CREATED;
        set(&mut response, header::CONTENT_TYPE, SDP)?;
        set(&mut response, header::LOCATION, &location)?;
        set(&mut response, header::ETAG, &resource.ice().tag)?;
        Ok(response)
    }

    /// Takes candidates, and restarts ICE (RFC 9725, section 4.3).
    async fn patch<B>(&self, name: &str, headers: &HeaderMap, body: B) -> Answer
    where
        B: Body,
        B::Error: Display,
    {
        let resource = self.0.resources.find(name).ok_or_else(no_resource)?;
        check_type(headers, FRAGMENT, HeaderName::from_static("accept-patch"))?;
        let Some(tags) = headers.get(header::IF_MATCH) else {
            let why = "a patch has to name its session of ICE by If-Match";
            return Err(Refusal::new(428, why));
        };
        let ice = resource.ice();
        let tags = tags.to_str().unwrap_or_default();
        let is_any = tags.trim() == "*";
        if !is_any && !tags.split(',').any(|tag| tag.trim() == ice.tag) {
            let why = "the session of ICE is another one by now";
            return Err(Refusal::new(412, why));
        }
        let text = read_text(body, self.0.limit).await?;
        let peer = Fragment::parse(&text)
            .map_err(|error| Refusal::new(400, format!("the body is no fragment: {error}")))?;
        if peer.is_of(&ice.peer) {
            let candidates = peer.candidates().map(Signal::Candidate);
            let end = peer.is_complete.then_some(Signal::EndOfCandidates);
            hand(&resource, candidates.chain(end).collect(), None)?;
            // The answer to a restart may be lost, and its request made again.
            if let (true, Some(own)) = (is_any, &ice.own) {
                return answer_restart(own, &ice.tag);
            }
            let mut response = Response::new(String::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        if !is_any {
            let why = "other credentials restart ICE, which takes If-Match: *";
            return Err(Refusal::new(400, why));
        }
        self.restart(&resource, &ice, &peer).await
    }

    async fn restart(&self, resource: &Resource, ice: &IceSession, peer: &Fragment) -> Answer {
        let offer = peer.apply(&ice.offer);
        let (restarted, restarts) = oneshot::channel();
        let signals = vec![Signal::offer(offer.clone(), None)];
        hand(resource, signals, Some(restarted))?;
        let Ok(Ok(own)) = timeout(self.0.limit, restarts).await else {
            return Err(Refusal::later(503, "ICE was not restarted"));
        };
        let tag = resource
            .restart(offer, peer, own.clone())
            .map_err(|error| Refusal::new(500, error.to_string()))?;
        answer_restart(&own, &tag)
    }
}

/// Answers a restart, with what this side says of ICE in the session of this tag.
fn answer_restart(own: &Fragment, tag: &str) -> Answer {
    let mut response = Response::new(own.to_string());
    set(&mut response, header::CONTENT_TYPE, FRAGMENT)?;
    set(&mut response, header::ETAG, tag)?;
    Ok(response)
}

/// Gives the signals of a peer to the negotiation of its connection.
fn hand(
    resource: &Resource,
    signals: Vec<Signal>,
    restarted: Option<oneshot::Sender<Fragment>>,
) -> Result<(), Refusal> {
    let patch = Patch { signals, restarted };
    resource.patch(patch).map_err(|error| match error {
        TrySendError::Full(_) => Refusal::later(429, "too many patches wait for their turn"),
        TrySendError::Closed(_) => Refusal::new(409, "the negotiation is over"),
    })
}

/// Answers what a resource takes.
fn options(is_resource: bool) -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let (allowed, accept, what) = if is_resource {
        ("PATCH, DELETE, OPTIONS", "accept-patch", FRAGMENT)
    } else {
        ("POST, OPTIONS", "accept-post", SDP)
    };
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
    let accept = HeaderName::from_static(accept);
    headers.insert(accept, HeaderValue::from_static(what));
    response
}

fn check_type(
    headers: &HeaderMap,
    expected: &'static str,
    told_by: HeaderName,
) -> Result<(), Refusal> {
    let found = headers.get(header::CONTENT_TYPE);
    let found = found
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = found.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let why = format!("a body of the type {expected} is expected here");
    Err(Refusal::new(415, why).with(told_by, expected))
}

fn set(response: &mut Response<String>, name: HeaderName, value: &str) -> Result<(), Refusal> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| Refusal::new(500, "the path of the listener fits no header"))?;
    response.headers_mut().insert(name, value);
    Ok(())
}

fn no_resource() -> Refusal {
    Refusal::new(404, "there is no such resource: its connection is over")
}

impl<B> Service<Request<B>> for WhipService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Display,
{
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<String>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        let peer = Peer {
            remote: request.extensions().get::<SocketAddr>().copied(),
            identity: None,
        };
        Box::pin(async move { Ok(service.respond(request, peer).await) })
    }
}

impl fmt::Debug for WhipService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WhipService")
            .field("base", &self.0.base)
            .field("gate", &self.0.gate)
            .finish_non_exhaustive()
    }
}
