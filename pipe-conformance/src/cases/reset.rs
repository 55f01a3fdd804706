use std::time::Duration;

use pipe_core::{ErrorKind, RecvStream, SendStream, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::case::{Case, case};
use crate::env::{Env, Pair};
use crate::expect::{expect_io, expect_kind, inner, read_error, write_error};
use crate::payload::{expect_all, expect_bytes, expect_end, expect_equal, send, send_all};
use crate::time::within;
use crate::waits::Named;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_reset_reaches_the_peers_read),
        case!(a_reset_wakes_the_peers_read),
        case!(a_reset_leaves_the_receiving_direction),
        case!(a_stop_reaches_the_peers_write),
        case!(a_stop_wakes_the_peers_write),
        case!(a_reset_ends_ones_own_writes),
        case!(a_stop_ends_ones_own_reads_only),
        case!(a_drop_is_a_reset),
        case!(a_responder_dropped_midway_is_a_reset),
        case!(a_write_cut_short_and_dropped_is_a_reset),
        case!(streams_dropped_unread_harm_no_others),
        case!(a_drop_after_the_end_is_no_stop),
        case!(a_reset_among_many_streams_hits_one)
            .weight(2)
            .many_streams(),
        case!(the_largest_code_arrives),
    ]
}

async fn a_reset_reaches_the_peers_read(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(10_000);
    send(&mut sender, &data).await;
    expect_bytes(&mut receiver, &data[..5000]).await;
    sender.reset(7);
    let error = env.soon("the reset", read_error(&mut receiver)).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(7)));
    // It stays so.
    let read = env.soon("another read", receiver.read(&mut [0])).await;
    expect_io(read, ErrorKind::Reset, Some(7));
}

async fn a_reset_wakes_the_peers_read(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let mut buf = [0];
    let read = env.soon("the end of a waiting read", receiver.read(&mut buf));
    // The read is polled first, and waits.
    let (read, ()) = tokio::join!(biased; read, async { sender.reset(3) });
    expect_io(read, ErrorKind::Reset, Some(3));
}

async fn a_reset_leaves_the_receiving_direction(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(100_000);
    send(&mut there, &data[..1000]).await;
    here.reset(1);
    let error = env.soon("the reset", read_error(&mut there)).await;
    assert_eq!(error.kind(), ErrorKind::Reset);
    tokio::join!(
        send_all(&mut there, &data[1000..]),
        expect_all(&mut here, &data)
    );
}

async fn a_stop_reaches_the_peers_write(env: Env) {
    let pair = env.pair().await;
    let (mut receiver, sender) = pair.stream().await;
    let (mut sender, _recv_half) = sender.into_split();
    receiver.stop(9);
    let error = env.soon("the stop", write_error(&mut sender)).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(9)));
    // It stays so, and can be awaited as well.
    let write = env.soon("another write", sender.write(&[0])).await;
    expect_io(write, ErrorKind::Stopped, Some(9));
    let stopped = env.soon("the stop", sender.stopped()).await;
    assert_eq!(stopped.expect("the stop"), Some(9));
    // The peer wants no more, and there is no more.
    let shutdown = env.soon("a shutdown", sender.shutdown()).await;
    shutdown.expect("a shutdown after the peer's stop");
}

async fn a_stop_wakes_the_peers_write(env: Env) {
    let pair = env.pair().await;
    let (mut receiver, mut sender) = pair.stream().await;
    // Far more than the window.
    let data = env.payload(3 * env.config().stream_window as usize + (2 << 20));
    let mut waiting = tokio::spawn(async move { sender.write_all(&data).await });
    let stuck = within(Duration::from_millis(200), &mut waiting).await;
    assert!(stuck.is_none(), "the writer never had to wait");
    receiver.stop(4);
    let write = env.soon("the end of a waiting write", waiting).await;
    expect_io(write.expect("the task"), ErrorKind::Stopped, Some(4));
}

async fn a_reset_ends_ones_own_writes(env: Env) {
    let pair = env.pair().await;
    let (sender, mut receiver) = pair.stream().await;
    let (mut sender, _recv_half) = sender.into_split();
    sender.reset(5);
    sender.reset(6);
    let write = env.soon("a write", sender.write(&[0])).await;
    inner(&write.expect_err("a write after a reset"));
    let shutdown = env.soon("a shutdown", sender.shutdown()).await;
    inner(&shutdown.expect_err("a shutdown after a reset"));
    let stopped = env.soon("the end of a wait for a stop", sender.stopped());
    expect_kind(stopped.await, ErrorKind::Reset);
    let error = env.soon("the reset", read_error(&mut receiver)).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(5)));

    // After a shutdown, a reset has no effect.
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(1000);
    send_all(&mut sender, &data).await;
    sender.reset(5);
    expect_all(&mut receiver, &data).await;
}

async fn a_stop_ends_ones_own_reads_only(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(100_000);
    send(&mut there, &data[..1000]).await;
    expect_bytes(&mut here, &data[..10]).await;
    here.stop(2);
    here.stop(3);
    for _ in 0..2 {
        let read = env.soon("a read", here.read(&mut [0])).await;
        expect_io(read, ErrorKind::Stopped, Some(2));
    }
    tokio::join!(send_all(&mut here, &data), expect_all(&mut there, &data));
    let error = env.soon("the stop", write_error(&mut there)).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(2)));
}

