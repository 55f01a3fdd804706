use std::io;
use std::time::Duration;

use pipe_core::{Conn, ErrorKind, SendStream, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::case::{Case, case};
use crate::env::Env;
use crate::expect::{expect_io, inner, write_error};
use crate::payload::{expect_all, expect_bytes, expect_end, expect_equal, send, send_all};
use crate::waits::Named;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_shutdown_at_once_loses_nothing),
        case!(a_reply_comes_after_the_shutdown),
        case!(many_bytes_come_after_the_shutdown).weight(2),
        case!(a_write_after_the_shutdown_is_a_broken_pipe),
        case!(a_shutdown_can_be_repeated),
        case!(the_end_stays_the_end),
        case!(a_shutdown_without_a_write_is_an_empty_stream),
        case!(shutdowns_may_cross),
        case!(a_shutdown_waits_for_a_slow_reader).weight(2),
        case!(a_drop_after_the_shutdown_loses_nothing).weight(2),
        case!(the_halves_end_by_themselves),
    ]
}

async fn a_shutdown_at_once_loses_nothing(env: Env) {
    let pair = env.pair().await;
    for len in [1, 1000, 20_000] {
        let data = env.payload(len);
        // All of it before the peer has accepted the stream.
        let mut sender = pair.opener.open_stream().expect_ok("an open").await;
        send_all(&mut sender, &data).await;
        let accept = env.soon("an accept", pair.acceptor.accept_stream());
        let mut receiver = accept.await.expect("an accept");
        expect_all(&mut receiver, &data).await;
    }
}

async fn a_reply_comes_after_the_shutdown(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let (request, reply) = (env.payload_of(0, 100_000), env.payload_of(1, 100_000));
    let ask = async {
        send_all(&mut here, &request).await;
        expect_all(&mut here, &reply).await;
    };
    let answer = async {
        expect_all(&mut there, &request).await;
        send_all(&mut there, &reply).await;
    };
    tokio::join!(ask, answer);
}

async fn many_bytes_come_after_the_shutdown(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(10 << 20);
    here.shutdown().expect_ok("a shutdown").await;
    expect_end(&mut there).await;
    tokio::join!(send_all(&mut there, &data), expect_all(&mut here, &data));
}

async fn a_write_after_the_shutdown_is_a_broken_pipe(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(1000);
    send_all(&mut sender, &data).await;
    for _ in 0..2 {
        let write = env.soon("a write", sender.write(&data)).await;
        let error = write.expect_err("a write after the shutdown");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error:?}");
        inner(&error);
    }
    expect_all(&mut receiver, &data).await;
}

async fn a_shutdown_can_be_repeated(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(1000);
    send_all(&mut here, &data).await;
    here.shutdown().expect_ok("a second shutdown").await;
    expect_all(&mut there, &data).await;
    here.shutdown()
        .expect_ok("a shutdown after the peer read the end")
        .await;
    send_all(&mut there, &data).await;
    expect_all(&mut here, &data).await;
    here.shutdown()
        .expect_ok("a shutdown after the peer's")
        .await;
    drop(there);
    here.shutdown()
        .expect_ok("a shutdown after the peer's drop")
        .await;
}

async fn the_end_stays_the_end(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(1000);
    send_all(&mut sender, &data).await;
    expect_bytes(&mut receiver, &data).await;
    for _ in 0..5 {
        expect_end(&mut receiver).await;
    }
    receiver.shutdown().expect_ok("a shutdown").await;
    expect_end(&mut receiver).await;
    expect_end(&mut sender).await;
    drop(sender);
    for _ in 0..5 {
        expect_end(&mut receiver).await;
        tokio::task::yield_now().await;
    }
}

async fn a_shutdown_without_a_write_is_an_empty_stream(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    sender.shutdown().expect_ok("a shutdown").await;
    env.soon("the end", expect_end(&mut receiver)).await;
}

