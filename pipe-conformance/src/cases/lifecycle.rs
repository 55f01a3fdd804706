use std::collections::HashSet;
use std::pin::pin;

use futures::FutureExt;
use pipe_core::{Addr, Conn, ConnState, ErrorKind, Listener, Transport};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::case::{Case, case};
use crate::env::{Env, Pair};
use crate::expect::{expect_kind, expect_refusal, expect_refused};
use crate::fixture::Capability;
use crate::interrupt::advance;
use crate::payload::{expect_all, expect_bytes, expect_end, send, send_all};
use crate::service::{expect_service, listen_again};
use crate::waits::Named;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_dial_connects_both_sides).once(),
        case!(a_listener_tells_an_address_that_can_be_dialed).once(),
        case!(the_addresses_of_the_ends_mirror_each_other)
            .once()
            .needs(&[Capability::MirroredAddrs]),
        case!(a_dial_without_a_listener_is_refused).once().weight(2),
        case!(an_address_in_use_stays_with_its_listener).once(),
        case!(closing_a_listener_wakes_its_accepts).once(),
        case!(a_closed_listener_accepts_no_connection)
            .once()
            .weight(2),
        case!(closing_a_listener_twice_has_no_effect).once(),
        case!(the_address_of_a_closed_listener_is_free).once(),
        case!(connections_outlive_their_listener),
        case!(a_foreign_address_is_unsupported).once(),
        case!(concurrent_dials_make_distinct_connections).once(),
        case!(a_peer_that_stalls_in_its_handshake_delays_no_other).once(),
        case!(a_peer_that_fails_in_its_handshake_harms_no_other).once(),
        case!(two_listeners_get_their_own_connections).once(),
        case!(dropping_a_listener_closes_it).once().weight(2),
    ]
}

pub(super) async fn a_dial_connects_both_sides<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    for conn in [&pair.opener, &pair.acceptor] {
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
        assert!(conn.closed().now_or_never().is_none());
        let stats = conn.stats();
        assert_eq!((stats.streams_open, stats.streams_opened), (0, 0));
    }
}

async fn a_listener_tells_an_address_that_can_be_dialed(env: Env) {
    let listener = env.listen_on(&env.open_addr()).await;
    let addr = listener.local_addr();
    let schemes = env.transport().schemes();
    assert!(
        addr.alternatives()
            .iter()
            .all(|one| schemes.contains(&one.scheme())),
        "{addr} is of a scheme that the transport does not serve"
    );
    let written: Addr = addr.as_str().parse().expect("the address as text");
    assert_eq!(written, addr);
    let both = async { tokio::join!(env.transport().dial(&written), listener.accept()) };
    let (dialed, accepted) = env.soon("connecting", both).await;
    dialed.expect("the dial");
    accepted.expect("the accept");
}

async fn the_addresses_of_the_ends_mirror_each_other(env: Env) {
    let listener = env.listen().await;
    let (dialed, accepted) = env.pair_on(&listener).await;
    assert_eq!(dialed.local_addr(), accepted.remote_addr());
    assert_eq!(dialed.remote_addr(), accepted.local_addr());
}

async fn a_dial_without_a_listener_is_refused(env: Env) {
    let addr = env.vacant_addr();
    match env
        .transport()
        .dial(&addr)
        .named("a dial without a listener")
        .await
    {
        Ok(_) => panic!("a dial to {addr}, where there is no listener, went well"),
        Err(error) => expect_refusal(&env, &error),
    }
}

async fn an_address_in_use_stays_with_its_listener(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let again = env.soon("the second listen", env.transport().listen(&addr));
    let again = again.await;
    expect_kind(again, ErrorKind::AddrInUse);
    expect_service(&env, &listener).await;
}

async fn closing_a_listener_wakes_its_accepts(env: Env) {
    let listener = env.listen().await;
    let (first, second, ()) = tokio::join!(
        env.soon("the end of a waiting accept", listener.accept()),
        env.soon("the end of another waiting accept", listener.accept()),
        async { listener.close() },
    );
    expect_kind(first, ErrorKind::Closed);
    expect_kind(second, ErrorKind::Closed);
}

async fn a_closed_listener_accepts_no_connection(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr();
    listener.close();
    for _ in 0..2 {
        let accept = env.soon("the end of an accept", listener.accept()).await;
        expect_kind(accept, ErrorKind::Closed);
    }
    expect_refused(&env, &addr).await;
    let accept = env.soon("the end of an accept", listener.accept()).await;
    expect_kind(accept, ErrorKind::Closed);
}

async fn closing_a_listener_twice_has_no_effect(env: Env) {
    let old = env.listen().await;
    old.close();
    old.close();
    // The listener that has the address now is not affected either.
    let new = listen_again(&env, &old.local_addr()).await;
    old.close();
    drop(old);
    expect_service(&env, &new).await;
}

async fn the_address_of_a_closed_listener_is_free(env: Env) {
    let old = env.listen().await;
    let _live = env.pair_on(&old).await;
    old.close();
    let new = listen_again(&env, &old.local_addr()).await;
    assert_eq!(new.local_addr(), old.local_addr());
    expect_service(&env, &new).await;
    let accept = env.soon("the end of an accept", old.accept()).await;
    expect_kind(accept, ErrorKind::Closed);
}

async fn connections_outlive_their_listener(env: Env) {
    let pair = env.pair().await;
    let (mut before, mut before_peer) = pair.stream().await;
    let data = env.payload(100_000);
    send(&mut before, &data[..1000]).await;

    pair.listener.close();
    expect_bytes(&mut before_peer, &data[..1000]).await;
    expect_echo(&pair, &data).await;

    let Pair {
        opener,
        acceptor,
        listener,
        ..
    } = pair;
    drop(listener);
    tokio::join!(
        send_all(&mut before, &data[1000..]),
        expect_all(&mut before_peer, &data[1000..])
    );
    for conn in [&opener, &acceptor] {
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
    }
}

