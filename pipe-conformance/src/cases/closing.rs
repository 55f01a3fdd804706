use std::fmt::Debug;
use std::io;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use pipe_core::{
    BoxConn, CloseReason, Config, Conn, ConnState, Error, ErrorKind, MAX_REASON_LEN, SendStream,
    Stream, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::case::{Case, case};
use crate::clock::by_failure;
use crate::echo::expect_echo;
use crate::env::{Env, Role};
use crate::expect::{expect_kind, read_error, write_error};
use crate::fixture::Capability;
use crate::payload::{expect_all, expect_bytes, send, send_all};
use crate::time::unless_stuck;
use crate::waits::Named;
use crate::window::{fill, more_than_a_window};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_close_tells_its_code_and_reason),
        case!(a_close_wakes_all_that_is_blocked).config(|config| config.with_max_streams(2)),
        case!(the_first_close_counts),
        case!(operations_after_a_close_tell_whose_it_was),
        case!(the_end_can_be_awaited_late_and_by_many),
        case!(the_last_handle_closes_after_the_last_stream),
        case!(a_stream_whose_transport_dies_gives_an_error)
            .needs(&[Capability::Faults])
            .config(short_of_breath),
        case!(an_io_error_gives_its_cause_back),
        case!(a_drain_lets_streams_complete),
        case!(a_drain_of_an_idle_connection_is_over_soon).once(),
        case!(a_long_reason_is_cut_between_characters),
    ]
}

pub(super) async fn a_close_tells_its_code_and_reason<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    pair.opener.close(5, "bye");
    let ends = async { tokio::join!(pair.opener.closed(), pair.acceptor.closed()) };
    let (here, there) = env.soon("the end at both sides", ends).await;
    expect_local(&here, 5, "bye");
    expect_remote(&there, 5, "bye");
    for conn in [&pair.opener, &pair.acceptor] {
        let mut state = conn.state();
        let last = state.wait_for(|state| state.is_final());
        let last = *env.soon("the last state", last).await.expect("a state");
        assert_eq!(last, ConnState::Closed);
    }
}

async fn a_close_wakes_all_that_is_blocked(env: Env) {
    let pair = env.pair().await;
    let data = env.payload(more_than_a_window(&env));
    let (mut full_here, mut full_there) = pair.stream().await;
    let (idle_here, idle_there) = pair.stream().await;
    tokio::join!(fill(&mut full_here, &data), fill(&mut full_there, &data));
    // So that the acceptor is at its limit, too.
    let mut others = Vec::new();
    for _ in 0..env.config().max_streams {
        let both = async { tokio::join!(pair.acceptor.open_stream(), pair.opener.accept_stream()) };
        let (opened, accepted) = env.soon("a stream from the acceptor", both).await;
        others.push((opened.expect("an open"), accepted.expect("an accept")));
    }

    let mut here = blocked(&pair.opener, full_here, idle_here);
    let mut there = blocked(&pair.acceptor, full_there, idle_there);
    for blocked in [&mut here, &mut there] {
        if let Some(Some((what, error))) = unless_stuck(blocked.next()).await {
            panic!("{what} should have been blocked, but gave {error:?}");
        }
    }
    pair.opener.close(3, "stop it");
    while let Some((what, error)) = env.soon("waking one's own side", here.next()).await {
        expect_local(closed_by(&error, what), 3, "stop it");
    }
    while let Some((what, error)) = env.soon("waking the peer", there.next()).await {
        expect_remote(closed_by(&error, what), 3, "stop it");
    }
}

/// Blocked operations, each with its name and the error that it ends with.
type Blocked<'a> = FuturesUnordered<BoxFuture<'a, (&'static str, Error)>>;

/// One operation of each kind.
fn blocked<C: Conn>(conn: &C, mut full: C::Stream, idle: C::Stream) -> Blocked<'_> {
    let (mut send, mut recv) = idle.into_split();
    let closed = ErrorKind::Closed;
    FuturesUnordered::from_iter([
        async move { ("a write", write_error(&mut full).await) }.boxed(),
        async move { ("a read", read_error(&mut recv).await) }.boxed(),
        async move {
            (
                "a wait for a stop",
                expect_kind(send.stopped().await, closed),
            )
        }
        .boxed(),
        async move { ("an open", expect_kind(conn.open_stream().await, closed)) }.boxed(),
        async move { ("an accept", expect_kind(conn.accept_stream().await, closed)) }.boxed(),
    ])
}

async fn the_first_close_counts(env: Env) {
    let pair = env.pair().await;
    pair.opener.close(1, "first");
    pair.opener.close(2, "second");
    expect_local(&env.soon("the end", pair.opener.closed()).await, 1, "first");
    let there = env
        .soon("the end at the peer", pair.acceptor.closed())
        .await;
    expect_remote(&there, 1, "first");
    pair.acceptor.close(3, "third");
    let end = env.soon("the end at the peer, told again", pair.acceptor.closed());
    expect_remote(&end.await, 1, "first");
    let end = env.soon("the end, told again", pair.opener.closed());
    expect_local(&end.await, 1, "first");
}