async fn shutdowns_may_cross(env: Env) {
    let pair = env.pair().await;
    for len in [0, 10_000] {
        let (mut here, mut there) = pair.stream().await;
        let (to_there, to_here) = (env.payload_of(0, len), env.payload_of(1, len));
        tokio::join!(
            send_all(&mut here, &to_there),
            send_all(&mut there, &to_here)
        );
        tokio::join!(
            expect_all(&mut here, &to_here),
            expect_all(&mut there, &to_there)
        );
        // Both learn that the other has read everything, whichever of them opened the stream.
        let ((mut here, _recv), (mut there, _other)) = (here.into_split(), there.into_split());
        let both = async { tokio::join!(here.stopped(), there.stopped()) };
        let (here, there) = env.soon("the word that all was read", both).await;
        assert_eq!(here.expect("the dialer's direction"), None);
        assert_eq!(there.expect("the acceptor's direction"), None);
    }
    for conn in [&pair.opener, &pair.acceptor] {
        let freed = || conn.stats().streams_open == 0;
        env.eventually("the end of all streams", freed).await;
    }
}

async fn a_shutdown_waits_for_a_slow_reader(env: Env) {
    let pair = env.pair().await;
    let (mut sender, mut receiver) = pair.stream().await;
    let data = env.payload(2 << 20);
    let read = async {
        let mut buf = vec![0; 20_000];
        let mut at = 0;
        loop {
            let n = receiver.read(&mut buf).expect_ok("a read").await;
            if n == 0 {
                assert_eq!(at, data.len(), "the stream ended too early");
                return;
            }
            expect_equal(&buf[..n], &data[at..data.len().min(at + n)], at);
            at += n;
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(send_all(&mut sender, &data), read);
}

pub(super) async fn a_drop_after_the_shutdown_loses_nothing<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let data = env.payload(1 << 20);
    // Before the peer reads anything.
    for len in [0, 1, 1000, 20_000].repeat(5) {
        let (mut sender, mut receiver) = pair.stream().await;
        send_all(&mut sender, &data[..len]).await;
        drop(sender);
        expect_all(&mut receiver, &data[..len]).await;
    }
    // While the peer reads.
    for len in [100_000, 1 << 20] {
        let (mut sender, mut receiver) = pair.stream().await;
        let write = async {
            send_all(&mut sender, &data[..len]).await;
            drop(sender);
        };
        tokio::join!(write, expect_all(&mut receiver, &data[..len]));
    }
}

pub(super) async fn the_halves_end_by_themselves<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let data = env.payload(100_000);

    // The send half is shut down and dropped; the receive half goes on.
    let (here, mut there) = pair.stream().await;
    let (mut send_half, mut recv_half) = here.into_split();
    send_all(&mut send_half, &data[..1000]).await;
    drop(send_half);
    expect_all(&mut there, &data[..1000]).await;
    tokio::join!(
        send_all(&mut there, &data),
        expect_all(&mut recv_half, &data)
    );

    // The receive half has seen its end and is dropped; the send half goes on.
    let (here, mut there) = pair.stream().await;
    let (mut send_half, mut recv_half) = here.into_split();
    send_all(&mut there, &data[..1000]).await;
    expect_all(&mut recv_half, &data[..1000]).await;
    drop(recv_half);
    tokio::join!(
        send_all(&mut send_half, &data),
        expect_all(&mut there, &data)
    );

    // The receive half is dropped before its end: that is a stop. The send half goes on.
    let (here, mut there) = pair.stream().await;
    let (mut send_half, recv_half) = here.into_split();
    send(&mut send_half, &data[..1000]).await;
    drop(recv_half);
    let error = env.soon("the peer's stop", write_error(&mut there)).await;
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(0)));
    expect_bytes(&mut there, &data[..1000]).await;
    tokio::join!(
        send_all(&mut send_half, &data[1000..]),
        expect_all(&mut there, &data[1000..])
    );

    // The send half is dropped before its shutdown: that is a reset. The receive half goes on.
    let (here, mut there) = pair.stream().await;
    let (send_half, mut recv_half) = here.into_split();
    drop(send_half);
    let read = env.soon("the peer's reset", there.read(&mut [0])).await;
    expect_io(read, ErrorKind::Reset, Some(0));
    tokio::join!(
        send_all(&mut there, &data),
        expect_all(&mut recv_half, &data)
    );
}
