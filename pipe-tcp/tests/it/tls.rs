//! `tls://`: who is let in, and what is said to those who are not.

use std::error::Error as _;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipe_core::{CloseReason, Config, Conn, ErrorKind, Listener, PeerIdentity, Stream, Transport};
use pipe_tcp::tls::{CertSha256, Identity, Roots, TlsOptions, TlsTransport};
use pipe_tcp::{MuxConn, TcpTransport};
use pipe_tls::rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{Issuer, addr, expect_service, listen, refused, soon, tls};

/// The hash of the peer's own certificate, and how many it has shown.
fn shown(conn: &impl Conn) -> Option<(CertSha256, usize)> {
    match conn.peer_identity()? {
        PeerIdentity::Certificates(list) => Some((CertSha256::of(&list[0]), list.len())),
        other => panic!("{other:?} is no certificate"),
    }
}

#[tokio::test]
async fn the_address_of_a_listener_can_be_dialed_as_it_is() {
    let root = Issuer::new();
    let stranger = TlsTransport::new();
    for identity in [
        None,
        Some(Identity::self_signed(["else"]).unwrap()),
        Some(root.issue("example.org", (2000, 2001)).identity()),
    ] {
        let mut options = TlsOptions::new();
        if let Some(identity) = &identity {
            options = options.with_identity(identity.clone());
        }
        let transport = tls(options);
        for on in [
            "tls://localhost:0",
            "tls://0.0.0.0:0",
            "tls://127.0.0.1:0?wire=raw&alpn=x",
        ] {
            let listener = transport.listen(&addr(on)).await.unwrap();
            let local = listener.local_addr();
            let hash: CertSha256 = local.param("cert-sha256").unwrap().parse().unwrap();
            let (here, there) = expect_service(&stranger, &listener, &local).await;
            assert_eq!(here.remote_addr(), local);
            assert_eq!(there.local_addr(), local);
            assert_eq!(here.local_addr(), there.remote_addr());
            assert_eq!(shown(&here), Some((hash, 1)));
            assert_eq!(shown(&there), None);
            if let Some(identity) = &identity {
                assert_eq!(hash, identity.sha256());
            }
        }
    }
}

#[tokio::test]
async fn an_address_can_be_listened_on_again_with_its_certificate() {
    let transport = TlsTransport::new();
    let first = transport.listen(&addr("tls://localhost:0")).await.unwrap();
    let local = first.local_addr();
    let error = transport.listen(&local).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    drop(first);
    let again = transport.clone().listen(&local).await.unwrap();
    assert_eq!(again.local_addr(), local);
    expect_service(&TlsTransport::new(), &again, &local).await;

    // Another transport has other certificates.
    drop(again);
    let error = TlsTransport::new().listen(&local).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInvalid);
}

#[tokio::test]
async fn a_listener_that_is_vouched_for_needs_no_hash() {
    let root = Issuer::new();
    let identity = root.localhost();
    let (listener, by_name) = listen(TlsOptions::new().with_identity(identity.clone())).await;
    let dialing = tls(TlsOptions::new().with_roots(root.roots()));
    let (here, there) = expect_service(&dialing, &listener, &by_name).await;
    assert_eq!(shown(&here), Some((identity.sha256(), 1)));

    // The socket is within reach on both sides.
    for conn in [&here, &there] {
        let socket: &TcpStream = conn.inner().expect("the socket");
        assert!(socket.nodelay().unwrap());
    }

    // By another name, if the address says which one the certificate is for.
    let by_ip = addr(&format!("tls://127.0.0.1:{}", by_name.port().unwrap()));
    let error = refused(&dialing, &by_ip).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let named = by_ip.with_param("server-name", "localhost");
    expect_service(&dialing, &listener, &named).await;
}

