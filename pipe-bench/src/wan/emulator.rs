use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};

/// How late a packet may be delivered without being counted.
const LATE: Duration = Duration::from_millis(5);

/// How long the thread waits at most before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long it rests between two turns under load, so that one call to the system moves several packets.
const REST: Duration = Duration::from_micros(50);

/// Something that carries packets from one end of a path to the other, without waiting.
pub(super) trait Carrier: Send + 'static {
    /// Takes what has come from the ends, and delivers what has arrived by `now`.
    fn turn(&mut self, now: Duration, packets: &Packets) -> Turn;

    /// Adds what to wait for.
    fn wait_for<'a>(&'a self, now: Duration, events: &mut Vec<PollFd<'a>>);
}

/// What a turn has come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Whether anything was taken or delivered.
    pub(super) is_busy: bool,
    /// When there is something to do next, whatever comes until then.
    pub(super) next: Option<Duration>,
}

/// A thread that runs a carrier, until it is dropped.
#[derive(Debug)]
pub(super) struct Emulator {
    stop: Arc<AtomicBool>,
    packets: Arc<Packets>,
    thread: Option<JoinHandle<()>>,
}

/// Counts what was delivered.
#[derive(Debug, Default)]
pub(super) struct Packets {
    delivered: AtomicU64,
    late: AtomicU64,
}

impl Packets {
    /// Counts a packet that arrived at one time and is delivered at another.
    pub(super) fn count(&self, arrived: Duration, delivered: Duration) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        if delivered.saturating_sub(arrived) > LATE {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Emulator {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system has none.
    pub(super) fn spawn(carrier: impl Carrier) -> io::Result<Self> {
        let (stop, packets) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let thread = thread::Builder::new().name("emulator".to_owned()).spawn({
            let (stop, packets) = (Arc::clone(&stop), Arc::clone(&packets));
            move || run(carrier, &stop, &packets)
        })?;
        Ok(Self {
            stop,
            packets,
            thread: Some(thread),
        })
    }

    /// Returns how many of a hundred packets were delivered more than 5 ms late: where it is more than a few, the
    /// thread did not get the processor, and the path was worse than it was set to be.
    pub(super) fn late(&self) -> f64 {
        let late = self.packets.late.load(Ordering::Relaxed) as f64;
        let delivered = self.packets.delivered.load(Ordering::Relaxed).max(1);
        100.0 * late / delivered as f64
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of its own was printed.
            let _ = thread.join();
        }
    }
}

fn run(mut carrier: impl Carrier, stop: &AtomicBool, packets: &Packets) {
    // A network takes no processor from its ends, and waits for none. Without the privilege, packets are late more often,
    // which is counted.
    let _ = rustix::process::setpriority_process(None, -10);
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let turn = carrier.turn(start.elapsed(), packets);
        if turn.is_busy {
            thread::sleep(REST);
            continue;
        }
        let now = start.elapsed();
        let next = turn.next.map(|next| next.saturating_sub(now));
        let wait = next.unwrap_or(PATIENCE).clamp(REST, PATIENCE);
        let mut events = Vec::new();
        carrier.wait_for(now, &mut events);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: wait.as_nanos() as _,
        };
        // An interruption leads to an idle turn.
        let _ = poll(&mut events, Some(&timeout));
    }
}
