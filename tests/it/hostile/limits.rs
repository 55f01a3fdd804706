//! Peers that take more than they were granted, and what they cost.

use std::time::Duration;

use pipe_core::backend::proto::StreamFrame;
use pipewerks::tcp::{MuxConn, MuxStream};
use pipewerks::{Config, Conn, ConnState, Error, ErrorKind, Listener, RecvStream, Stream};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::peer::{
    CONTROL, DATA, FIN, Peer, SIDES, SYN, Side, about, control, data, header, hello, listen, meet,
};
use super::{HEAP, assert_serves, error_of, failure, in_time};

/// The settings that the book recommends against strangers.
fn for_strangers() -> Config {
    Config::default()
        .with_max_streams(32)
        .with_stream_window(64 * 1024)
        .with_connection_window(1024 * 1024)
        .with_max_handshakes(16)
        .with_accept_backlog(32)
        .with_handshake_timeout(Duration::from_secs(5))
}

fn held() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

async fn assert_flow_control(conn: &MuxConn) {
    let error = failure(conn).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("flow control"), "{error}");
}

#[tokio::test]
async fn more_than_the_window_of_a_stream_ends_the_connection_however_small_it_is() {
    for side in SIDES {
        let id = side.first_stream();
        let (mut peer, conn) = meet(side, for_strangers()).await;
        peer.send(&data(SYN, id, &[1; 64 * 1024])).await;
        let mut stream = conn.accept_stream().await.expect("a stream");
        stream.read_exact(&mut [0; 1000]).await.expect("bytes");
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
        peer.send(&data(0, id, &[1; 1001])).await;
        assert_flow_control(&conn).await;
    }
}

#[tokio::test]
async fn more_than_the_window_of_the_connection_ends_it() {
    for side in SIDES {
        let (mut peer, conn) = meet(side, for_strangers()).await;
        let window = vec![1; 64 * 1024];
        for n in 0..20 {
            peer.send(&data(SYN, side.first_stream() + 2 * n, &window))
                .await;
        }
        assert_flow_control(&conn).await;
    }
}

#[tokio::test]
async fn bytes_that_were_read_or_given_up_do_not_count_any_more() {
    let (mut peer, conn) = meet(Side::Client, for_strangers()).await;
    let mut window = vec![1; 32 * 1024];
    let mut buf = vec![0; 32 * 1024];
    for n in 0..200 {
        let id = 3 + 2 * n;
        peer.send(&data(SYN, id, &window)).await;
        let mut stream = conn.accept_stream().await.expect("a stream");
        if n % 2 == 0 {
            in_time("bytes", stream.read_exact(&mut buf))
                .await
                .expect("bytes");
        }
        drop(stream);
        peer.send(&data(FIN, id, &[])).await;
        let all = about(id.into(), StreamFrame::Reset(0));
        peer.send(&control(&[all])).await;
        // The next one comes once this one is over.
        while conn.stats().streams_open > 0 {
            tokio::task::yield_now().await;
        }
        window.rotate_left(1);
    }
    assert_eq!(*conn.state().borrow(), ConnState::Connected);
}

#[tokio::test]
async fn nothing_but_the_control_channel_is_kept_before_the_hello() {
    let listener = listen(Config::default()).await;
    let mut peers = Vec::new();
    for _ in 0..8 {
        let mut peer = Peer::connect(&listener.local_addr()).await;
        peer.send(&data(SYN, CONTROL, &[])).await;
        for n in 0..64 {
            peer.send(&data(SYN, 3 + 2 * n, &[1; 64 * 1024])).await;
        }
        peers.push(peer);
    }
    for mut peer in peers {
        in_time("hanging up", peer.drain()).await;
    }
    assert_serves(&listener).await;
}

#[tokio::test]
async fn a_stream_right_behind_the_hello_is_welcome() {
    let listener = listen(Config::default()).await;
    let mut peer = Peer::connect(&listener.local_addr()).await;
    let bytes = [
        data(SYN, CONTROL, &[]),
        control(&[hello()]),
        data(SYN, 3, b"already here"),
    ];
    peer.send(&bytes.concat()).await;
    let conn = in_time("a connection", listener.accept())
        .await
        .expect("a connection");
    let mut stream = in_time("a stream", conn.accept_stream())
        .await
        .expect("a stream");
    let mut text = [0; 12];
    stream.read_exact(&mut text).await.expect("bytes");
    assert_eq!(&text, b"already here");
}

/// Opens a stream and cuts both its directions.
fn open_and_cut(id: u32) -> Vec<u8> {
    let stream = u64::from(id);
    let cut = [
        about(stream, StreamFrame::Reset(1)),
        about(stream, StreamFrame::Stop(1)),
    ];
    [data(SYN | FIN, id, &[]), control(&cut)].concat()
}

#[tokio::test]
async fn streams_that_the_peer_has_cut_count_until_the_application_lets_them_go() {
    for side in SIDES {
        let limit = 64;
        let (mut peer, conn) = meet(side, Config::default().with_max_streams(limit)).await;
        let accepting = tokio::spawn({
            let conn = conn.clone();
            async move {
                let mut held: Vec<MuxStream> = Vec::new();
                while let Ok(stream) = conn.accept_stream().await {
                    held.push(stream);
                }
                held
            }
        });
        for n in 0..2000 {
            if !peer.send(&open_and_cut(side.first_stream() + 2 * n)).await {
                break;
            }
        }
        let error = failure(&conn).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(
            error.to_string().contains("more than 64 streams"),
            "{error}"
        );
        let held = accepting.await.expect("no panic");
        assert!(held.len() <= limit as usize, "{} handles", held.len());
    }
}

