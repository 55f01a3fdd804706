use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pipe_core::{Addr, Error, ErrorKind, PeerIdentity, Result};
use pipe_net::{
    HostPort, HttpHeaders, SharedSocket, SocketOptions, TcpDialer, kind_of_status, tls,
};
use pipe_tls::{CertSha256, TlsOptions, peer_identity};
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::addr::HttpAddr;
use super::body::read_text;
use super::wire::{HTTP, MAX_HEAD, MAX_HEADERS};

/// Maximum length of a text of the listener that is quoted, in characters.
const QUOTED: usize = 200;

/// The time for a body, of a request that is bounded as a whole.
const NO_LIMIT: Duration = Duration::from_secs(3600);

/// Makes the requests of a dial, each over a connection of its own.
#[derive(Debug)]
pub(crate) struct Client {
    /// The dialed address, for errors.
    pub(crate) addr: Addr,
    pub(crate) to: HttpAddr,
    pub(crate) options: SocketOptions,
    pub(crate) dialer: TcpDialer,
    pub(crate) tls: TlsOptions,
    pub(crate) headers: HttpHeaders,
}

/// A connection for one request.
pub(crate) struct Connected {
    io: Box<dyn Io>,
    pub(crate) local: SocketAddr,
    pub(crate) remote: HostPort,
    pub(crate) pin: Option<CertSha256>,
    pub(crate) identity: Option<PeerIdentity>,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A request.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    /// The type of the body.
    pub(crate) content: Option<&'static str>,
    pub(crate) if_match: Option<&'a str>,
    pub(crate) body: String,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Result<String>,
}

impl Client {
    /// Connects to the listener, for one request.
    ///
    /// # Errors
    ///
    /// Those of [`TcpDialer::connect`], and of the handshake of TLS.
    pub(crate) async fn connect(&self) -> Result<Connected> {
        let Self { addr, to, .. } = self;
        let dialed = self.dialer.connect(addr, &to.at).await?;
        let (socket, remote) = (dialed.socket, dialed.remote);
        self.options.apply(&socket)?;
        let local = socket.local_addr()?;
        let io = SharedSocket::new(Arc::new(socket));
        if !to.is_secure {
            return Ok(Connected {
                io: Box::new(io),
                local,
                remote,
                pin: None,
                identity: None,
            });
        }
        let name = to.params.server_name(addr, &to.at.host)?;
        let config = self.tls.client_config(to.params.pins, &[HTTP])?;
        let tls = tls::connect(&self.context(), config, name, io).await?;
        let shown = tls.get_ref().1.peer_certificates();
        let pin = shown
            .and_then(|list| list.first())
            .map(|own| CertSha256::of(own));
        let identity = peer_identity(shown);
        Ok(Connected {
            io: Box::new(tls),
            local,
            remote,
            pin,
            identity,
        })
    }

