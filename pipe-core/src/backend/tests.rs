use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, advance, sleep, timeout};

use super::*;
use crate::{Addr, Config, Error, ErrorKind, Result};

/// A raw connection that becomes its number when its peer says so.
struct Call {
    number: u32,
    from: &'static str,
    answered: oneshot::Receiver<()>,
    speaks: bool,
}

#[derive(Default)]
struct Counts {
    taken: AtomicUsize,
    refused: AtomicUsize,
    closed: AtomicBool,
}

struct Source {
    calls: Mutex<mpsc::UnboundedReceiver<Result<Call>>>,
    counts: Arc<Counts>,
}

impl Accept for Source {
    type Raw = Call;
    type Conn = u32;

    async fn accept(&self) -> Result<Call> {
        let call = self.calls.lock().await.recv().await;
        self.counts.taken.fetch_add(1, Ordering::Relaxed);
        call.unwrap_or_else(|| Err(Error::new(ErrorKind::Failed, "no more calls")))
    }

    fn incoming(&self, call: &Call) -> Incoming {
        Incoming::from_socket(call.from.parse().unwrap())
    }

    async fn handshake(self: Arc<Self>, call: Call, progress: Progress) -> Result<u32> {
        let first = async {
            if !call.speaks {
                pending::<()>().await;
            }
            Ok(())
        };
        progress.first_byte(first).await?;
        match call.answered.await {
            Ok(()) => Ok(call.number),
            Err(_) => Err(Error::new(ErrorKind::Handshake, "hung up")),
        }
    }

    fn refuse(&self, call: Call) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
        drop(call);
    }

    fn close(&self) {
        self.counts.closed.store(true, Ordering::Relaxed);
    }
}

struct Callers {
    calls: mpsc::UnboundedSender<Result<Call>>,
    counts: Arc<Counts>,
}

impl Callers {
    fn call(&self, number: u32, from: &'static str, speaks: bool) -> oneshot::Sender<()> {
        let (answer, answered) = oneshot::channel();
        let call = Call {
            number,
            from,
            answered,
            speaks,
        };
        self.calls.send(Ok(call)).map_err(drop).unwrap();
        answer
    }

    /// Calls, and does its part of the handshake.
    fn dial(&self, number: u32, from: &'static str) {
        self.call(number, from, true).send(()).unwrap();
    }
}

const HERE: &str = "127.0.0.1:1";

fn queue(config: &Config, admission: Admission) -> (Callers, HandshakeQueue<u32>) {
    let (calls, heard) = mpsc::unbounded_channel();
    let counts = Arc::new(Counts::default());
    let source = Source {
        calls: Mutex::new(heard),
        counts: counts.clone(),
    };
    let addr: Addr = "tcp://127.0.0.1:1".parse().unwrap();
    let queue = HandshakeQueue::spawn(Arc::new(source), addr, config, admission);
    (Callers { calls, counts }, queue)
}

fn limits(max_handshakes: u32, accept_backlog: u32) -> Config {
    Config::default()
        .with_max_handshakes(max_handshakes)
        .with_accept_backlog(accept_backlog)
}

/// Lets the tasks go on until all of them wait.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn silent_peers_do_not_keep_an_honest_one_from_their_address_out() {
    let (callers, queue) = queue(&limits(4, 1), Admission::default());
    let mut silent: Vec<_> = (0..2000).map(|n| callers.call(n, HERE, false)).collect();
    let started = Instant::now();
    callers.dial(5000, HERE);
    assert_eq!(queue.accept().await.unwrap(), 5000);
    // A few times the first look at all that may be silent.
    assert!(started.elapsed() < Duration::from_millis(50));
    settle().await;
    // At the limit, the others gave way.
    silent.retain(|caller| !caller.is_closed());
    assert!(silent.len() <= MAX_SILENT, "{}", silent.len());
}

