use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use pipe_core::{
    BoxConn, BoxStream, CloseReason, Conn, ConnState, Error, ErrorKind, Listener, OnDisconnect,
    RecvStream, Result, SendStream, Stream, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::task::{spawn_blocking, yield_now};

use crate::case::{Case, case};
use crate::clock::{by_failure, expect_state, times};
use crate::echo::expect_echo;
use crate::env::Env;
use crate::expect::{expect_io, expect_kind, read_error, write_error};
use crate::fixture::Capability;
use crate::payload::{expect_all, expect_bytes, expect_end, send, send_all};
use crate::time::unless_stuck;
use crate::waits::Named;
use crate::window::{fill, more_than_a_window};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_drain_by_the_acceptor_lets_streams_complete),
        case!(a_disconnect_fails_the_streams_where_that_was_asked_for)
            .needs(&[Capability::Faults])
            .weight(3)
            .config(|config| {
                times(config, 100, 500, 20_000).with_on_disconnect(OnDisconnect::FailStreams)
            }),
        case!(nothing_waits_after_a_failure)
            .needs(&[Capability::Faults])
            .weight(3)
            .config(|config| times(config, 100, 500, 3000).with_max_streams(2)),
        case!(a_close_ends_drains_and_waits_for_the_end),
        case!(crossing_resets_leave_nothing_waiting)
            .weight(3)
            // So that each round needs the slots of the one before.
            .config(|config| config.with_max_streams(8)),
        case!(a_read_that_moved_is_woken_where_it_is),
        case!(calls_that_moved_are_woken_where_they_are)
            .config(|config| config.with_max_streams(1)),
        case!(a_connection_whose_runtime_is_gone_fails)
            .once()
            .weight(2)
            .config(|config| times(config, 100, 1000, 3000)),
        case!(a_drain_waits_for_streams_that_wait_to_be_accepted),
    ]
}

async fn a_drain_by_the_acceptor_lets_streams_complete(env: Env) {
    let pair = env.pair().await;
    let data = env.payload(50_000);
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(pair.stream().await);
    }
    let drain = unless_stuck(pair.acceptor.drain()).await;
    assert!(drain.is_none(), "a drain with open streams gave {drain:?}");
    let acceptor = pair.acceptor.clone();
    let drain = tokio::spawn(async move { acceptor.drain().await });
    for (here, there) in &mut streams {
        tokio::join!(send_all(here, &data), expect_all(there, &data));
        tokio::join!(send_all(there, &data), expect_all(here, &data));
    }
    drop(streams);
    let drained = env.soon("the end of the drain", drain).await;
    drained.expect("no panic").expect("a drain");
    let end = env
        .soon("the end at the opener", pair.opener.closed())
        .await;
    assert!(
        matches!(end, CloseReason::Remote { code: 0, .. }),
        "it ended as {end:?}"
    );
}

async fn a_disconnect_fails_the_streams_where_that_was_asked_for(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    expect_echo(&env, &mut here, &mut there).await;
    env.faults().cut();
    let reads = async { tokio::join!(read_error(&mut here), read_error(&mut there)) };
    let (read_here, read_there) = by_failure(&env, "the errors of waiting reads", reads).await;
    for (error, side) in [(read_here, "opener"), (read_there, "acceptor")] {
        assert_eq!(
            error.kind(),
            ErrorKind::Disconnected,
            "a read of the {side} gave {error:?}"
        );
    }
    for stream in [&mut here, &mut there] {
        let error = env.soon("the error of a write", write_error(stream)).await;
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
    }
    env.faults().heal();
    for conn in [&pair.opener, &pair.acceptor] {
        expect_state(&env, conn, ConnState::Connected).await;
    }
    let (mut here, mut there) = pair.stream().await;
    expect_echo(&env, &mut here, &mut there).await;
}

