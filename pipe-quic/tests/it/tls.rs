//! Who is let in over `quic://`, and what is said to those who are not.

use pipe_core::{Addr, Conn, ErrorKind, Listener, PeerIdentity, Transport};
use pipe_quic::{CertSha256, Identity, QuicListener, QuicTransport, TlsOptions};

use crate::common::{Issuer, addr, connect, expect_service, refused, soon, tls};

/// The hash of the peer's own certificate.
fn shown(conn: &impl Conn) -> Option<CertSha256> {
    match conn.peer_identity()? {
        PeerIdentity::Certificates(list) => Some(CertSha256::of(&list[0])),
        other => panic!("{other:?} is no certificate"),
    }
}

/// A listener on a free port of `localhost`, with the address to dial by that name, without a hash.
async fn listen(options: TlsOptions) -> (QuicListener, Addr) {
    let listener = tls(options)
        .listen(&addr("quic://localhost:0"))
        .await
        .unwrap();
    let local = listener.local_addr();
    let by_name = format!("quic://localhost:{}", local.port().unwrap());
    (listener, addr(&by_name))
}

#[tokio::test]
async fn the_address_of_a_listener_can_be_dialed_as_it_is() {
    let root = Issuer::new();
    let stranger = QuicTransport::new();
    for identity in [
        None,
        Some(Identity::self_signed(["else"]).unwrap()),
        Some(root.issue("example.org", (2000, 2001))),
    ] {
        let mut options = TlsOptions::new();
        if let Some(identity) = &identity {
            options = options.with_identity(identity.clone());
        }
        let transport = tls(options);
        for on in ["quic://0.0.0.0:0", "quic://127.0.0.1:0?wire=raw&alpn=x"] {
            let listener = transport.listen(&addr(on)).await.unwrap();
            let local = listener.local_addr();
            let hash: CertSha256 = local.param("cert-sha256").unwrap().parse().unwrap();
            let (here, there) = expect_service(&stranger, &listener, &local).await;
            assert_eq!(here.remote_addr(), local);
            assert_eq!(there.local_addr(), local);
            assert_eq!(here.local_addr(), there.remote_addr());
            assert_eq!(shown(&here), Some(hash));
            assert_eq!(shown(&there), None);
            if let Some(identity) = &identity {
                assert_eq!(hash, identity.sha256());
            }
        }
    }
}

#[tokio::test]
async fn a_listener_that_is_not_trusted_is_told_apart_by_its_fault() {
    let (root, other) = (Issuer::new(), Issuer::new());
    let dialing = tls(TlsOptions::new().with_roots(root.roots()));
    let good = root.issue("localhost", (2000, 2900));
    let (listener, by_name) = listen(TlsOptions::new().with_identity(good)).await;
    expect_service(&dialing, &listener, &by_name).await;
    for (identity, why) in [
        (
            root.issue("localhost", (2000, 2001)),
            "the peer's certificate expired on 2001-01-01",
        ),
        (
            root.issue("localhost", (2800, 2801)),
            "the peer's certificate is not valid yet, but from 2800-01-01 on",
        ),
        (
            root.issue("example.org", (2000, 2900)),
            "the peer's certificate is not for localhost, but for example.org",
        ),
        (
            other.issue("localhost", (2000, 2900)),
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
    let error = refused(&QuicTransport::new(), &pinned).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    let why = format!("the pinned certificate is {pin}, but the peer showed {own}");
    assert_eq!(
        error.to_string(),
        format!("could not connect to {pinned}: {why}")
    );
}

#[tokio::test]
async fn clients_prove_who_they_are_where_they_are_asked() {
    let (root, other) = (Issuer::new(), Issuer::new());
    let (listener, _) = listen(TlsOptions::new().with_client_roots(root.roots())).await;
    let local = listener.local_addr();
    let device = root.issue("device 7", (2000, 2900));
    let known = tls(TlsOptions::new().with_identity(device.clone()));
    let (here, there) = expect_service(&known, &listener, &local).await;
    assert_eq!(shown(&there), Some(device.sha256()));
    assert!(shown(&here).is_some());

    for (identity, why) in [
        (
            None,
            "the peer requires a certificate of this side, and there is none",
        ),
        (
            Some(other.issue("device 7", (2000, 2900))),
            "the peer refused the certificate of this side: it has an unknown issuer",
        ),
        (
            Some(root.issue("device 7", (2000, 2001))),
            "the peer refused the certificate of this side: it has expired or is not valid yet",
        ),
    ] {
        let mut options = TlsOptions::new();
        if let Some(identity) = identity {
            options = options.with_identity(identity);
        }
        let error = refused(&tls(options), &local).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert_eq!(
            error.to_string(),
            format!("could not connect to {local}: {why}")
        );
    }
    expect_service(&known, &listener, &local).await;
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_no_peer() {
    let transport = QuicTransport::new();
    let listener = transport
        .listen(&addr("quic://127.0.0.1:0?wire=raw&alpn=h3"))
        .await
        .unwrap();
    let local = listener.local_addr();
    let pin = local.param("cert-sha256").unwrap();
    let port = local.port().unwrap();
    for to in [
        format!("quic://127.0.0.1:{port}?cert-sha256={pin}"),
        format!("quic://127.0.0.1:{port}?wire=raw&alpn=h2&cert-sha256={pin}"),
    ] {
        let error = refused(&transport, &addr(&to)).await;
        assert_eq!(error.kind(), ErrorKind::Handshake, "{error}");
        assert!(error.to_string().contains("ALPN"), "{error}");
    }
    let (here, there) = connect(&transport, &listener, &local).await;
    let error = soon(here.ping()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    drop(there);
}
