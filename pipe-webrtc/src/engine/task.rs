use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Maximum number of consecutive turns of the parts of a task before other tasks run.
const MAX_TURNS: usize = 8;

/// Bits of [`Parts::woken`]: the parts have their turn, and wake-ups are recorded; a part waits to
/// be added; the first of the parts is to be polled.
const RUNNING: usize = 1;
const NEWCOMER: usize = 2;
const FIRST: usize = 4;

/// Maximum number of parts of one task.
const MAX_PARTS: usize = (usize::BITS - FIRST.trailing_zeros()) as usize;

/// The task of a connection: the engine, and the parts that exchange bytes with it, run side by
/// side.
///
/// In tasks of their own, each message would be handed from one to the next by the runtime, which
/// puts a woken task at the end of a queue and wakes another worker to take it from there. Here a
/// part that is woken by another one is polled in the same turn of the task, or in another one
/// right afterwards, and the runtime handles only wake-ups from outside.
///
/// A part that panics ends alone, and is logged.
pub(crate) struct Parts {
    /// Pending work, and whether it is being done. While it is not 0, no wake-up is needed.
    woken: AtomicUsize,
    task: AtomicWaker,
    /// Parts that wait to be taken in; none any more once the task is over.
    coming: Mutex<Option<Vec<BoxFuture<'static, ()>>>>,
    panic: Arc<watch::Sender<bool>>,
}

impl Parts {
    /// Makes the task, which has to be spawned, and ends with the last of its parts.
    pub(crate) fn new() -> (Arc<Self>, Task) {
        let parts = Arc::new(Self {
            woken: AtomicUsize::new(0),
            task: AtomicWaker::new(),
            coming: Mutex::new(Some(Vec::new())),
            panic: Arc::default(),
        });
        let task = Task {
            parts: parts.clone(),
            running: Vec::new(),
        };
        (parts, task)
    }

    /// Makes this a part of the task, or a task of its own if that one is over.
    pub(crate) fn add(&self, part: impl Future<Output = ()> + Send + 'static) {
        let panic = self.panic.clone();
        let part = AssertUnwindSafe(part).catch_unwind().map(move |ended| {
            if ended.is_err() {
                tracing::error!("a part of a connection has panicked");
                panic.send_replace(true);
            }
        });
        let part = part.boxed();
        let mut coming = self.coming.lock();
        if let Some(coming) = &mut *coming {
            coming.push(part);
        } else {
            tokio::spawn(part);
        }
        drop(coming);
        self.wake(NEWCOMER);
    }

    /// Waits until a part has panicked.
    pub(crate) async fn panicked(&self) {
        // The sender lives as long as this does.
        let _ = self.panic.subscribe().wait_for(|panicked| *panicked).await;
    }

