use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use pipe_core::{Addr, BoxConn, CloseReason, Conn, ErrorKind, Listener, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use crate::case::{Case, case};
use crate::env::Env;
use crate::fixture::Stalled;
use crate::interrupt::{advance, pause, unless_aborted};
use crate::service::{expect_service, listen_again, service};
use crate::time::unless_stuck;
use crate::waits::{Named, in_time};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(a_newcomer_gets_in_while_others_stall)
            .once()
            .weight(3)
            .config(|config| {
                config
                    .with_max_handshakes(2)
                    .with_handshake_timeout(Duration::from_secs(30))
            }),
        case!(no_more_handshakes_run_at_once_than_allowed)
            .once()
            .weight(3)
            .config(|config| {
                config
                    .with_max_handshakes(4)
                    .with_handshake_timeout(Duration::from_secs(2))
            }),
        case!(a_dropped_listen_leaves_nothing_bound).once(),
        case!(concurrent_accepts_get_each_connection_once).once(),
        case!(a_dropped_accept_loses_no_connection).once().weight(3),
        case!(a_closed_listener_closes_what_waits_to_be_accepted).once(),
    ]
}

async fn a_newcomer_gets_in_while_others_stall(env: Env) {
    const NEWCOMER: &str = "a round trip of a newcomer";
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let limit = env.config().max_handshakes as usize;
    let mut stalled: Vec<_> = (0..6 * limit)
        .map(|_| Box::pin(env.transport().dial(&addr)))
        .collect();
    let mut kept = Vec::new();
    // Each stops somewhere else on its way, and more than the limit at each place.
    for (steps, dials) in (1..).zip(stalled.chunks_mut(2 * limit)) {
        kept.extend(join_all(dials.iter_mut().map(|dial| advance(dial, steps))).await);
        env.in_turn(NEWCOMER, service(&env, &listener)).await;
    }
    // They have not made room by a time-out, and take no newcomer's place either.
    env.in_turn(NEWCOMER, service(&env, &listener)).await;
}

async fn no_more_handshakes_run_at_once_than_allowed(env: Env) {
    /// How long the peers are watched.
    const WATCHED: Duration = Duration::from_millis(1500);
    /// How long more than the limit may seem to be under way, while one takes the place of another.
    const OVERLAP: Duration = Duration::from_millis(250);
    const LOOK: Duration = Duration::from_millis(10);
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let limit = env.config().max_handshakes as usize;
    let under_way = Arc::new(AtomicUsize::new(0));
    let mut peers = JoinSet::new();
    for _ in 0..3 * limit {
        // Without one, what is left of the case is that a newcomer gets in.
        let Some(stalling) = env.stall(&addr) else {
            break;
        };
        peers.spawn(stall(stalling, under_way.clone()));
    }

    let watch = async {
        let mut most = 0;
        let mut above = Duration::ZERO;
        for _ in 0..WATCHED.as_millis() / LOOK.as_millis() {
            sleep(LOOK).await;
            let now = under_way.load(Ordering::SeqCst);
            most = most.max(now);
            above = if now > limit {
                above + LOOK
            } else {
                Duration::ZERO
            };
            assert!(
                above <= OVERLAP,
                "{now} handshakes are under way at once for {above:?}, with a limit of {limit}"
            );
        }
        most
    };
    if peers.is_empty() {
        return expect_service(&env, &listener).await;
    }
    // On a machine that does much else, the first one takes its time.
    let begun = async {
        while under_way.load(Ordering::SeqCst) == 0 {
            sleep(LOOK).await;
        }
    };
    in_time("the first handshake", Duration::from_secs(30), begun).await;
    let most = watch.await;
    assert!(most > 0, "the listener has begun no handshake");
    expect_service(&env, &listener).await;
    // Each is given up in the end, whether it had a place or waited for one.
    let patience = 2 * env.config().handshake_timeout + Duration::from_secs(5);
    let given_up = async { while peers.join_next().await.is_some() {} };
    in_time("the end of stalled handshakes", patience, given_up).await;
}

/// A peer that stalls, counted while its handshake is under way at the listener.
async fn stall(
    stalling: impl Future<Output = std::io::Result<Stalled>>,
    under_way: Arc<AtomicUsize>,
) {
    let counted = Counted(&under_way, AtomicUsize::new(0));
    // A peer that is refused stalls no more.
    if let Ok(stalled) = stalling.await {
        stalled.watch(|| counted.add()).await;
    }
}

/// Counts one until the drop, once it was added.
struct Counted<'a>(&'a AtomicUsize, AtomicUsize);

impl Counted<'_> {
    fn add(&self) {
        self.1.store(1, Ordering::SeqCst);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(*self.1.get_mut(), Ordering::SeqCst);
    }
}

