use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use futures::{FutureExt, poll};
use pipe_core::{Conn, Error, ErrorKind, RecvStream, SendStream, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Barrier, mpsc};
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::case::{Case, case};
use crate::echo::expect_echo;
use crate::env::{Env, Role};
use crate::expect::write_error;
use crate::payload::expect_all;
use crate::threads::on_other_threads;
use crate::time::unless_stuck;
use crate::waits::Named;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(many_openers_and_acceptors_get_each_stream_once).weight(2),
        case!(a_stream_goes_to_one_of_two_acceptors),
        case!(the_halves_of_a_stream_work_on_different_threads).weight(2),
        case!(every_method_at_once_does_no_harm).once().weight(2),
        case!(close_races_with_open_accept_and_write)
            .weight(30)
            .config(|config| config.with_max_streams(8)),
    ]
}

async fn many_openers_and_acceptors_get_each_stream_once(env: Env) {
    const TASKS: u64 = 10;
    const STREAMS_EACH: u64 = 100;
    let pair = env.pair().await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let acceptors: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(report_numbers(pair.acceptor.clone(), arrived.clone())))
        .collect();
    drop(arrived);
    let openers = (0..TASKS).map(|task| {
        let conn = pair.opener.clone();
        tokio::spawn(async move {
            for i in 0..STREAMS_EACH {
                let mut stream = conn.open_stream().expect_ok("an open").await;
                let number = task * STREAMS_EACH + i;
                stream.write_u64(number).expect_ok("a number").await;
                stream.shutdown().expect_ok("a shutdown").await;
            }
        })
    });

    let openers = join_all(openers);
    let collect = async {
        let mut seen = HashSet::new();
        while seen.len() < (TASKS * STREAMS_EACH) as usize {
            let number = arrivals
                .recv()
                .named("every stream")
                .await
                .expect("a number");
            assert!(seen.insert(number), "stream {number} was accepted twice");
        }
    };
    tokio::join!(openers, collect);
    pair.acceptor.close(0, "");
    join_all(acceptors).named("the end of the acceptors").await;
    assert_eq!(
        arrivals.recv().named("the end of the arrivals").await,
        None,
        "a stream too many"
    );
}

/// Accepts streams until the connection is over, and reports the number that each carries.
async fn report_numbers<C: Conn>(conn: C, numbers: mpsc::UnboundedSender<u64>) {
    while let Ok(mut stream) = conn.accept_stream().await {
        let number = stream.read_u64().expect_ok("a number").await;
        // To its end, so that the drop does not race with the peer's shutdown.
        let _ = stream.read(&mut [0]).named("the end of a stream").await;
        let _ = numbers.send(number);
    }
}

async fn a_stream_goes_to_one_of_two_acceptors(env: Env) {
    let pair = env.pair().await;
    for _ in 0..100 {
        let one = pin!(pair.acceptor.accept_stream());
        let two = pin!(pair.acceptor.accept_stream());
        let mut either = select(one, two);
        assert!((&mut either).now_or_never().is_none(), "nothing was opened");

        let first = pair.opener.open_stream().expect_ok("an open").await;
        let (accepted, other) = match env.soon("one accept", either).await {
            Either::Left((accepted, other)) | Either::Right((accepted, other)) => (accepted, other),
        };
        assert_eq!(accepted.expect("one accept").id(), first.id());
        let second = pair.opener.open_stream().expect_ok("an open").await;
        let accepted = env.soon("the other accept", other).await;
        assert_eq!(accepted.expect("the other accept").id(), second.id());
    }
}

