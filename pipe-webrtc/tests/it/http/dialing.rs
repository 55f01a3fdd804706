//! What a dialer asks, and what it makes of the answers.

use std::net::SocketAddr;
use std::time::Duration;

use pipe_core::{Addr, Conn, Error, ErrorKind, Listener, Transport};
use pipe_webrtc::{Faults, HttpVerdict, IceServer, WhipTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

use super::{connect, echo, listen, whip};
use crate::common::{loopback, soon, times};

/// A server that answers its requests with these texts, one a connection, the last one again and again. Returns the first
/// lines of the requests as well.
async fn server(answers: Vec<String>) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let at = socket.local_addr().expect("its address");
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((mut stream, _)) = socket.accept().await else {
                return;
            };
            let mut bytes = Vec::new();
            let is_all = |bytes: &[u8]| {
                bytes.ends_with(b"a=end-of-candidates\r\n")
                    || bytes.starts_with(b"DELETE") && bytes.ends_with(b"\r\n\r\n")
            };
            while !is_all(&bytes) {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let _ = tell.send(text.lines().next().unwrap_or_default().to_owned());
            let answer = answers
                .get(number)
                .or_else(|| answers.last())
                .expect("an answer");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (at, told)
}

fn text(line: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        text.push_str(&format!("{header}\r\n"));
    }
    text + "\r\n" + body
}