async fn operations_after_a_close_tell_whose_it_was(env: Env) {
    let pair = env.pair().await;
    pair.opener.close(4, "over");
    env.soon("the end at the peer", pair.acceptor.closed())
        .await;
    for (what, error) in errors_after_the_end(&env, &pair.opener).await {
        expect_local(closed_by(&error, what), 4, "over");
    }
    for (what, error) in errors_after_the_end(&env, &pair.acceptor).await {
        expect_remote(closed_by(&error, what), 4, "over");
    }
}

async fn errors_after_the_end(env: &Env, conn: &BoxConn) -> [(&'static str, Error); 3] {
    let closed = ErrorKind::Closed;
    let open = env.soon("an open's error", conn.open_stream()).await;
    let accept = env.soon("an accept's error", conn.accept_stream()).await;
    let ping = env.soon("a ping's error", conn.ping()).await;
    [
        ("an open", expect_kind(open, closed)),
        ("an accept", expect_kind(accept, closed)),
        ("a ping", expect_kind(ping, closed)),
    ]
}

async fn the_end_can_be_awaited_late_and_by_many(env: Env) {
    const WAITERS: usize = 50;
    let pair = env.pair().await;
    for conn in [&pair.opener, &pair.acceptor] {
        assert!(
            conn.closed().now_or_never().is_none(),
            "it ended without a close"
        );
    }
    let ends = || {
        let here = join_all((0..WAITERS).map(|_| pair.opener.closed()));
        let there = join_all((0..WAITERS).map(|_| pair.acceptor.closed()));
        async { tokio::join!(here, there) }
    };
    let close = async { pair.opener.close(6, "all") };
    let early = async { tokio::join!(ends(), close).0 };
    let early = env.soon("the end for those who waited", early).await;
    let late = env.soon("the end for those who came late", ends()).await;
    for (here, there) in [early, late] {
        here.iter().for_each(|end| expect_local(end, 6, "all"));
        there.iter().for_each(|end| expect_remote(end, 6, "all"));
    }
}

pub(super) async fn the_last_handle_closes_after_the_last_stream<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(100_000);
    drop(pair.opener.clone());
    drop(pair.opener);

    expect_echo(&env, &mut here, &mut there).await;
    tokio::join!(send_all(&mut here, &data), expect_all(&mut there, &data));
    tokio::join!(send_all(&mut there, &data), expect_all(&mut here, &data));
    assert!(
        pair.acceptor.closed().now_or_never().is_none(),
        "the connection was closed under a stream"
    );
    drop(here);
    let end = env
        .soon("the end at the peer", pair.acceptor.closed())
        .await;
    expect_remote(&end, 0, "");
}

fn short_of_breath(config: Config) -> Config {
    config
        .with_keep_alive(Duration::from_millis(100))
        .with_disconnected_after(Duration::from_millis(500))
        .with_failed_after(Duration::from_secs(2))
}

async fn a_stream_whose_transport_dies_gives_an_error(env: Env) {
    let pair = env.pair().await;
    let (opened, accepted) = pair.stream().await;
    let (mut survivor, mut victim) = match env.role() {
        Role::DialerOpens => (opened, accepted),
        Role::ListenerOpens => (accepted, opened),
    };
    let data = env.payload(1000);
    send(&mut victim, &data).await;
    expect_bytes(&mut survivor, &data[..500]).await;
    env.faults().kill_listening_side();

    let error = by_failure(&env, "an error of a read", read_error(&mut survivor)).await;
    assert_eq!(error.kind(), ErrorKind::Failed, "a read gave {error:?}");
    let error = by_failure(&env, "an error of a write", write_error(&mut survivor)).await;
    assert_eq!(error.kind(), ErrorKind::Failed, "a write gave {error:?}");
}

async fn an_io_error_gives_its_cause_back(env: Env) {
    let pair = env.pair().await;
    let mut buf = [0; 100];

    let (mut here, mut there) = pair.stream().await;
    there.reset(7);
    there.stop(9);
    let read = env.soon("a reset", here.read(&mut buf)).await;
    expect_cause(
        read,
        ErrorKind::Reset,
        Some(7),
        io::ErrorKind::ConnectionReset,
    );
    let write = env.soon("a stop", first_failed_write(&mut here)).await;
    expect_cause(
        write,
        ErrorKind::Stopped,
        Some(9),
        io::ErrorKind::BrokenPipe,
    );

    let (mut here, _there) = pair.stream().await;
    let (mut ended, _peer) = pair.stream().await;
    ended.shutdown().expect_ok("a shutdown").await;
    let write = ended.write(&buf).named("a write after the shutdown").await;
    expect_cause(write, ErrorKind::Io, None, io::ErrorKind::BrokenPipe);

    pair.acceptor.close(11, "enough");
    let read = env.soon("a close", here.read(&mut buf)).await;
    expect_cause(
        read,
        ErrorKind::Closed,
        Some(11),
        io::ErrorKind::UnexpectedEof,
    );
    let write = env.soon("a close", first_failed_write(&mut here)).await;
    expect_cause(
        write,
        ErrorKind::Closed,
        Some(11),
        io::ErrorKind::UnexpectedEof,
    );
}

