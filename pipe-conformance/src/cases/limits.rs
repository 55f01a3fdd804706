use std::collections::{HashSet, VecDeque};
use std::pin::pin;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use pipe_core::{Config, Conn, ErrorKind, Listener, Result, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::case::{Case, case};
use crate::echo::expect_echo;
use crate::ending::{ENDINGS, end};
use crate::env::Env;
use crate::measure::heap_in_use;
use crate::payload::expect_all;
use crate::time::unless_stuck;
use crate::waits::Named;
use crate::window::{SLACK, fill, more_than_a_window};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(opens_go_to_the_limit_and_then_wait).config(|config| config.with_max_streams(8)),
        case!(an_open_that_waits_goes_on_when_a_stream_ends)
            .config(|config| config.with_max_streams(4)),
        case!(ended_streams_do_not_count)
            .weight(2)
            .config(|config| config.with_max_streams(8)),
        // Streams that do not come soon fail it long before; a long round trip may use all of it.
        case!(seventy_thousand_streams_one_after_another).weight(1500),
        case!(memory_with_unaccepted_streams_is_bounded)
            .isolated()
            .config(narrow_streams),
        case!(a_full_accept_backlog_loses_no_connection)
            .once()
            .config(|config| config.with_accept_backlog(2).with_max_handshakes(2)),
    ]
}

async fn opens_go_to_the_limit_and_then_wait(env: Env) {
    let pair = env.pair().await;
    let mut opened = Vec::new();
    for _ in 0..env.config().max_streams {
        let open = env.soon("an open within the limit", pair.opener.open_stream());
        opened.push(open.await.expect("an open within the limit"));
    }
    let mut waiting = pin!(pair.opener.open_stream());
    if let Some(result) = unless_stuck(waiting.as_mut()).await {
        panic!("an open above the limit gave {:?}", result.map(|s| s.id()));
    }

    env.soon("a ping of the opener", pair.opener.ping())
        .await
        .expect("a ping of the opener");
    env.soon("a ping of the acceptor", pair.acceptor.ping())
        .await
        .expect("a ping of the acceptor");
    let back = async { tokio::join!(pair.acceptor.open_stream(), pair.opener.accept_stream()) };
    let (there, here) = env.soon("a stream in the other direction", back).await;
    let (mut there, mut here) = (there.expect("an open"), here.expect("an accept"));
    expect_echo(&env, &mut there, &mut here).await;

    let mut accepted = Vec::new();
    for _ in 0..opened.len() {
        let accept = env.soon("accepting what was opened", pair.acceptor.accept_stream());
        accepted.push(accept.await.expect("an accept"));
    }
    for here in &mut opened {
        let id = here.id();
        let there = accepted.iter_mut().find(|there| there.id() == id);
        expect_echo(&env, here, there.expect("a stream with the same id")).await;
    }
    assert!(
        unless_stuck(waiting).await.is_none(),
        "an open above the limit ended because the others were accepted"
    );
}

async fn an_open_that_waits_goes_on_when_a_stream_ends(env: Env) {
    let pair = env.pair().await;
    let mut streams = VecDeque::new();
    for _ in 0..env.config().max_streams {
        streams.push_back(pair.stream().await);
    }
    for ending in ENDINGS {
        let mut waiting = pin!(pair.opener.open_stream());
        assert!(
            unless_stuck(waiting.as_mut()).await.is_none(),
            "an open went through at the limit, before {ending:?}"
        );
        let (opened, accepted) = streams.pop_front().expect("a stream to end");
        end(ending, opened, accepted).await;

        let both = async { tokio::join!(waiting, pair.acceptor.accept_stream()) };
        let (opened, accepted) = env.soon("the open that waited", both).await;
        let mut opened = opened.expect("the open that waited");
        let mut accepted = accepted.expect("an accept");
        expect_echo(&env, &mut opened, &mut accepted).await;
        streams.push_back((opened, accepted));
    }
}

async fn ended_streams_do_not_count(env: Env) {
    let pair = env.pair().await;
    let streams = 10 * env.config().max_streams as usize;
    for ending in ENDINGS.into_iter().cycle().take(streams) {
        let (mut opened, mut accepted) = pair.stream().await;
        expect_echo(&env, &mut opened, &mut accepted).await;
        end(ending, opened, accepted).await;
    }
}

