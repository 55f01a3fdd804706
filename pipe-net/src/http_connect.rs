//! The method CONNECT of HTTP (RFC 9110, section 9.3.6).

use data_encoding::BASE64;
use pipe_core::ErrorKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::host_port::HostPort;
use crate::login::Login;
use crate::refusal::Refusal;
use crate::take_head::{NoHead, take_head};

/// Maximum length of the head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Maximum number of headers.
const MAX_HEADERS: usize = 64;

/// Maximum length of the words of a proxy that are quoted, in characters.
const QUOTED: usize = 100;

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// Asks a proxy for a connection. What comes behind its answer stays in the socket.
pub(crate) async fn ask(
    mut socket: TcpStream,
    to: &HostPort,
    login: Option<&Login>,
) -> Result<TcpStream, Refusal> {
    let written = socket.write_all(request(to, login).as_bytes()).await;
    written.map_err(Refusal::from_io)?;
    let mut looked = 0;
    let head = take_head(&mut socket, MAX_HEAD, |head| {
        if !b"HTTP/".starts_with(&head[..head.len().min(5)]) && !head.starts_with(b"HTTP/") {
            return Err("its answer is no HTTP");
        }
        // An end may begin in the piece before.
        let from = looked;
        looked = head.len().saturating_sub(END.len() - 1);
        let end = head[from..].windows(END.len()).position(|at| at == END);
        Ok(end.map(|end| from + end + END.len()))
    });
    let head = head.await.map_err(|error| match error {
        NoHead::TooLong => Refusal::new(
            ErrorKind::Handshake,
            format!("the head of its answer is longer than {MAX_HEAD} bytes"),
        ),
        NoHead::Ended(0) => Refusal::new(ErrorKind::Handshake, "it broke off"),
        NoHead::Ended(_) => Refusal::new(ErrorKind::Handshake, "it broke off within its answer"),
        NoHead::Wrong(why) => Refusal::new(ErrorKind::Handshake, why),
        NoHead::Io(error) => Refusal::from_io(error),
    })?;
    check(&head, login.is_some())?;
    Ok(socket)
}

fn request(to: &HostPort, login: Option<&Login>) -> String {
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(Login { user, password }) = login {
        // RFC 7617, section 2.
        let login = BASE64.encode(format!("{user}:{password}").as_bytes());
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(&login);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

/// Checks that an answer opens the connection.
fn check(head: &[u8], had_login: bool) -> Result<(), Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    if let Err(error) = response.parse(head) {
        let why = format!("its answer is no HTTP: {error}");
        return Err(Refusal::new(ErrorKind::Handshake, why));
    }
    let code = response.code.unwrap_or_default();
    let (kind, meaning) = match code {
        200..=299 => return Ok(()),
        // tinyproxy answers 401 to a wrong password.
        401 | 407 if had_login => (
            ErrorKind::Unauthenticated,
            "it does not accept the user and the password",
        ),
        401 | 407 => (ErrorKind::Unauthenticated, "it wants a user and a password"),
        403 => (
            ErrorKind::Unauthenticated,
            "it does not let this side connect there",
        ),
        404 | 500 | 502 | 503 => (ErrorKind::Unreachable, "it does not reach the host"),
        504 => (ErrorKind::TimedOut, "the host did not answer it"),
        429 => (ErrorKind::LimitReached, "it was asked too often"),
        405 | 501 => (ErrorKind::Unsupported, "it does not know CONNECT"),
        300..=399 => (ErrorKind::Handshake, "it leads elsewhere"),
        _ => (ErrorKind::Handshake, "it makes no connection"),
    };
    let reason = quote(response.reason.unwrap_or_default());
    let space = if reason.is_empty() { "" } else { " " };
    let why = format!("{meaning} ({code}{space}{reason})");
    Err(Refusal::new(kind, why))
}

/// Returns the beginning of a text of the proxy, without control characters.
fn quote(text: &str) -> String {
    let begin: String = text.chars().take(QUOTED).collect();
    begin.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        let (user, password) = ("Aladdin".to_owned(), "open sesame".to_owned());
        Login { user, password }
    }

    #[test]
    fn a_request_names_the_host_twice_and_has_the_login() {
        let to = HostPort::new("a.example", 7);
        assert_eq!(
            request(&to, None),
            "CONNECT a.example:7 HTTP/1.1\r\nHost: a.example:7\r\n\r\n"
        );
        // The example of RFC 7617, section 2.
        let to = HostPort::new("::1", 7);
        assert_eq!(
            request(&to, Some(&login())),
            "CONNECT [::1]:7 HTTP/1.1\r\nHost: [::1]:7\r\n\
             Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
        );
    }

    #[test]
    fn every_answer_has_a_kind_and_its_words() {
        for line in ["200 Connection established", "204 No Content", "299"] {
            check(format!("HTTP/1.0 {line}\r\n\r\n").as_bytes(), false).unwrap();
        }
        for (line, kind, why) in [
            (
                "407 Proxy Authentication Required",
                ErrorKind::Unauthenticated,
                "wants a user and a password (407 Proxy Authentication Required)",
            ),
            ("403 Filtered", ErrorKind::Unauthenticated, "does not let"),
            ("401 No", ErrorKind::Unauthenticated, "wants a user"),
            ("404 Not Found", ErrorKind::Unreachable, "does not reach"),
            ("500 Unable to connect", ErrorKind::Unreachable, "(500 U"),
            ("502 Bad Gateway", ErrorKind::Unreachable, "does not reach"),
            ("503 Unavailable", ErrorKind::Unreachable, "(503 Unavail"),
            ("504 Timeout", ErrorKind::TimedOut, "did not answer it"),
            ("429 Slowly", ErrorKind::LimitReached, "asked too often"),
            ("405 What", ErrorKind::Unsupported, "does not know CONNECT"),
            ("302 Found", ErrorKind::Handshake, "it leads elsewhere"),
            ("101 Switching", ErrorKind::Handshake, "no connection (101"),
            ("400", ErrorKind::Handshake, "it makes no connection (400)"),
        ] {
            let head = format!("HTTP/1.1 {line}\r\nProxy-Authenticate: Basic\r\n\r\n");
            let refusal = check(head.as_bytes(), false).unwrap_err();
            assert_eq!(refusal.kind, kind, "{line}");
            assert!(refusal.why.contains(why), "{}", refusal.why);
        }
        let refusal = check(b"HTTP/1.1 407 No\r\n\r\n", true).unwrap_err();
        assert!(refusal.why.contains("does not accept the user"));
        let many = format!("HTTP/1.1 200 Ok\r\n{}\r\n", "a: b\r\n".repeat(65));
        let refusal = check(many.as_bytes(), false).unwrap_err();
        assert!(refusal.why.contains("too many headers"), "{}", refusal.why);
        let refusal = check(b"HTTP/1.1 abc\r\n\r\n", false).unwrap_err();
        assert!(refusal.why.contains("no HTTP"), "{}", refusal.why);
    }

    #[test]
    fn a_long_or_odd_reason_is_cut_and_escaped() {
        let head = format!("HTTP/1.1 400 {}\r\n\r\n", "\u{e4}".repeat(1000));
        let refusal = check(head.as_bytes(), false).unwrap_err();
        assert!(refusal.why.chars().count() < 200, "{}", refusal.why);
    }
}