async fn first_failed_write<S: Stream>(stream: &mut S) -> io::Result<()> {
    loop {
        stream.write_all(b"x").await?;
        sleep(Duration::from_millis(1)).await;
    }
}

/// Panics unless the `io::Error` is of this kind, and its cause of that kind and code.
fn expect_cause<T: Debug>(
    result: io::Result<T>,
    kind: ErrorKind,
    code: Option<u32>,
    io_kind: io::ErrorKind,
) {
    let outer = result.expect_err("an operation that has to fail");
    assert_eq!(outer.kind(), io_kind, "{outer:?}");
    let Some(cause) = Error::from_io(&outer) else {
        panic!("{outer:?} carries no pipewerks error");
    };
    assert_eq!((cause.kind(), cause.code()), (kind, code), "{outer:?}");
    let cause = Error::from(outer);
    assert_eq!((cause.kind(), cause.code()), (kind, code));
}

pub(super) async fn a_drain_lets_streams_complete<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let data = env.payload(50_000);
    let mut streams = Vec::new();
    for _ in 0..10 {
        let (mut here, mut there) = pair.stream().await;
        expect_echo(&env, &mut here, &mut there).await;
        streams.push((here, there));
    }

    let drain = unless_stuck(pair.opener.drain()).await;
    assert!(drain.is_none(), "a drain with open streams gave {drain:?}");
    let opener = pair.opener.clone();
    let drain = tokio::spawn(async move { opener.drain().await });
    let open = env.soon("an open's error", pair.opener.open_stream()).await;
    expect_kind(open, ErrorKind::Closed);
    let refused = async {
        while pair.acceptor.open_stream().await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        pair.acceptor.open_stream().await
    };
    let open = env.soon("the error of an open of the peer", refused).await;
    expect_kind(open, ErrorKind::Closed);

    for (here, there) in &mut streams {
        tokio::join!(send_all(here, &data), expect_all(there, &data));
        tokio::join!(send_all(there, &data), expect_all(here, &data));
    }
    drop(streams);
    let drained = env.soon("the end of the drain", drain).await;
    drained.expect("no panic").expect("a drain");
    let ends = async { tokio::join!(pair.opener.closed(), pair.acceptor.closed()) };
    let (here, there) = env.soon("the end at both sides", ends).await;
    expect_local(&here, 0, "");
    expect_remote(&there, 0, "");
}

async fn a_drain_of_an_idle_connection_is_over_soon(env: Env) {
    let pair = env.pair().await;
    let (here, there) = pair.stream().await;
    drop((here, there));
    let drain = env.soon("a drain", pair.opener.drain()).await;
    drain.expect("a drain");
    let here = env.soon("the end here", pair.opener.closed()).await;
    expect_local(&here, 0, "");
    let there = env
        .soon("the end at the peer", pair.acceptor.closed())
        .await;
    expect_remote(&there, 0, "");

    let pair = env.pair().await;
    let both = async { tokio::join!(pair.opener.drain(), pair.acceptor.drain()) };
    let (here, there) = env.soon("a drain from both sides", both).await;
    here.expect("a drain while the peer drains");
    there.expect("a drain while the peer drains");
}

/// Reasons are text here: bytes that are not come only from a peer that breaks the rules.
async fn a_long_reason_is_cut_between_characters(env: Env) {
    let reasons = [
        String::new(),
        "line\nbreak\0and\u{fffd}".to_owned(),
        "x".repeat(MAX_REASON_LEN),
        "x".repeat(64 * 1024),
        "ä".repeat(32 * 1024),
        format!("x{}", "€".repeat(20 * 1024)),
        format!("xyz{}", "🜁".repeat(16 * 1024)),
    ];
    for reason in &reasons {
        let pair = env.pair().await;
        pair.opener.close(u32::MAX, reason);
        let ends = async { tokio::join!(pair.opener.closed(), pair.acceptor.closed()) };
        let (here, there) = env.soon("the end at both sides", ends).await;
        let mut end = reason.len().min(MAX_REASON_LEN);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        expect_local(&here, u32::MAX, &reason[..end]);
        expect_remote(&there, u32::MAX, &reason[..end]);
    }
}

/// Panics unless this side closed the connection with this code and reason.
fn expect_local(end: &CloseReason, code: u32, reason: &str) {
    match end {
        CloseReason::Local { code: c, reason: r } if (*c, &**r) == (code, reason) => {}
        _ => panic!("closed locally with code {code} and {reason:?}, but it says: {end:?}"),
    }
}

/// Panics unless the peer closed the connection with this code and reason.
fn expect_remote(end: &CloseReason, code: u32, reason: &str) {
    match end {
        CloseReason::Remote { code: c, reason: r } if (*c, &**r) == (code, reason) => {}
        _ => panic!("closed by the peer with code {code} and {reason:?}, but it says: {end:?}"),
    }
}

/// The close that the error of an operation reports.
fn closed_by<'a>(error: &'a Error, what: &str) -> &'a CloseReason {
    match error.close_reason() {
        Some(reason) => reason,
        None => panic!("{what} after a close gave {error:?}"),
    }
}