#[tokio::test]
async fn a_stream_that_was_let_go_makes_room_for_another() {
    let limit = 4;
    let (mut peer, conn) = meet(Side::Client, Config::default().with_max_streams(limit)).await;
    for n in 0..200 {
        peer.send(&open_and_cut(3 + 2 * n)).await;
        let mut stream = in_time("a stream", conn.accept_stream())
            .await
            .expect("a stream");
        // Which it learns by a read, or not at all.
        if n % 2 == 0 {
            let error = error_of(in_time("a read", stream.read(&mut [0; 1])).await);
            assert_eq!(error.kind(), ErrorKind::Reset, "{error}");
        }
        if n % 3 == 0 {
            let (send, mut recv) = stream.into_split();
            drop(send);
            recv.stop(0);
        }
    }
    assert_eq!(*conn.state().borrow(), ConnState::Connected);
}

#[tokio::test]
async fn a_number_that_was_used_ends_the_connection_and_all_that_waits() {
    for side in SIDES {
        let id = side.first_stream() + 2;
        // While the stream lives, when it is over, and one that was passed over.
        for (over, again) in [(false, id), (true, id), (true, id - 2)] {
            let (mut peer, conn) = meet(side, Config::default()).await;
            peer.send(&data(SYN, id, b"first")).await;
            let mut first = conn.accept_stream().await.expect("a stream");
            let mut kept = if over {
                peer.send(&open_and_cut(id + 2)).await;
                drop(first);
                peer.send(&open_and_cut(id)[12..]).await;
                conn.accept_stream().await.expect("a stream")
            } else {
                first.read_exact(&mut [0; 5]).await.expect("bytes");
                first
            };
            let reading = tokio::spawn(async move {
                let mut rest = Vec::new();
                kept.read_to_end(&mut rest).await
            });
            peer.send(&data(SYN, again, b"second")).await;
            let error = failure(&conn).await;
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            let read = in_time("the reader", reading).await.expect("no panic");
            let error = error_of(read);
            let fitting = [ErrorKind::Protocol, ErrorKind::Reset];
            assert!(fitting.contains(&error.kind()), "{error}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_control_channel_loses_the_connection() {
    let limit = 32;
    let (mut peer, conn) = meet(Side::Client, Config::default().with_max_streams(limit)).await;
    let serving = tokio::spawn({
        let conn = conn.clone();
        async move { while conn.accept_stream().await.is_ok() {} }
    });
    let before = held();
    let mut sent = 0;
    // It takes what comes over the socket, but grants the control channel no more of a window.
    let mut n = 0;
    while peer.send(&open_and_cut(3 + 2 * n)).await {
        sent += 1;
        n += 1;
        while peer.read_some().await {}
        assert!(sent < 200_000, "the connection goes on for ever");
        if conn.state().borrow().is_final() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let error = failure(&conn).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(held().saturating_sub(before) < 64 << 20);
    in_time("the acceptor", serving).await.expect("no panic");
}

#[tokio::test]
async fn a_peer_that_broke_the_rules_is_not_read_any_further() {
    let (mut peer, conn) = meet(Side::Client, Config::default()).await;
    peer.send(&header(DATA, SYN, 2, 0)).await;
    let started = Instant::now();
    let junk = vec![0; 64 * 1024];
    let mut sent = 0;
    while in_time("hanging up", peer.send(&junk)).await {
        sent += junk.len();
    }
    assert_eq!(failure(&conn).await.kind(), ErrorKind::Protocol);
    println!("{sent} B in {:?}", started.elapsed());
    // What the sockets of the system hold, and little more.
    assert!(sent < 64 << 20, "{sent} B");
}

/// An error tells that the peer broke the rules.
#[tokio::test]
async fn messages_about_streams_that_never_come_are_counted() {
    let limit = 16;
    let (mut peer, conn) = meet(Side::Client, Config::default().with_max_streams(limit)).await;
    let stop = |stream| about(stream, StreamFrame::Stop(0));
    // Those for streams that are passed over are dropped.
    for n in 0..200_u32 {
        let first = u64::from(3 + 20 * n);
        let messages: Vec<_> = (0..5).map(|i| stop(first + 2 * i)).collect();
        peer.send(&control(&messages)).await;
        peer.send(&data(SYN, 3 + 20 * n + 18, &[])).await;
        let stream = in_time("a stream", conn.accept_stream()).await;
        drop(stream.expect("a stream"));
        peer.send(&open_and_cut(3 + 20 * n + 18)[12..]).await;
        peer.send(&data(FIN, 3 + 20 * n + 18, &[])).await;
    }
    assert_eq!(*conn.state().borrow(), ConnState::Connected);
    let messages: Vec<_> = (0..100).map(|n| stop(100_001 + 2 * n)).collect();
    peer.send(&control(&messages)).await;
    let error: Error = failure(&conn).await;
    assert!(error.to_string().contains("do not come"), "{error}");
}
