//! The waker of `pipe-mux`'s driver: nothing that is told while it takes a turn, or goes to sleep, is missed.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::turns::{DriverWaker, Turns};

pub(crate) fn models() -> Vec<(&'static str, fn())> {
    crate::list::models![
        a_notification_that_comes_while_the_driver_goes_to_sleep_wakes_it,
        notifications_of_two_threads_are_both_seen,
        a_driver_that_rests_gets_its_next_turn,
        a_task_that_wakes_itself_and_one_that_is_woken_are_the_same_to_the_driver,
    ]
}

/// A driver whose work is told by others.
struct Driver {
    waker: Arc<DriverWaker>,
    /// Told without an order of its own: the wake-up has to bring it along.
    work: AtomicUsize,
}

impl Driver {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            waker: DriverWaker::new(),
            work: AtomicUsize::new(0),
        })
    }

    /// Adds work in another thread, and wakes the driver as `wake` does.
    fn work(self: &Arc<Self>, wake: fn(&DriverWaker)) -> thread::JoinHandle<()> {
        let driver = self.clone();
        thread::spawn(move || {
            driver.work.fetch_add(1, Ordering::Relaxed);
            wake(&driver.waker);
        })
    }

    /// Runs the driver until it has seen so much work.
    fn run(&self, work: usize) {
        let turns = Turns::new(self.waker.clone());
        block_on(poll_fn(|cx| {
            turns.poll(cx, |_| {
                if self.work.load(Ordering::Relaxed) == work {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        }));
    }
}

fn a_notification_that_comes_while_the_driver_goes_to_sleep_wakes_it() {
    let driver = Driver::new();
    let other = driver.work(DriverWaker::notify);
    driver.run(1);
    other.join().expect("a thread");
}

fn notifications_of_two_threads_are_both_seen() {
    let driver = Driver::new();
    let others = [(); 2].map(|()| driver.work(DriverWaker::notify));
    driver.run(2);
    for other in others {
        other.join().expect("a thread");
    }
}

fn a_driver_that_rests_gets_its_next_turn() {
    let driver = Driver::new();
    let others = [
        driver.work(DriverWaker::rest),
        driver.work(DriverWaker::notify),
    ];
    driver.run(2);
    for other in others {
        other.join().expect("a thread");
    }
}

fn a_task_that_wakes_itself_and_one_that_is_woken_are_the_same_to_the_driver() {
    let driver = Driver::new();
    let other = driver.work(DriverWaker::notify);
    let turns = Turns::new(driver.waker.clone());
    let mut own = false;
    block_on(poll_fn(|cx| {
        turns.poll(cx, |cx| {
            let work = driver.work.load(Ordering::Relaxed);
            if !std::mem::replace(&mut own, true) {
                cx.waker().wake_by_ref();
            } else if work == 1 {
                return Poll::Ready(());
            }
            Poll::Pending
        })
    }));
    other.join().expect("a thread");
}