/// Calls that wait, each with its name and the error that it ends with.
type Waiting<'a> = FuturesUnordered<BoxFuture<'a, (&'static str, Result<(), Error>)>>;

/// Waits for the end of the connection in every call that can wait for it: an open only where the streams are
/// at their limit.
fn every_wait<'a, C: Conn>(
    conn: &'a C,
    mut full: C::Stream,
    idle: C::Stream,
    at_limit: bool,
    drain: bool,
) -> Waiting<'a> {
    let (mut send, mut recv) = idle.into_split();
    let waiting = Waiting::new();
    let add = |name, future: BoxFuture<'a, Result<(), Error>>| {
        waiting.push(future.map(move |result| (name, result)).boxed());
    };
    add(
        "a write",
        async move { Err(write_error(&mut full).await) }.boxed(),
    );
    add(
        "a read",
        async move { Err(read_error(&mut recv).await) }.boxed(),
    );
    add(
        "a wait for a stop",
        async move { send.stopped().named("a wait for a stop").await.map(drop) }.boxed(),
    );
    add(
        "an accept",
        async { conn.accept_stream().await.map(drop) }.boxed(),
    );
    add(
        "a wait for the end",
        async {
            conn.closed().await;
            Ok(())
        }
        .boxed(),
    );
    if at_limit {
        add(
            "an open",
            async { conn.open_stream().await.map(drop) }.boxed(),
        );
        add("a ping", async { conn.ping().await.map(drop) }.boxed());
    }
    if drain {
        add("a drain", async { conn.drain().await }.boxed());
    }
    waiting
}

/// The names of the calls of [`every_wait`].
const NAMES: [&str; 8] = [
    "a write",
    "a read",
    "a wait for a stop",
    "an accept",
    "a wait for the end",
    "an open",
    "a ping",
    "a drain",
];

async fn nothing_waits_after_a_failure(env: Env) {
    let data = env.payload(more_than_a_window(&env));
    let pairs = [env.pair().await, env.pair().await];
    let mut streams = Vec::new();
    for pair in &pairs {
        let (mut full, mut full_there) = pair.stream().await;
        let (idle, idle_there) = pair.stream().await;
        tokio::join!(fill(&mut full, &data), fill(&mut full_there, &data));
        streams.push([(full, idle), (full_there, idle_there)]);
    }
    env.faults().cut();
    let [drained, kept] = &pairs;
    let mut waiting = Vec::new();
    for (pair, [(full, idle), (full_there, idle_there)]) in pairs.iter().zip(streams) {
        // A drain ends the opens that wait; so one of the connections is not drained.
        let drain = std::ptr::eq(pair, drained);
        waiting.push(every_wait(&pair.opener, full, idle, true, drain));
        waiting.push(every_wait(
            &pair.acceptor,
            full_there,
            idle_there,
            false,
            drain,
        ));
    }
    for (mut waiting, drain) in waiting.into_iter().zip([true, true, false, false]) {
        let mut left: Vec<&str> = NAMES.to_vec();
        loop {
            let what = format!("the end of {}", left.join(", "));
            let Some((name, result)) = by_failure(&env, &what, waiting.next()).await else {
                break;
            };
            left.retain(|other| *other != name);
            match result {
                Ok(()) => assert_eq!(name, "a wait for the end", "{name} went well"),
                Err(error) if drain && name == "an open" => {
                    assert_eq!(error.kind(), ErrorKind::Closed, "{name} gave {error:?}");
                }
                Err(error) => {
                    let right = error.kind() == ErrorKind::Failed
                        || (name == "a ping" && error.may_recover());
                    assert!(right, "{name} gave {error:?}");
                }
            }
        }
    }
    for conn in [
        &kept.opener,
        &kept.acceptor,
        &drained.opener,
        &drained.acceptor,
    ] {
        let end = env.soon("the end, told again", conn.closed()).await;
        assert!(matches!(end, CloseReason::Failed(_)), "it ended as {end:?}");
        let drain = env.soon("a drain after the end", conn.drain()).await;
        expect_kind(drain, ErrorKind::Failed);
    }
}

