//! What has to hold between this side and any peer of plain yamux.

use std::pin::pin;
use std::time::Duration;

use futures::future::join_all;
use pipewerks::prelude::*;
use pipewerks::{CloseReason, ConnState, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Make, Scenario, Stage};
use crate::interop::bytes::{ALL, Got, read, write};

const KIB: usize = 1024;
const MB: usize = 1_000_000;

const GO: &[Make] = &[Make::Go];
const JS: &[Make] = &[Make::Js, Make::Ws];
const ALL_MAKES: &[Make] = &[Make::Go, Make::Js, Make::Ws];

macro_rules! scenarios {
    ($($makes:ident $(($argument:literal))? $name:ident;)*) => {
        pub(super) fn all() -> Vec<Scenario> {
            vec![$(Scenario {
                name: stringify!($name),
                makes: $makes,
                argument: None$(.or(Some($argument)))?,
                run: |stage| Box::pin($name(stage)),
            }),*]
        }
    };
}

scenarios! {
    ALL_MAKES streams_carry_a_megabyte_both_ways_at_once;
    ALL_MAKES this_side_ends_first;
    ALL_MAKES the_peer_ends_first;
    ALL_MAKES five_hundred_streams_in_a_row;
    ALL_MAKES five_hundred_streams_of_the_peer_in_a_row;
    ALL_MAKES a_stream_that_the_peer_leaves_unread_holds_up_no_other;
    ALL_MAKES a_stream_that_this_side_leaves_unread_holds_up_no_other;
    ALL_MAKES a_dropped_stream_is_reset_at_the_peer;
    ALL_MAKES a_reset_ends_both_directions_and_never_cleanly;
    ALL_MAKES a_reset_after_the_peers_end_never_ends_cleanly_there;
    ALL_MAKES a_stopped_direction_holds_up_nobody;
    ALL_MAKES a_direction_stopped_after_the_own_end_holds_up_nobody;
    ALL_MAKES the_last_streams_of_a_dropped_connection_are_reset;
    JS a_reset_by_the_peer_is_told;
    GO("backlog=1") a_stream_that_the_peer_refuses_is_reset;
    ALL_MAKES pings_of_the_peer_are_answered;
    ALL_MAKES pings_to_the_peer_are_answered;
    JS an_idle_connection_stays_connected;
    ALL_MAKES a_close_is_a_goaway;
    ALL_MAKES a_drain_lets_streams_run_out;
    ALL_MAKES a_goaway_of_the_peer_lets_streams_run_out;
    ALL_MAKES a_peer_that_vanishes_is_no_end_of_a_stream;
}

async fn streams_carry_a_megabyte_both_ways_at_once(stage: Stage) {
    let stage = &stage;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(stage.open().await);
        streams.push(stage.accept().await);
    }
    join_all(streams.into_iter().map(|stream| async move {
        let id = stream.id();
        let (mut send, mut recv) = stream.into_split();
        let (sent, got, peer_sent, peer_got) = tokio::join!(
            write(&mut send, MB),
            read(&mut recv, MB),
            stage.peer.writes(id, MB),
            stage.peer.reads(id, MB),
        );
        assert_eq!(peer_got, Got::of(MB, sent, "more"));
        assert_eq!(got, Got::of(MB, peer_sent, "more"));

        send.shutdown().await.unwrap();
        assert_eq!(stage.peer.reads(id, ALL).await.ending, "end");
        stage.peer.finishes(id).await;
        let rest = read(&mut recv, ALL).await;
        assert_eq!((rest.bytes, &*rest.ending), (0, "end"));
    }))
    .await;
    stage.nothing_is_left().await;
}

async fn this_side_ends_first(stage: Stage) {
    for mut stream in [stage.open().await, stage.accept().await] {
        let id = stream.id();
        let (sent, peer_got) = tokio::join!(
            async {
                let sent = write(&mut stream, 300 * KIB).await;
                stream.shutdown().await.unwrap();
                sent
            },
            stage.peer.reads(id, ALL),
        );
        assert_eq!(peer_got, Got::whole(300 * KIB, sent));
        let (got, peer_sent) = tokio::join!(read(&mut stream, ALL), async {
            let sent = stage.peer.writes(id, 300 * KIB).await;
            stage.peer.finishes(id).await;
            sent
        });
        assert_eq!(got, Got::whole(300 * KIB, peer_sent));
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        let error = stream.write(b"late").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
    }
    stage.nothing_is_left().await;
}

