use std::borrow::Cow;
use std::fmt::Write;

use pipe_core::Error;
use pipe_net::kind_of_status;

/// A request that is answered by an error of HTTP.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) why: Cow<'static, str>,
    /// A header of the answer.
    pub(crate) header: Option<(&'static str, &'static str)>,
}

impl Refusal {
    pub(crate) fn new(code: u16, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            why: why.into(),
            header: None,
        }
    }

    /// Adds a header to the answer.
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Returns the answer.
    pub(crate) fn to_response(&self) -> String {
        let Self { code, why, header } = self;
        let name = name_of(*code);
        let mut response = format!("HTTP/1.1 {code} {name}\r\n");
        if let Some((name, value)) = header {
            let _ = write!(response, "{name}: {value}\r\n");
        }
        let length = why.len() + 1;
        let _ = write!(
            response,
            "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{why}\n"
        );
        response
    }

    /// Returns the error of the handshake.
    pub(crate) fn to_error(&self, context: &str) -> Error {
        let Self { code, why, .. } = self;
        let text = format!("{context} with {code} {}: {why}", name_of(*code));
        Error::new(kind_of_status(*code), text)
    }
}

fn name_of(code: u16) -> &'static str {
    match code {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::ErrorKind;

    use super::*;

    #[test]
    fn a_refusal_is_an_answer_and_an_error() {
        let refusal = Refusal::new(426, "no upgrade").with("Upgrade", "websocket");
        let response = refusal.to_response();
        assert!(response.starts_with("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n"));
        assert!(response.ends_with("Content-Length: 11\r\nConnection: close\r\n\r\nno upgrade\n"));
        let error = refusal.to_error("refused 1.2.3.4:5");
        assert_eq!(error.kind(), ErrorKind::Handshake);
        assert_eq!(
            error.to_string(),
            "refused 1.2.3.4:5 with 426 Upgrade Required: no upgrade"
        );
    }
}