async fn dial(answers: Vec<String>) -> (Error, mpsc::UnboundedReceiver<String>) {
    let (at, told) = server(answers).await;
    let addr: Addr = format!("webrtc+http://{at}/a").parse().expect("an address");
    let error = soon("a refusal", whip().dial(&addr)).await;
    (error.expect_err("no connection"), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_http_has_a_kind_and_its_words() {
    let (plain, sdp) = ("Content-Type: text/plain", "Content-Type: application/sdp");
    for (line, headers, kind, why) in [
        (
            "401 Unauthorized",
            &[plain][..],
            ErrorKind::Unauthenticated,
            "go\\u{1b}away",
        ),
        (
            "403 Forbidden",
            &[plain],
            ErrorKind::Unauthenticated,
            "may not connect",
        ),
        (
            "404 Not Found",
            &[plain],
            ErrorKind::Refused,
            "no listener at this path",
        ),
        (
            "429 Too Many Requests",
            &[plain, "Retry-After: 7"],
            ErrorKind::LimitReached,
            "(Retry-After: 7)",
        ),
        ("503 Service Unavailable", &[], ErrorKind::Refused, "503"),
        (
            "405 Method Not Allowed",
            &[],
            ErrorKind::Handshake,
            "no WHIP",
        ),
        ("200 OK", &[sdp], ErrorKind::Handshake, "200 OK"),
        (
            "302 Found",
            &["Location: /b"],
            ErrorKind::Handshake,
            "leads elsewhere",
        ),
        (
            "201 Created",
            &[sdp],
            ErrorKind::Handshake,
            "without Location",
        ),
        (
            "201 Created",
            &["Location: /b"],
            ErrorKind::Handshake,
            "application/sdp",
        ),
        (
            "201 Created",
            &[sdp, "Location: http://127.0.0.2:1/b"],
            ErrorKind::Handshake,
            "on another server",
        ),
    ] {
        let (error, _) = dial(vec![text(line, headers, "go\u{1b}away\n")]).await;
        assert_eq!(error.kind(), kind, "{line}: {error}");
        assert!(error.to_string().contains(why), "{line}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_ends_a_dial() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(100_000));
    let many = "x".repeat(1 << 20);
    for (answer, kind) in [
        (String::new(), ErrorKind::Refused),
        ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), ErrorKind::Handshake),
        (endless, ErrorKind::Handshake),
        // The status says enough.
        (text("404 Not Found", &[], &many), ErrorKind::Refused),
        (
            text(
                "201 Created",
                &["Content-Type: application/sdp", "Location: /b"],
                &many,
            ),
            ErrorKind::Handshake,
        ),
    ] {
        let (error, _) = dial(vec![answer]).await;
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resource_of_an_answer_that_is_of_no_use_is_deleted() {
    let sdp = "Content-Type: application/sdp";
    let long = "x".repeat(1 << 20);
    for (headers, body) in [
        (&["Location: /b"][..], "v=0\r\n"),
        (&[sdp, "Location: /b"], "nonsense"),
        (&[sdp, "Location: /b"], &long),
    ] {
        let deleted = text("200 OK", &[], "");
        let (_, mut told) = dial(vec![text("201 Created", headers, body), deleted]).await;
        for line in ["POST /a HTTP/1.1", "DELETE /b HTTP/1.1"] {
            let told = soon("a request", told.recv()).await;
            assert_eq!(told.as_deref(), Some(line));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_followed_on_the_same_server_and_not_for_ever() {
    let to = |place: &str| {
        text(
            "307 Temporary Redirect",
            &[&format!("Location: {place}")],
            "",
        )
    };
    let gone = text("404 Not Found", &[], "");
    let (error, mut told) = dial(vec![to("/b/c"), to("d?e=f"), gone]).await;
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    for line in [
        "POST /a HTTP/1.1",
        "POST /b/c HTTP/1.1",
        "POST /b/d?e=f HTTP/1.1",
    ] {
        assert_eq!(told.recv().await.as_deref(), Some(line));
    }
    let (error, mut told) = dial(vec![to("/a")]).await;
    assert!(
        error.to_string().contains("more than 5 redirects"),
        "{error}"
    );
    assert_eq!(std::iter::from_fn(|| told.try_recv().ok()).count(), 6);
    let (error, _) = dial(vec![to("http://localhost:1/")]).await;
    assert!(error.to_string().contains("on another server"), "{error}");
}

/// A transport whose listeners tell the paths of the requests, and what they name by If-Match.
fn told() -> (
    WhipTransport,
    mpsc::UnboundedReceiver<(String, Option<String>)>,
) {
    let (tell, told) = mpsc::unbounded_channel();
    let transport = whip().with_request_check(move |request| {
        let tag = request.header("if-match").map(str::to_owned);
        let _ = tell.send((request.path().to_owned(), tag));
        HttpVerdict::Accept
    });
    (transport, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_one_post_and_one_delete() {
    let (server, mut told) = told();
    let listener = listen(&server, "webrtc+http://127.0.0.1:0/a").await;
    let (here, there) = connect(&whip(), &listener).await;
    echo(&here, &there).await;
    assert_eq!(told.recv().await, Some(("/a".to_owned(), None)));
    here.close(0, "");
    let (path, tag) = soon("a delete", told.recv()).await.expect("a request");
    assert!(path.starts_with("/a/") && tag.is_none(), "{path} {tag:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_that_are_found_late_are_patched() {
    let (server, mut told) = told();
    let listener = listen(&server, "webrtc+http://127.0.0.1:0/a").await;
    // It never answers, so that the search ends by its time limit.
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let stun = IceServer::stun(&silent.local_addr().expect("its address").to_string());
    let mut settings = loopback().with_ice_servers([stun]);
    settings.gather_timeout = Duration::from_millis(500);
    let client = whip().with_settings(settings).expect("settings");
    let (here, there) = connect(&client, &listener).await;
    echo(&here, &there).await;
    assert_eq!(told.recv().await, Some(("/a".to_owned(), None)));
    let (path, tag) = soon("a patch", told.recv()).await.expect("a request");
    assert!(path.starts_with("/a/"), "{path}");
    assert!(tag.is_some_and(|tag| tag.starts_with('"')));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_is_given_up_deletes_its_resource() {
    let (server, mut told) = told();
    let listener = listen(&server, "webrtc+http://127.0.0.1:0/a").await;
    let faults = Faults::new();
    faults.cut();
    let client = whip().with_faults(faults);
    let addr = listener.local_addr();
    let dialing = tokio::spawn(async move { client.dial(&addr).await });
    let posted = soon("an offer", told.recv()).await.expect("a request");
    assert_eq!(posted, ("/a".to_owned(), None));
    dialing.abort();
    let deleted = soon("a delete", told.recv()).await.expect("a request");
    assert!(
        deleted.0.starts_with("/a/") && deleted.1.is_none(),
        "{deleted:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dialer_restarts_ice_and_the_listener_cannot() {
    let (server, mut told) = told();
    let listener = listen(&server, "webrtc+http://127.0.0.1:0/a").await;
    let (here, there) = connect(&whip(), &listener).await;
    for _ in 0..3 {
        soon("a restart", here.restart_ice())
            .await
            .expect("a restart");
        echo(&here, &there).await;
    }
    let error = soon("an answer", there.restart_ice()).await;
    let error = error.expect_err("no restart");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    echo(&there, &here).await;
    assert_eq!(told.recv().await, Some(("/a".to_owned(), None)));
    for _ in 0..3 {
        let (_, tag) = told.recv().await.expect("a request");
        assert_eq!(tag.as_deref(), Some("*"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_does_not_reach_the_listener_is_made_again() {
    let listener = listen(&whip(), "webrtc+http://127.0.0.1:0/a").await;
    // The first requests after the offer get through to nobody.
    let (count, at) = (
        std::sync::atomic::AtomicU32::new(0),
        super::socket(&listener),
    );
    let dialer = pipe_webrtc::TcpDialer::new().with_dialer(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            if (1..3).contains(&number) {
                return Err(std::io::ErrorKind::ConnectionRefused.into());
            }
            tokio::net::TcpStream::connect(at).await
        }
    });
    let (here, there) = connect(&whip().with_dialer(dialer), &listener).await;
    soon("a restart", here.restart_ice())
        .await
        .expect("a restart");
    echo(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_heals_by_a_restart_of_the_dialer() {
    let (server, mut told) = told();
    let config = times(100, 300, 30_000);
    let server = server.with_config(config.clone()).expect("a configuration");
    let faults = Faults::new();
    let client = whip()
        .with_config(config)
        .expect("a configuration")
        .with_faults(faults.clone());
    let listener = listen(&server, "webrtc+http://127.0.0.1:0/a").await;
    let (here, there) = connect(&client, &listener).await;
    echo(&here, &there).await;
    assert_eq!(told.recv().await, Some(("/a".to_owned(), None)));
    faults.cut();
    let (_, tag) = soon("a restart", told.recv()).await.expect("a request");
    assert_eq!(tag.as_deref(), Some("*"));
    faults.heal();
    echo(&here, &there).await;
    drop(listener);
    echo(&there, &here).await;
}