async fn the_peer_ends_first(stage: Stage) {
    for mine in [true, false] {
        let mut stream = if mine {
            stage.open().await
        } else {
            stage.accept().await
        };
        let id = stream.id();
        let (got, peer_sent) = tokio::join!(read(&mut stream, ALL), async {
            let sent = stage.peer.writes(id, 300 * KIB).await;
            stage.peer.finishes(id).await;
            sent
        });
        assert_eq!(got, Got::whole(300 * KIB, peer_sent));
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        // Within the window: the Go peer returns no credit for what comes after its own end.
        let sent = write(&mut stream, 200 * KIB).await;
        stream.shutdown().await.unwrap();
        assert_eq!(stage.peer.reads(id, ALL).await, Got::whole(200 * KIB, sent));
    }
    stage.nothing_is_left().await;
}

async fn five_hundred_streams_in_a_row(stage: Stage) {
    stage.peer.tell("echo").await;
    for _ in 0..500 {
        let mut stream = stage.conn.open_stream().await.unwrap();
        let sent = write(&mut stream, KIB).await;
        // The Go peer loses what it reads after its own end, so this side ends after it has read.
        assert_eq!(read(&mut stream, KIB).await, Got::of(KIB, sent, "more"));
        stream.shutdown().await.unwrap();
        let rest = read(&mut stream, ALL).await;
        assert_eq!((rest.bytes, &*rest.ending), (0, "end"));
    }
    stage.nothing_is_left().await;
}

async fn five_hundred_streams_of_the_peer_in_a_row(stage: Stage) {
    let echo = async {
        for _ in 0..500 {
            let stream = stage.conn.accept_stream().await.unwrap();
            let (mut send, mut recv) = stream.into_split();
            tokio::io::copy(&mut recv, &mut send).await.unwrap();
            send.shutdown().await.unwrap();
        }
    };
    let ask = format!("ask 500 {KIB}");
    tokio::join!(echo, stage.peer.tell(&ask));
    stage.nothing_is_left().await;
}

async fn a_stream_that_the_peer_leaves_unread_holds_up_no_other(stage: Stage) {
    let (mut unread, mut other) = (stage.open().await, stage.open().await);
    let id = unread.id();
    let writing = tokio::spawn(async move {
        let sent = write(&mut unread, 8 * MB).await;
        unread.shutdown().await.unwrap();
        sent
    });
    let other_id = other.id();
    let (sent, got) = tokio::join!(
        write(&mut other, 2 * MB),
        stage.peer.reads(other_id, 2 * MB)
    );
    assert_eq!(got, Got::of(2 * MB, sent, "more"));
    assert!(!writing.is_finished(), "8 MB went into an unread stream");
    let got = stage.peer.reads(id, ALL).await;
    assert_eq!(got, Got::whole(8 * MB, writing.await.unwrap()));
}

async fn a_stream_that_this_side_leaves_unread_holds_up_no_other(stage: Stage) {
    let (mut unread, mut other) = (stage.open().await, stage.open().await);
    let (id, other_id) = (unread.id(), other.id());
    let mut writing = pin!(stage.peer.writes(id, 2 * MB));
    let (sent, got) = tokio::select! {
        biased;
        _ = &mut writing => panic!("2 MB went into an unread stream"),
        moved = async {
            tokio::join!(stage.peer.writes(other_id, 2 * MB), read(&mut other, 2 * MB))
        } => moved,
    };
    assert_eq!(got, Got::of(2 * MB, sent, "more"));
    let (sent, got) = tokio::join!(writing, read(&mut unread, 2 * MB));
    assert_eq!(got, Got::of(2 * MB, sent, "more"));
}

async fn a_dropped_stream_is_reset_at_the_peer(stage: Stage) {
    for mut stream in [stage.open().await, stage.accept().await] {
        let id = stream.id();
        write(&mut stream, KIB).await;
        assert_eq!(stage.peer.reads(id, KIB).await.bytes, KIB);
        drop(stream);
        let got = stage.peer.reads(id, ALL).await;
        assert_eq!((got.bytes, &*got.ending), (0, "reset"));
        stage
            .peer
            .ask(&format!("write {id} {KIB}"))
            .await
            .unwrap_err();
    }
    stage.nothing_is_left().await;
}

async fn a_reset_ends_both_directions_and_never_cleanly(stage: Stage) {
    let mut stream = stage.open().await;
    let id = stream.id();
    write(&mut stream, KIB).await;
    assert_eq!(stage.peer.reads(id, KIB).await.bytes, KIB);
    stream.reset(7);
    // A reset of yamux ends both directions, at once and while the stream is held.
    let got = stage.peer.reads(id, ALL).await;
    assert_eq!((got.bytes, &*got.ending), (0, "reset"));
    let got = read(&mut stream, ALL).await;
    assert_eq!((got.bytes, &*got.ending), (0, "Reset Some(7)"));
}

