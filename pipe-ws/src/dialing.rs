//! The handshake of a dialer (RFC 6455, section 4.1).

use bytes::Bytes;
use pipe_core::{Addr, Error, ErrorKind, Result};
use pipe_net::{HttpHeaders, kind_of_status};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::addr::WsAddr;
use crate::head::{Head, MAX_HEAD, MAX_HEADERS, NoHead, read_head};
use crate::key::{answer_to, fresh_key};

/// Maximum length of a text of the listener that is quoted, in characters.
const QUOTED: usize = 200;

/// Asks a listener for a WebSocket. Returns what came after its answer.
pub(crate) async fn ask<T>(
    io: &mut T,
    addr: &Addr,
    to: &WsAddr,
    headers: &HttpHeaders,
) -> Result<Bytes>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let key = fresh_key()?;
    let request = request(addr, to, headers, &key);
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let refused = |kind, why: String| Error::new(kind, format!("no WebSocket at {addr}: {why}"));
    let head = read_head(io).await.map_err(|error| {
        let why = match error {
            NoHead::TooLong => {
                format!("the head of the listener's answer is longer than {MAX_HEAD} bytes")
            }
            NoHead::Ended(begin) if begin.is_empty() => "the listener broke off".to_owned(),
            NoHead::Ended(_) => "the listener broke off within its answer".to_owned(),
            NoHead::Tls => "the listener speaks TLS, which wss:// is for".to_owned(),
            NoHead::Io(error) => {
                let why = format!("no WebSocket at {addr}: {error}");
                return Error::with_source(ErrorKind::Handshake, why, error);
            }
        };
        refused(ErrorKind::Handshake, why)
    })?;
    check(&head, to, &key).map_err(|(kind, why)| refused(kind, why))?;
    Ok(head.rest)
}

fn request(addr: &Addr, to: &WsAddr, headers: &HttpHeaders, key: &str) -> String {
    let host = addr.host().unwrap_or_default();
    // The port of the scheme is left out, as browsers do.
    let port = match addr.port() {
        Some(port) => format!(":{port}"),
        None => String::new(),
    };
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n",
        path = to.target.path,
    );
    if let Some(name) = &to.target.subprotocol {
        head.push_str("Sec-WebSocket-Protocol: ");
        head.push_str(name);
        head.push_str("\r\n");
    }
    for (name, value) in headers.iter() {
        for text in [name, ": ", value, "\r\n"] {
            head.push_str(text);
        }
    }
    head.push_str("\r\n");
    head
}

/// Checks that the answer opens the WebSocket that was asked for.
fn check(head: &Head, to: &WsAddr, key: &str) -> Result<(), (ErrorKind, String)> {
    let broken = |why: String| (ErrorKind::Handshake, why);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(&head.bytes);
    if let Err(error) = parsed {
        return Err(broken(format!("the listener's answer is no HTTP: {error}")));
    }
    let code = response.code.unwrap_or_default();
    if code != 101 {
        let name = quote(response.reason.unwrap_or_default());
        let why = match code {
            300..=399 => ", which leads elsewhere",
            401 | 403 | 407 => ", so this side may not connect",
            404 | 410 => ", so there is no WebSocket at this path",
            502..=504 => ", so what is behind it does not answer",
            _ => "",
        };
        let text = text(&head.rest, response.headers);
        return Err((
            kind_of_status(code),
            format!("the listener answers {code} {name}{why}{text}"),
        ));
    }
    let value = |name: &str| {
        let mut found = response.headers.iter();
        let found = found.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let upgrade = value("upgrade").unwrap_or_default();
    let connection = value("connection").unwrap_or_default();
    let mut tokens = connection.split(',').map(str::trim);
    if !upgrade.eq_ignore_ascii_case("websocket")
        || !tokens.any(|token| token.eq_ignore_ascii_case("upgrade"))
    {
        return Err(broken("the listener's answer is no upgrade".into()));
    }
    if value("sec-websocket-accept") != Some(answer_to(key)) {
        let why = "the listener's answer is to another key: it is no WebSocket";
        return Err(broken(why.into()));
    }
    if let Some(extensions) = value("sec-websocket-extensions")
        && !extensions.is_empty()
    {
        let why = format!(
            "the listener uses extensions that were not offered: {}",
            quote(&extensions)
        );
        return Err(broken(why));
    }
    match (&to.target.subprotocol, value("sec-websocket-protocol")) {
        (Some(name), Some(agreed)) if *name == agreed => Ok(()),
        (Some(name), Some(other)) => Err(broken(format!(
            "the listener speaks the subprotocol {} instead of {name}",
            quote(&other)
        ))),
        (Some(name), None) => Err(broken(format!(
            "the listener does not speak the subprotocol {name}"
        ))),
        (None, Some(other)) => Err(broken(format!(
            "the listener speaks the subprotocol {}, which was not offered",
            quote(&other)
        ))),
        (None, None) => Ok(()),
    }
}

/// Returns the text of an error, as far as it came with the head.
fn text(rest: &[u8], headers: &[httparse::Header<'_>]) -> String {
    let is_text = headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("content-type") && header.value.starts_with(b"text/plain")
    });
    let text = String::from_utf8_lossy(rest);
    let text = text.trim();
    if !is_text || text.is_empty() {
        return String::new();
    }
    format!(": {}", quote(text))
}

