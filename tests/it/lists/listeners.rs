use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use pipewerks::{Addr, Conn, Error, ErrorKind, Listener, Transport};

use super::fakes::registry;

/// Number of connections of a flood, less than a backlog holds.
const FLOOD: usize = 100;

#[tokio::test(start_paused = true)]
async fn connections_of_all_addresses_are_accepted() {
    let (registry, _) = registry();
    let list: Addr = "inproc://a,fake://b,inproc://c".parse().unwrap();
    let listener = registry.listen(&list).await.unwrap();
    assert_eq!(listener.local_addr(), list);
    for addr in ["inproc://c", "inproc://b", "inproc://a"] {
        let dialed = registry.dial(&addr.parse().unwrap()).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        assert_eq!(accepted.local_addr().as_str(), addr);
        dialed.ping().await.unwrap();
    }
    // The names were left to the transport.
    let listener = registry
        .listen(&"inproc://,inproc://".parse().unwrap())
        .await
        .unwrap();
    let local = listener.local_addr();
    assert_ne!(local.alternatives()[0], local.alternatives()[1]);
    let dialed = registry.dial(&local).await.unwrap();
    assert_eq!(dialed.remote_addr(), local.alternatives()[0]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_on_one_address_does_not_starve_another() {
    let (registry, _) = registry();
    let listener = registry
        .listen(&"inproc://a,inproc://b,inproc://c".parse().unwrap())
        .await
        .unwrap();
    let dial = async |name: &str| registry.dial(&name.parse().unwrap()).await.unwrap();
    for flooded in ["inproc://a", "inproc://c"] {
        let mut dialed = Vec::new();
        for _ in 0..FLOOD {
            dialed.push(dial(flooded).await);
        }
        let quiet = dial("inproc://b").await;
        let mut taken = Vec::new();
        for _ in 0..2 {
            let conn = listener.accept().await.unwrap();
            taken.push(conn.local_addr().to_string());
        }
        assert!(
            taken.contains(&quiet.remote_addr().to_string()),
            "{taken:?}"
        );
        for _ in 0..FLOOD - 1 {
            let conn = listener.accept().await.unwrap();
            assert_eq!(conn.local_addr().as_str(), flooded);
        }
        assert!(listener.accept().now_or_never().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_accept_that_is_dropped_loses_no_connection() {
    let (registry, _) = registry();
    let list: Addr = "inproc://a,inproc://b".parse().unwrap();
    let listener = registry.listen(&list).await.unwrap();
    let (mut dialed, mut accepted) = (Vec::new(), 0);
    for number in 0..FLOOD {
        let mut waiting = Box::pin(listener.accept());
        assert!(waiting.as_mut().now_or_never().is_none());
        let addr = &list.alternatives()[number % 2];
        dialed.push(registry.dial(addr).await.unwrap());
        if number % 3 == 0 {
            waiting.await.unwrap();
            accepted += 1;
        } else {
            // Dropped while a connection is there for it.
            drop(waiting);
            while let Some(conn) = listener.accept().now_or_never() {
                conn.unwrap();
                accepted += 1;
            }
        }
    }
    assert_eq!(accepted, FLOOD);
}

#[tokio::test]
async fn each_connection_goes_to_one_of_many_accepts() {
    let (registry, _) = registry();
    let list: Addr = "inproc://a,inproc://b".parse().unwrap();
    let listener = registry.listen(&list).await.unwrap();
    let accepts = join_all((0..FLOOD).map(|_| listener.accept()));
    let dials = join_all((0..FLOOD).map(|at| registry.dial(&list.alternatives()[at % 2])));
    let both = async { tokio::join!(accepts, dials) };
    let limit = Duration::from_secs(60);
    let (accepted, dialed) = tokio::time::timeout(limit, both).await.expect("an end");
    for (accepted, dialed) in accepted.iter().zip(&dialed) {
        assert!(accepted.is_ok() && dialed.is_ok());
    }
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_close_and_a_drop_end_all_and_free_the_addresses() {
    let (registry, _) = registry();
    let list: Addr = "inproc://a,inproc://b".parse().unwrap();
    for close in [true, false] {
        let listener = registry.listen(&list).await.unwrap();
        if close {
            let (waited, ()) = tokio::join!(listener.accept(), async { listener.close() });
            for error in [waited.unwrap_err(), listener.accept().await.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Closed);
                let why = format!("the listener on {list} is closed");
                assert_eq!(error.to_string(), why);
            }
        } else {
            drop(listener);
        }
        for part in list.alternatives() {
            let error = registry.dial(part).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_addresses_are_bound_or_none() {
    let (registry, _) = registry();
    let listen = async |text: &str| registry.listen(&text.parse().unwrap()).await;
    let _taken = listen("inproc://taken").await.unwrap();
    for (list, kind, named) in [
        (
            "inproc://a,inproc://taken",
            ErrorKind::AddrInUse,
            "inproc://taken",
        ),
        (
            "inproc://a,fake://b,gopher://c",
            ErrorKind::AddrUnsupported,
            "gopher://c",
        ),
        ("inproc://a,inproc://a", ErrorKind::AddrInUse, "inproc://a"),
    ] {
        let error = listen(list).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        let shown = error.to_string();
        assert!(
            shown.starts_with("cannot listen on all of a list: "),
            "{shown}"
        );
        assert!(shown.contains(named), "{shown}");
        listen("inproc://a,inproc://b")
            .await
            .expect("they are free");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_listener_is_told_once_and_the_others_go_on() {
    let (registry, fake) = registry();
    let listener = registry
        .listen(&"inproc://a,fake://b".parse().unwrap())
        .await
        .unwrap();
    let broken = Error::new(ErrorKind::Failed, "the radio is off");
    let (waited, _) = tokio::join!(listener.accept(), async {
        fake.end.send_replace(Some(broken))
    });
    let error = waited.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let why = "a listener of inproc://a,fake://b has ended, and the others go on: fake://b: the radio is off";
    assert_eq!(error.to_string(), why);

    assert!(listener.accept().now_or_never().is_none());
    let addr = "inproc://a".parse().unwrap();
    let (dialed, accepted) = tokio::join!(registry.dial(&addr), listener.accept());
    assert!(dialed.is_ok() && accepted.is_ok());
    listener.close();
    let error = listener.accept().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn when_all_have_ended_every_accept_gives_the_last_error() {
    let (registry, fake) = registry();
    let listener = registry
        .listen(&"fake://a,fake://b".parse().unwrap())
        .await
        .unwrap();
    let broken = Error::new(ErrorKind::Failed, "the radio is off");
    // Both wait while it happens, and one of them is told of the first end.
    let (one, other, _) = tokio::join!(listener.accept(), listener.accept(), async {
        fake.end.send_replace(Some(broken))
    });
    let mut texts = [one, other].map(|accepted| accepted.unwrap_err().to_string());
    texts.sort();
    assert!(texts[0].contains("the others go on: fake://a"), "{texts:?}");
    assert_eq!(texts[1], "the radio is off");
    for _ in 0..2 {
        let error = listener.accept().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.to_string(), "the radio is off");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_ends_no_listener_is_passed_on() {
    let (registry, fake) = registry();
    let listener = registry
        .listen(&"inproc://a,fake://b".parse().unwrap())
        .await
        .unwrap();
    let passing = Error::new(ErrorKind::LimitReached, "too many open files");
    fake.end.send_replace(Some(passing));
    for _ in 0..3 {
        let error = listener.accept().await.unwrap_err();
        assert_eq!(error.to_string(), "too many open files");
    }
    // The other one has its turn meanwhile.
    let addr = "inproc://a".parse().unwrap();
    let _dialed = registry.dial(&addr).await.unwrap();
    let taken = [listener.accept().await, listener.accept().await];
    assert!(taken.iter().any(Result::is_ok));
    fake.end.send_replace(None);
    let _dialed = registry.dial(&"inproc://b".parse().unwrap()).await.unwrap();
    listener.accept().await.unwrap();
}
