use std::fmt;
use std::sync::Arc;

use pipe_net::{HttpRequest, HttpVerdict, Origins};

use crate::addr::WsAddr;
use crate::key::{answer_to, is_key};
use crate::refusal::Refusal;

/// Decides which requests become connections.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    origins: Origins,
    check: Option<Arc<Check>>,
}

type Check = dyn Fn(&HttpRequest) -> HttpVerdict + Send + Sync;

/// What an accepted request is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The answer to the key.
    answer: String,
    subprotocol: Option<String>,
}

impl Accepted {
    /// Returns the headers of the answer.
    pub(crate) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("Upgrade", "websocket".to_owned()),
            ("Connection", "Upgrade".to_owned()),
            ("Sec-WebSocket-Accept", self.answer.clone()),
        ];
        if let Some(name) = &self.subprotocol {
            headers.push(("Sec-WebSocket-Protocol", name.clone()));
        }
        headers
    }
}

impl Gate {
    pub(crate) fn with_origins(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    pub(crate) fn with_check(self, check: Arc<Check>) -> Self {
        let check = Some(check);
        Self { check, ..self }
    }

    /// Decides about a request to the socket of a listener.
    pub(crate) fn admit(&self, on: &WsAddr, request: &HttpRequest) -> Result<Accepted, Refusal> {
        if !on.target.serves(request.path()) {
            return Err(Refusal::new(404, "there is no listener at this path"));
        }
        self.open(on, request)
    }

    /// Decides about a request to a listener, whose path is known to be right.
    pub(crate) fn open(&self, on: &WsAddr, request: &HttpRequest) -> Result<Accepted, Refusal> {
        if !request.lists("upgrade", "websocket") || !request.lists("connection", "upgrade") {
            let why = "a WebSocket is expected here";
            return Err(Refusal::new(426, why).with("Upgrade", "websocket"));
        }
        if request.header("sec-websocket-version") != Some("13") {
            let why = "version 13 of WebSocket is expected here";
            return Err(Refusal::new(426, why).with("Sec-WebSocket-Version", "13"));
        }
        let mut hosts = request.values("host");
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refusal::new(400, "the request has no Host, or several"));
        };
        let mut keys = request.values("sec-websocket-key");
        let (Some(key), None) = (keys.next().filter(|key| is_key(key)), keys.next()) else {
            let why = "the request has no Sec-WebSocket-Key of 16 bytes";
            return Err(Refusal::new(400, why));
        };
        if !self.origins.allow(request, host) {
            let why = "pages of this origin may not open a WebSocket here";
            return Err(Refusal::new(403, why));
        }
        let verdict = self.check.as_ref().map(|check| check(request));
        if let Some((code, why)) = verdict.and_then(HttpVerdict::refusal) {
            let refusal = Refusal::new(code, why);
            return Err(match code {
                401 => refusal.with("WWW-Authenticate", "Bearer"),
                _ => refusal,
            });
        }
        if let Some(name) = &on.target.subprotocol {
            let mut offered = request.elements("sec-websocket-protocol");
            if !offered.any(|offer| offer == name) {
                let why = format!("the subprotocol {name} is expected here");
                return Err(Refusal::new(400, why));
            }
        }
        Ok(Accepted {
            answer: answer_to(key),
            subprotocol: on.target.subprotocol.clone(),
        })
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

#[cfg(test)]
mod tests {
    use pipe_core::Addr;

    use super::*;
    use crate::request::request_for;

    /// The request of a well-behaved dialer, with some of its headers replaced.
    fn request(path: &str, changes: &[(&str, &str)]) -> HttpRequest {
        let mut headers: Vec<(String, Vec<u8>)> = [
            ("host", "a:1"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "pipe.1"),
        ]
        .iter()
        .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name))
        .map(|&(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
        .collect();
        let changes = changes.iter().filter(|(_, value)| !value.is_empty());
        headers.extend(changes.map(|&(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
        request_for(path, headers, None).unwrap()
    }

    fn on(addr: &str) -> WsAddr {
        WsAddr::of(&Addr::parse(addr).unwrap()).unwrap()
    }

    fn code(gate: &Gate, request: &HttpRequest) -> u16 {
        match gate.admit(&on("ws://a:1/x"), request) {
            Ok(_) => 101,
            Err(refusal) => refusal.code,
        }
    }

    #[test]
    fn a_request_that_does_not_open_a_websocket_is_refused() {
        let gate = Gate::default();
        for (path, changes, expected) in [
            ("/x", &[][..], 101),
            ("/x/y", &[], 101),
            ("/y", &[], 404),
            ("/x", &[("upgrade", "h2c")], 426),
            ("/x", &[("upgrade", "h2c, WebSocket")], 101),
            ("/x", &[("connection", "keep-alive")], 426),
            ("/x", &[("sec-websocket-version", "8")], 426),
            ("/x", &[("host", "")], 400),
            ("/x", &[("host", "a:1"), ("host", "b")], 400),
            ("/x", &[("sec-websocket-key", "short")], 400),
            ("/x", &[("sec-websocket-key", "")], 400),
            ("/x", &[("sec-websocket-protocol", "")], 400),
            ("/x", &[("sec-websocket-protocol", "pipe.2")], 400),
            ("/x", &[("sec-websocket-protocol", "pipe.2, pipe.1")], 101),
        ] {
            let request = request(path, changes);
            assert_eq!(code(&gate, &request), expected, "{path} {changes:?}");
        }
    }

    #[test]
    fn a_page_needs_an_origin_that_is_allowed() {
        let page = request("/x", &[("origin", "https://b")]);
        assert_eq!(code(&Gate::default(), &page), 403);
        let any = Gate::default().with_origins(Origins::Any);
        assert_eq!(code(&any, &page), 101);
    }

    #[test]
    fn a_check_decides() {
        let gate = Gate::default().with_check(Arc::new(|request| match request.path() {
            "/x/in" if request.bearer_token() == Some("key") => HttpVerdict::Accept,
            "/x/in" => HttpVerdict::Unauthorized,
            "/x/no" => HttpVerdict::Forbidden,
            _ => HttpVerdict::NotFound,
        }));
        assert_eq!(code(&gate, &request("/x/in", &[])), 401);
        let key = &[("authorization", "Bearer key")];
        assert_eq!(code(&gate, &request("/x/in", key)), 101);
        assert_eq!(code(&gate, &request("/x/no", key)), 403);
        assert_eq!(code(&gate, &request("/x", key)), 404);
    }
}
