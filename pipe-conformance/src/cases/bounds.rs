use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use pipe_core::{Addr, Config, Conn, Error, ErrorKind, Listener, RecvStream, Stream, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::case::{Case, case};
use crate::echo::expect_echo;
use crate::env::{Env, Pair};
use crate::expect::{expect_kind, read_error};
use crate::fixture::Capability;
use crate::interrupt::advance;
use crate::measure::{alive_tasks, heap_in_use, processor_time, wake_ups};
use crate::payload::{expect_bytes, expect_equal, send};
use crate::service::expect_service;
use crate::time::{unless_stuck, within};
use crate::waits::{Named, in_time};
use crate::window::{SLACK, fill};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(streams_reset_at_once_stay_within_the_limit)
            .weight(2)
            .config(|config| config.with_max_streams(8)),
        case!(the_connection_window_holds_writers_up)
            .weight(3)
            .config(|config| {
                config
                    .with_stream_window(64 * 1024)
                    .with_connection_window(128 * 1024)
            }),
        case!(statistics_are_exact),
        case!(errors_name_the_address).once().weight(2),
        case!(unknown_options_are_refused).once(),
        case!(an_invalid_configuration_is_refused).once(),
        case!(a_slow_reader_costs_no_more_than_its_window)
            .isolated()
            .weight(6)
            .config(|config| config.with_stream_window(64 * 1024)),
        case!(a_stalled_handshake_is_given_up)
            .once()
            .weight(3)
            .config(|config| {
                config
                    .with_max_handshakes(1)
                    .with_handshake_timeout(Duration::from_secs(1))
            }),
        case!(a_mute_stranger_takes_no_place_in_the_backlog)
            .once()
            .weight(2)
            .config(|config| config.with_accept_backlog(1)),
        case!(a_dial_that_times_out_leaves_nothing_behind)
            .once()
            .weight(4)
            .needs(&[Capability::Faults])
            .config(|config| config.with_handshake_timeout(Duration::from_secs(1))),
        case!(an_idle_connection_takes_no_processor_time)
            .once()
            .isolated(),
    ]
}

async fn streams_reset_at_once_stay_within_the_limit(env: Env) {
    let pair = env.pair().await;
    let limit = env.config().max_streams as usize;
    let mut held = Vec::new();
    let mut halves = Vec::new();
    while held.len() <= 3 * limit {
        let open = async {
            let mut stream = pair.opener.open_stream().expect_ok("an open").await;
            let _ = stream.write_all(b"request").named("a request").await;
            stream.reset(1);
            stream.stop(2);
        };
        let both = async { tokio::join!(open, pair.acceptor.accept_stream()).1 };
        let Some(accepted) = unless_stuck(both).await else {
            break;
        };
        let (send, mut recv) = accepted.expect("an accept").into_split();
        // That the application has seen the end of a stream does not free its slot: it may have work to do.
        let n = held.len();
        if n % 2 == 0 {
            let error = env.soon("the reset", read_error(&mut recv)).await;
            assert_eq!(error.kind(), ErrorKind::Reset, "{error:?}");
        }
        match n % 3 {
            0 => halves.push(recv),
            1 => drop(recv),
            _ => recv.stop(3),
        }
        held.push(send);
    }
    assert!(
        held.len() <= limit,
        "the application holds {} streams that the peer has reset, with a limit of {limit}",
        held.len()
    );
    assert!(held.len() >= limit / 2, "opens waited after {}", held.len());
    env.soon("a ping", pair.acceptor.ping())
        .await
        .expect("a ping");
    drop((held, halves));
    // The one that waited was given up, and may have been opened by then.
    for _ in 0..2 * limit {
        let round = async {
            let mut here = pair.opener.open_stream().expect_ok("an open").await;
            loop {
                let mut there = pair.acceptor.accept_stream().expect_ok("an accept").await;
                if here.id() == there.id() {
                    return expect_echo(&env, &mut here, &mut there).await;
                }
            }
        };
        env.soon("a stream after others were dropped", round).await;
    }
}