    fn wake(&self, what: usize) {
        if self.woken.fetch_or(what, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

/// Runs the [`Parts`].
pub(crate) struct Task {
    parts: Arc<Parts>,
    /// Parts in the order in which they came; `None` in the place of one that has ended.
    running: Vec<Option<Running>>,
}

struct Running {
    future: BoxFuture<'static, ()>,
    waker: Waker,
}

impl Task {
    /// Polls the parts that were woken. Returns whether all have ended.
    fn turn(&mut self, mut woken: usize) -> bool {
        if woken & NEWCOMER != 0 {
            let coming = self.parts.coming.lock().as_mut().map(std::mem::take);
            for future in coming.into_iter().flatten() {
                woken |= self.take_in(future);
            }
        }
        let mut bit = FIRST;
        for place in &mut self.running {
            if woken & bit != 0
                && let Some(part) = place
            {
                let mut cx = Context::from_waker(&part.waker);
                if part.future.poll_unpin(&mut cx).is_ready() {
                    *place = None;
                }
            }
            bit <<= 1;
        }
        self.running.iter().all(Option::is_none) && self.is_over()
    }

    /// Gives a part a place. Returns its bit.
    fn take_in(&mut self, future: BoxFuture<'static, ()>) -> usize {
        let free = self.running.iter().position(Option::is_none);
        let place = free.unwrap_or(self.running.len());
        if place >= MAX_PARTS {
            tokio::spawn(future);
            return 0;
        }
        if free.is_none() {
            self.running.push(None);
        }
        let bit = FIRST << place;
        let parts = self.parts.clone();
        self.running[place] = Some(Running {
            future,
            waker: Waker::from(Arc::new(PartWaker { parts, bit })),
        });
        bit
    }

    /// Closes the task, unless another part has come.
    fn is_over(&self) -> bool {
        let mut coming = self.parts.coming.lock();
        let over = coming.as_ref().is_none_or(Vec::is_empty);
        if over {
            *coming = None;
        }
        over
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let parts = self.parts.clone();
        parts.task.register(cx.waker());
        for _ in 0..MAX_TURNS {
            // Adds parts that were prepared before the wake-ups.
            let woken = parts.woken.swap(RUNNING, Ordering::AcqRel) & !RUNNING;
            if woken != 0 {
                if self.turn(woken) {
                    return Poll::Ready(());
                }
                continue;
            }
            let quiet =
                parts
                    .woken
                    .compare_exchange(RUNNING, 0, Ordering::AcqRel, Ordering::Relaxed);
            if quiet.is_ok() {
                return Poll::Pending;
            }
        }
        if parts.woken.fetch_and(!RUNNING, Ordering::AcqRel) != RUNNING {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let coming = self.parts.coming.lock().take();
        drop(coming);
        drop(self.parts.task.take());
    }
}

struct PartWaker {
    parts: Arc<Parts>,
    bit: usize,
}

impl Wake for PartWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.parts.wake(self.bit);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use futures::channel::oneshot;
    use tokio::sync::mpsc;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Fixture {
        parts: Arc<Parts>,
        task: Task,
        count: Arc<Count>,
    }

    impl Fixture {
        fn new() -> Self {
            let (parts, task) = Parts::new();
            Self {
                parts,
                task,
                count: Arc::default(),
            }
        }

        fn poll(&mut self) -> Poll<()> {
            let waker = Waker::from(self.count.clone());
            self.task.poll_unpin(&mut Context::from_waker(&waker))
        }

        /// Returns how often the task was woken since the last look.
        fn woken(&self) -> usize {
            self.count.0.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn parts_hand_to_each_other_without_the_runtime() {
        let mut f = Fixture::new();
        let (to_second, mut second) = mpsc::unbounded_channel();
        let (to_first, mut first) = mpsc::unbounded_channel();
        let (from_outside, mut outside) = mpsc::unbounded_channel();
        let (done, mut answer) = oneshot::channel();
        f.parts.add(async move {
            let question: u32 = outside.recv().await.unwrap();
            to_second.send(question).unwrap();
            let _ = done.send(first.recv().await.unwrap());
        });
        f.parts.add(async move {
            let question = second.recv().await.unwrap();
            to_first.send(question + 1).unwrap();
            pending::<()>().await;
        });
        assert!(f.poll().is_pending());
        assert_eq!(f.woken(), 0);

        from_outside.send(6).unwrap();
        assert_eq!(f.woken(), 1);
        assert!(f.poll().is_pending());
        assert_eq!(answer.try_recv().unwrap(), Some(7));
        assert_eq!(f.woken(), 0);
    }

    #[test]
    fn a_part_that_never_rests_lets_other_tasks_run() {
        let mut f = Fixture::new();
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        f.parts.add(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        assert!(f.poll().is_pending());
        assert_eq!((polls.load(Ordering::Relaxed), f.woken()), (MAX_TURNS, 1));
        assert!(f.poll().is_pending());
        assert_eq!(
            (polls.load(Ordering::Relaxed), f.woken()),
            (2 * MAX_TURNS, 1)
        );
    }

    #[test]
    fn a_part_is_polled_only_when_it_was_woken() {
        let mut f = Fixture::new();
        let polls = Arc::new(AtomicUsize::new(0));
        let counted = polls.clone();
        f.parts.add(poll_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Poll::Pending
        }));
        let (wake, mut woken) = mpsc::unbounded_channel();
        f.parts
            .add(async move { while woken.recv().await.is_some() {} });
        assert!(f.poll().is_pending());
        wake.send(()).unwrap();
        assert!(f.poll().is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_task_ends_with_its_last_part_and_survives_a_panic() {
        let mut f = Fixture::new();
        let (end, ended) = oneshot::channel::<()>();
        f.parts.add(async { panic!("as the test wants it") });
        f.parts.add(async move {
            let _ = ended.await;
        });
        assert!(f.poll().is_pending());
        // A place that is free is given to the next one.
        f.parts.add(async {});
        assert_eq!(f.woken(), 1);
        assert!(f.poll().is_pending());
        end.send(()).unwrap();
        assert!(f.poll().is_ready());
    }

    #[tokio::test]
    async fn what_comes_too_late_is_a_task_of_its_own() {
        let (parts, task) = Parts::new();
        drop(task);
        let (done, over) = oneshot::channel();
        parts.add(async move {
            let _ = done.send(());
        });
        over.await.unwrap();
    }
}
