use std::time::Duration;

use futures::FutureExt;
use pipewerks::{CloseReason, Conn, ErrorKind, Listener, Transport};
use tokio::time::Instant;

use super::fakes::registry;

/// How long a dial runs by itself.
const DELAY: Duration = Duration::from_millis(250);

#[tokio::test(start_paused = true)]
async fn the_address_that_connected_is_tried_first_also_by_clones() {
    let (registry, fake) = registry();
    let _listener = registry
        .listen(&"inproc://b".parse().unwrap())
        .await
        .unwrap();
    let list = "fake://a?hangs,fake://b".parse().unwrap();
    let clone = registry.clone();

    let started = Instant::now();
    let conn = registry.dial(&list).await.unwrap();
    assert_eq!(conn.remote_addr().as_str(), "inproc://b");
    assert_eq!(started.elapsed(), DELAY);
    assert_eq!(fake.dialed(), ["a", "b"]);

    let started = Instant::now();
    clone.dial(&list).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(fake.dialed(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn the_listener_of_a_dial_that_is_given_up_sees_nothing() {
    let (registry, fake) = registry();
    let listen = async |name: &str| registry.listen(&name.parse().unwrap()).await.unwrap();
    let (slow, quick) = (
        listen("inproc://slow").await,
        listen("inproc://quick").await,
    );
    let list = "fake://slow?before=300,inproc://quick".parse().unwrap();
    let conn = registry.dial(&list).await.unwrap();
    assert_eq!(fake.dialed(), ["slow"]);
    assert_eq!(conn.remote_addr().as_str(), "inproc://quick");
    quick.accept().await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(slow.accept().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_got_through_too_late_is_closed_at_once() {
    let (registry, _) = registry();
    let listen = async |name: &str| registry.listen(&name.parse().unwrap()).await.unwrap();
    let (slow, quick) = (
        listen("inproc://slow").await,
        listen("inproc://quick").await,
    );
    // Its listener has the connection before the dialer does.
    let list = "fake://slow?after=300,inproc://quick".parse().unwrap();
    let dialed = registry.dial(&list).await.unwrap();
    let late = slow.accept().await.unwrap();
    match late.closed().await {
        CloseReason::Remote { code: 0, reason } => assert_eq!(&*reason, ""),
        other => panic!("{other}"),
    }
    // The other one is as good as any.
    let accepted = quick.accept().await.unwrap();
    dialed.ping().await.unwrap();
    accepted.ping().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_without_a_transport_lets_the_others_go_on() {
    let (registry, _) = registry();
    let _listener = registry
        .listen(&"inproc://a".parse().unwrap())
        .await
        .unwrap();
    let list = "gopher://x,inproc://a".parse().unwrap();
    let started = Instant::now();
    registry.dial(&list).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);

    let list = "gopher://x,finger://y".parse().unwrap();
    let error = registry.dial(&list).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrUnsupported);
    for part in [
        "no transport for gopher://x",
        "no transport for finger://y",
        "the known schemes are fake, inproc",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_error_names_each() {
    let (registry, _) = registry();
    let list = "gopher://x,inproc://nobody".parse().unwrap();
    let error = registry.dial(&list).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let shown = error.to_string();
    assert!(shown.contains("gopher://x"), "{shown}");
    assert!(shown.contains("inproc://nobody"), "{shown}");
}
