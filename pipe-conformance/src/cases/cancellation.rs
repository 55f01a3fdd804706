use std::collections::VecDeque;
use std::future::{Future, ready};
use std::time::Duration;

use futures::FutureExt;
use pipe_core::{Conn, Error, ErrorKind, Listener, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use crate::case::{Case, case};
use crate::echo::expect_echo;
use crate::env::Env;
use crate::interrupt::{pause, unless_aborted};
use crate::measure::Held;
use crate::payload::{expect_bytes, expect_end, expect_equal};
use crate::time::unless_stuck;
use crate::waits::Named;
use crate::window::{fill, more_than_a_window};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_dropped_read_loses_no_byte),
        case!(a_dropped_write_has_sent_a_prefix),
        case!(a_buffer_may_change_after_its_write_was_dropped)
            .weight(3)
            .config(|config| config.with_stream_window(16 * 1024)),
        case!(a_timeout_in_one_direction_leaves_the_other_alone),
        case!(a_timeout_that_has_passed_moves_no_byte),
        case!(a_dropped_accept_loses_no_stream).weight(3),
        case!(a_dropped_open_leaks_no_slot)
            .weight(3)
            .config(|config| config.with_max_streams(4)),
        case!(a_dropped_dial_leaves_nothing_behind)
            .once()
            .isolated()
            .weight(2),
    ]
}