async fn a_close_ends_drains_and_waits_for_the_end(env: Env) {
    let data = env.payload(more_than_a_window(&env));
    for _ in 0..3 {
        let pair = env.pair().await;
        let (mut full, mut full_there) = pair.stream().await;
        let (idle, idle_there) = pair.stream().await;
        tokio::join!(fill(&mut full, &data), fill(&mut full_there, &data));
        let mut here = every_wait(&pair.opener, full, idle, false, true);
        let mut there = every_wait(&pair.acceptor, full_there, idle_there, false, true);
        for waiting in [&mut here, &mut there] {
            if let Some(Some((name, result))) = unless_stuck(waiting.next()).await {
                panic!("{name} should have waited, but gave {result:?}");
            }
        }
        pair.opener.close(3, "over");
        for waiting in [&mut here, &mut there] {
            while let Some((name, result)) =
                env.soon("the end of all that waits", waiting.next()).await
            {
                if let Err(error) = result {
                    assert_eq!(error.kind(), ErrorKind::Closed, "{name} gave {error:?}");
                } else {
                    assert_eq!(name, "a wait for the end", "{name} went well");
                }
            }
        }
    }
}

async fn crossing_resets_leave_nothing_waiting(env: Env) {
    const ROUNDS: usize = 100;
    const AT_ONCE: usize = 8;
    let pair = env.pair().await;
    for round in 0..ROUNDS / AT_ONCE {
        let mut streams = Vec::new();
        for _ in 0..AT_ONCE {
            streams.push(pair.stream().await);
        }
        let all = streams.into_iter().enumerate().map(|(i, (here, there))| {
            let turns = (round + i) % 5;
            async move { tokio::join!(abandon(here, turns), abandon(there, 4 - turns)) }
        });
        env.soon("the end of streams that both sides abandon", join_all(all))
            .await;
    }
    for conn in [&pair.opener, &pair.acceptor] {
        env.eventually("the end of all streams", || conn.stats().streams_open == 0)
            .await;
    }
}

/// Writes for some turns and then resets; reads on, until there is an error.
async fn abandon<S: Stream>(stream: S, turns: usize) {
    let (mut send, mut recv) = stream.into_split();
    let write = async {
        let data = [7; 10_000];
        for _ in 0..turns {
            if unless_stuck(send.write_all(&data))
                .await
                .is_none_or(|r| r.is_err())
            {
                break;
            }
            yield_now().await;
        }
        send.reset(1);
    };
    let read = async {
        // Each side resets, and stops only what it has seen reset: no other end is right.
        let error = read_error(&mut recv).await;
        assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(1)));
        recv.stop(2);
    };
    tokio::join!(write, read);
}

/// Waits for both, each of which is polled only when it is woken itself.
async fn apart<A: Future + Unpin, B: Future + Unpin>(one: A, other: B) -> (A::Output, B::Output) {
    let mut one = FuturesUnordered::from_iter([one]);
    let mut other = FuturesUnordered::from_iter([other]);
    let (one, other) = tokio::join!(one.next(), other.next());
    (one.expect("its output"), other.expect("its output"))
}

/// Polls the future once, with a waker that does nothing, and panics if it was ready.
async fn begin<F: Future + Unpin>(what: &str, future: &mut F) {
    assert!(poll_once(future).await.is_none(), "{what} did not wait");
}