#[tokio::test(start_paused = true)]
async fn a_peer_in_its_handshake_outlasts_silent_newcomers() {
    let (callers, queue) = queue(&limits(4, 1), Admission::default());
    let honest = callers.call(7, HERE, true);
    settle().await;
    let _silent: Vec<_> = (0..400).map(|n| callers.call(n, HERE, false)).collect();
    sleep(Duration::from_millis(400)).await;
    honest.send(()).unwrap();
    assert_eq!(queue.accept().await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn no_more_handshakes_run_at_once_than_allowed() {
    let (callers, queue) = queue(&limits(4, 100), Admission::default());
    let under_way: Vec<_> = (0..4).map(|n| callers.call(n, HERE, true)).collect();
    settle().await;
    // The fifth waits until one of them had its time.
    callers.dial(4, HERE);
    settle().await;
    assert!(under_way.iter().all(|caller| !caller.is_closed()));
    assert_eq!(queue.accept().await.unwrap(), 4);
    settle().await;
    let left = under_way.iter().filter(|caller| !caller.is_closed());
    assert_eq!(left.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_wait_for_those_who_came_before() {
    let (callers, queue) = queue(&limits(4, 100), Admission::default());
    let mut stalled: Vec<_> = (0..400).map(|n| callers.call(n, HERE, true)).collect();
    settle().await;
    let started = Instant::now();
    callers.dial(1000, HERE);
    assert_eq!(queue.accept().await.unwrap(), 1000);
    assert!(
        started.elapsed() < Duration::from_millis(60),
        "the grace of one"
    );
    // Those that were new have displaced each other; from here on it takes longer.
    sleep(Duration::from_secs(1)).await;
    stalled.retain(|caller| !caller.is_closed());
    let before = stalled.len();
    sleep(Duration::from_millis(2000)).await;
    stalled.retain(|caller| !caller.is_closed());
    let gone = before - stalled.len();
    assert!(
        (4..=12).contains(&gone),
        "{gone} of 4 at a time in two seconds"
    );
    // A newcomer gets in at once now.
    let started = Instant::now();
    callers.dial(1001, HERE);
    assert_eq!(queue.accept().await.unwrap(), 1001);
    assert!(started.elapsed() < Duration::from_millis(60));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_is_not_displaced_while_this_side_is_held_up() {
    let (callers, queue) = queue(&limits(1, 100), Admission::default());
    let honest = callers.call(1, HERE, true);
    settle().await;
    callers.dial(2, HERE);
    settle().await;
    // The process stands still for longer than a handshake stays in any case.
    advance(Duration::from_secs(1)).await;
    sleep(Duration::from_millis(5)).await;
    honest.send(()).expect("it was not displaced");
    assert_eq!(queue.accept().await.unwrap(), 1);
    assert_eq!(queue.accept().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn places_taken_while_the_backlog_is_full_are_displaced_later() {
    let (callers, queue) = queue(&limits(2, 1), Admission::default());
    for n in 0..3 {
        callers.dial(n, HERE);
    }
    settle().await;
    // They get places, and wait for room in the backlog.
    let stalled: Vec<_> = (3..5).map(|n| callers.call(n, HERE, true)).collect();
    settle().await;
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(queue.accept().await.unwrap());
    }
    settle().await;
    callers.dial(9, HERE);
    let accepted = timeout(Duration::from_millis(500), queue.accept()).await;
    assert_eq!(accepted.expect("a place").unwrap(), 9);
    drop(stalled);
}

#[tokio::test(start_paused = true)]
async fn a_crowd_from_one_network_does_not_displace_others() {
    let (callers, queue) = queue(&limits(4, 1), Admission::default());
    let honest = callers.call(7, "192.0.2.1:1", false);
    settle().await;
    let crowd = ["[2001:db8::1]:1", "[2001:db8::2]:1"];
    let _crowd: Vec<_> = (0..400)
        .map(|n| callers.call(n, crowd[n as usize % 2], true))
        .collect();
    sleep(Duration::from_millis(2500)).await;
    assert!(callers.counts.taken.load(Ordering::Relaxed) > 100);
    assert!(!honest.is_closed());
    drop(queue);
}

#[tokio::test(start_paused = true)]
async fn a_mute_stranger_takes_no_place_in_the_backlog() {
    let (callers, queue) = queue(&limits(8, 1), Admission::default());
    let _mute = callers.call(1, HERE, false);
    settle().await;
    callers.dial(2, HERE);
    let conn = timeout(Duration::from_millis(10), queue.accept()).await;
    assert_eq!(conn.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_backlog_is_full_dials_wait_and_nothing_is_lost() {
    let (callers, queue) = queue(&limits(3, 2), Admission::default());
    let under_way: Vec<_> = (0..3).map(|n| callers.call(n, HERE, true)).collect();
    settle().await;
    for answer in under_way {
        answer.send(()).unwrap();
    }
    settle().await;
    for n in 3..6 {
        callers.dial(n, HERE);
    }
    settle().await;
    // One was being waited for when the backlog filled.
    let taken = callers.counts.taken.load(Ordering::Relaxed);
    assert!(taken <= 4, "{taken}");
    let mut got = Vec::new();
    for _ in 0..6 {
        got.push(queue.accept().await.unwrap());
    }
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn after_an_error_of_the_system_it_goes_on() {
    let (callers, queue) = queue(&limits(3, 2), Admission::default());
    for _ in 0..3 {
        let error = Error::new(ErrorKind::Io, "too many open files");
        callers.calls.send(Err(error)).map_err(drop).unwrap();
    }
    callers.dial(1, HERE);
    let started = Instant::now();
    assert_eq!(queue.accept().await.unwrap(), 1);
    // It has not tried again and again meanwhile.
    assert!(started.elapsed() >= Duration::from_millis(150));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_nothing_is_given_up_early() {
    let (callers, _queue) = queue(&limits(3, 2), Admission::default());
    let mut silent = callers.call(1, HERE, false);
    let mut slow = callers.call(2, HERE, true);
    let started = Instant::now();
    silent.closed().await;
    assert_eq!(started.elapsed().as_secs(), FIRST_BYTE_TIMEOUT.as_secs());
    slow.closed().await;
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_admitted_is_refused_before_its_handshake() {
    let admission = Admission::new(|incoming| {
        let remote: SocketAddr = incoming.remote().unwrap();
        if remote.ip().is_loopback() {
            Admit::Accept
        } else {
            Admit::Refuse
        }
    });
    let (callers, queue) = queue(&limits(1, 1), admission);
    let mut stranger = callers.call(1, "192.0.2.1:1", true);
    stranger.closed().await;
    assert_eq!(callers.counts.refused.load(Ordering::Relaxed), 1);
    // Mapped into IPv6, the address is the same.
    callers.dial(2, "[::ffff:127.0.0.1]:1");
    assert_eq!(queue.accept().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_handshakes_and_those_who_wait() {
    let (callers, queue) = queue(&limits(3, 1), Admission::default());
    let mut under_way = callers.call(1, HERE, true);
    settle().await;
    let queue = Arc::new(queue);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.accept().await }
    });
    settle().await;
    queue.close();
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.to_string().contains("tcp://127.0.0.1:1"), "{error}");
    under_way.closed().await;
    assert!(callers.counts.closed.load(Ordering::Relaxed));
    assert_eq!(queue.accept().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_source_is_the_end_of_the_listener() {
    let (callers, queue) = queue(&limits(3, 1), Admission::default());
    drop(callers);
    let error = queue.accept().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("no more calls"), "{error}");
}

#[test]
fn who_waits_hears_of_it_when_the_runtime_of_the_task_goes_away() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let gone = runtime();
    let (_callers, queue) = gone.block_on(async { queue(&limits(3, 1), Admission::default()) });
    runtime().block_on(async {
        let mut waiting = Box::pin(queue.accept());
        assert!(waiting.as_mut().now_or_never().is_none());
        gone.shutdown_background();
        let error = timeout(Duration::from_secs(10), waiting).await;
        let error = error.expect("an end of the wait").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("has stopped"), "{error}");
    });
}

#[tokio::test]
async fn places_bound_an_accept_queue_and_come_back() {
    let addr: Addr = "inproc://a".parse().unwrap();
    let queue = AcceptQueue::new(addr, 2);
    let (first, second) = (
        queue.reserve().await.unwrap(),
        queue.reserve().await.unwrap(),
    );
    let mut third = Box::pin(queue.reserve());
    let mut fourth = Box::pin(queue.reserve());
    assert!(third.as_mut().now_or_never().is_none());
    assert!(fourth.as_mut().now_or_never().is_none());
    drop(first);
    queue.push_into(second, 1).unwrap();
    assert_eq!(queue.accept().await.unwrap(), 1);
    assert!(third.await.is_some());
    assert!(fourth.as_mut().now_or_never().flatten().is_some());
    queue.close();
    assert!(queue.reserve().await.is_none());
    assert_eq!(queue.push(2), Err(2));
}