async fn the_connection_window_holds_writers_up(env: Env) {
    const STREAMS: usize = 64;
    let pair = env.pair().await;
    let window = env.config().connection_window as usize;
    let most = 2 * window + SLACK;
    let data = env.payload(SLACK);
    let mut senders = Vec::new();
    let mut receivers = Vec::new();
    for _ in 0..STREAMS {
        let (sender, receiver) = pair.stream().await;
        senders.push(sender);
        receivers.push(receiver);
    }
    let taken = join_all(senders.iter_mut().map(|sender| fill(sender, &data))).await;
    let all: usize = taken.iter().sum();
    assert!(
        all <= most,
        "{STREAMS} writers got rid of {all} unread bytes, with a window of {window}"
    );
    assert!(
        all >= window / 2,
        "{STREAMS} writers had to wait after {all} bytes, with a window of {window}"
    );
    let reads = receivers.iter_mut().zip(&taken);
    join_all(reads.map(|(receiver, n)| expect_bytes(receiver, &data[..*n]))).await;

    for (sender, receiver) in senders.iter_mut().zip(&mut receivers) {
        let some = &data[..48 * 1024];
        let both = async { tokio::join!(send(sender, some), expect_bytes(receiver, some)) };
        env.soon("a transfer after everything was read", both).await;
    }
}

pub(super) async fn statistics_are_exact<T: Transport>(env: Env<T>) {
    const STREAMS: usize = 3;
    const HALF: u64 = 1000;
    let pair = env.pair().await;
    let request = env.payload(70_001);
    let answer = env.payload_of(1, 30_003);
    let mut streams = Vec::new();
    for open in 1..=STREAMS as u64 {
        streams.push(pair.stream().await);
        for conn in [&pair.opener, &pair.acceptor] {
            assert_eq!(conn.stats().streams_open, open, "streams open");
        }
    }
    for (here, there) in &mut streams {
        tokio::join!(send(here, &request), expect_bytes(there, &request));
        tokio::join!(send(there, &answer), expect_bytes(here, &answer));
    }
    let (sent, received) = (
        (STREAMS * request.len()) as u64,
        (STREAMS * answer.len()) as u64,
    );
    expect_stats(&pair, [sent, received], STREAMS as u64);

    // What is not read does not count as received.
    let (here, there) = &mut streams[0];
    send(here, &request[..2 * HALF as usize]).await;
    expect_bytes(there, &request[..HALF as usize]).await;
    let (here, there) = (pair.opener.stats(), pair.acceptor.stats());
    assert_eq!(here.bytes_sent, sent + 2 * HALF, "bytes sent");
    assert_eq!(there.bytes_received, sent + HALF, "bytes received");

    drop(streams);
    for conn in [&pair.opener, &pair.acceptor] {
        env.eventually("the end of all streams", || conn.stats().streams_open == 0)
            .await;
    }
    let (here, there) = (pair.opener.stats(), pair.acceptor.stats());
    assert_eq!(here.bytes_sent, sent + 2 * HALF, "bytes sent, at the end");
    assert_eq!(there.bytes_sent, received, "bytes sent, at the end");
    assert_eq!(here.bytes_received, received, "bytes received, at the end");
    assert_eq!(
        there.bytes_received,
        sent + HALF,
        "bytes received, at the end"
    );
}

/// Panics unless the opener has sent and received so much, and the acceptor the reverse.
fn expect_stats<T: Transport>(pair: &Pair<T>, [sent, received]: [u64; 2], streams: u64) {
    let (here, there) = (pair.opener.stats(), pair.acceptor.stats());
    let opener = [here.bytes_sent, here.bytes_received];
    let acceptor = [there.bytes_sent, there.bytes_received];
    assert_eq!(opener, [sent, received], "the opener's bytes");
    assert_eq!(acceptor, [received, sent], "the acceptor's bytes");
    let opened = [here.streams_opened, there.streams_accepted];
    assert_eq!(opened, [streams; 2], "streams opened and accepted");
    let reverse = [there.streams_opened, here.streams_accepted];
    assert_eq!(reverse, [0; 2], "streams of the acceptor");
}