/// Returns the beginning of a text of the listener, without control characters.
fn quote(text: &str) -> String {
    let begin: String = text.chars().take(QUOTED).collect();
    begin.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn to(text: &str) -> (Addr, WsAddr) {
        let addr = Addr::parse(text).unwrap();
        let to = WsAddr::of(&addr).unwrap();
        (addr, to)
    }

    fn answer(line: &str, headers: &[&str], rest: &str) -> Head {
        let text = format!("HTTP/1.1 {line}\r\n{}\r\n\r\n", headers.join("\r\n"));
        Head {
            bytes: text.into(),
            rest: Bytes::copy_from_slice(rest.as_bytes()),
        }
    }

    #[test]
    fn a_request_names_the_host_as_the_address_does() {
        for (text, host, path) in [
            ("ws://a.example/", "a.example", "/"),
            ("ws://[::1]:7/b", "[::1]:7", "/b"),
            ("wss://a:443/b?server-name=c", "a", "/b"),
        ] {
            let (addr, to) = to(text);
            let request = request(&addr, &to, &HttpHeaders::default(), KEY);
            let begin = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
            assert!(request.starts_with(&begin), "{request}");
            assert!(request.contains("\r\nSec-WebSocket-Protocol: pipe.1\r\n"));
            assert!(request.ends_with("\r\n\r\n"));
        }
        let (addr, to) = to("ws://a?wire=raw");
        let request = request(&addr, &to, &HttpHeaders::default(), KEY);
        assert!(!request.contains("Protocol"), "{request}");
    }

    #[test]
    fn an_answer_has_to_open_what_was_asked_for() {
        let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let (upgrade, connection) = ("Upgrade: WebSocket", "Connection: keep-alive, upgrade");
        let subprotocol = "Sec-WebSocket-Protocol: pipe.1";
        let (_, pipe) = to("ws://a");
        let good = [upgrade, connection, accept, subprotocol];
        let head = answer("101 Switching Protocols", &good, "");
        check(&head, &pipe, KEY).unwrap();
        let extension = "Sec-WebSocket-Extensions: permessage-deflate";
        for (headers, why) in [
            (&[upgrade, accept, subprotocol][..], "no upgrade"),
            (&[upgrade, connection, subprotocol], "another key"),
            (
                &[upgrade, connection, accept],
                "does not speak the subprotocol pipe.1",
            ),
            (
                &[upgrade, connection, accept, "Sec-WebSocket-Protocol: chat"],
                "chat instead of pipe.1",
            ),
            (
                &[upgrade, connection, accept, subprotocol, extension],
                "permessage-deflate",
            ),
        ] {
            let head = answer("101 Switching Protocols", headers, "");
            let (kind, text) = check(&head, &pipe, KEY).unwrap_err();
            assert_eq!(kind, ErrorKind::Handshake);
            assert!(text.contains(why), "{text}");
        }
        let (_, raw) = to("ws://a?wire=raw");
        check(
            &answer("101 Ok", &[upgrade, connection, accept], ""),
            &raw,
            KEY,
        )
        .unwrap();
        let (_, text) = check(&answer("101 Ok", &good, ""), &raw, KEY).unwrap_err();
        assert!(text.contains("was not offered"), "{text}");
    }

    #[test]
    fn an_error_of_http_has_a_kind_and_its_words() {
        let (_, to) = to("ws://a");
        for (line, kind) in [
            ("401 Unauthorized", ErrorKind::Unauthenticated),
            ("403 Forbidden", ErrorKind::Unauthenticated),
            ("404 Not Found", ErrorKind::Refused),
            ("502 Bad Gateway", ErrorKind::Refused),
            ("429 Too Many Requests", ErrorKind::LimitReached),
            ("302 Found", ErrorKind::Handshake),
            ("200 OK", ErrorKind::Handshake),
        ] {
            let plain = ["Content-Type: text/plain"];
            let head = answer(line, &plain, "go\u{1b}away\n");
            let (found, text) = check(&head, &to, KEY).unwrap_err();
            assert_eq!(found, kind, "{line}");
            assert!(text.contains(line), "{text}");
            assert!(text.ends_with(r": go\u{1b}away"), "{text}");
        }
        let head = answer("200 OK", &["Content-Type: text/html"], "<html>");
        let (_, text) = check(&head, &to, KEY).unwrap_err();
        assert!(!text.contains("html"), "{text}");
    }
}