pub(super) async fn a_drop_is_a_reset<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let data = env.payload(20_000);
    for len in [0, 1, 20_000] {
        for split in [false, true] {
            let (mut sender, mut receiver) = pair.stream().await;
            send(&mut sender, &data[..len]).await;
            sender.flush().expect_ok("a flush").await;
            if split {
                drop(sender.into_split());
            } else {
                drop(sender);
            }
            let error = env.soon("the reset", read_error(&mut receiver)).await;
            assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(0)));
        }
    }
    // A read that waits is woken.
    let (sender, mut receiver) = pair.stream().await;
    let mut buf = [0];
    let read = env.soon("the end of a waiting read", receiver.read(&mut buf));
    let (read, ()) = tokio::join!(biased; read, async { drop(sender) });
    expect_io(read, ErrorKind::Reset, Some(0));
}

async fn a_responder_dropped_midway_is_a_reset(env: Env) {
    let pair = env.pair().await;
    let (mut requester, mut responder) = pair.stream().await;
    let data = env.payload(10_000);
    send_all(&mut requester, &data).await;
    expect_all(&mut responder, &data).await;
    send(&mut responder, &data[..5000]).await;
    responder.flush().expect_ok("a flush").await;
    drop(responder);
    let error = env.soon("the reset", read_error(&mut requester)).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(0)));
}

async fn a_write_cut_short_and_dropped_is_a_reset(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(3 * env.config().stream_window as usize + (2 << 20));
    let write = within(Duration::from_millis(200), sender.write_all(&data)).await;
    assert!(write.is_none(), "the writer never had to wait");
    drop(sender);

    let read = async {
        let mut buf = vec![0; 16 * 1024];
        let mut at = 0;
        loop {
            match receiver.read(&mut buf).await {
                Ok(0) => panic!("a clean end after {at} bytes of a write that was cut short"),
                Ok(n) => {
                    expect_equal(&buf[..n], &data[at..data.len().min(at + n)], at);
                    at += n;
                }
                Err(error) => return inner(&error),
            }
        }
    };
    let error = env.soon("the reset", read).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(0)));
}

async fn streams_dropped_unread_harm_no_others(env: Env) {
    let pair = env.pair().await;
    let (mut other, mut other_peer) = pair.stream().await;
    let data = env.payload(50_000);
    send(&mut other, &data[..1000]).await;
    for _ in 0..20 {
        let (mut here, there) = pair.stream().await;
        send(&mut here, &data[..10_000]).await;
        let (send_half, recv_half) = there.into_split();
        drop(recv_half);
        drop(send_half);
        let error = env.soon("the stop", write_error(&mut here)).await;
        assert_eq!(error.kind(), ErrorKind::Stopped);
    }
    tokio::join!(
        send_all(&mut other, &data[1000..]),
        expect_all(&mut other_peer, &data)
    );
    expect_new_stream(&pair, &data).await;
}

async fn a_drop_after_the_end_is_no_stop(env: Env) {
    let pair = env.pair().await;
    let (here, there) = pair.stream().await;
    let (mut here_send, mut here_recv) = here.into_split();
    let (mut there_send, mut there_recv) = there.into_split();
    let data = env.payload(10_000);
    send_all(&mut there_send, &data).await;
    expect_all(&mut here_recv, &data).await;
    here_recv.stop(7);
    expect_end(&mut here_recv).await;
    drop(here_recv);
    let stopped = env.soon("the end of the direction", there_send.stopped());
    assert_eq!(stopped.await.expect("the end of the direction"), None);
    there_send
        .shutdown()
        .expect_ok("a shutdown once more")
        .await;
    send_all(&mut here_send, &data).await;
    expect_all(&mut there_recv, &data).await;
}

async fn a_reset_among_many_streams_hits_one(env: Env) {
    const STREAMS: usize = 100;
    const VICTIM: usize = 37;
    const LEN: usize = 20_000;
    let pair = env.pair().await;
    let mut senders = Vec::new();
    let mut receivers = JoinSet::new();
    for i in 0..STREAMS {
        let (mut sender, mut receiver) = pair.stream().await;
        let data = env.payload_of(i as u64, LEN);
        send(&mut sender, &data[..LEN / 2]).await;
        senders.push(sender);
        receivers.spawn(async move {
            if i == VICTIM {
                let error = read_error(&mut receiver).await;
                assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(1)));
            } else {
                expect_bytes(&mut receiver, &data).await;
                expect_end(&mut receiver).await;
            }
            receiver
        });
    }
    senders[VICTIM].reset(1);
    for (i, sender) in senders.iter_mut().enumerate() {
        if i != VICTIM {
            let data = env.payload_of(i as u64, LEN);
            send_all(sender, &data[LEN / 2..]).await;
        }
    }
    receivers.join_all().named("the receivers").await;
}

pub(super) async fn the_largest_code_arrives<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    for code in [0, 1, 0x4000_0000, u32::MAX] {
        let (mut here, mut there) = pair.stream().await;
        here.reset(code);
        let error = env.soon("the reset", read_error(&mut there)).await;
        assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(code)));

        let (mut here, mut there) = pair.stream().await;
        here.stop(code);
        let error = env.soon("the stop", write_error(&mut there)).await;
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Stopped, Some(code))
        );
    }
    expect_new_stream(&pair, &env.payload(1000)).await;
}

/// Opens another stream and sends the bytes over it.
async fn expect_new_stream<T: Transport>(pair: &Pair<T>, data: &[u8]) {
    let (mut here, mut there) = pair.stream().await;
    tokio::join!(send_all(&mut here, data), expect_all(&mut there, data));
}