async fn a_reset_after_the_peers_end_never_ends_cleanly_there(stage: Stage) {
    let mut stream = stage.open().await;
    let id = stream.id();
    stage.peer.finishes(id).await;
    assert_eq!(read(&mut stream, ALL).await.ending, "end");
    write(&mut stream, KIB).await;
    stream.reset(7);
    drop(stream);
    let got = stage.peer.reads(id, ALL).await;
    assert_eq!(got.ending, "reset", "{got:?}");
}

async fn a_stopped_direction_holds_up_nobody(stage: Stage) {
    let (mut send, recv) = stage.open().await.into_split();
    let id = send.id();
    drop(recv);
    stage.peer.writes(id, MB).await;
    let (sent, got) = tokio::join!(
        async {
            let sent = write(&mut send, 300 * KIB).await;
            send.shutdown().await.unwrap();
            sent
        },
        stage.peer.reads(id, ALL)
    );
    assert_eq!(got, Got::whole(300 * KIB, sent));
    stage.peer.finishes(id).await;
    stage.nothing_is_left().await;
}

async fn a_direction_stopped_after_the_own_end_holds_up_nobody(stage: Stage) {
    let mut stream = stage.open().await;
    let id = stream.id();
    write(&mut stream, KIB).await;
    stream.shutdown().await.unwrap();
    assert_eq!(stage.peer.reads(id, ALL).await.ending, "end");
    drop(stream);
    // Taken or refused, but not left hanging.
    let written = stage.peer.ask(&format!("write {id} {MB}")).await;
    if written.is_ok() {
        stage.peer.finishes(id).await;
    }
    stage.nothing_is_left().await;
}

async fn the_last_streams_of_a_dropped_connection_are_reset(stage: Stage) {
    let Stage { peer, conn, .. } = &stage;
    let mut stream = conn.open_stream().await.unwrap();
    let id = stream.id();
    peer.tell("accept").await;
    write(&mut stream, KIB).await;
    assert_eq!(stage.peer.reads(id, KIB).await.bytes, KIB);
    drop(stream);
    let Stage { peer, conn, make } = stage;
    drop(conn);
    let words = peer.tell(&format!("read {id} {ALL}")).await;
    assert_eq!(words[2], "reset", "{make:?}: {words:?}");
}

async fn a_reset_by_the_peer_is_told(stage: Stage) {
    for mut stream in [stage.open().await, stage.accept().await] {
        let id = stream.id();
        stage.peer.writes(id, KIB).await;
        assert_eq!(read(&mut stream, KIB).await.bytes, KIB);
        stage.peer.tell(&format!("reset {id}")).await;
        assert_eq!(read(&mut stream, ALL).await.ending, "Reset Some(0)");
        let error: pipewerks::Error = stream.write(b"more").await.unwrap_err().into();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(0)));
    }
    stage.nothing_is_left().await;
}

async fn a_stream_that_the_peer_refuses_is_reset(stage: Stage) {
    // One stream fits into the peer's backlog while it accepts none.
    let mut first = stage.conn.open_stream().await.unwrap();
    let mut second = stage.conn.open_stream().await.unwrap();
    assert_eq!(read(&mut second, ALL).await.ending, "Reset Some(0)");
    let error: pipewerks::Error = second.write(b"more").await.unwrap_err().into();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Stopped, Some(0)));

    assert_eq!(stage.peer.word("accept").await, first.id().to_string());
    let sent = write(&mut first, KIB).await;
    let got = stage.peer.reads(first.id(), KIB).await;
    assert_eq!(got, Got::of(KIB, sent, "more"));
}

async fn pings_of_the_peer_are_answered(stage: Stage) {
    for _ in 0..10 {
        stage.peer.word("ping").await;
    }
    // Also beside a stream that moves, and one that is stuck.
    let (mut moving, stuck) = (stage.open().await, stage.open().await);
    let (id, stuck) = (moving.id(), (stuck.id(), stuck));
    let mut writing = pin!(stage.peer.writes(stuck.0, MB));
    tokio::select! {
        biased;
        _ = &mut writing => panic!("1 MB went into an unread stream"),
        () = async {
            let pings = async {
                for _ in 0..20 {
                    stage.peer.word("ping").await;
                }
            };
            let (sent, got, ()) =
                tokio::join!(write(&mut moving, MB), stage.peer.reads(id, MB), pings);
            assert_eq!(got, Got::of(MB, sent, "more"));
        } => {}
    }
}

