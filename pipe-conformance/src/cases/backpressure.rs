use std::time::Duration;

use futures::future::join_all;
use pipe_core::{GrowthBudget, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::case::{Case, case};
use crate::echo::expect_echo;
use crate::env::Env;
use crate::fixture::Capability;
use crate::payload::{expect_all, expect_bytes, expect_end, expect_equal, send, send_all};
use crate::waits::Named;
use crate::window::{SLACK, fill, more_than_a_window};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(an_idle_reader_holds_its_writer_at_the_window),
        // So that a connection's window is too small for what some streams hold back.
        case!(a_reader_that_resumes_gets_everything).config(|config| {
            let window = config.stream_window;
            config.with_connection_window(window.into())
        }),
        case!(a_stalled_stream_holds_up_no_other),
        case!(two_hundred_stalled_streams_hold_up_no_other)
            .weight(2)
            .config(|config| config.with_stream_window(16 * 1024).with_max_streams(256)),
        case!(a_window_grows_only_while_it_is_read)
            .needs(&[Capability::Faults, Capability::GrowingWindows])
            .weight(2)
            .config(|config| {
                config
                    .with_stream_window(64 * 1024)
                    .with_max_stream_window(GROWTH as u32)
                    .with_window_growth(GROWTH as u64)
            }),
        case!(windows_grow_out_of_one_budget_and_return_it)
            .needs(&[Capability::Faults, Capability::GrowingWindows])
            .weight(2)
            .config(|config| {
                config
                    .with_stream_window(64 * 1024)
                    .with_growth_budget(GrowthBudget::new(BUDGET))
            }),
        case!(a_reader_that_sleeps_between_reads_gets_every_message).weight(2),
        case!(both_sides_may_write_before_either_reads),
    ]
}

async fn an_idle_reader_holds_its_writer_at_the_window(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let window = env.config().stream_window as usize;
    let most = 2 * window + SLACK;
    let data = env.payload(most + 1);

    let taken = fill(&mut sender, &data).await;
    assert!(
        taken <= most,
        "the writer got rid of {taken} unread bytes, with a window of {window}"
    );
    // Half, since a transport may spend a part of a window on its own messages.
    assert!(
        taken >= window / 2,
        "the writer had to wait after {taken} bytes, with a window of {window}"
    );
    expect_bytes(&mut receiver, &data[..taken]).await;
}

async fn a_reader_that_resumes_gets_everything(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(more_than_a_window(&env));

    let taken = fill(&mut sender, &data).await;
    assert!(taken < data.len(), "the writer never had to wait");
    tokio::join!(
        send_all(&mut sender, &data[taken..]),
        expect_all(&mut receiver, &data)
    );

    // What was read makes room in the connection's window, too, while its stream lives on.
    let some = env.payload(env.config().stream_window as usize / 8);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let (mut sender, mut receiver) = pair.stream().await;
        let both =
            async { tokio::join!(send(&mut sender, &some), expect_bytes(&mut receiver, &some)) };
        env.soon("a transfer after others that were read", both)
            .await;
        streams.push((sender, receiver));
    }
}

async fn a_stalled_stream_holds_up_no_other(env: Env) {
    let pair = env.pair().await;
    let (mut stalled, mut unread) = pair.stream().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(more_than_a_window(&env));
    let taken = fill(&mut stalled, &data).await;
    assert!(taken < data.len(), "the writer never had to wait");

    let other = env.payload_of(1, 1 << 20);
    tokio::join!(
        send_all(&mut sender, &other),
        expect_all(&mut receiver, &other)
    );

    let (mut fresh, mut answering) = pair.stream().await;
    expect_echo(&env, &mut fresh, &mut answering).await;
    expect_bytes(&mut unread, &data[..taken]).await;
}

async fn two_hundred_stalled_streams_hold_up_no_other(env: Env) {
    const STALLED: usize = 200;
    let pair = env.pair().await;
    let mut senders = Vec::new();
    let mut unread = Vec::new();
    for _ in 0..STALLED {
        let (sender, receiver) = pair.stream().await;
        senders.push(sender);
        unread.push(receiver);
    }
    let data = env.payload(more_than_a_window(&env));
    let fills = senders.iter_mut().map(|sender| fill(sender, &data));
    let taken = join_all(fills).await;
    let stalled = taken.iter().filter(|taken| **taken < data.len()).count();
    assert_eq!(stalled, STALLED, "writers that had to wait");

    let (mut sender, mut receiver) = pair.stream().await;
    let other = env.payload_of(1, 4 << 20);
    tokio::join!(
        send_all(&mut sender, &other),
        expect_all(&mut receiver, &other)
    );
    let (mut fresh, mut answering) = pair.stream().await;
    expect_echo(&env, &mut fresh, &mut answering).await;
    for (receiver, taken) in unread.iter_mut().zip(taken) {
        expect_bytes(receiver, &data[..taken]).await;
    }
}