async fn the_halves_of_a_stream_work_on_different_threads(env: Env) {
    let pair = env.pair().await;
    let (opened, accepted) = pair.stream().await;
    let (here_send, here_recv) = opened.into_split();
    let (there_send, there_recv) = accepted.into_split();
    let to_there = Arc::new(env.payload_of(0, 2 << 20));
    let to_here = Arc::new(env.payload_of(1, 2 << 20));

    // Both read before one writes.
    let reading = Arc::new(Barrier::new(3));
    let sends = async {
        reading.wait().await;
        tokio::join!(
            on_other_threads(send_all(here_send, to_there.clone())),
            on_other_threads(send_all(there_send, to_here.clone())),
        );
    };
    tokio::join!(
        on_other_threads(receive_all(here_recv, to_here.clone(), reading.clone())),
        on_other_threads(receive_all(there_recv, to_there.clone(), reading.clone())),
        sends,
    );
}

async fn send_all<W: SendStream>(mut send: W, data: Arc<Vec<u8>>) {
    send.write_all(&data).expect_ok("a write").await;
    send.shutdown().expect_ok("a shutdown").await;
}

async fn receive_all<R: RecvStream>(mut recv: R, data: Arc<Vec<u8>>, reading: Arc<Barrier>) {
    let mut all = pin!(expect_all(&mut recv, &data));
    let early = poll!(&mut all);
    assert!(early.is_pending(), "something came before it was sent");
    reading.wait().await;
    all.await;
}

async fn every_method_at_once_does_no_harm(env: Env) {
    let pair = env.pair().await;
    let until = Instant::now() + Duration::from_secs(1);
    let mut tasks = JoinSet::new();
    for conn in [&pair.opener, &pair.acceptor] {
        for _ in 0..2 {
            tasks.spawn(open_and_use(conn.clone(), until));
            tasks.spawn(accept_and_use(conn.clone(), until));
            tasks.spawn(ask_everything(conn.clone(), until));
        }
    }
    let connect = async {
        for _ in rounds(until) {
            let (dialed, accepted) = env.pair_on(&pair.listener).await;
            dialed.close(1, "enough");
            accepted.close(2, "enough");
            let both = async { tokio::join!(dialed.closed(), accepted.closed()) };
            env.soon("the end of a connection", both).await;
        }
    };
    tokio::join!(connect, async {
        while tasks
            .join_next()
            .named("the end of the tasks")
            .await
            .is_some()
        {}
    });

    // Streams that were not accepted are still there.
    tokio::join!(sweep(&pair.opener), sweep(&pair.acceptor));
    let (mut here, mut there) = pair.stream().await;
    expect_echo(&env, &mut here, &mut there).await;
}

/// Counts rounds until that time, which a timeout alone does not stop at, since it lets through what is
/// ready at once. They end in any case, since under paused time an ideal link lets no time pass.
fn rounds(until: Instant) -> impl Iterator<Item = u32> {
    (0..10_000).take_while(move |_| Instant::now() < until)
}

/// Opens streams and uses them up in every way. What comes of that depends on what the peer does.
async fn open_and_use<C: Conn>(conn: C, until: Instant) {
    for round in rounds(until) {
        let Ok(opened) = timeout_at(until, conn.open_stream()).await else {
            return;
        };
        use_up(opened.expect("an open"), round, until).await;
    }
}

async fn accept_and_use<C: Conn>(conn: C, until: Instant) {
    for round in rounds(until) {
        let Ok(accepted) = timeout_at(until, conn.accept_stream()).await else {
            return;
        };
        use_up(accepted.expect("an accept"), round, until).await;
    }
}

async fn use_up<S: Stream>(mut stream: S, round: u32, until: Instant) {
    let mut buf = [0; 3000];
    match round % 7 {
        0 => {
            let _ = timeout_at(until, stream.write_all(&buf)).await;
            let _ = timeout_at(until, stream.shutdown()).await;
            let _ = timeout_at(until, stream.read(&mut buf)).await;
        }
        1 => {
            let _ = timeout(Duration::from_millis(1), stream.read(&mut buf)).await;
            let _ = timeout_at(until, stream.flush()).await;
        }
        2 => stream.reset(round),
        3 => stream.stop(round),
        4 => {
            let (mut send, mut recv) = stream.into_split();
            assert_eq!(send.id(), recv.id());
            let write = timeout_at(until, send.write_all(&buf[..100]));
            let read = timeout(Duration::from_millis(1), recv.read_u8());
            let _ = tokio::join!(write, read);
            recv.stop(round);
            let _ = timeout(Duration::from_millis(1), send.stopped()).await;
            send.reset(round);
        }
        5 => {
            let (send, recv) = stream.into_split();
            drop(send);
            drop(recv);
        }
        _ => drop(stream),
    }
    yield_now().await;
}

