//! What a listener answers to a program that knows nothing but HTTP.

use pipe_core::{CloseReason, Conn, ErrorKind, Listener, PeerIdentity, Transport};
use pipe_webrtc::{HttpVerdict, Identity, Offered, Roots, TlsOptions, Wire};

use super::{Answer, connect, echo, listen, request, socket, whip};
use crate::common::{soon, transport};

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");

/// A fragment that belongs to no offer.
const OTHER: &str = "a=ice-ufrag:abcdefgh\r\na=ice-pwd:0123456789012345678901\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n";

async fn offered(wire: Wire) -> Offered {
    let transport = transport().with_wire(wire);
    soon("an offer", transport.offer_by_hand())
        .await
        .expect("an offer")
}

/// Returns what an offer says of ICE.
fn fragment(offer: &str) -> String {
    let lines = offer.lines().filter(|line| {
        ["a=ice-", "m=", "a=mid:", "a=candidate:"]
            .iter()
            .any(|begin| line.starts_with(begin))
            && !line.starts_with("a=ice-options")
    });
    lines.map(|line| format!("{line}\r\n")).collect()
}

fn resource(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/sdp"));
    answer.header("location").expect("a resource").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_posted_and_its_resource_patched_and_deleted() {
    let listener = listen(&whip(), "webrtc+http://127.0.0.1:0/a/b?wire=raw").await;
    let to = socket(&listener);
    let offered = offered(Wire::Raw { ping: true }).await;
    let sdp = offered.sdp();
    let answer = request(to, "POST /a/b", &[SDP], &sdp).await;
    let resource = resource(&answer);
    assert!(resource.starts_with("/a/b/"), "{resource}");
    assert_eq!(resource.len(), "/a/b/".len() + 32);
    assert!(answer.body.contains("a=candidate:") && answer.body.contains("a=end-of-candidates"));
    let tag = answer.header("etag").expect("a tag").to_owned();

    let both = async { tokio::try_join!(offered.accept(&answer.body), listener.accept()) };
    let (here, there) = soon("a connection", both).await.expect("a connection");
    echo(&here, &there).await;

    let patch = format!("PATCH {resource}");
    let own = fragment(&sdp);
    for (headers, body, status) in [
        (&[FRAGMENT][..], own.as_str(), 428),
        (&[FRAGMENT, ("If-Match", "\"other\"")], &own, 412),
        (&[SDP, ("If-Match", &tag)], &own, 415),
        (&[FRAGMENT, ("If-Match", &tag)], "nonsense", 400),
        (&[FRAGMENT, ("If-Match", &tag)], OTHER, 400),
        (&[FRAGMENT, ("If-Match", &tag)], &own, 204),
        (&[FRAGMENT, ("If-Match", "*")], &own, 204),
    ] {
        let answer = request(to, &patch, headers, body).await;
        assert_eq!(answer.status, status, "{headers:?} {answer:?}");
        assert_eq!(answer.header("etag"), None);
    }

    let answer = request(to, &patch, &[FRAGMENT, ("If-Match", "*")], OTHER).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some(FRAGMENT.1));
    assert!(answer.body.contains("a=ice-ufrag:") && answer.body.contains("a=candidate:"));
    let other = answer.header("etag").expect("a tag").to_owned();
    assert_ne!(other, tag);
    // The same restart again, as after an answer that was lost, changes nothing.
    let again = request(to, &patch, &[FRAGMENT, ("If-Match", "*")], OTHER).await;
    assert_eq!((again.status, &again.body), (200, &answer.body));
    assert_eq!(again.header("etag"), Some(other.as_str()));
    let answer = request(to, &patch, &[FRAGMENT, ("If-Match", &tag)], OTHER).await;
    assert_eq!(answer.status, 412);
    let answer = request(to, &patch, &[FRAGMENT, ("If-Match", &other)], OTHER).await;
    assert_eq!(answer.status, 204);

    let delete = format!("DELETE {resource}");
    assert_eq!(request(to, &delete, &[], "").await.status, 200);
    let reason = soon("the end", there.closed()).await;
    assert!(
        matches!(&reason, CloseReason::Remote { code: 0, .. }),
        "{reason:?}"
    );
    assert_eq!(request(to, &delete, &[], "").await.status, 404);
    assert_eq!(request(to, &patch, &[FRAGMENT], &own).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_goes_with_its_connection() {
    let listener = listen(&whip(), "webrtc+http://127.0.0.1:0/").await;
    let to = socket(&listener);
    let offered = offered(Wire::Pipe).await;
    let answer = request(to, "POST /", &[SDP], &offered.sdp()).await;
    let resource = resource(&answer);
    let both = async { tokio::try_join!(offered.accept(&answer.body), listener.accept()) };
    let (here, there) = soon("a connection", both).await.expect("a connection");
    here.close(3, "enough");
    soon("the end", there.closed()).await;
    let gone = async {
        while request(to, &format!("DELETE {resource}"), &[], "")
            .await
            .status
            != 404
        {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the resource", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_resource_is_deleted_without_a_close_has_failed() {
    let listener = listen(&whip(), "webrtc+http://127.0.0.1:0/").await;
    let to = socket(&listener);
    let offered = offered(Wire::Pipe).await;
    let answer = request(to, "POST /", &[SDP], &offered.sdp()).await;
    let resource = resource(&answer);
    let both = async { tokio::try_join!(offered.accept(&answer.body), listener.accept()) };
    let (_here, there) = soon("a connection", both).await.expect("a connection");
    let answer = request(to, &format!("DELETE {resource}"), &[], "").await;
    assert_eq!(answer.status, 200);
    let reason = soon("the end", there.closed()).await;
    let CloseReason::Failed(error) = &reason else {
        panic!("ended as {reason:?}");
    };
    assert!(
        error.to_string().contains("deleted its resource"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_offer_is_refused_with_the_reason() {
    let listener = listen(&whip(), "webrtc+http://127.0.0.1:0/a").await;
    let to = socket(&listener);
    let none = "0123456789abcdef0123456789abcdef";
    let at = |method: &str, path: &str| format!("{method} {path}");
    let long = "x".repeat(64 * 1024 + 1);
    let foreign = ("Origin", "https://other.example");
    for (line, headers, body, status) in [
        (at("POST", "/b"), &[SDP][..], "", 404),
        (at("POST", "/a/b"), &[SDP], "", 404),
        (at("GET", "/a"), &[], "", 405),
        (at("PUT", "/a"), &[SDP], "", 405),
        (at("PATCH", "/a"), &[FRAGMENT], "", 405),
        (at("POST", "/a"), &[], "", 415),
        (at("POST", "/a"), &[FRAGMENT], "", 415),
        (at("POST", "/a"), &[SDP], "", 400),
        (at("POST", "/a"), &[SDP], "v=0\r\n", 400),
        (at("POST", "/a"), &[SDP], OTHER, 400),
        (at("POST", "/a"), &[SDP], &long, 413),
        (at("POST", "/a"), &[SDP, foreign], "", 403),
        (at("POST", &format!("/a/{none}")), &[SDP], "", 405),
        (at("PATCH", &format!("/a/{none}")), &[FRAGMENT], "", 404),
        (at("DELETE", &format!("/a/{none}")), &[], "", 404),
        (at("GET", &format!("/a/{none}")), &[], "", 405),
    ] {
        let answer = request(to, &line, headers, body).await;
        assert_eq!(answer.status, status, "{line} {headers:?}: {answer:?}");
        assert!(
            answer.body.ends_with('\n') && answer.body.len() > 2,
            "{answer:?}"
        );
        if status == 405 {
            assert!(answer.header("allow").is_some(), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_looks_like_the_name_of_a_resource_is_an_endpoint() {
    let path = "/a/0123456789abcdef0123456789abcdef";
    let listener = listen(&whip(), &format!("webrtc+http://127.0.0.1:0{path}")).await;
    let (here, there) = connect(&whip(), &listener).await;
    echo(&here, &there).await;
    soon("a restart", here.restart_ice())
        .await
        .expect("a restart");
    let answer = request(socket(&listener), &format!("PATCH {path}"), &[FRAGMENT], "").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_an_allowed_origin_is_told_what_it_may_do() {
    let transport = whip().with_allowed_origins(["https://page.example"]);
    let listener = listen(&transport, "webrtc+http://127.0.0.1:0/a").await;
    let to = socket(&listener);
    let page = ("Origin", "https://page.example");
    let asked = ("Access-Control-Request-Method", "POST");
    let answer = request(to, "OPTIONS /a", &[page, asked], "").await;
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("accept-post", "application/sdp"),
        ("allow", "POST, OPTIONS"),
        ("access-control-allow-origin", "https://page.example"),
        (
            "access-control-allow-methods",
            "POST, PATCH, DELETE, OPTIONS",
        ),
        (
            "access-control-allow-headers",
            "Authorization, Content-Type, If-Match",
        ),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    let offered = offered(Wire::Pipe).await;
    let answer = request(to, "POST /a", &[SDP, page], &offered.sdp()).await;
    assert_eq!(answer.header(asked.0), None);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://page.example"));
    let exposed = answer.header("access-control-expose-headers");
    assert_eq!(exposed, Some("Location, ETag, Retry-After"));
    resource(&answer);
    // What is no page is told nothing of pages.
    let answer = request(to, "OPTIONS /a", &[], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = request(to, "OPTIONS /a", &[("Origin", "https://a.example")], "").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_sees_every_request_and_a_dialer_has_the_token_for_all() {
    let server = whip().with_request_check(|request| match request.bearer_token() {
        Some("key") => HttpVerdict::Accept,
        Some(_) => HttpVerdict::Forbidden,
        None => HttpVerdict::Unauthorized,
    });
    let listener = listen(&server, "webrtc+http://127.0.0.1:0/a").await;
    let to = socket(&listener);
    let path = "/a/0123456789abcdef0123456789abcdef";
    for (line, status) in [
        ("POST /a".to_owned(), 401),
        (format!("PATCH {path}"), 401),
        (format!("DELETE {path}"), 401),
    ] {
        let answer = request(to, &line, &[SDP], "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let addr = listener.local_addr();
    let wrong = whip().with_bearer_token("other").expect("a token");
    for client in [whip(), wrong] {
        let error = client.dial(&addr).await.expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    }
    let client = whip().with_bearer_token("key").expect("a token");
    let (here, there) = connect(&client, &listener).await;
    soon("a restart", here.restart_ice())
        .await
        .expect("a restart");
    echo(&here, &there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_both_sides_know_each_other() {
    let identity = Identity::self_signed(["localhost"]).expect("a certificate");
    let roots = Roots::of(&identity).expect("a root");
    let options = TlsOptions::new()
        .with_identity(identity.clone())
        .with_client_roots(roots);
    let listener = listen(
        &whip().with_tls(options.clone()),
        "webrtc+https://127.0.0.1:0/a",
    )
    .await;
    let addr = listener.local_addr();
    let pin = addr.param("cert-sha256");
    assert_eq!(pin, Some(identity.sha256().to_string()));
    let client = whip().with_tls(TlsOptions::new().with_identity(identity.clone()));
    let (here, there) = connect(&client, &listener).await;
    echo(&here, &there).await;
    assert_eq!(here.remote_addr(), addr);
    for conn in [&here, &there] {
        let shown = conn.peer_identity();
        let Some(PeerIdentity::Certificates(list)) = &shown else {
            panic!("known as {shown:?}");
        };
        assert_eq!(
            list.first().map(|own| &own[..]),
            Some(&identity.certificates()[0][..])
        );
    }
    let error = whip().dial(&addr).await.expect_err("no certificate");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    let other = Identity::self_signed(["localhost"]).expect("a certificate");
    let text = addr
        .as_str()
        .replace(&identity.sha256().to_string(), &other.sha256().to_string());
    let wrong = text.parse().expect("an address");
    let error = client.dial(&wrong).await.expect_err("another certificate");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}