/// What a window may grow by in the case about that: so much that it shows beside the buffers of a transport.
const GROWTH: usize = 4 << 20;

async fn a_window_grows_only_while_it_is_read(env: Env) {
    // Where nothing takes time, no window has to grow.
    let is_far = env.faults().delay(Duration::from_millis(20));
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let window = env.config().stream_window as usize;
    let most = 2 * window + SLACK;
    let most_grown = most + GROWTH;
    let data = env.payload(most_grown + 1);

    let taken = fill(&mut sender, &data).await;
    assert!(
        taken <= most,
        "the writer got rid of {taken} bytes of which none was read, with a window of {window}"
    );
    expect_bytes(&mut receiver, &data[..taken]).await;

    for _ in 0..4 {
        tokio::join!(send(&mut sender, &data), expect_bytes(&mut receiver, &data));
    }
    let taken = fill(&mut sender, &data).await;
    assert!(
        taken <= most_grown,
        "the writer got rid of {taken} unread bytes, with a window of {window} that may grow by {GROWTH}"
    );
    assert!(
        !is_far || taken > most,
        "the window of {window} did not grow: the writer had to wait after {taken} bytes"
    );

    // Others still have theirs.
    let (mut other, mut reader) = pair.stream().await;
    let some = env.payload_of(1, window / 2);
    tokio::join!(send_all(&mut other, &some), expect_all(&mut reader, &some));
    expect_bytes(&mut receiver, &data[..taken]).await;
}

/// What all windows may grow by together in the case about that.
const BUDGET: u64 = 512 * 1024;

async fn windows_grow_out_of_one_budget_and_return_it(env: Env) {
    let is_far = env.faults().delay(Duration::from_millis(20));
    let budget = &env.config().growth_budget;
    let data = env.payload(4 * BUDGET as usize);
    let mut pairs = Vec::new();
    for _ in 0..2 {
        let pair = env.pair().await;
        let (mut sender, mut receiver) = pair.stream().await;
        tokio::join!(send(&mut sender, &data), expect_bytes(&mut receiver, &data));
        let lent = budget.lent();
        assert!(
            lent <= BUDGET,
            "windows have grown by {lent} bytes, out of a budget of {BUDGET}"
        );
        assert!(!is_far || lent > 0, "no window has grown out of the budget");
        pairs.push((pair, sender, receiver));
    }
    drop(pairs);
    env.eventually("the budget is whole again", || budget.lent() == 0)
        .await;
}

async fn a_reader_that_sleeps_between_reads_gets_every_message(env: Env) {
    const MESSAGES: usize = 2000;
    const MESSAGE: usize = 1000;
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(MESSAGES * MESSAGE);

    let write = async {
        for message in data.chunks(MESSAGE) {
            send(&mut sender, message).await;
        }
        sender.shutdown().expect_ok("a shutdown").await;
    };
    let read = async {
        let mut buf = vec![0; 8 * MESSAGE];
        let mut at = 0;
        while at < data.len() {
            let n = receiver.read(&mut buf).expect_ok("a read").await;
            assert!(n > 0, "the stream ended after {at} bytes");
            expect_equal(&buf[..n], &data[at..data.len().min(at + n)], at);
            at += n;
            sleep(Duration::from_millis(1)).await;
        }
        expect_end(&mut receiver).await;
    };
    tokio::join!(write, read);
}

async fn both_sides_may_write_before_either_reads(env: Env) {
    let pair = env.pair().await;
    let (opened, accepted) = pair.stream().await;
    let (mut here_send, mut here_recv) = opened.into_split();
    let (mut there_send, mut there_recv) = accepted.into_split();
    let to_there = env.payload_of(0, 4 << 20);
    let to_here = env.payload_of(1, 4 << 20);

    let (here_taken, there_taken) = tokio::join!(
        fill(&mut here_send, &to_there),
        fill(&mut there_send, &to_here)
    );
    tokio::join!(
        send_all(&mut here_send, &to_there[here_taken..]),
        send_all(&mut there_send, &to_here[there_taken..]),
        expect_all(&mut here_recv, &to_here),
        expect_all(&mut there_recv, &to_there)
    );
}