async fn ask_everything<C: Conn>(conn: C, until: Instant) {
    let mut state = conn.state();
    let mut before = conn.stats();
    for _ in rounds(until) {
        let Ok(ping) = timeout_at(until, conn.ping()).await else {
            return;
        };
        assert!(ping.expect("a ping") > Duration::ZERO);
        let other = conn.clone();
        assert!(!state.borrow_and_update().is_final());
        let stats = conn.stats();
        assert!(stats.bytes_sent >= before.bytes_sent);
        assert!(stats.streams_opened >= before.streams_opened);
        before = stats;
        assert_eq!(other.local_addr(), conn.local_addr());
        assert_eq!(other.remote_addr(), conn.remote_addr());
        assert_eq!(other.peer_identity(), conn.peer_identity());
        assert!(conn.closed().now_or_never().is_none());
        sleep(Duration::from_millis(1)).await;
    }
}

/// Accepts and drops streams until no more come.
async fn sweep<C: Conn>(conn: &C) {
    while let Some(accepted) = unless_stuck(conn.accept_stream()).await {
        accepted.expect("an accept");
    }
}

async fn close_races_with_open_accept_and_write(env: Env) {
    let listener = env.listen().await;
    for round in 0..1000 {
        let (dialed, accepted) = env.pair_on(&listener).await;
        let (opener, acceptor) = match env.role() {
            Role::DialerOpens => (dialed, accepted),
            Role::ListenerOpens => (accepted, dialed),
        };
        let both = async { tokio::join!(opener.open_stream(), acceptor.accept_stream()) };
        let (stream, unread) = env.soon("a stream", both).await;
        let stream = stream.expect("an open");
        let unread = unread.expect("an accept");

        let racing: [JoinHandle<Error>; 5] = [
            tokio::spawn(open_until_error(opener.clone())),
            tokio::spawn(open_until_error(acceptor.clone())),
            tokio::spawn(accept_until_error(opener.clone())),
            tokio::spawn(accept_until_error(acceptor.clone())),
            tokio::spawn(write_until_error(stream)),
        ];
        for _ in 0..round / 2 % 8 {
            yield_now().await;
        }
        let closer = if round % 2 == 0 { &opener } else { &acceptor };
        closer.close(7, "now");
        let names = [
            "an open",
            "a peer's open",
            "an accept",
            "a peer's accept",
            "a write",
        ];
        for (what, task) in names.into_iter().zip(racing) {
            let error = env
                .soon(&format!("the end of {what} after a close"), task)
                .await;
            let error = error.expect("no panic");
            assert_eq!(error.kind(), ErrorKind::Closed, "{what} gave {error:?}");
        }
        drop(unread);
    }
}

/// Keeps what it opens, so that it comes to wait at the limit.
async fn open_until_error<C: Conn>(conn: C) -> Error {
    let mut opened = Vec::new();
    loop {
        match conn.open_stream().await {
            Ok(stream) => opened.push(stream),
            Err(e) => return e,
        }
    }
}

async fn accept_until_error<C: Conn>(conn: C) -> Error {
    let mut accepted = Vec::new();
    loop {
        match conn.accept_stream().await {
            Ok(stream) => accepted.push(stream),
            Err(e) => return e,
        }
    }
}

async fn write_until_error<S: Stream>(mut stream: S) -> Error {
    write_error(&mut stream).await
}
