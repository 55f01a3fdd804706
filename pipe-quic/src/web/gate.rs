use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::{Error, ErrorKind, Result};
use pipe_net::{HttpRequest, HttpTarget, HttpVerdict, Origins, kind_of_status};
use quinn::Connection;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use web_transport_proto::http::StatusCode;
use web_transport_proto::{ConnectRequest, ConnectResponse};

use crate::error::handshake_error;
use crate::web::dialing::explain;
use crate::web::session::{Http, WebSession};

/// Time limit for a refused peer to read the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// Decides which requests become sessions.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    pub(crate) origins: Origins,
    pub(crate) check: Option<Arc<Check>>,
}

pub(crate) type Check = dyn Fn(&HttpRequest) -> HttpVerdict + Send + Sync;

/// The status of a refusal, and what it says.
type Refusal = (u16, &'static str);

impl Gate {
    /// Decides about a request to a listener at this target. Returns the subprotocol to answer with.
    fn admit(
        &self,
        on: &HttpTarget,
        request: &HttpRequest,
        host: &str,
        offered: &[String],
    ) -> Result<Option<String>, Refusal> {
        if !on.serves(request.path()) {
            return Err((404, "there is no listener at this path"));
        }
        if !self.origins.allow(request, host) {
            return Err((403, "pages of this origin may not open a session here"));
        }
        let verdict = self.check.as_ref().map(|check| check(request));
        if let Some(refusal) = verdict.and_then(HttpVerdict::refusal) {
            return Err(refusal);
        }
        let Some(name) = &on.subprotocol else {
            return Ok(None);
        };
        if offered.contains(name) {
            return Ok(Some(name.clone()));
        }
        if offered.is_empty() {
            // Not all browsers can offer one.
            return Ok(None);
        }
        Err((400, "another subprotocol is expected here"))
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("origins", &self.origins)
            .field("check", &self.check.is_some())
            .finish()
    }
}

/// Waits for a dialer to ask for a session, and grants it. `context` describes the attempt.
pub(crate) async fn receive(
    conn: &Connection,
    context: &str,
    on: &HttpTarget,
    gate: &Gate,
) -> Result<WebSession> {
    let lost = |error| handshake_error(context, &error);
    let mut http = Http::begin(conn).await.map_err(lost)?;
    http.settings()
        .await
        .map_err(|error| explain(context, &error))?
        .map_err(lost)?;
    let (mut send, mut recv) = conn.accept_bi().await.map_err(lost)?;
    let asked = ConnectRequest::read(&mut recv).await;
    let asked = match (asked, conn.close_reason()) {
        (_, Some(error)) => return Err(lost(error)),
        (Ok(asked), None) => asked,
        (Err(error), None) => {
            let why = format!("{context}: its request is for no session of WebTransport: {error}");
            return Err(Error::new(ErrorKind::Handshake, why));
        }
    };
    let answered = match request_of(&asked, conn) {
        Some(request) => gate.admit(on, &request, asked.url.authority(), &asked.protocols),
        None => Err((400, "the request has no path")),
    };
    let mut response = match &answered {
        Ok(_) => ConnectResponse::OK,
        Err((code, _)) => ConnectResponse::new(StatusCode::from_u16(*code).unwrap_or_default()),
    };
    if let Ok(protocol) = &answered {
        response.protocol.clone_from(protocol);
    }
    if let Err(error) = response.write(&mut send).await {
        return Err(match conn.close_reason() {
            Some(error) => lost(error),
            None => Error::new(ErrorKind::Handshake, format!("{context}: {error}")),
        });
    }
    match answered {
        Ok(_) => Ok(http.session(send, recv)),
        Err((code, why)) => {
            // The dialer closes the connection when it has the answer: a close by this side could overtake it.
            let _ = send.shutdown().await;
            let _ = timeout(FAREWELL, conn.closed()).await;
            let status = StatusCode::from_u16(code).unwrap_or_default();
            let text = format!("{context} with {status}: {why}");
            Err(Error::new(kind_of_status(code), text))
        }
    }
}

/// Returns the request as a check sees it.
fn request_of(asked: &ConnectRequest, conn: &Connection) -> Option<HttpRequest> {
    let target = match asked.url.query() {
        Some(query) => format!("{}?{query}", asked.url.path()),
        None => asked.url.path().to_owned(),
    };
    let headers = asked.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    HttpRequest::new(&target, headers.collect(), Some(conn.remote_address()))
}

#[cfg(test)]
mod tests {
    use pipe_core::{Addr, Wire};

    use super::*;

    fn admit(
        gate: &Gate,
        on: &str,
        path: &str,
        origin: &str,
        offered: &[&str],
    ) -> Result<Option<String>, u16> {
        let addr = Addr::parse(on).unwrap();
        let on = HttpTarget::of(&addr, Wire::from_addr(&addr).unwrap()).unwrap();
        let headers = [("origin".to_owned(), origin.as_bytes().to_vec())];
        let headers = headers.into_iter().filter(|_| !origin.is_empty());
        let request = HttpRequest::new(path, headers.collect(), None).unwrap();
        let offered: Vec<_> = offered.iter().map(|&name| name.to_owned()).collect();
        gate.admit(&on, &request, "a:1", &offered)
            .map_err(|(code, _)| code)
    }

    #[test]
    fn a_request_for_another_path_origin_or_subprotocol_is_refused() {
        let gate = Gate::default();
        let pipe = Ok(Some("pipe.1".to_owned()));
        for (path, origin, offered, expected) in [
            ("/x", "", &["pipe.1"][..], pipe.clone()),
            ("/x/y?z", "https://a:1", &["other", "pipe.1"], pipe),
            ("/x", "", &[], Ok(None)),
            ("/x", "", &["other"], Err(400)),
            ("/y", "", &["pipe.1"], Err(404)),
            ("/x", "https://b", &["pipe.1"], Err(403)),
        ] {
            let decided = admit(&gate, "wt://a:1/x", path, origin, offered);
            assert_eq!(decided, expected, "{path} {origin} {offered:?}");
        }
        let raw = admit(&gate, "wt://a:1?wire=raw", "/", "", &["anything"]);
        assert_eq!(raw, Ok(None));
        let any = Gate {
            origins: Origins::Any,
            ..Gate::default()
        };
        assert!(admit(&any, "wt://a:1", "/", "null", &[]).is_ok());
    }

    #[test]
    fn a_check_decides() {
        let gate = Gate {
            check: Some(Arc::new(|request| match request.path() {
                "/in" => HttpVerdict::Accept,
                "/who" => HttpVerdict::Unauthorized,
                _ => HttpVerdict::Forbidden,
            })),
            ..Gate::default()
        };
        for (path, expected) in [("/in", Ok(None)), ("/who", Err(401)), ("/no", Err(403))] {
            assert_eq!(admit(&gate, "wt://a:1", path, "", &[]), expected);
        }
    }
}