#[tokio::test]
async fn a_listener_that_is_not_trusted_is_told_apart_by_its_fault() {
    let (root, other) = (Issuer::new(), Issuer::new());
    let dialing = tls(TlsOptions::new().with_roots(root.roots()));
    for (identity, why) in [
        (
            root.issue("localhost", (2000, 2001)).identity(),
            "the peer's certificate expired on 2001-01-01",
        ),
        (
            root.issue("localhost", (2800, 2801)).identity(),
            "the peer's certificate is not valid yet, but from 2800-01-01 on",
        ),
        (
            root.issue("example.org", (2000, 2900)).identity(),
            "the peer's certificate is not for localhost, but for example.org",
        ),
        (
            other.localhost(),
            "the peer's certificate has an unknown issuer, whom this side does not trust",
        ),
    ] {
        let (listener, by_name) = listen(TlsOptions::new().with_identity(identity)).await;
        let error = refused(&dialing, &by_name).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert_eq!(
            error.to_string(),
            format!("could not connect to {by_name}: {why}")
        );
        // Whoever knows the certificate is not kept out by what it says, and the listener goes on.
        expect_service(&dialing, &listener, &listener.local_addr()).await;
    }
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one() {
    let (listener, by_name) = listen(TlsOptions::new()).await;
    let own = listener.local_addr().param("cert-sha256").unwrap();
    let pin = CertSha256::of(b"another").to_string();
    let pinned = by_name.with_param("cert-sha256", &pin);
    let error = refused(&TlsTransport::new(), &pinned).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let why = format!("the pinned certificate is {pin}, but the peer showed {own}");
    assert_eq!(
        error.to_string(),
        format!("could not connect to {pinned}: {why}")
    );
    expect_service(&TlsTransport::new(), &listener, &listener.local_addr()).await;
}

#[tokio::test]
async fn the_system_does_not_trust_a_certificate_made_on_the_spot() {
    let (_listener, by_name) = listen(TlsOptions::new()).await;
    let error = refused(&TlsTransport::new(), &by_name).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let why = error.to_string();
    // Where the system has no roots at all, that is what has to be said.
    assert!(
        why.contains("the peer's certificate has an unknown issuer")
            || why.contains("the system has no root certificates to trust"),
        "{why}"
    );
}

#[tokio::test]
async fn both_sides_know_each_other_with_mutual_tls() {
    let (servers, clients) = (Issuer::new(), Issuer::new());
    let (server, client) = (servers.localhost(), clients.localhost());
    let options = TlsOptions::new()
        .with_identity(server.clone())
        .with_client_roots(clients.roots());
    let (listener, by_name) = listen(options).await;
    let dialing = TlsOptions::new()
        .with_identity(client.clone())
        .with_roots(servers.roots());
    let (here, there) = expect_service(&tls(dialing), &listener, &by_name).await;
    assert_eq!(shown(&here), Some((server.sha256(), 1)));
    assert_eq!(shown(&there), Some((client.sha256(), 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutual_tls_keeps_strangers_out_and_tells_them_why() {
    let (servers, clients) = (Issuer::new(), Issuer::new());
    let options = TlsOptions::new()
        .with_identity(servers.localhost())
        .with_client_roots(clients.roots());
    let (listener, by_name) = listen(options).await;
    let base = TlsOptions::new().with_roots(servers.roots());
    let old = clients.issue("device", (2000, 2001)).identity();
    for (options, why) in [
        (
            base.clone(),
            "the peer requires a certificate of this side, and there is none",
        ),
        (
            base.clone().with_identity(servers.localhost()),
            "the peer refused the certificate of this side: it has an unknown issuer",
        ),
        (
            base.clone().with_identity(old),
            "the peer refused the certificate of this side: it has expired or is not valid yet",
        ),
    ] {
        let dialing = tls(options);
        for to in [&by_name, &listener.local_addr()] {
            // Again and again: the reason must not depend on who is faster.
            for _ in 0..20 {
                let error = refused(&dialing, to).await;
                assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
                assert_eq!(
                    error.to_string(),
                    format!("could not connect to {to}: {why}")
                );
            }
        }
    }
    let known = base.with_identity(clients.localhost());
    expect_service(&tls(known), &listener, &by_name).await;
}

#[tokio::test]
async fn a_raw_dial_that_mutual_tls_refuses_learns_it_from_the_connection() {
    let clients = Issuer::new();
    let strict = tls(TlsOptions::new().with_client_roots(clients.roots()));
    let listener = strict
        .listen(&addr("tls://localhost:0?wire=raw"))
        .await
        .unwrap();
    // Plain yamux has no greeting, so the dial is over before the listener has judged.
    let failed = match soon(TlsTransport::new().dial(&listener.local_addr())).await {
        Ok(conn) => match soon(conn.closed()).await {
            CloseReason::Failed(error) => error,
            other => panic!("it ended with {other:?}"),
        },
        Err(error) => error,
    };
    assert!(
        failed.to_string().contains("CertificateRequired"),
        "{failed}"
    );
}

#[tokio::test]
async fn identities_and_roots_come_from_files() {
    let root = Issuer::new();
    let pem = root.issue("localhost", (2000, 2900));
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("cert.pem"), &pem.cert).unwrap();
    fs::write(path("key.pem"), &pem.key).unwrap();
    fs::write(path("other-key.pem"), root.issue("b", (2000, 2900)).key).unwrap();
    fs::write(path("empty.pem"), "").unwrap();

    let identity = Identity::from_pem_files(path("cert.pem"), path("key.pem")).unwrap();
    let (listener, by_name) = listen(TlsOptions::new().with_identity(identity)).await;
    expect_service(
        &tls(TlsOptions::new().with_roots(root.roots())),
        &listener,
        &by_name,
    )
    .await;

    for (cert, key, kind, why) in [
        (
            "none.pem",
            "key.pem",
            ErrorKind::Io,
            "none.pem: No such file",
        ),
        (
            "cert.pem",
            "none.pem",
            ErrorKind::Io,
            "none.pem: No such file",
        ),
        (
            "key.pem",
            "cert.pem",
            ErrorKind::ConfigInvalid,
            "key.pem; there is a private key: are the two mixed up?",
        ),
        (
            "empty.pem",
            "key.pem",
            ErrorKind::ConfigInvalid,
            "empty.pem, it is empty",
        ),
        (
            "cert.pem",
            "other-key.pem",
            ErrorKind::ConfigInvalid,
            "other-key.pem does not belong to the certificate in ",
        ),
    ] {
        let error = Identity::from_pem_files(path(cert), path(key)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let error = Roots::from_pem_file(path("key.pem")).unwrap_err();
    assert!(
        error.to_string().contains("there is no certificate in"),
        "{error}"
    );
}

#[tokio::test]
async fn a_peer_without_tls_at_a_tls_listener() {
    let (listener, by_name) = listen(TlsOptions::new()).await;
    let port = by_name.port().unwrap();
    let plain = TcpTransport::new();
    let error = refused(&plain, &addr(&format!("tcp://localhost:{port}"))).await;
    assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    let why = "the listener speaks TLS, which tls:// is for";
    assert!(error.to_string().ends_with(why), "{error}");
    expect_service(&TlsTransport::new(), &listener, &listener.local_addr()).await;
}

#[tokio::test]
async fn a_tls_dial_to_a_listener_without_tls() {
    let plain = TcpTransport::new();
    let listener = plain.listen(&addr("tcp://localhost:0")).await.unwrap();
    let port = listener.local_addr().port().unwrap();
    let pin = CertSha256::of(b"").to_string();
    let to = addr(&format!("tls://localhost:{port}?cert-sha256={pin}"));
    let error = refused(&TlsTransport::new(), &to).await;
    assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
    let why = format!("could not connect to {to}: the peer ");
    assert!(error.to_string().starts_with(&why), "{error}");
    assert!(error.to_string().contains("not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_peer_of_tls_that_does_not_speak_our_protocol() {
    let root = Issuer::new();
    let identity = root.localhost();
    let options = TlsOptions::new().with_identity(identity.clone());
    let dialing = tls(TlsOptions::new().with_roots(root.roots()));

    // It speaks another protocol, and says so.
    let (listener, by_name) = listen(options.clone()).await;
    let raw = by_name.clone().with_param("wire", "raw");
    let error = refused(&dialing, &raw.with_param("alpn", "h2")).await;
    assert_eq!(error.kind(), ErrorKind::Handshake);
    let why = "the peer speaks no protocol (ALPN) that this side offers";
    assert!(error.to_string().ends_with(why), "{error}");

    // It does not say what it speaks: as a listener,
    let raw = tls(options.clone());
    let raw = raw
        .listen(&addr("tls://localhost:0?wire=raw"))
        .await
        .unwrap();
    let port = raw.local_addr().port().unwrap();
    let error = refused(&dialing, &addr(&format!("tls://localhost:{port}"))).await;
    assert_eq!(error.kind(), ErrorKind::Handshake);
    let why = "the peer did not negotiate pipe/1 (ALPN)";
    assert!(error.to_string().ends_with(why), "{error}");

    // and as a dialer, which the listener ends without delay.
    let silent = by_name.clone().with_param("wire", "raw");
    let conn = soon(dialing.dial(&silent)).await.unwrap();
    soon(conn.closed()).await;
    expect_service(&dialing, &listener, &by_name).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_delays_nobody() {
    let (listener, by_name) = listen(TlsOptions::new()).await;
    let port = by_name.port().unwrap();
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let started = Instant::now();
    expect_service(&TlsTransport::new(), &listener, &listener.local_addr()).await;
    let limit = Config::default().handshake_timeout;
    assert!(started.elapsed() < limit, "it waited for the silent ones");
    drop(silent);
}

#[tokio::test]
async fn a_listener_that_says_nothing_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = format!("tls://{}", silent.local_addr().unwrap());
    let config = Config::default().with_handshake_timeout(Duration::from_millis(200));
    let options = TlsOptions::new().with_roots(Issuer::new().roots());
    let transport = tls(options).with_config(config).unwrap();
    let error = refused(&transport, &addr(&to)).await;
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(
        error.to_string(),
        format!("{to} made no connection within 200ms")
    );
}

#[tokio::test]
async fn a_close_says_goodbye_in_tls_and_a_cut_is_an_error() {
    // A listener of rustls itself, which sees what is said below the multiplexer.
    let root = Issuer::new();
    let identity = root.localhost();
    let config = TlsOptions::new().server_config(&identity, &[]).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let dialing = tls(TlsOptions::new().with_roots(root.roots()));
    let to = addr(&format!("tls://localhost:{port}?wire=raw"));
    let accept = async {
        let (socket, _) = socket.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
        acceptor.accept(socket).await.unwrap()
    };

    let dial = async { dialing.dial(&to).await.unwrap() };
    let (conn, mut peer) = soon(async { tokio::join!(dial, accept) }).await;
    conn.close(0, "");
    let mut rest = Vec::new();
    // Without a close_notify, rustls gives an error here.
    soon(peer.read_to_end(&mut rest)).await.unwrap();

    let accept = async {
        let (socket, _) = socket.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
        acceptor.accept(socket).await.unwrap()
    };
    let dial = async { dialing.dial(&to).await.unwrap() };
    let (conn, peer) = soon(async { tokio::join!(dial, accept) }).await;
    let mut stream = conn.open_stream().await.unwrap();
    let mut cut = peer.into_inner().0;
    cut.shutdown().await.unwrap();
    let read = soon(stream.read(&mut [0; 8])).await;
    let error = read.expect_err("a cut is no end");
    assert_ne!(error.kind(), io::ErrorKind::WouldBlock);
    let CloseReason::Failed(error) = soon(conn.closed()).await else {
        panic!("a cut is no close");
    };
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    let cause = error.source().expect("a cause").to_string();
    assert!(
        cause.contains("without sending TLS close_notify"),
        "{cause}"
    );
}

#[tokio::test]
async fn an_address_without_sense_is_refused_before_anything_is_done() {
    let transport = TlsTransport::new();
    for (text, why) in [
        ("tls://localhost:1?cert-sha256=xyz", "cert-sha256: "),
        ("tls://localhost:1/path", "there is no path"),
        ("tls://lo%20cal:1", "neither a DNS name nor an IP address"),
    ] {
        let Err(error) = transport.dial(&addr(text)).await else {
            panic!("{text} was dialed");
        };
        assert_eq!(error.kind(), ErrorKind::AddrInvalid, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let pin = CertSha256::of(b"").to_string();
    let on = format!("tls://localhost:0?cert-sha256={pin}");
    let error = transport.listen(&addr(&on)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInvalid);
    let why = format!("invalid address {on}: it asks for the certificate {pin}, but ");
    assert!(error.to_string().starts_with(&why), "{error}");
}

#[tokio::test]
async fn a_peer_that_breaks_off_within_the_handshake_harms_nobody() {
    let (listener, by_name) = listen(TlsOptions::new()).await;
    let port = by_name.port().unwrap();
    let config = TlsOptions::new()
        .client_config(Some(CertSha256::of(b"")), &[])
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    let mut client = pipe_tls::rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    for words in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &hello[..20], &hello] {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(words).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // The listener closes its side; how far it came does not matter.
        let _ = soon(socket.read_to_end(&mut answer)).await;
        expect_service(&TlsTransport::new(), &listener, &listener.local_addr()).await;
    }
}

#[tokio::test]
async fn much_data_goes_both_ways_at_once() {
    const SIZE: usize = 8 * 1024 * 1024;
    let (listener, _) = listen(TlsOptions::new()).await;
    let (here, there) =
        expect_service(&TlsTransport::new(), &listener, &listener.local_addr()).await;
    let exchange = async |conn: &MuxConn, opens: bool, seed: u8| {
        let stream = if opens {
            conn.open_stream().await.unwrap()
        } else {
            conn.accept_stream().await.unwrap()
        };
        let (mut send, mut recv) = stream.into_split();
        let data: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8 ^ seed).collect();
        let mut got = Vec::new();
        let (sent, read) = tokio::join!(
            async {
                send.write_all(&data).await?;
                send.shutdown().await
            },
            recv.read_to_end(&mut got)
        );
        sent.unwrap();
        read.unwrap();
        got
    };
    let (at_here, at_there) =
        soon(async { tokio::join!(exchange(&here, true, 0), exchange(&there, false, 255)) }).await;
    let whole = |got: &[u8], seed: u8| {
        got.len() == SIZE
            && got
                .iter()
                .enumerate()
                .all(|(i, b)| *b == (i % 251) as u8 ^ seed)
    };
    assert!(whole(&at_here, 255));
    assert!(whole(&at_there, 0));
}