async fn seventy_thousand_streams_one_after_another(env: Env) {
    const STREAMS: u64 = 70_000;
    let pair = env.pair().await;
    let open = async {
        for i in 0..STREAMS {
            let request = i.to_be_bytes();
            // The round is one wait, and not each step of it, since it is measured in tens of thousands.
            let round = async {
                let mut stream = pair.opener.open_stream().await.expect("an open");
                stream.write_all(&request).await.expect("a request");
                stream.shutdown().await.expect("a shutdown");
                expect_all(&mut stream, &request).await;
            };
            env.soon("a stream there and back", round).await;
        }
    };
    let answer = async {
        for _ in 0..STREAMS {
            let mut stream = pair.acceptor.accept_stream().await.expect("an accept");
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.expect("a request");
            stream.write_all(&request).await.expect("an answer");
            stream.shutdown().await.expect("a shutdown");
        }
    };
    tokio::join!(open, answer);
}

async fn memory_with_unaccepted_streams_is_bounded(env: Env) {
    let pair = env.pair().await;
    let limit = env.config().max_streams as usize;
    let window = env.config().stream_window as usize;
    let data = env.payload(more_than_a_window(&env));
    let most = limit * (2 * window + 16 * 1024) + 4 * SLACK;
    let before = heap_in_use();
    let check = |what: &str| {
        if let (Some(before), Some(now)) = (before, heap_in_use()) {
            let grown = now.saturating_sub(before);
            assert!(grown <= most, "{what} took {grown} bytes of memory");
        }
    };

    let mut streams = Vec::new();
    while let Some(opened) = unless_stuck(pair.opener.open_stream()).await {
        streams.push(opened.expect("an open within the limit"));
        assert!(streams.len() <= limit, "an open above the limit succeeded");
    }
    let taken = join_all(streams.iter_mut().map(|stream| fill(stream, &data))).await;
    let taken: usize = taken.into_iter().sum();
    assert!(taken <= most, "{limit} streams took {taken} unread bytes");
    check("streams that are not accepted");

    drop(streams);
    for _ in 0..20 * limit {
        let Some(opened) = unless_stuck(pair.opener.open_stream()).await else {
            // The streams that were dropped count until the peer accepts them.
            break;
        };
        if fill(&mut opened.expect("an open"), &data[..1024]).await < 1024 {
            break;
        }
    }
    check("streams that were dropped before they were accepted");
}

fn narrow_streams(config: Config) -> Config {
    config
        .with_max_streams(64)
        .with_stream_window(64 * 1024)
        .with_connection_window(2 * 64 * 64 * 1024)
}

async fn a_full_accept_backlog_loses_no_connection(env: Env) {
    const DIALS: usize = 24;
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let mut dials: FuturesUnordered<_> = (0..DIALS).map(|_| env.transport().dial(&addr)).collect();
    let mut dialed = Vec::new();
    while let Some(Some(result)) = unless_stuck(dials.next()).await {
        dialed.extend(unless_refused(result));
    }
    let room = env.config().accept_backlog + env.config().max_handshakes;
    // Twice, since a transport may hold one of each in its own hands.
    assert!(
        dialed.len() <= 2 * room as usize,
        "{} dials succeeded before any accept, with room for {room}",
        dialed.len()
    );

    let mut accepted = Vec::new();
    while !dials.is_empty() {
        tokio::select! {
            Some(result) = dials.next() => dialed.extend(unless_refused(result)),
            conn = listener.accept() => accepted.push(conn.expect("an accept")),
        }
    }
    while accepted.len() < dialed.len() {
        let accept = env.soon("accepting what was dialed", listener.accept());
        accepted.push(accept.await.expect("an accept"));
    }
    assert_eq!(
        accepted.len(),
        dialed.len(),
        "connections accepted and dialed"
    );

    for (conn, i) in dialed.iter().zip(0..) {
        let mut stream = conn.open_stream().expect_ok("an open").await;
        stream.write_u64(i).expect_ok("a write").await;
        stream.shutdown().expect_ok("a shutdown").await;
    }
    let mut seen = HashSet::new();
    for conn in &accepted {
        let read = async {
            let mut stream = conn.accept_stream().expect_ok("an accept").await;
            stream.read_u64().expect_ok("a read").await
        };
        seen.insert(env.soon("what the dialer sent", read).await);
    }
    assert_eq!(seen.len(), dialed.len(), "each dial is accepted once");
}

/// The connection, or nothing when the dial was refused for lack of room, or broken off for another one.
fn unless_refused<C>(dialed: Result<C>) -> Option<C> {
    match dialed {
        Ok(conn) => Some(conn),
        Err(e) => {
            let kinds = [
                ErrorKind::Refused,
                ErrorKind::LimitReached,
                ErrorKind::TimedOut,
                ErrorKind::Handshake,
            ];
            assert!(kinds.contains(&e.kind()), "a dial failed: {e:?}");
            None
        }
    }
}
