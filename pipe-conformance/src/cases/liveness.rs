use std::time::Duration;

use futures::future::join_all;
use pipe_core::{BoxConn, BoxStream, CloseReason, Conn, ConnState, ErrorKind, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

use crate::case::{Case, case};
use crate::clock::{by_failure, expect_state, times};
use crate::echo::expect_echo;
use crate::env::{Env, Role};
use crate::expect::{expect_kind, read_error};
use crate::fixture::Capability;
use crate::payload::{expect_all, expect_bytes, send_all};
use crate::waits::Named;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(pings_measure_a_round_trip).once(),
        case!(a_ping_gets_through_a_saturated_link).once().weight(3),
        case!(an_idle_connection_stays_alive)
            .once()
            .weight(2)
            .config(|config| times(config, 200, 1500, 30_000)),
        case!(a_cut_link_is_noticed_and_given_up)
            .needs(&[Capability::Faults])
            .weight(2)
            .config(|config| times(config, 100, 500, 4000)),
        case!(a_link_that_heals_has_lost_nothing)
            .needs(&[Capability::Faults])
            .weight(3)
            .config(|config| times(config, 100, 500, 20_000)),
        case!(a_ping_over_a_cut_link_does_not_hang)
            .needs(&[Capability::Faults])
            .once()
            .weight(3)
            .config(|config| times(config, 100, 500, 4000)),
        case!(a_killed_peer_is_noticed_and_given_up)
            .needs(&[Capability::Faults])
            .weight(2)
            .config(|config| times(config, 100, 500, 4000)),
    ]
}

pub(super) async fn pings_measure_a_round_trip<T: Transport>(env: Env<T>) {
    const PINGS: usize = 50;
    let pair = env.pair().await;
    let here = join_all((0..PINGS).map(|_| pair.opener.ping()));
    let there = join_all((0..PINGS).map(|_| pair.acceptor.ping()));
    let pings = async { tokio::join!(here, there) };
    let (here, there) = env.soon("the pings of both sides", pings).await;
    for ping in here.into_iter().chain(there) {
        assert!(ping.expect("a ping") > Duration::ZERO);
    }
    for conn in [&pair.opener, &pair.acceptor] {
        let last = conn.stats().last_round_trip;
        assert!(
            last > Some(Duration::ZERO),
            "the last round trip is {last:?}"
        );
    }
}

async fn a_ping_gets_through_a_saturated_link(env: Env) {
    let pair = env.pair().await;
    let mut load = JoinSet::new();
    for _ in 0..2 {
        let (here, there) = pair.stream().await;
        for stream in [here, there] {
            let (mut send, mut recv) = stream.into_split();
            load.spawn(async move {
                let data = vec![0; 64 * 1024];
                while send.write_all(&data).await.is_ok() {}
            });
            load.spawn(async move {
                let mut buf = vec![0; 64 * 1024];
                while recv.read(&mut buf).await.is_ok_and(|n| n > 0) {}
            });
        }
    }
    let busy = 4 * u64::from(env.config().stream_window);
    let sent = || {
        pair.opener
            .stats()
            .bytes_sent
            .min(pair.acceptor.stats().bytes_sent)
    };
    for _ in 0..8 {
        let before = sent();
        loop {
            tokio::join!(
                pair.opener.ping().expect_ok("a ping of the opener"),
                pair.acceptor.ping().expect_ok("a ping of the acceptor"),
            );
            if sent() >= before + busy {
                break;
            }
            yield_now().await;
        }
    }
    assert!(load.try_join_next().is_none(), "the load has ended early");
}

async fn an_idle_connection_stays_alive(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let mut states = [pair.opener.state(), pair.acceptor.state()];
    // Without keep-alives it would be disconnected by then.
    sleep(2 * env.config().disconnected_after).await;
    for state in &mut states {
        // A machine that stalls may disconnect it for a moment.
        let connected = state.wait_for(|state| *state != ConnState::Disconnected);
        let state = *env
            .soon("the return of the peer", connected)
            .await
            .expect("a state");
        assert_eq!(state, ConnState::Connected);
    }
    expect_echo(&env, &mut here, &mut there).await;
    pair.opener.ping().expect_ok("a ping").await;
}

