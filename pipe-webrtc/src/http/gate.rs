use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use pipe_net::{HttpRequest, HttpVerdict, Origins};

use super::refusal::Refusal;

/// What the resources take.
const METHODS: &str = "POST, PATCH, DELETE, OPTIONS";

/// The headers that a page may send besides those that it may always.
const HEADERS: &str = "Authorization, Content-Type, If-Match";

/// The headers of an answer that a page may read besides those that it may always.
const EXPOSED: &str = "Location, ETag, Retry-After";

/// Time for which a browser remembers what it may do, in seconds.
const MAX_AGE: &str = "600";

/// Decides which requests are answered, and tells browsers.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    origins: Origins,
    check: Option<Arc<Check>>,
}

type Check = dyn Fn(&HttpRequest) -> HttpVerdict + Send + Sync;

impl Gate {
    pub(crate) fn with_origins(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    pub(crate) fn with_check(self, check: Arc<Check>) -> Self {
        let check = Some(check);
        Self { check, ..self }
    }

    /// Returns whether the page that asks may, if it is one. `host` is what the request is for.
    pub(crate) fn admit_page(&self, request: &HttpRequest, host: &str) -> Result<(), Refusal> {
        if self.origins.allow(request, host) {
            return Ok(());
        }
        let why = "pages of this origin may not connect here";
        Err(Refusal::new(403, why))
    }

    /// Asks the application.
    pub(crate) fn check(&self, request: &HttpRequest) -> Result<(), Refusal> {
        let verdict = self.check.as_ref().map(|check| check(request));
        let Some((code, why)) = verdict.and_then(HttpVerdict::refusal) else {
            return Ok(());
        };
        let refusal = Refusal::new(code, why);
        Err(match code {
            401 => refusal.with(header::WWW_AUTHENTICATE, "Bearer"),
            _ => refusal,
        })
    }
}

/// Adds what lets an admitted page read the answer (Fetch, section 3.3, "CORS protocol").
pub(crate) fn add_cors(to: &mut HeaderMap, request: &HttpRequest, method: &Method) {
    let origin = request
        .origin()
        .and_then(|origin| HeaderValue::from_str(origin).ok());
    let Some(origin) = origin else {
        return;
    };
    let mut add = |name: HeaderName, value: &'static str| {
        to.insert(name, HeaderValue::from_static(value));
    };
    add(header::VARY, "Origin");
    add(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if method == Method::OPTIONS {
        add(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        add(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        add(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    to.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("origins", &self.origins)
            .field("check", &self.check.is_some())
            .finish()
    }
}