async fn errors_name_the_address(env: Env) {
    let foreign: Addr = "pipe-conformance-foreign://localhost:1/nowhere"
        .parse()
        .expect("a well-formed address");
    let listener = env.listen().await;
    let used = listener.local_addr();
    let vacant = env.vacant_addr();
    let dial = |addr: Addr| {
        let env = env.clone();
        async move { env.transport().dial(&addr).named("a dial").await.map(drop) }
    };
    let listen = |addr: Addr| {
        let env = env.clone();
        async move {
            env.transport()
                .listen(&addr)
                .named("a listen")
                .await
                .map(drop)
        }
    };
    let odd = env.listen_addr().with_param(UNKNOWN_OPTION, "1");
    let outcomes = [
        (
            "a dial without a listener",
            &vacant,
            dial(vacant.clone()).await,
        ),
        ("a foreign dial", &foreign, dial(foreign.clone()).await),
        ("a foreign listen", &foreign, listen(foreign.clone()).await),
        ("a second listen", &used, listen(used.clone()).await),
        ("a dial with an option", &odd, dial(odd.clone()).await),
        ("a listen with an option", &odd, listen(odd.clone()).await),
    ];
    for (what, addr, result) in outcomes {
        let Err(error) = result else {
            panic!("{what} went well");
        };
        expect_named(what, addr, &error);
    }
}

/// Panics unless the text of the error names the place of the address, or of a list the place of one that is to blame.
fn expect_named(what: &str, addr: &Addr, error: &Error) {
    let text = error.to_string();
    let is_named = |addr: &Addr| {
        // What follows the place is not needed to find it.
        let place = addr.as_str().split(['?', '#']).next().unwrap_or_default();
        let place = place.split_once("://").map_or(place, |(_, place)| place);
        text.contains(place.trim_end_matches('/'))
    };
    assert!(
        addr.alternatives().iter().any(is_named),
        "the error of {what} does not name {addr}: {text}"
    );
}

/// An option that no transport has.
const UNKNOWN_OPTION: &str = "no-such-option";

async fn unknown_options_are_refused(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr().with_param(UNKNOWN_OPTION, "1");
    // An answer at the first poll is one before any I/O.
    let Some(dial) = env.transport().dial(&addr).now_or_never() else {
        panic!("a dial with an unknown option waited for something");
    };
    let dial = expect_kind(dial, ErrorKind::AddrInvalid);
    let addr = env.listen_addr().with_param(UNKNOWN_OPTION, "1");
    let Some(listen) = env.transport().listen(&addr).now_or_never() else {
        panic!("a listen with an unknown option waited for something");
    };
    let listen = expect_kind(listen, ErrorKind::AddrInvalid);
    for error in [dial, listen] {
        assert!(error.to_string().contains(UNKNOWN_OPTION), "{error}");
    }
}

async fn an_invalid_configuration_is_refused(env: Env) {
    let valid = || env.config().clone();
    let (zero, hour) = (Duration::ZERO, Duration::from_secs(3600));
    let config = valid();
    let invalid: [(Config, &str); 16] = [
        (valid().with_max_streams(0), "max_streams"),
        (valid().with_max_streams(65_537), "max_streams"),
        (valid().with_stream_window(0), "stream_window"),
        (valid().with_stream_window(u32::MAX), "stream_window"),
        (valid().with_connection_window(0), "connection_window"),
        (
            valid().with_connection_window(u64::from(config.stream_window) - 1),
            "connection_window",
        ),
        (valid().with_accept_backlog(0), "accept_backlog"),
        (valid().with_accept_backlog(65_537), "accept_backlog"),
        (valid().with_max_handshakes(0), "max_handshakes"),
        (valid().with_max_handshakes(65_537), "max_handshakes"),
        (valid().with_handshake_timeout(zero), "handshake_timeout"),
        (valid().with_handshake_timeout(hour), "handshake_timeout"),
        (valid().with_keep_alive(zero), "keep_alive"),
        (
            valid().with_keep_alive(config.disconnected_after),
            "keep_alive",
        ),
        (
            valid().with_failed_after(config.disconnected_after),
            "disconnected_after",
        ),
        (valid().with_failed_after(hour), "failed_after"),
    ];
    for (config, setting) in invalid {
        let refused = match env.misconfigured(config).await {
            Err(error) => vec![Err(error)],
            // A transport that checks later has to refuse both.
            Ok(both) => both.into(),
        };
        for result in refused {
            let error = expect_kind(result, ErrorKind::ConfigInvalid);
            assert!(error.to_string().contains(setting), "{error}");
        }
    }
}