/// Polls the future once, with a waker that does nothing. Returns its output if it was ready.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|_| {
        let mut deaf = Context::from_waker(Waker::noop());
        Poll::Ready(match future.poll_unpin(&mut deaf) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

async fn a_read_that_moved_is_woken_where_it_is(env: Env) {
    let pair = env.pair().await;
    let (mut here, there) = pair.stream().await;
    let (_send, mut recv) = there.into_split();
    for i in 0..3 {
        let data = env.payload_of(i, 100);
        begin("a read", &mut Box::pin(recv.read_u8())).await;
        let expected = data.clone();
        let moved = tokio::spawn(async move {
            expect_bytes(&mut recv, &expected).await;
            recv
        });
        yield_now().await;
        send(&mut here, &data).await;
        let read = env.soon("the end of a read that moved to another task", moved);
        recv = read.await.expect("no panic");
    }

    let (mut full, mut reader) = pair.stream().await;
    let data = env.payload(more_than_a_window(&env));
    let taken = fill(&mut full, &data).await;
    assert!(taken < data.len(), "the writer never had to wait");
    begin("a write", &mut Box::pin(full.write(&data[taken..]))).await;
    let rest = data[taken..].to_vec();
    let moved = tokio::spawn(async move { send_all(&mut full, &rest).await });
    expect_all(&mut reader, &data).await;
    let write = env.soon("the end of a write that moved to another task", moved);
    write.await.expect("no panic");
}

async fn calls_that_moved_are_woken_where_they_are(env: Env) {
    let pair = env.pair().await;
    let addr = pair.listener.local_addr();
    let mut accept = Box::pin(pair.listener.accept());
    begin("an accept of the listener", &mut accept).await;
    let both = apart(accept, Box::pin(env.transport().dial(&addr)));
    let (accepted, dialed) = env.soon("an accept of the listener that moved", both).await;
    drop((accepted.expect("an accept"), dialed.expect("a dial")));

    let mut dial = Box::pin(env.transport().dial(&addr));
    // On an ideal link it is over at once.
    let dialed = poll_once(&mut dial).await;
    let dial = async {
        match dialed {
            Some(dialed) => dialed,
            None => dial.await,
        }
    };
    let both = apart(Box::pin(dial), Box::pin(pair.listener.accept()));
    let (dialed, accepted) = env.soon("a dial that moved", both).await;
    drop((dialed.expect("a dial"), accepted.expect("an accept")));

    let mut accept = Box::pin(pair.acceptor.accept_stream());
    begin("an accept", &mut accept).await;
    let both = apart(accept, Box::pin(pair.opener.open_stream()));
    let (there, here) = env.soon("an accept that moved", both).await;
    let (here, there) = (here.expect("an open"), there.expect("an accept"));

    let mut open = Box::pin(pair.opener.open_stream());
    begin("an open at the limit", &mut open).await;
    // It waits in its new place before anything happens.
    let end = async { drop((here, there)) };
    let opened = async { apart(open, Box::pin(end)).await.0 };
    let opened = env.soon("an open that moved", opened).await;
    let here = opened.expect("an open");

    let mut ping = Box::pin(pair.opener.ping());
    // On an ideal link the answer is there at once.
    if poll_once(&mut ping).await.is_none() {
        env.soon("a ping that moved", ping).await.expect("a ping");
    }

    let accept = env.soon("an accept", pair.acceptor.accept_stream()).await;
    let (mut send, recv) = here.into_split();
    let mut stopped = Box::pin(send.stopped());
    begin("a wait for a stop", &mut stopped).await;
    let mut there = accept.expect("an accept");
    let stop = async { there.stop(5) };
    let stopped = async { apart(stopped, Box::pin(stop)).await.0 };
    let stopped = env.soon("a wait for a stop that moved", stopped).await;
    assert_eq!(stopped.expect("the code of a stop"), Some(5));

    let mut closed = Box::pin(pair.acceptor.closed());
    begin("a wait for the end", &mut closed).await;
    let mut drain = Box::pin(pair.opener.drain());
    begin("a drain with a stream open", &mut drain).await;
    let end = async { drop((send, recv, there)) };
    let ends = apart(drain, Box::pin(apart(closed, Box::pin(end))));
    let ends = env.soon("a drain and a wait for the end, both moved", ends);
    ends.await.0.expect("a drain");
}

async fn a_connection_whose_runtime_is_gone_fails(env: Env) {
    let there = env.clone();
    let made = spawn_blocking(move || {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a second runtime");
        let made = runtime.block_on(async {
            let pair = there.pair().await;
            let streams = [pair.stream().await, pair.stream().await];
            (pair, streams)
        });
        (runtime, made)
    });
    let (runtime, (pair, streams)) = made.expect_ok("a connection").await;
    let [(mut here, mut there), (idle, _peer)] = streams;
    let (mut send, mut recv) = idle.into_split();
    let waits = async {
        tokio::join!(
            pair.opener.closed(),
            read_error(&mut recv),
            pair.opener.accept_stream().map(|result| result.map(drop)),
            send.stopped(),
        )
    };
    let mut waits = Box::pin(waits);
    assert!(unless_stuck(&mut waits).await.is_none(), "it ended early");
    spawn_blocking(move || drop(runtime))
        .expect_ok("no panic")
        .await;

    let ping = by_failure(&env, "the outcome of a ping", pair.opener.ping()).await;
    match ping {
        // What needs no runtime goes on, all of it.
        Ok(_) => {
            env.soon("an echo", expect_echo(&env, &mut here, &mut there))
                .await;
            let (mut here, mut there) = pair.stream().await;
            env.soon("an echo", expect_echo(&env, &mut here, &mut there))
                .await;
            pair.acceptor.close(9, "over");
            let ended = env.soon("the end of all that waits", waits).await;
            let (closed, read, accept, stopped) = ended;
            let right = matches!(closed, CloseReason::Remote { code: 9, .. });
            assert!(right, "it ended as {closed:?}");
            assert_eq!(read.kind(), ErrorKind::Closed, "a read gave {read:?}");
            expect_kind(accept, ErrorKind::Closed);
            expect_kind(stopped, ErrorKind::Closed);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Failed, "a ping gave {error:?}");
            let ended = by_failure(&env, "the end of all that waits", waits).await;
            let (closed, read, accept, stopped) = ended;
            assert!(matches!(closed, CloseReason::Failed(_)), "{closed:?}");
            assert_eq!(read.kind(), ErrorKind::Failed, "a read gave {read:?}");
            expect_kind(accept, ErrorKind::Failed);
            expect_kind(stopped, ErrorKind::Failed);
            for (conn, stream) in [(&pair.opener, &mut here), (&pair.acceptor, &mut there)] {
                expect_lost(&env, conn, stream).await;
            }
        }
    }
}