async fn a_dropped_read_loses_no_byte(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(256 * 1024);

    let write = async {
        for (chunk, i) in data.chunks(777).zip(0..) {
            sender.write_all(chunk).expect_ok("a write").await;
            if i % 8 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
        sender.shutdown().expect_ok("a shutdown").await;
    };
    let read = async {
        let mut buf = vec![0; 4096];
        let (mut at, mut round, mut dropped) = (0, 0, 0);
        while at < data.len() {
            round += 1;
            let size = 1 + round * 97 % buf.len();
            let Some(read) = given_up(round, receiver.read(&mut buf[..size])).await else {
                dropped += 1;
                continue;
            };
            let n = read.expect("a read");
            assert!(n > 0, "the stream ended after {at} bytes");
            expect_equal(&buf[..n], &data[at..data.len().min(at + n)], at);
            at += n;
        }
        expect_end(&mut receiver).await;
        dropped
    };
    let (dropped, ()) = tokio::join!(read, write);
    assert!(dropped > 0, "no read was ever waiting");
}

async fn a_dropped_write_has_sent_a_prefix(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(more_than_a_window(&env));
    let mark = env.payload_of(1, 1000);

    let cut = unless_stuck(sender.write_all(&data)).await;
    assert!(cut.is_none(), "the writer never had to wait");
    let write = async {
        sender.write_all(&mark).expect_ok("a write after it").await;
        sender.shutdown().expect_ok("a shutdown").await;
    };
    let read = async {
        let mut got = Vec::new();
        receiver.read_to_end(&mut got).expect_ok("a read").await;
        got
    };
    let ((), got) = tokio::join!(write, read);
    let prefix = got.len().saturating_sub(mark.len());
    assert!(prefix < data.len(), "{prefix} bytes came before the mark");
    expect_equal(&got[..prefix], &data[..prefix], 0);
    expect_equal(&got[prefix..], &mark, prefix);
}

async fn a_buffer_may_change_after_its_write_was_dropped(env: Env) {
    // More than the windows and a transport's own buffers hold.
    const LEN: usize = 2 << 20;
    const SIZE: usize = 3000;
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(LEN);

    let write = async {
        let mut buf = [0; SIZE];
        let mut taken = Vec::new();
        let (mut round, mut dropped) = (0, 0);
        while taken.len() < LEN {
            // The bytes of a dropped write are not offered again.
            round += 1;
            let at = round * 1999 % (LEN - SIZE);
            buf.copy_from_slice(&data[at..at + SIZE]);
            match given_up(round, sender.write(&buf)).await {
                Some(n) => taken.extend(&buf[..n.expect("a write")]),
                None => dropped += 1,
            }
            buf.fill(0xee);
        }
        sender.shutdown().expect_ok("a shutdown").await;
        assert!(dropped > 0, "no write was ever waiting");
        taken
    };
    let read = async {
        let mut buf = vec![0; 16_000];
        let mut got = Vec::new();
        loop {
            match receiver.read(&mut buf).expect_ok("a read").await {
                0 => break got,
                n => got.extend(&buf[..n]),
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let (taken, got) = tokio::join!(write, read);
    expect_equal(&got, &taken, 0);
}

/// Drops the future after its first poll in half of the rounds, and otherwise a little later. Gives its
/// output if that came before.
async fn given_up<F: Future>(round: usize, future: F) -> Option<F::Output> {
    // This sequence (of Thue and Morse) never repeats itself, so it keeps step with no transport.
    if round.count_ones().is_multiple_of(2) {
        return timeout(Duration::from_millis(1), future).await.ok();
    }
    let output = future.now_or_never();
    yield_now().await;
    output
}

async fn a_timeout_in_one_direction_leaves_the_other_alone(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(more_than_a_window(&env));
    let small = env.payload_of(1, 1000);
    let mut buf = [0; 100];

    let read = timeout(Duration::from_millis(50), here.read(&mut buf)).await;
    assert!(read.is_err(), "nothing was sent, but a read gave {read:?}");
    here.write_all(&small)
        .expect_ok("a write after a read timed out")
        .await;
    expect_bytes(&mut there, &small).await;

    let taken = fill(&mut here, &data).await;
    assert!(taken < data.len(), "no write ever timed out");
    there.write_all(&small).expect_ok("an answer").await;
    expect_bytes(&mut here, &small).await;

    expect_bytes(&mut there, &data[..taken]).await;
    expect_echo(&env, &mut here, &mut there).await;
}

pub(super) async fn a_timeout_that_has_passed_moves_no_byte<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(1000);
    there.write_all(&data).expect_ok("an answer").await;
    let before = pair.opener.stats();
    let mut buf = [0; 100];

    too_late(here.write(&data)).await;
    too_late(here.shutdown()).await;
    too_late(here.read(&mut buf)).await;
    too_late(pair.opener.open_stream()).await;
    too_late(pair.opener.ping()).await;
    too_late(pair.opener.drain()).await;
    too_late(pair.acceptor.accept_stream()).await;

    let after = pair.opener.stats();
    assert_eq!(after.bytes_sent, before.bytes_sent);
    assert_eq!(after.bytes_received, before.bytes_received);
    assert_eq!(after.streams_opened, before.streams_opened);
    expect_bytes(&mut here, &data).await;
    expect_echo(&env, &mut here, &mut there).await;
    let (opened, accepted) = pair.stream().await;
    assert_eq!(
        opened.id(),
        accepted.id(),
        "another stream was opened before"
    );
}

/// Races the future against a timeout that has passed.
async fn too_late<F: Future>(future: F) {
    tokio::select! {
        biased;
        () = ready(()) => {}
        _ = future => {}
    }
}

pub(super) async fn a_dropped_accept_loses_no_stream<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let trip = pair.opener.ping().expect_ok("a ping").await;
    for round in 0..200 {
        let acceptor = pair.acceptor.clone();
        let accept = tokio::spawn(async move { acceptor.accept_stream().await });
        pause(round % 3, trip).await;
        let opened = pair.opener.open_stream().expect_ok("an open").await;
        pause(round, trip).await;
        accept.abort();
        let accepted = match unless_aborted(accept.named("an accept that may be aborted").await) {
            Some(accepted) => accepted,
            None => {
                let what = "the accept after one that was dropped";
                env.soon(what, pair.acceptor.accept_stream()).await
            }
        };
        assert_eq!(accepted.expect("an accept").id(), opened.id());
    }
}

async fn a_dropped_open_leaks_no_slot(env: Env) {
    let pair = env.pair().await;
    let limit = env.config().max_streams;
    let trip = pair.opener.ping().expect_ok("a ping").await;
    let peer = tokio::spawn(hold_while_open(pair.acceptor.clone()));
    let mut held = VecDeque::new();
    for _ in 0..limit {
        held.push_back(pair.opener.open_stream().expect_ok("an open").await);
    }
    for _ in 0..100 {
        let open = pair.opener.open_stream().now_or_never();
        assert!(open.is_none(), "an open above the limit ended");
    }

    // Some of these are dropped while they wait, some when a slot has just become free, some when
    // they have opened a stream.
    for round in 0..100 {
        let opener = pair.opener.clone();
        let open = tokio::spawn(async move { opener.open_stream().await });
        pause(round % 3, trip).await;
        held.pop_front();
        pause(round, trip).await;
        open.abort();
        let opened = match unless_aborted(open.named("an open that may be aborted").await) {
            Some(opened) => opened,
            None => {
                let what = "the open after one that was dropped";
                env.soon(what, pair.opener.open_stream()).await
            }
        };
        held.push_back(opened.expect("an open"));
    }
    let above = unless_stuck(pair.opener.open_stream()).await;
    assert!(above.is_none(), "an open above the limit ended");
    held.clear();
    for _ in 0..limit {
        let open = env.soon("an open with every slot free", pair.opener.open_stream());
        held.push_back(open.await.expect("an open"));
    }
    peer.abort();
}

/// Accepts streams, and drops each when the peer has ended it: by a drop, of the stream or of its open.
async fn hold_while_open<C: Conn>(conn: C) {
    while let Ok(mut stream) = conn.accept_stream().await {
        tokio::spawn(async move {
            match stream
                .read_to_end(&mut Vec::new())
                .await
                .map_err(Error::from)
            {
                Ok(_) => panic!("a stream that was dropped ended cleanly"),
                Err(e) if e.kind() == ErrorKind::Reset => assert_eq!(e.code(), Some(0), "{e:?}"),
                // The connection is over.
                Err(_) => {}
            }
        });
    }
}

async fn a_dropped_dial_leaves_nothing_behind(env: Env) {
    let listener = env.listen().await;
    let (addr, vacant) = (listener.local_addr(), env.vacant_addr());
    let (dialed, accepted) = env.pair_on(&listener).await;
    let trip = dialed.ping().expect_ok("a ping").await;
    drop((dialed, accepted));
    let before = Held::settled().await;

    for round in 0..100 {
        for addr in [&addr, &vacant] {
            let dial = env.transport().dial(addr);
            tokio::select! {
                biased;
                () = pause(round, trip) => {}
                _ = dial => {}
            }
        }
    }
    // The listener may have accepted some before they were dropped.
    while let Some(accepted) = unless_stuck(listener.accept()).await {
        let accepted = accepted.expect("an accept");
        env.soon(
            "the end of a connection whose dial was dropped",
            accepted.closed(),
        )
        .await;
    }
    before.expect_back(usize::MAX).await;

    let (dialed, accepted) = env.pair_on(&listener).await;
    let both = async { tokio::join!(dialed.open_stream(), accepted.accept_stream()) };
    let (here, there) = env.soon("a stream", both).await;
    expect_echo(
        &env,
        &mut here.expect("an open"),
        &mut there.expect("an accept"),
    )
    .await;
}
