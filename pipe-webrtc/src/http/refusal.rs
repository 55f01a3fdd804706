use std::borrow::Cow;

use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// A request that is answered by an error of HTTP.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: u16,
    why: Cow<'static, str>,
    /// A header of the answer.
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(crate) fn new(code: u16, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            why: why.into(),
            header: None,
        }
    }

    /// Creates the refusal of a request that may be made again in a second.
    pub(crate) fn later(code: u16, why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code, why).with(header::RETRY_AFTER, "1")
    }

    /// Adds a header to the answer.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Returns why.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    /// Returns the answer, whose body is a line that says why.
    pub(crate) fn into_response(self) -> Response<String> {
        let Self { code, why, header } = self;
        let mut response = Response::new(format!("{why}\n"));
        *response.status_mut() =
            StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        if let Some((name, value)) = header {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
