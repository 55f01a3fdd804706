use std::error::Error as _;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// A proxy that follows a script with its one client, and what becomes of that.
struct Scripted<T> {
    at: SocketAddr,
    task: JoinHandle<T>,
}

async fn scripted<T, F>(script: impl FnOnce(TcpStream) -> F + Send + 'static) -> Scripted<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { script(listener.accept().await.unwrap().0).await });
    Scripted { at, task }
}

impl<T> Scripted<T> {
    fn dialer(&self, scheme: &str) -> TcpDialer {
        let text = format!("{scheme}{}", self.at);
        TcpDialer::new().with_proxy(Proxy::parse(&text).unwrap())
    }

    async fn dial(&self, scheme: &str, host: &str) -> Result<Dialed> {
        dial(&self.dialer(scheme), host).await
    }
}

async fn dial(dialer: &TcpDialer, host: &str) -> Result<Dialed> {
    let addr = Addr::parse(&format!("tcp://{host}")).unwrap();
    let to = HostPort::of(&addr, "tcp").unwrap();
    dialer
        .within(LIMIT, &addr, &to, dialer.connect(&addr, &to))
        .await
}

/// Reads as many bytes as are expected, and compares.
async fn expect(socket: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    socket.read_exact(&mut read).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&read),
        String::from_utf8_lossy(bytes)
    );
}

async fn answer(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).await.unwrap();
}

/// Waits until the client has gone.
async fn gone(mut socket: TcpStream) {
    while socket.read(&mut [0; 100]).await.is_ok_and(|len| len > 0) {}
}

