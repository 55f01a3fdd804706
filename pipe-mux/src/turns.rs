use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::{AtomicBool, AtomicU8, AtomicWaker, Ordering, wake_after_others};

/// The driver waits: a wake-up goes to its task.
const WAITING: u8 = 0;
/// The driver has its turn: a wake-up is noted.
const RUNNING: u8 = 1;
/// The driver was woken and has not had its turn yet.
const WOKEN: u8 = 2;

/// Maximum number of consecutive turns of the driver before other tasks run.
const MAX_TURNS: usize = 8;

/// Wakes the driver.
///
/// A wake-up during the driver's turn gives it another turn right afterwards, without the runtime:
/// a task that is woken while it runs goes to the end of a queue, and another worker is woken to
/// take it from there, which costs more than the turn itself. The multiplexer wakes its own task
/// each time it has looked at every one of its streams, however few they are, and streams do it
/// from other threads.
pub(crate) struct DriverWaker {
    state: AtomicU8,
    /// The driver has done so much that others come first.
    rests: AtomicBool,
    task: AtomicWaker,
}

impl DriverWaker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(WAITING),
            rests: AtomicBool::new(false),
            task: AtomicWaker::new(),
        })
    }

    /// Gives the driver another turn after this one, but other tasks run before it: those that the turn
    /// has given much to read, above all.
    pub(crate) fn rest(&self) {
        self.rests.store(true, Ordering::Relaxed);
        self.notify();
    }

    pub(crate) fn notify(&self) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == WAITING {
            self.task.wake();
        }
    }
}

impl Wake for DriverWaker {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

/// Gives the driver its turns.
pub(crate) struct Turns {
    driver: Arc<DriverWaker>,
    waker: Waker,
}

impl Turns {
    pub(crate) fn new(driver: Arc<DriverWaker>) -> Self {
        let waker = Waker::from(driver.clone());
        Self { driver, waker }
    }

    /// Takes turns until there is nothing to do.
    pub(crate) fn poll<R>(
        &self,
        cx: &mut Context<'_>,
        mut turn: impl FnMut(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let DriverWaker { state, rests, task } = &*self.driver;
        task.register(cx.waker());
        for _ in 0..MAX_TURNS {
            // Processes what was prepared before the wake-up.
            state.swap(RUNNING, Ordering::AcqRel);
            let over = turn(&mut Context::from_waker(&self.waker));
            if over.is_ready() {
                return over;
            }
            let quiet =
                state.compare_exchange(RUNNING, WAITING, Ordering::AcqRel, Ordering::Relaxed);
            if quiet.is_ok() {
                return Poll::Pending;
            }
            if rests.swap(false, Ordering::Relaxed) {
                break;
            }
        }
        wake_after_others(cx);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Fixture {
        driver: Arc<DriverWaker>,
        turns: Turns,
        count: Arc<Count>,
    }

    impl Fixture {
        fn new() -> Self {
            let driver = DriverWaker::new();
            Self {
                turns: Turns::new(driver.clone()),
                driver,
                count: Arc::default(),
            }
        }

        /// Polls. Returns how many turns that took.
        fn poll(&self, mut turn: impl FnMut(usize, &mut Context<'_>) -> Poll<()>) -> usize {
            let waker = Waker::from(self.count.clone());
            let mut taken = 0;
            let _ = self.turns.poll(&mut Context::from_waker(&waker), |cx| {
                taken += 1;
                turn(taken, cx)
            });
            taken
        }

        fn woken(&self) -> usize {
            self.count.0.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn a_wake_up_between_turns_goes_to_the_task_once() {
        let f = Fixture::new();
        assert_eq!(f.poll(|_, _| Poll::Pending), 1);
        assert_eq!(f.woken(), 0);
        f.driver.notify();
        f.driver.notify();
        assert_eq!(f.woken(), 1);
        assert_eq!(f.poll(|_, _| Poll::Pending), 1);
        f.driver.notify();
        assert_eq!(f.woken(), 1);
    }

    #[test]
    fn a_wake_up_during_a_turn_gives_another_turn_at_once() {
        let f = Fixture::new();
        let turns = f.poll(|turn, cx| {
            if turn < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        assert_eq!((turns, f.woken()), (3, 0));
        f.driver.notify();
        assert_eq!(f.woken(), 1);
    }

    #[test]
    fn a_driver_that_rests_goes_on_after_the_others() {
        let f = Fixture::new();
        let turns = f.poll(|_, _| {
            f.driver.rest();
            Poll::Pending
        });
        assert_eq!((turns, f.woken()), (1, 1));
        assert_eq!((f.poll(|_, _| Poll::Pending), f.woken()), (1, 0));
    }

    #[test]
    fn a_driver_that_never_rests_lets_others_run() {
        let f = Fixture::new();
        let busy = |_, cx: &mut Context<'_>| {
            cx.waker().wake_by_ref();
            Poll::Pending
        };
        assert_eq!((f.poll(busy), f.woken()), (MAX_TURNS, 1));
        // It is on its way already.
        f.driver.notify();
        assert_eq!(f.woken(), 0);
        assert_eq!((f.poll(busy), f.woken()), (MAX_TURNS, 1));
        assert_eq!((f.poll(|_, _| Poll::Pending), f.woken()), (1, 0));
        f.driver.notify();
        assert_eq!(f.woken(), 1);
    }
    /// tokio looks for events of sockets after 61 polls at the latest, so a driver that only went to the end of the
    /// queue would have some thirty turns for each byte.
    #[tokio::test]
    async fn a_driver_that_always_rests_does_not_hold_up_sockets() {
        const BYTES: usize = 20;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (here, there) = tokio::join!(TcpStream::connect(addr), listener.accept());
        let (mut here, (mut there, _)) = (here.unwrap(), there.unwrap());
        let echo = tokio::spawn(async move {
            let (mut from, mut to) = there.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        });

        let driver = DriverWaker::new();
        let turns_taken = Arc::new(AtomicUsize::new(0));
        let (waker, count) = (driver.clone(), turns_taken.clone());
        let busy = tokio::spawn(async move {
            let turns = Turns::new(waker.clone());
            let turn = |_: &mut Context<'_>| {
                count.fetch_add(1, Ordering::Relaxed);
                waker.rest();
                Poll::<()>::Pending
            };
            poll_fn(|cx| turns.poll(cx, turn)).await;
        });
        for byte in 0..BYTES as u8 {
            here.write_u8(byte).await.unwrap();
            assert_eq!(here.read_u8().await.unwrap(), byte);
        }
        let taken = turns_taken.load(Ordering::Relaxed);
        assert!(taken > 0, "the driver ran beside");
        assert!(taken < 10 * BYTES, "{taken} turns for {BYTES} bytes");
        busy.abort();
        drop(here);
        echo.await.unwrap();
    }
}