async fn a_slow_reader_costs_no_more_than_its_window(env: Env) {
    const READ: usize = 8 * 1024;
    let pair = env.pair().await;
    let window = env.config().stream_window as usize;
    let most = 2 * window + 2 * SLACK;
    let data = env.payload(8 * window);
    for piece in [8 * 1024, 1024, 100] {
        let (mut sender, mut receiver) = pair.stream().await;
        let before = heap_in_use();
        let mut peak = 0;
        let mut look = || {
            if let (Some(before), Some(now)) = (before, heap_in_use()) {
                peak = peak.max(now.saturating_sub(before));
            }
        };
        let write = async {
            for piece in data.chunks(piece) {
                send(&mut sender, piece).await;
            }
        };
        let read = async {
            let mut buf = vec![0; READ];
            let mut at = 0;
            while at < data.len() {
                sleep(Duration::from_millis(10)).await;
                look();
                let n = receiver.read(&mut buf).expect_ok("a read").await;
                assert!(n > 0, "the stream ended after {at} bytes");
                expect_equal(&buf[..n], &data[at..data.len().min(at + n)], at);
                at += n;
            }
        };
        tokio::join!(write, read);
        assert!(
            peak <= most,
            "writes of {piece} bytes behind a slow reader took {peak} bytes of memory, with a \
             window of {window}"
        );
    }
}

async fn a_stalled_handshake_is_given_up(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let given_up = env.config().handshake_timeout * 2 + Duration::from_secs(1);
    for steps in 1..=3 {
        let mut stalled = pin!(env.transport().dial(&addr));
        let _stalled = advance(&mut stalled, steps).await;
        let serve = async {
            let mut conns = Vec::new();
            loop {
                conns.push(listener.accept().expect_ok("an accept").await);
            }
        };
        let dial = async {
            // One that waits for the stalled one's place may be given up first.
            loop {
                match env.transport().dial(&addr).await {
                    Ok(conn) => return conn,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let served = async {
            tokio::select! {
                _ = dial => {}
                () = serve => {}
            }
        };
        let what = "a dial behind a handshake that should have been given up";
        in_time(what, given_up, served).await;
    }
}

async fn a_mute_stranger_takes_no_place_in_the_backlog(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr();
    for steps in 1..=3 {
        let mut mute = pin!(env.transport().dial(&addr));
        let _mute = advance(&mut mute, steps).await;
        expect_service(&env, &listener).await;
    }
}

async fn a_dial_that_times_out_leaves_nothing_behind(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr();
    drop(env.pair_on(&listener).await);
    sleep(Duration::from_millis(300)).await;
    let before = alive_tasks();
    env.faults().cut();
    let limit = env.config().handshake_timeout;
    let patience = limit + Duration::from_secs(1);
    let dial = in_time(
        "the end of a dial over a cut link",
        patience,
        env.transport().dial(&addr),
    );
    let error = expect_kind(dial.await, ErrorKind::TimedOut);
    expect_named("a dial over a cut link", &addr, &error);
    // What the dialer still says goes nowhere at first; a fixture's link may hold it, and a task with it, until
    // it is healed.
    let is_over = async || {
        while alive_tasks() > before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let over = within(Duration::from_secs(4), is_over()).named("the end of what the dial began");
    let over = over.await.is_some();
    env.faults().heal();
    if !over {
        let patience = limit + Duration::from_secs(10);
        let left = within(patience, is_over()).named("the end of what the dial began");
        if left.await.is_none() {
            let now = alive_tasks();
            panic!("{patience:?} after a dial that timed out there are {now} tasks, not {before}");
        }
    }
    expect_service(&env, &listener).await;
}

async fn an_idle_connection_takes_no_processor_time(env: Env) {
    const WATCHED: Duration = Duration::from_secs(2);
    /// How often the threads may have something to do: more often than any timer of an idle connection needs.
    const WAKE_UPS: u64 = 200;
    let pair = env.pair().await;
    let (mut here, mut there) = pair.stream().await;
    expect_echo(&env, &mut here, &mut there).await;
    sleep(Duration::from_millis(200)).await;
    let before = (processor_time(), wake_ups());
    sleep(WATCHED).named("the time to watch").await;
    if let (Some(before), Some(now)) = (before.0, processor_time()) {
        let spent = now.saturating_sub(before);
        assert!(
            spent <= WATCHED / 10,
            "an idle connection took {spent:?} of the processor within {WATCHED:?}"
        );
    }
    let woken = wake_ups() - before.1;
    assert!(
        woken <= WAKE_UPS,
        "an idle connection woke its threads {woken} times within {WATCHED:?}"
    );
    expect_echo(&env, &mut here, &mut there).await;
}