/// Panics unless the connection says in every way that it is lost.
async fn expect_lost(env: &Env, conn: &BoxConn, stream: &mut BoxStream) {
    let end = by_failure(env, "the end of a connection", conn.closed()).await;
    assert!(matches!(end, CloseReason::Failed(_)), "it ended as {end:?}");
    expect_state(env, conn, ConnState::Failed).await;
    let read = by_failure(env, "a read's error", read_error(stream)).await;
    assert_eq!(read.kind(), ErrorKind::Failed, "a read gave {read:?}");
    let write = by_failure(env, "a write's error", write_error(stream)).await;
    assert_eq!(write.kind(), ErrorKind::Failed, "a write gave {write:?}");
    let shutdown = env.soon("a shutdown's error", stream.shutdown()).await;
    expect_io(shutdown, ErrorKind::Failed, None);
    let open = env.soon("an open's error", conn.open_stream()).await;
    expect_kind(open, ErrorKind::Failed);
    let accept = env.soon("an accept's error", conn.accept_stream()).await;
    expect_kind(accept, ErrorKind::Failed);
    let drain = env.soon("a drain's error", conn.drain()).await;
    expect_kind(drain, ErrorKind::Failed);
}

async fn a_drain_waits_for_streams_that_wait_to_be_accepted(env: Env) {
    let pair = env.pair().await;
    let data = env.payload(10_000);
    let mut waiting = pair.opener.open_stream().expect_ok("an open").await;
    send(&mut waiting, &data).await;
    // So that the stream is known there.
    let ping = env.soon("a ping", pair.opener.ping());
    ping.await.expect("a ping");
    let drain = unless_stuck(pair.acceptor.drain()).await;
    assert!(
        drain.is_none(),
        "a drain with a stream that waits to be accepted gave {drain:?}"
    );
    let accept = env.soon("an accept during a drain", pair.acceptor.accept_stream());
    let mut accepted = accept.await.expect("an accept during a drain");
    expect_bytes(&mut accepted, &data).await;
    tokio::join!(
        send_all(&mut accepted, &data),
        expect_all(&mut waiting, &data)
    );
    let end = async {
        waiting.shutdown().expect_ok("a shutdown").await;
        expect_end(&mut accepted).await;
        drop((waiting, accepted));
    };
    let drained = async { tokio::join!(pair.acceptor.drain(), end).0 };
    let drained = env.soon("the end of the drain", drained).await;
    drained.expect("a drain");
    let accept = env.soon("an accept after a drain", pair.acceptor.accept_stream());
    expect_kind(accept.await, ErrorKind::Closed);
}