async fn a_dropped_listen_leaves_nothing_bound(env: Env) {
    // An address whose port or name is known.
    let first = env.listen().await;
    let addr = first.local_addr();
    first.close();
    drop(first);
    for polls in [0, 1, 2, 1, 3] {
        {
            let mut listen = pin!(env.transport().listen(&addr));
            if polls > 0 {
                drop(advance(&mut listen, polls).await);
            }
        }
        let listener = listen_again(&env, &addr).await;
        expect_service(&env, &listener).await;
        listener.close();
    }
}

async fn concurrent_accepts_get_each_connection_once(env: Env) {
    const DIALS: u32 = 16;
    const ACCEPTORS: u32 = 4;
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let dial = async {
        let dials = (0..DIALS).map(|i| dial_and_send(&env, &addr, i));
        join_all(dials).named("the dials").await
    };
    let accept = async || {
        let mut accepted = Vec::new();
        for _ in 0..DIALS / ACCEPTORS {
            let accept = listener.accept().expect_ok("an accept");
            accepted.push(receive(accept.await).await);
        }
        accepted
    };
    let accepts = join_all((0..ACCEPTORS).map(|_| accept()));
    // All accepts wait before anything comes.
    let both = async { tokio::join!(biased; accepts, dial) };
    let (accepted, _dialed) = env.soon("each dial and its accept", both).await;
    let accepted: Vec<_> = accepted.into_iter().flatten().collect();
    let numbers: HashSet<u32> = accepted.iter().map(|(number, _)| *number).collect();
    assert_eq!(
        numbers.len(),
        DIALS as usize,
        "some came twice, and some never"
    );
    let more = listener.accept().now_or_never();
    assert!(more.is_none(), "a connection too many was accepted");
}

async fn a_dropped_accept_loses_no_connection(env: Env) {
    let listener = Arc::new(env.listen().await);
    let addr = listener.local_addr();
    let (dialed, accepted) = env.pair_on(&listener).await;
    let trip = dialed.ping().expect_ok("a ping").await;
    drop((dialed, accepted));
    for round in 0..30 {
        let acceptor = listener.clone();
        let accept = tokio::spawn(async move { acceptor.accept().await });
        pause(round as usize % 3, trip).await;
        let dial = dial_and_send(&env, &addr, round);
        let rest = async {
            pause(round as usize, trip).await;
            accept.abort();
            match unless_aborted(accept.await) {
                Some(accepted) => accepted.expect("an accept"),
                None => {
                    let again = listener.accept();
                    again
                        .expect_ok("the accept after one that was dropped")
                        .await
                }
            }
        };
        let both = async { tokio::join!(dial, rest) };
        let (_dialed, accepted) = env.soon("a dial and its accept", both).await;
        let received = env.soon("the bytes of a dialer", receive(accepted)).await;
        assert_eq!(received.0, round, "another connection was accepted");
    }
}

async fn a_closed_listener_closes_what_waits_to_be_accepted(env: Env) {
    const WAITING: usize = 4;
    let listener = env.listen().await;
    let addr = listener.local_addr();
    let (dialed, accepted) = env.pair_on(&listener).await;
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        // A transport may complete a dial only when it is accepted.
        match unless_stuck(env.transport().dial(&addr)).await {
            Some(dialed) => waiting.push(dialed.expect("a dial")),
            None => break,
        }
    }
    listener.close();
    for conn in &waiting {
        let end = env.soon("the end of a connection that waited", conn.closed());
        let end = end.await;
        let right = match &end {
            CloseReason::Remote { .. } => true,
            // Or it was refused at the end of its handshake.
            CloseReason::Failed(error) => {
                matches!(error.kind(), ErrorKind::Failed | ErrorKind::Refused)
            }
            CloseReason::Local { .. } => false,
        };
        assert!(right, "a connection that waited ended as {end:?}");
    }
    for _ in 0..8 {
        yield_now().await;
    }
    for conn in [&dialed, &accepted] {
        assert!(
            conn.closed().now_or_never().is_none(),
            "a connection that was accepted has ended"
        );
    }
}

/// Dials and sends a number over a stream.
async fn dial_and_send(env: &Env, addr: &Addr, number: u32) -> BoxConn {
    let conn = env.transport().dial(addr).expect_ok("a dial").await;
    let mut stream = conn.open_stream().expect_ok("an open").await;
    stream.write_u32(number).expect_ok("a write").await;
    stream.shutdown().expect_ok("a shutdown").await;
    conn
}

/// Receives the number that comes over the first stream.
async fn receive<C: Conn>(conn: C) -> (u32, C) {
    let mut stream = conn.accept_stream().expect_ok("a stream").await;
    let number = stream.read_u32().expect_ok("a number").await;
    (number, conn)
}