    /// Makes a request over this connection.
    ///
    /// # Errors
    ///
    /// [`Handshake`](ErrorKind::Handshake) where the listener breaks off or speaks no HTTP, and
    /// [`Refused`](ErrorKind::Refused) where it does so before its answer. A body that cannot be read is an error of
    /// [`Reply::body`].
    pub(crate) async fn ask(&self, over: Connected, ask: Ask<'_>) -> Result<Reply> {
        let request = self.request(ask)?;
        let broken = |error: hyper::Error| self.broken(error);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(over.io))
            .await
            .map_err(broken)?;
        let mut connection = pin!(connection);
        let mut asking = pin!(async {
            let response = sender.send_request(request).await.map_err(broken)?;
            Ok(self.read(response).await)
        });
        tokio::select! {
            biased;
            reply = &mut asking => return reply,
            // What has come of the answer is handed on.
            _ = &mut connection => {}
        }
        asking.await
    }

    async fn read(&self, response: Response<Incoming>) -> Reply {
        let (parts, body) = response.into_parts();
        let body = match read_text(body, NO_LIMIT).await {
            Ok(body) => Ok(body),
            // The status says more.
            Err(_) if !parts.status.is_success() => Ok(String::new()),
            Err(refusal) => {
                let why = format!("{}: the answer: {}", self.context(), refusal.why());
                Err(Error::new(ErrorKind::Handshake, why))
            }
        };
        Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request<String>> {
        let Ask {
            method,
            url,
            content,
            if_match,
            body,
        } = ask;
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target.push('?');
            target.push_str(query);
        }
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, host)
            .header(header::CONNECTION, "close");
        for (name, value) in self.headers.iter() {
            request = request.header(name, value);
        }
        if let Some(content) = content {
            request = request.header(header::CONTENT_TYPE, content);
        }
        if let Some(tag) = if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        request.body(body).map_err(|error| {
            let why = format!("{}: {error}", self.context());
            Error::new(ErrorKind::ConfigInvalid, why)
        })
    }

    /// Returns the error of an answer that is none.
    fn broken(&self, error: hyper::Error) -> Error {
        let context = self.context();
        let (kind, why) = if error.is_incomplete_message() || error.is_canceled() {
            let why = "the listener broke off before its answer";
            (ErrorKind::Refused, format!("{context}: {why}"))
        } else if error.is_parse() {
            let why = format!("{context}: the listener speaks no HTTP, or too much of it: {error}");
            (ErrorKind::Handshake, why)
        } else {
            (ErrorKind::Handshake, format!("{context}: {error}"))
        };
        tls::blame_alert(&context, Error::with_source(kind, why, error))
    }

    fn context(&self) -> String {
        format!("could not connect to {}", self.addr)
    }

    /// Returns the error of an answer that refuses.
    pub(crate) fn refused(&self, reply: &Reply) -> Error {
        let status = reply.status;
        let mut why = format!("{}: the listener answers {status}", self.context());
        why.push_str(match status.as_u16() {
            300..=399 => ", which leads elsewhere",
            401 | 403 | 407 => ", so this side may not connect",
            404 | 410 => ", so there is no listener at this path",
            405 | 415 | 501 => ", so this is no WHIP",
            _ => "",
        });
        if let Some(text) = reply.text() {
            why.push_str(": ");
            why.push_str(&text);
        }
        if let Some(after) = reply.header(header::RETRY_AFTER) {
            why.push_str(&format!(" (Retry-After: {})", quote(after)));
        }
        Error::new(kind_of_status(status.as_u16()), why)
    }

    /// Returns where a reply leads to, which has to be on the server that was asked: what a request has for this
    /// server is for no other.
    ///
    /// # Errors
    ///
    /// [`Handshake`](ErrorKind::Handshake) without a place, and for one elsewhere.
    pub(crate) fn location(&self, asked: &Url, reply: &Reply) -> Result<Url> {
        let bad = |why: String| {
            let why = format!("{}: {why}", self.context());
            Error::new(ErrorKind::Handshake, why)
        };
        let Some(location) = reply.header(header::LOCATION) else {
            let why = format!("the listener answers {} without Location", reply.status);
            return Err(bad(why));
        };
        let url = asked
            .join(location)
            .map_err(|error| bad(format!("the Location {}: {error}", quote(location))))?;
        if url.origin() != asked.origin() {
            let why = format!(
                "the Location {} is on another server than {}",
                quote(location),
                asked.origin().ascii_serialization()
            );
            return Err(bad(why));
        }
        Ok(url)
    }
}

impl Reply {
    /// Returns the body.
    ///
    /// # Errors
    ///
    /// [`Handshake`](ErrorKind::Handshake) for one of a success that is too long, breaks off, or is no text.
    pub(crate) fn body(&self) -> Result<&str> {
        self.body.as_deref().map_err(Clone::clone)
    }

    /// Returns the value of a header, if it is text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::to_str)?.ok()
    }

    /// Returns whether the body is of this type.
    pub(crate) fn is_of_type(&self, content: &str) -> bool {
        let found = self.header(header::CONTENT_TYPE).unwrap_or_default();
        let essence = found.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case(content)
    }

    /// Returns the beginning of what the listener says about an error.
    fn text(&self) -> Option<String> {
        let text = self.body().unwrap_or_default().trim();
        let is_text = self.is_of_type("text/plain")
            || self.is_of_type("application/json")
            || self.is_of_type("application/problem+json");
        (is_text && !text.is_empty()).then(|| quote(text))
    }
}

/// Returns the beginning of a text of the listener, without control characters.
pub(crate) fn quote(text: &str) -> String {
    let begin: String = text.chars().take(QUOTED).collect();
    begin.escape_debug().to_string()
}