fn check(error: &Error, kind: ErrorKind, words: &[&str]) {
    let shown = error.to_string();
    assert_eq!(error.kind(), kind, "{shown}");
    for word in words {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let mut source = error.source();
    let mut shown = format!("{shown} {error:?}");
    while let Some(error) = source {
        shown = format!("{shown} {error} {error:?}");
        source = error.source();
    }
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn http_is_asked_for_the_name_and_early_bytes_stay() {
    let proxy = scripted(|mut socket| async move {
        expect(
            &mut socket,
            b"CONNECT name.invalid:7 HTTP/1.1\r\nHost: name.invalid:7\r\n\
              Proxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n",
        )
        .await;
        answer(&mut socket, b"HTTP/1.1 200 Fine\r\nA: b\r\n\r\nearly").await;
        expect(&mut socket, b"hello").await;
    })
    .await;
    let dialed = proxy.dial("http://me:secret@", "name.invalid:7").await;
    let Dialed { mut socket, remote } = dialed.unwrap();
    assert_eq!(remote, HostPort::new("name.invalid", 7));
    expect(&mut socket, b"early").await;
    answer(&mut socket, b"hello").await;
    proxy.task.await.unwrap();
}

#[tokio::test]
async fn socks5_is_asked_for_names_and_addresses() {
    for (host, asked) in [
        (
            "name.invalid:7",
            &b"\x05\x01\x00\x03\x0cname.invalid\x00\x07"[..],
        ),
        ("192.0.2.1:258", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\x02"),
        (
            "[2001:db8::1]:7",
            b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x07",
        ),
    ] {
        for bound in [
            &b"\x01\x7f\0\0\x01\x00\x09"[..],
            b"\x03\x03abc\x00\x09",
            b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x09",
        ] {
            let proxy = scripted(move |mut socket| async move {
                expect(&mut socket, b"\x05\x01\x00").await;
                answer(&mut socket, b"\x05\x00").await;
                expect(&mut socket, asked).await;
                answer(&mut socket, &[b"\x05\x00\x00", bound, b"early"].concat()).await;
                gone(socket).await;
            })
            .await;
            let dialed = proxy.dial("socks5h://", host).await;
            let Dialed { mut socket, remote } = dialed.unwrap();
            assert_eq!(remote.to_string(), host);
            expect(&mut socket, b"early").await;
            drop(socket);
            proxy.task.await.unwrap();
        }
    }
}

#[tokio::test]
async fn socks5_is_given_the_user_and_the_password_where_it_asks() {
    for (code, accepted) in [(0, true), (1, false), (255, false)] {
        let proxy = scripted(move |mut socket| async move {
            expect(&mut socket, b"\x05\x02\x00\x02").await;
            answer(&mut socket, b"\x05\x02").await;
            expect(&mut socket, b"\x01\x02me\x06secret").await;
            answer(&mut socket, &[1, code]).await;
            if accepted {
                expect(&mut socket, b"\x05\x01\x00\x03\x01a\x00\x07").await;
                answer(&mut socket, b"\x05\x00\x00\x01\0\0\0\0\0\0").await;
            }
            gone(socket).await;
        })
        .await;
        match proxy.dial("socks5://me:secret@", "a:7").await {
            Ok(_) => assert!(accepted),
            Err(error) => {
                assert!(!accepted, "{error}");
                let words = [
                    "the user and the password",
                    "tcp://a:7",
                    "proxy socks5://127",
                ];
                check(&error, ErrorKind::Unauthenticated, &words);
            }
        }
        proxy.task.await.unwrap();
    }
}

#[tokio::test]
async fn every_reply_of_socks5_has_a_kind_and_its_words() {
    for (code, kind, word) in [
        (1, ErrorKind::Unreachable, "general failure"),
        (2, ErrorKind::Unauthenticated, "not allowed by its rules"),
        (3, ErrorKind::Unreachable, "network unreachable"),
        (4, ErrorKind::Unreachable, "host unreachable"),
        (5, ErrorKind::Refused, "connection refused"),
        (6, ErrorKind::TimedOut, "TTL expired"),
        (7, ErrorKind::Unsupported, "command not supported"),
        (8, ErrorKind::Unsupported, "address type not supported"),
        (9, ErrorKind::Handshake, "a code that SOCKS5 does not have"),
        (
            255,
            ErrorKind::Handshake,
            "a code that SOCKS5 does not have",
        ),
    ] {
        let proxy = scripted(move |mut socket| async move {
            expect(&mut socket, b"\x05\x01\x00").await;
            answer(&mut socket, b"\x05\x00").await;
            expect(&mut socket, b"\x05\x01\x00\x03\x01a\x00\x07").await;
            answer(&mut socket, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await;
            gone(socket).await;
        })
        .await;
        let error = proxy.dial("socks5://", "a:7").await.unwrap_err();
        let named = format!("through the proxy socks5://{}: ", proxy.at);
        check(&error, kind, &[word, "tcp://a:7", &named]);
    }
}

#[tokio::test]
async fn a_proxy_that_breaks_the_rules_or_breaks_off_is_an_error() {
    let cut = b"\x05\x00\x05\x00\x00\x03\xffabc";
    for (scheme, sent, kind, word) in [
        ("http://", &b""[..], ErrorKind::Handshake, "it broke off"),
        (
            "http://",
            b"HTTP/1.1 200 Fi",
            ErrorKind::Handshake,
            "within its answer",
        ),
        ("http://", b"\x05\x00", ErrorKind::Handshake, "no HTTP"),
        ("http://", b"SSH-2.0-x\r\n", ErrorKind::Handshake, "no HTTP"),
        (
            "http://",
            b"HTTP/1.1 2x0 ?\r\n\r\n",
            ErrorKind::Handshake,
            "no HTTP",
        ),
        ("socks5://", b"", ErrorKind::Handshake, "it broke off"),
        (
            "socks5://",
            b"HTTP/1.1 400 Bad\r\n\r\n",
            ErrorKind::Handshake,
            "no SOCKS5",
        ),
        ("socks5://", b"\x05\x01", ErrorKind::Handshake, "a method"),
        (
            "socks5://",
            b"\x05\x02",
            ErrorKind::Unauthenticated,
            "may want a user and a password",
        ),
        (
            "socks5://",
            b"\x05\xff",
            ErrorKind::Unauthenticated,
            "may want a user",
        ),
        (
            "socks5://",
            b"\x05\x00\x04\x00\x00\x01",
            ErrorKind::Handshake,
            "no SOCKS5",
        ),
        (
            "socks5://",
            b"\x05\x00\x05\x00\x01\x01",
            ErrorKind::Handshake,
            "breaks the rules",
        ),
        (
            "socks5://",
            b"\x05\x00\x05\x00\x00\x09",
            ErrorKind::Handshake,
            "breaks the rules",
        ),
        ("socks5://", cut, ErrorKind::Handshake, "it broke off"),
    ] {
        let proxy = scripted(move |mut socket| async move {
            answer(&mut socket, sent).await;
            socket.shutdown().await.unwrap();
            gone(socket).await;
        })
        .await;
        let error = proxy.dial(scheme, "a:7").await.unwrap_err();
        check(&error, kind, &[word, "tcp://a:7", &proxy.at.to_string()]);
    }
}

#[tokio::test]
async fn an_endless_answer_ends_the_dial() {
    let proxy = scripted(|mut socket| async move {
        let mut sent = b"HTTP/1.1 200 Fine\r\n".to_vec();
        // It is the client that breaks off.
        while socket.write_all(&sent).await.is_ok() {
            sent = b"a: b\r\n".repeat(100);
        }
    })
    .await;
    let error = proxy.dial("http://", "a:7").await.unwrap_err();
    check(&error, ErrorKind::Handshake, &["longer than 16384 bytes"]);
    proxy.task.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_comes_byte_by_byte_is_read() {
    let proxy = scripted(|mut socket| async move {
        socket.set_nodelay(true).unwrap();
        for byte in b"HTTP/1.1 200 Fine\r\n\r\nx" {
            answer(&mut socket, &[*byte]).await;
            tokio::task::yield_now().await;
        }
        gone(socket).await;
    })
    .await;
    let mut socket = proxy.dial("http://", "a:7").await.unwrap().socket;
    expect(&mut socket, b"x").await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_says_nothing_is_named_when_the_time_is_over() {
    for scheme in ["http://me:secret@", "socks5://me:secret@"] {
        // It reads all, and answers nothing.
        let proxy = scripted(gone).await;
        let error = proxy.dial(scheme, "a:7").await.unwrap_err();
        let named = format!("through the proxy {}", proxy.dialer(scheme).shown());
        check(&error, ErrorKind::TimedOut, &["tcp://a:7", &named]);
    }
}

impl TcpDialer {
    /// The address of the proxy, as errors show it.
    fn shown(&self) -> String {
        let to = HostPort::new("a", 7);
        self.proxy("tcp", &to).unwrap().unwrap().to_string()
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let dialer = TcpDialer::new().with_proxy(format!("http://me:secret@{at}").parse().unwrap());
    let error = dial(&dialer, "a:7").await.unwrap_err();
    let named = format!("could not connect to the proxy http://{at} for tcp://a:7: ");
    check(&error, ErrorKind::Refused, &[&named]);
    // A label of DNS has at most 63 bytes, so nothing is asked of the network.
    let host = format!("{}.invalid", "x".repeat(64));
    let dialer = TcpDialer::new().with_proxy(format!("socks5://{host}").parse().unwrap());
    let error = dial(&dialer, "a:7").await.unwrap_err();
    let named = format!("the name {host:?} of the proxy socks5://{host}:1080 for tcp://a:7");
    check(&error, ErrorKind::Unreachable, &[&named]);
}

#[tokio::test]
async fn hosts_that_need_no_proxy_are_dialed_directly() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let nowhere = Proxy::parse("http://192.0.2.1:1").unwrap();
    let dialer = TcpDialer::new()
        .with_proxy(nowhere)
        .with_no_proxy(NoProxy::parse("127.0.0.0/8"));
    let Dialed { socket, remote } = dial(&dialer, &at.to_string()).await.unwrap();
    assert_eq!(remote, HostPort::from(at));
    assert_eq!(socket.peer_addr().unwrap(), at);
}

#[test]
fn the_environment_is_never_for_loopback_and_an_explicit_proxy_is() {
    let env = TcpDialer::from_variables(|name| match name {
        "ALL_PROXY" => Some("socks5://proxy:1080".to_owned()),
        "no_proxy" => Some("intra.example".to_owned()),
        _ => None,
    });
    let own = TcpDialer::new().with_proxy(Proxy::parse("proxy:1").unwrap());
    for (host, from_env) in [
        ("example.org", true),
        ("localhost.example.org", true),
        ("192.0.2.1", true),
        ("intra.example", false),
        ("localhost", false),
        ("LOCALHOST.", false),
        ("a.localhost", false),
        ("127.1.2.3", false),
        ("::1", false),
        ("::ffff:127.0.0.1", false),
        ("0.0.0.0", false),
    ] {
        let to = HostPort::new(host, 7);
        assert_eq!(env.proxy("tcp", &to).unwrap().is_some(), from_env, "{host}");
        assert!(own.proxy("tcp", &to).unwrap().is_some(), "{host}");
    }
    let none = TcpDialer::from_variables(|_| None);
    let to = HostPort::new("example.org", 7);
    assert_eq!(none.proxy("tls", &to).unwrap(), None);
}

#[tokio::test]
async fn a_variable_that_names_no_proxy_fails_the_dial() {
    let env = TcpDialer::from_variables(|name| {
        (name == "all_proxy").then(|| "ftp://me:secret@a:1".to_owned())
    });
    let error = dial(&env, "example.org:7").await.unwrap_err();
    check(&error, ErrorKind::ConfigInvalid, &["variable all_proxy"]);
}

#[tokio::test]
async fn a_function_gets_the_name_and_its_errors_are_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let dialer = TcpDialer::new().with_dialer(move |to| async move {
        match &*to.host {
            "name.invalid" => TcpStream::connect(at).await,
            "refused.invalid" => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Err(Error::new(ErrorKind::LimitReached, "not today").into()),
        }
    });
    let Dialed { socket, remote } = dial(&dialer, "name.invalid:7").await.unwrap();
    assert_eq!(remote, HostPort::new("name.invalid", 7));
    assert_eq!(socket.peer_addr().unwrap(), at);
    let error = dial(&dialer, "refused.invalid:7").await.unwrap_err();
    check(&error, ErrorKind::Refused, &["tcp://refused.invalid:7"]);
    let error = dial(&dialer, "other.invalid:7").await.unwrap_err();
    check(&error, ErrorKind::LimitReached, &["not today"]);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_hangs_is_dropped_when_the_time_is_over() {
    let held = Arc::new(());
    let inside = held.clone();
    let dialer = TcpDialer::new().with_dialer(move |_| {
        let inside = inside.clone();
        async move {
            let _inside = inside;
            std::future::pending().await
        }
    });
    let error = dial(&dialer, "a:7").await.unwrap_err();
    check(&error, ErrorKind::TimedOut, &["tcp://a:7"]);
    assert_eq!(Arc::strong_count(&held), 2);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dial_leaves_from_the_local_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let free = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let port = free.local_addr().unwrap();
    drop(free);
    for local in ["127.0.0.2:0".parse().unwrap(), port] {
        let dialer = TcpDialer::new().with_local_addr(local);
        let (dialed, accepted) = tokio::join!(dial(&dialer, &at), listener.accept());
        dialed.unwrap();
        let from = accepted.unwrap().1;
        assert_eq!(from.ip(), local.ip());
        assert!(local.port() == 0 || from.port() == local.port());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_local_address_that_cannot_be_is_an_error_with_its_name() {
    for (local, host, kind, word) in [
        (
            "192.0.2.1:0",
            "127.0.0.1:7",
            ErrorKind::Unreachable,
            "from 192.0.2.1:0",
        ),
        (
            "[::1]:0",
            "127.0.0.1:7",
            ErrorKind::Unreachable,
            "IPv4 only",
        ),
        (
            "127.0.0.1:0",
            "[::1]:7",
            ErrorKind::Unreachable,
            "IPv6 only",
        ),
    ] {
        let dialer = TcpDialer::new().with_local_addr(local.parse().unwrap());
        let error = dial(&dialer, host).await.unwrap_err();
        check(&error, kind, &[word, host]);
    }
    let listener = TcpListener::bind("127.0.0.4:0").await.unwrap();
    let taken = listener.local_addr().unwrap();
    let dialer = TcpDialer::new().with_local_addr(taken);
    let error = dial(&dialer, "127.0.0.1:7").await.unwrap_err();
    check(&error, ErrorKind::AddrInUse, &[&format!("from {taken}")]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dial_leaves_by_the_interface() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let dialer = TcpDialer::new().with_interface("lo");
    let dialed = dial(&dialer, &at).await.unwrap();
    let device = socket2::SockRef::from(&dialed.socket).device().unwrap();
    assert_eq!(device.as_deref(), Some(&b"lo"[..]));
    for name in ["nosuchif7", "", "a-name-that-is-too-long", "lo\0"] {
        let dialer = TcpDialer::new().with_interface(name);
        let error = dial(&dialer, &at).await.unwrap_err();
        let named = format!("by the interface {name:?}");
        check(&error, ErrorKind::Unreachable, &[&named, &at]);
    }
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
#[tokio::test]
async fn an_interface_cannot_be_chosen_here() {
    let dialer = TcpDialer::new().with_interface("lo");
    let error = dial(&dialer, "127.0.0.1:7").await.unwrap_err();
    check(&error, ErrorKind::Unsupported, &["by the interface"]);
}
