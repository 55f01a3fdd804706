use pipe_core::{Addr, Error, ErrorKind, Result};
use pipe_net::{HttpHeaders, HttpTarget, kind_of_status};
use quinn::Connection;
use url::Url;
use web_transport_proto::http::{HeaderName, HeaderValue};
use web_transport_proto::{ConnectError, ConnectRequest, ConnectResponse};

use crate::error::handshake_error;
use crate::web::session::{Http, WebSession};

/// How a dialer asks a listener for a session.
#[derive(Clone, Debug)]
pub(crate) struct WebDial {
    /// The URL of the request.
    url: Url,
    target: HttpTarget,
    headers: HttpHeaders,
}

impl WebDial {
    pub(crate) fn new(addr: &Addr, target: &HttpTarget, headers: &HttpHeaders) -> Result<Self> {
        let host = addr.host().unwrap_or_default();
        let port = addr.port().map(|port| format!(":{port}"));
        let port = port.unwrap_or_default();
        let url = Url::parse(&format!("https://{host}{port}{}", target.path));
        Ok(Self {
            url: url.map_err(|error| addr.invalid(error))?,
            target: target.clone(),
            headers: headers.clone(),
        })
    }

    fn request(&self) -> Result<ConnectRequest> {
        let mut request = ConnectRequest::new(self.url.clone());
        request.protocols.extend(self.target.subprotocol.clone());
        for (name, value) in self.headers.iter() {
            // Checked when they were set.
            let invalid = |error: &dyn std::fmt::Display| {
                Error::new(
                    ErrorKind::ConfigInvalid,
                    format!("the header {name}: {error}"),
                )
            };
            let name = HeaderName::try_from(name).map_err(|error| invalid(&error))?;
            let value = HeaderValue::try_from(value).map_err(|error| invalid(&error))?;
            request = request.with_header(name, value);
        }
        Ok(request)
    }

    /// Checks that the listener grants the session that was asked for.
    fn check(
        &self,
        answer: &std::result::Result<ConnectResponse, ConnectError>,
    ) -> Result<(), Refused> {
        let broken = |why: String| (ErrorKind::Handshake, why);
        let answer = match answer {
            Ok(answer) => answer,
            Err(ConnectError::WrongStatus(Some(status)) | ConnectError::ErrorStatus(status)) => {
                let code = status.as_u16();
                let why = match code {
                    300..=399 => ", which leads elsewhere",
                    401 | 403 | 407 => ", so this side may not connect",
                    404 | 410 => ", so there is no session at this path",
                    _ => "",
                };
                return Err((
                    kind_of_status(code),
                    format!("the listener answers {status}{why}"),
                ));
            }
            Err(error) => return Err(broken(format!("the listener's answer: {error}"))),
        };
        match (&self.target.subprotocol, &answer.protocol) {
            (Some(name), Some(other)) if name != other => Err(broken(format!(
                "the listener speaks the subprotocol {other:?} instead of {name}"
            ))),
            (None, Some(other)) => Err(broken(format!(
                "the listener speaks the subprotocol {other:?}, which was not offered"
            ))),
            // Older listeners name none.
            _ => Ok(()),
        }
    }
}

/// The kind of an error, and what it says.
type Refused = (ErrorKind, String);

/// A session that was asked for, and is not granted yet.
pub(crate) struct Asked {
    http: Http,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
}

/// Asks the listener for a session. `context` describes the attempt. Streams of the session may be opened before it is
/// granted.
pub(crate) async fn ask(conn: &Connection, context: &str, dial: &WebDial) -> Result<Asked> {
    let lost = |error| handshake_error(context, &error);
    let mut http = Http::begin(conn).await.map_err(lost)?;
    http.settings()
        .await
        .map_err(|error| explain(context, &error))?
        .map_err(lost)?;
    let (mut send, recv) = conn.open_bi().await.map_err(lost)?;
    // An error of the stream comes again with the answer.
    let _ = dial.request()?.write(&mut send).await;
    Ok(Asked { http, send, recv })
}

impl Asked {
    /// Returns the number of the session.
    pub(crate) fn id(&self) -> u64 {
        self.send.id().into()
    }

    /// Waits for the listener to grant the session.
    pub(crate) async fn granted(
        mut self,
        conn: &Connection,
        context: &str,
        dial: &WebDial,
    ) -> Result<WebSession> {
        let answer = ConnectResponse::read(&mut self.recv).await;
        if let (Err(_), Some(error)) = (&answer, conn.close_reason()) {
            return Err(handshake_error(context, &error));
        }
        let refused = |(kind, why)| Error::new(kind, format!("{context}: {why}"));
        dial.check(&answer).map_err(refused)?;
        Ok(self.http.session(self.send, self.recv))
    }
}

/// Puts the context of an attempt before an error.
pub(crate) fn explain(context: &str, error: &Error) -> Error {
    Error::with_source(error.kind(), format!("{context}: {error}"), error.clone())
}