async fn a_foreign_address_is_unsupported(env: Env) {
    const FOREIGN: &str = "pipe-conformance-foreign://localhost:1/nowhere";
    let addr: Addr = FOREIGN.parse().expect("a well-formed address");
    // An answer at the first poll is one before any I/O.
    let Some(dial) = env.transport().dial(&addr).now_or_never() else {
        panic!("a dial to a foreign address waited for something");
    };
    expect_kind(dial, ErrorKind::AddrUnsupported);
    let Some(listen) = env.transport().listen(&addr).now_or_never() else {
        panic!("listening on a foreign address waited for something");
    };
    expect_kind(listen, ErrorKind::AddrUnsupported);
}

async fn concurrent_dials_make_distinct_connections(env: Env) {
    const DIALS: u32 = 32;
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let mut dialers = JoinSet::new();
    for i in 0..DIALS {
        let (env, addr) = (env.clone(), addr.clone());
        dialers.spawn(async move {
            let conn = env.transport().dial(&addr).expect_ok("a dial").await;
            let mut stream = conn.open_stream().expect_ok("a stream").await;
            send_all(&mut stream, &i.to_be_bytes()).await;
            expect_all(&mut stream, &i.to_be_bytes()).await;
            conn
        });
    }

    let mut serving = JoinSet::new();
    for _ in 0..DIALS {
        let conn = listener.accept().expect_ok("an accept").await;
        serving.spawn(async move {
            let mut stream = conn.accept_stream().expect_ok("its stream").await;
            let i = stream.read_u32().expect_ok("its number").await;
            expect_end(&mut stream).await;
            send_all(&mut stream, &i.to_be_bytes()).await;
            (i, conn)
        });
    }
    let dialed = dialers.join_all().named("the dialers").await;
    let served = serving.join_all().named("the acceptors").await;
    let numbers: HashSet<u32> = served.iter().map(|(i, _)| *i).collect();
    assert_eq!(numbers.len(), DIALS as usize);
    // Closing one of them is nothing to the others.
    dialed[0].close(0, "");
    let connected = || {
        let states = served.iter().map(|(_, conn)| *conn.state().borrow());
        states
            .filter(|state| *state == ConnState::Connected)
            .count()
    };
    let one_less = || connected() == DIALS as usize - 1;
    env.eventually("the end of that one alone", one_less).await;
}

async fn a_peer_that_stalls_in_its_handshake_delays_no_other(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let (mut once, mut twice, mut thrice) = (
        pin!(env.transport().dial(&addr)),
        pin!(env.transport().dial(&addr)),
        pin!(env.transport().dial(&addr)),
    );
    // Each stops somewhere else on its way. A dial that is over by then is a peer that says nothing.
    let _once = advance(&mut once, 1).await;
    expect_service(&env, &listener).await;
    let _twice = advance(&mut twice, 2).await;
    expect_service(&env, &listener).await;
    let _thrice = advance(&mut thrice, 3).await;
    expect_service(&env, &listener).await;
}

async fn a_peer_that_fails_in_its_handshake_harms_no_other(env: Env) {
    let listener = env.listen().await;
    let addr = listener.local_addr();
    for steps in [1, 2, 3, 1, 2, 3] {
        {
            let mut dial = pin!(env.transport().dial(&addr));
            let _ = advance(&mut dial, steps).await;
        }
        expect_service(&env, &listener).await;
    }
}

async fn two_listeners_get_their_own_connections(env: Env) {
    const DIALS: u8 = 8;
    let listeners = [env.listen().await, env.listen().await];
    let addrs = [listeners[0].local_addr(), listeners[1].local_addr()];
    assert_ne!(addrs[0], addrs[1]);
    let dial = async {
        let mut conns = Vec::new();
        for i in 0..2 * DIALS {
            let whose = i % 2;
            let dial = env.transport().dial(&addrs[usize::from(whose)]);
            let conn = dial.expect_ok("a dial").await;
            let mut stream = conn.open_stream().expect_ok("a stream").await;
            send_all(&mut stream, &[whose]).await;
            conns.push((conn, stream));
        }
        conns
    };
    let serve = async |whose: u8| {
        let mut conns = Vec::new();
        for _ in 0..DIALS {
            let accept = listeners[usize::from(whose)].accept();
            let conn = accept.expect_ok("an accept").await;
            let mut stream = conn.accept_stream().expect_ok("its stream").await;
            expect_all(&mut stream, &[whose]).await;
            conns.push(conn);
        }
        conns
    };
    let _conns = tokio::join!(dial, serve(0), serve(1));
    for listener in &listeners {
        assert!(
            listener.accept().now_or_never().is_none(),
            "a connection too many was accepted"
        );
    }
}

pub(super) async fn dropping_a_listener_closes_it<T: Transport>(env: Env<T>) {
    let pair = env.pair().await;
    let addr = pair.listener.local_addr();
    let Pair {
        opener,
        acceptor,
        listener,
        ..
    } = pair;
    drop(listener);
    expect_refused(&env, &addr).await;
    let new = listen_again(&env, &addr).await;
    expect_service(&env, &new).await;
    for conn in [&opener, &acceptor] {
        assert_eq!(*conn.state().borrow(), ConnState::Connected);
    }
}

/// Sends the bytes to and fro on a new stream.
async fn expect_echo(pair: &Pair, data: &[u8]) {
    let (mut here, mut there) = pair.stream().await;
    tokio::join!(send_all(&mut here, data), expect_all(&mut there, data));
    tokio::join!(send_all(&mut there, data), expect_all(&mut here, data));
}