async fn a_cut_link_is_noticed_and_given_up(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    expect_echo(&env, &mut here, &mut there).await;
    let cut = Instant::now();
    env.faults().cut();
    // By the half of the times at most: the peer was heard a little before.
    let not_early = async |conn: &BoxConn| {
        let mut state = conn.state();
        for (expected, limit) in [
            (ConnState::Disconnected, env.config().disconnected_after),
            (ConnState::Failed, env.config().failed_after),
        ] {
            // Whether it comes at all is looked at below.
            let reached = state.wait_for(|state| *state == expected || state.is_final());
            let _ = reached.named("a state after a cut").await;
            let elapsed = cut.elapsed();
            assert!(
                elapsed >= limit / 2,
                "it was {expected:?} {elapsed:?} after a cut, with a limit of {limit:?}"
            );
        }
    };
    tokio::join!(
        not_early(&pair.opener),
        not_early(&pair.acceptor),
        expect_loss(&env, &pair.opener, &mut here),
        expect_loss(&env, &pair.acceptor, &mut there)
    );
}

async fn a_link_that_heals_has_lost_nothing(env: Env) {
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    let data = env.payload(1 << 20);
    let (early, late) = data.split_at(100_000);
    let harm = async {
        expect_bytes(&mut there, early).await;
        env.faults().cut();
        for conn in [&pair.opener, &pair.acceptor] {
            expect_state(&env, conn, ConnState::Disconnected).await;
        }
        env.faults().heal();
        for conn in [&pair.opener, &pair.acceptor] {
            expect_state(&env, conn, ConnState::Connected).await;
            conn.ping().expect_ok("a ping after the return").await;
        }
        expect_all(&mut there, late).await;
    };
    tokio::join!(send_all(&mut here, &data), harm);
}

async fn a_ping_over_a_cut_link_does_not_hang(env: Env) {
    let pair = env.pair().await;
    let pings = || async { tokio::join!(pair.opener.ping(), pair.acceptor.ping()) };

    env.faults().cut();
    let heal = async {
        for conn in [&pair.opener, &pair.acceptor] {
            expect_state(&env, conn, ConnState::Disconnected).await;
        }
        env.faults().heal();
    };
    let healed = async { tokio::join!(pings(), heal).0 };
    let (here, there) = by_failure(&env, "the outcome of a ping over a healed link", healed).await;
    for ping in [here, there] {
        match ping {
            Ok(time) => assert!(time > Duration::ZERO),
            Err(e) => assert!(e.may_recover() || e.kind() == ErrorKind::Failed, "{e:?}"),
        }
    }

    env.faults().cut();
    let (here, there) = by_failure(&env, "the outcome of a ping over a cut link", pings()).await;
    for ping in [here, there] {
        let error = ping.expect_err("a ping over a cut link");
        let right = error.may_recover() || error.kind() == ErrorKind::Failed;
        assert!(right, "a ping over a cut link gave {error:?}");
    }
}

async fn a_killed_peer_is_noticed_and_given_up(env: Env) {
    let pair = env.pair().await;
    let (opened, accepted) = pair.stream().await;
    // The other end is held, but is dead.
    let (survivor, mut stream, _dead) = match env.role() {
        Role::DialerOpens => (&pair.opener, opened, accepted),
        Role::ListenerOpens => (&pair.acceptor, accepted, opened),
    };
    env.faults().kill_listening_side();
    expect_loss(&env, survivor, &mut stream).await;
}

/// Panics unless the connection is disconnected and then failed in time, and what is blocked on it, or
/// comes later, fails with it.
async fn expect_loss(env: &Env, conn: &BoxConn, stream: &mut BoxStream) {
    let states = async {
        expect_state(env, conn, ConnState::Disconnected).await;
        expect_state(env, conn, ConnState::Failed).await;
    };
    let read = by_failure(env, "the error of a blocked read", read_error(stream));
    let accept = by_failure(env, "the error of a blocked accept", conn.accept_stream());
    let end = by_failure(env, "the end of the connection", conn.closed());
    let ((), read, accept, end) = tokio::join!(states, read, accept, end);
    assert_eq!(
        read.kind(),
        ErrorKind::Failed,
        "a blocked read gave {read:?}"
    );
    expect_kind(accept, ErrorKind::Failed);
    assert!(matches!(end, CloseReason::Failed(_)), "it ended as {end:?}");

    let open = env.soon("an open's error", conn.open_stream()).await;
    expect_kind(open, ErrorKind::Failed);
    let ping = env.soon("a ping's error", conn.ping()).await;
    expect_kind(ping, ErrorKind::Failed);
}
