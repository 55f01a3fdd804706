use std::net::SocketAddr;

use pipe_net::HttpRequest;

use crate::head::MAX_HEADERS;
use crate::refusal::Refusal;

/// Reads the head of a request to open a WebSocket, which is complete.
pub(crate) fn parse_request(
    head: &[u8],
    remote: Option<SocketAddr>,
) -> Result<HttpRequest, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => {
            return Err(Refusal::new(400, "the request is no HTTP"));
        }
        Err(httparse::Error::TooManyHeaders) => {
            let why = format!("the request has more than {MAX_HEADERS} headers");
            return Err(Refusal::new(431, why));
        }
        Err(error) => {
            let why = format!("the request is no HTTP: {error}");
            return Err(Refusal::new(400, why));
        }
    }
    if request.method != Some("GET") {
        return Err(Refusal::new(405, "a WebSocket is opened by GET").with("Allow", "GET"));
    }
    if request.version != Some(1) {
        return Err(Refusal::new(505, "a WebSocket is opened over HTTP/1.1"));
    }
    let headers = request.headers.iter();
    let headers = headers.map(|header| (header.name.to_ascii_lowercase(), header.value.to_vec()));
    request_for(request.path.unwrap_or_default(), headers.collect(), remote)
}

/// Creates a request for this target, with the names of its headers in lower case.
pub(crate) fn request_for(
    target: &str,
    headers: Vec<(String, Vec<u8>)>,
    remote: Option<SocketAddr>,
) -> Result<HttpRequest, Refusal> {
    let request = HttpRequest::new(target, headers, remote);
    request.ok_or_else(|| Refusal::new(400, "the target of the request is no path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<HttpRequest, Refusal> {
        parse_request(head.as_bytes(), None)
    }

    #[test]
    fn a_head_is_read() {
        let request = parse("GET /a?b HTTP/1.1\r\nHost: x\r\nOrigin: https://a\r\n\r\n").unwrap();
        assert_eq!((request.path(), request.query()), ("/a", Some("b")));
        assert_eq!(request.header("HOST"), Some("x"));
        assert_eq!(request.headers().count(), 2);
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
        for (head, code) in [
            ("\r\n\r\n".to_owned(), 400),
            ("nonsense\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\n\0: a\r\n\r\n".to_owned(), 400),
            ("GET a HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("POST / HTTP/1.1\r\n\r\n".to_owned(), 405),
            ("GET / HTTP/1.0\r\n\r\n".to_owned(), 505),
            (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
        ] {
            let refusal = parse(&head).unwrap_err();
            assert_eq!(refusal.code, code, "{head}: {refusal:?}");
        }
    }
}
