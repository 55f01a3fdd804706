use pipe_core::{BoxListener, Conn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::case::{Case, case};
use crate::echo::expect_echo;
use crate::ending::{ENDINGS, end};
use crate::env::{Env, Pair};
use crate::measure::{Held, alive_tasks, settled};
use crate::payload::{expect_all, send_all};
use crate::waits::Named;
use crate::window::{fill, more_than_a_window};

/// How often something may leave more behind than it should before it counts as a leak. A queue that
/// grows to its longest keeps its memory, once; a leak grows every time.
const ROUNDS: usize = 3;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(dropped_streams_leave_nothing_behind)
            .isolated()
            .weight(12),
        case!(closed_connections_leave_nothing_behind)
            .once()
            .isolated()
            .weight(6),
        case!(dropped_unread_bytes_return_their_credit)
            .isolated()
            .weight(30)
            .config(|config| {
                config
                    .with_max_streams(64)
                    .with_stream_window(32 * 1024)
                    .with_connection_window(256 * 1024)
            }),
        case!(dropping_everything_ends_the_background_tasks).once(),
    ]
}

async fn dropped_streams_leave_nothing_behind(env: Env) {
    const STREAMS: usize = 1000;
    let pair = env.pair().await;
    open_and_end(&env, &pair, STREAMS).await;
    let mut growth = None;
    for _ in 0..ROUNDS {
        let before = Held::settled().await;
        open_and_end(&env, &pair, STREAMS).await;
        expect_no_streams(&env, &pair).await;
        growth = before.growth(STREAMS * 16).await;
        if growth.is_none() {
            return;
        }
    }
    panic!("{}", growth.unwrap_or_default());
}

async fn open_and_end(env: &Env, pair: &Pair, streams: usize) {
    for (ending, i) in ENDINGS.into_iter().cycle().zip(0..streams) {
        let (mut opened, mut accepted) = pair.stream().await;
        if i % 2 == 0 {
            expect_echo(env, &mut opened, &mut accepted).await;
        }
        end(ending, opened, accepted).await;
    }
}

async fn closed_connections_leave_nothing_behind(env: Env) {
    const CONNECTIONS: usize = 200;
    let listener = env.listen().await;
    connect_and_close(&env, &listener, 20).await;
    let mut growth = None;
    for _ in 0..ROUNDS {
        let before = Held::settled().await;
        connect_and_close(&env, &listener, CONNECTIONS).await;
        growth = before.growth(CONNECTIONS * 256).await;
        if growth.is_none() {
            return;
        }
    }
    panic!("{}", growth.unwrap_or_default());
}

async fn connect_and_close(env: &Env, listener: &BoxListener, times: usize) {
    for i in 0..times {
        let (dialed, accepted) = env.pair_on(listener).await;
        let both = async { tokio::join!(dialed.open_stream(), accepted.accept_stream()) };
        let (here, there) = env.soon("a stream", both).await;
        let (mut here, mut there) = (here.expect("an open"), there.expect("an accept"));
        expect_echo(env, &mut here, &mut there).await;
        match i % 4 {
            0 => dialed.close(1, "done"),
            1 => accepted.close(2, "done"),
            2 => {
                drop((here, there));
                env.soon("a drain", dialed.drain()).await.expect("a drain");
            }
            _ => {}
        }
    }
}

async fn dropped_unread_bytes_return_their_credit(env: Env) {
    const STREAMS: usize = 10_000;
    let pair = env.pair().await;
    let data = env.payload(1 << 20);
    abandon_unread(&env, &pair, &data[..4096], STREAMS / 10).await;
    expect_no_streams(&env, &pair).await;
    let mut growth = None;
    for _ in 0..ROUNDS {
        let before = Held::settled().await;
        abandon_unread(&env, &pair, &data[..4096], STREAMS).await;
        expect_no_streams(&env, &pair).await;
        growth = before.growth(STREAMS * 8).await;
        if growth.is_none() {
            break;
        }
    }
    assert!(growth.is_none(), "{}", growth.unwrap_or_default());

    let (mut sender, mut receiver) = pair.stream().await;
    tokio::join!(
        send_all(&mut sender, &data),
        expect_all(&mut receiver, &data)
    );
}

/// Opens streams and writes to them; the other side drops them and reads a byte at most.
async fn abandon_unread(env: &Env, pair: &Pair, data: &[u8], streams: usize) {
    let open = async {
        for i in 0..streams {
            let write = async {
                let mut stream = pair.opener.open_stream().expect_ok("an open").await;
                // It fails if the other side has dropped the stream already.
                let _ = stream.write_all(data).named("a write").await;
                if i % 2 == 0 {
                    let _ = stream.shutdown().named("a shutdown").await;
                }
            };
            env.soon("an open and a write after others were dropped", write)
                .await;
        }
    };
    let accept = async {
        for i in 0..streams {
            let read = async {
                let mut stream = pair.acceptor.accept_stream().expect_ok("an accept").await;
                if i % 3 == 0 {
                    let _ = stream.read_u8().named("a byte").await;
                }
            };
            env.soon("an accept after others were dropped", read).await;
        }
    };
    tokio::join!(open, accept);
}

async fn expect_no_streams(env: &Env, pair: &Pair) {
    for conn in [&pair.opener, &pair.acceptor] {
        env.eventually("the end of all streams", || conn.stats().streams_open == 0)
            .await;
    }
}

async fn dropping_everything_ends_the_background_tasks(env: Env) {
    drop(env.pair().await);
    let before = settled(alive_tasks).await;
    let data = env.payload(more_than_a_window(&env));
    let mut all = Vec::new();
    for _ in 0..5 {
        let pair = env.pair().await;
        let (mut unread, accepted) = pair.stream().await;
        fill(&mut unread, &data).await;
        let (mut ended, answering) = pair.stream().await;
        ended.shutdown().expect_ok("a shutdown").await;
        let unaccepted = pair.opener.open_stream().expect_ok("an open").await;
        all.push((pair, [unread, accepted, ended, answering, unaccepted]));
    }
    drop(all);
    env.eventually("the end of all tasks", || alive_tasks() <= before)
        .await;
}