async fn pings_to_the_peer_are_answered(stage: Stage) {
    let one = stage.conn.ping().await.unwrap();
    assert_eq!(stage.conn.stats().last_round_trip, Some(one));
    let several = join_all((0..20).map(|_| stage.conn.ping())).await;
    assert!(several.iter().all(Result::is_ok), "{several:?}");
    stage.conn.close(0, "");
    let error = stage.conn.ping().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

async fn an_idle_connection_stays_connected(stage: Stage) {
    let mut states = stage.conn.state();
    // Longer than the silence after which a peer that does not answer counts as disconnected.
    let change = tokio::time::timeout(Duration::from_secs(18), states.changed()).await;
    change.unwrap_err();
    assert_eq!(*states.borrow(), ConnState::Connected);
    let mut stream = stage.open().await;
    let sent = write(&mut stream, KIB).await;
    let got = stage.peer.reads(stream.id(), KIB).await;
    assert_eq!(got, Got::of(KIB, sent, "more"));
}

async fn a_close_is_a_goaway(stage: Stage) {
    let mut stream = stage.open().await;
    write(&mut stream, KIB).await;
    assert_eq!(stage.peer.reads(stream.id(), KIB).await.bytes, KIB);
    stage.conn.close(7, "enough");
    stage.peer.tell("ended").await;
    stage.peer.ask("open").await.unwrap_err();
    let error: pipewerks::Error = stream.read(&mut [0]).await.unwrap_err().into();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Closed, Some(7)));
    let reason = stage.conn.closed().await;
    assert!(
        matches!(&reason, CloseReason::Local { code: 7, reason } if &**reason == "enough"),
        "{reason}"
    );
}

async fn a_drain_lets_streams_run_out(stage: Stage) {
    let mut stream = stage.open().await;
    let id = stream.id();
    let mut draining = pin!(stage.conn.drain());
    let carried = async {
        let sent = write(&mut stream, 300 * KIB).await;
        stream.shutdown().await.unwrap();
        sent
    };
    let (sent, got) = tokio::select! {
        biased;
        _ = &mut draining => panic!("the drain did not wait for its stream"),
        carried = async { tokio::join!(carried, stage.peer.reads(id, ALL)) } => carried,
    };
    assert_eq!(got, Got::whole(300 * KIB, sent));
    assert_eq!(
        stage.conn.open_stream().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    let sent = stage.peer.writes(id, KIB).await;
    stage.peer.finishes(id).await;
    assert_eq!(read(&mut stream, ALL).await, Got::whole(KIB, sent));
    draining.await.unwrap();
    stage.peer.tell("ended").await;
}

async fn a_goaway_of_the_peer_lets_streams_run_out(stage: Stage) {
    let mut stream = stage.open().await;
    let id = stream.id();
    if stage.make != Make::Go {
        // This peer ends its streams before it says so, and cuts those that go on.
        stage.peer.finishes(id).await;
        stream.shutdown().await.unwrap();
        assert_eq!(read(&mut stream, ALL).await.ending, "end");
        stage.peer.tell("goaway").await;
    } else {
        stage.peer.tell("goaway").await;
        loop {
            match stage.conn.open_stream().await {
                // The word is on its way, or the peer refused the stream.
                Ok(stream) => drop(stream),
                Err(error) => break assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
            }
            stage.conn.ping().await.unwrap();
        }
        let writing = async {
            let sent = write(&mut stream, MB).await;
            stream.shutdown().await.unwrap();
            sent
        };
        let (sent, got) = tokio::join!(writing, stage.peer.reads(id, ALL));
        assert_eq!(got, Got::whole(MB, sent));
        let sent = stage.peer.writes(id, KIB).await;
        stage.peer.finishes(id).await;
        assert_eq!(read(&mut stream, ALL).await, Got::whole(KIB, sent));
    }
    drop(stream);
    let reason = stage.conn.closed().await;
    assert!(
        matches!(reason, CloseReason::Remote { code: 0, .. }),
        "{reason}"
    );
    assert_eq!(
        stage.conn.open_stream().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
}

async fn a_peer_that_vanishes_is_no_end_of_a_stream(stage: Stage) {
    let mut stream = stage.open().await;
    let mut shut = stage.open().await;
    shut.shutdown().await.unwrap();
    let id = stream.id();
    stage.peer.writes(id, KIB).await;
    assert_eq!(read(&mut stream, KIB).await.bytes, KIB);
    stage.peer.ask("close").await.unwrap();
    assert_eq!(read(&mut stream, ALL).await.ending, "Failed None");
    assert_eq!(read(&mut shut, ALL).await.ending, "Failed None");
    assert!(matches!(stage.conn.closed().await, CloseReason::Failed(_)));
}

impl Stage {
    /// Both sides forget every stream. What is still to be said of them travels with the pings.
    async fn nothing_is_left(&self) {
        loop {
            self.peer.word("ping").await;
            let theirs = self.peer.word("streams").await;
            if theirs == "0" && self.conn.stats().streams_open == 0 {
                return;
            }
        }
    }
}
