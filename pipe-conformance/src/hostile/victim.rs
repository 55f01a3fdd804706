use std::io::Read;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipe_core::{BoxConn, BoxListener, BoxStream, Conn, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::measure;

/// The first byte of a stream: its bytes are sent back.
pub(crate) const ECHO: u8 = b'e';
/// The first byte of a stream: it is kept, and neither read nor written.
pub(crate) const HOLD: u8 = b'h';
/// The first byte of a stream: all of it is read.
pub(crate) const SINK: u8 = b's';
/// The first byte of a stream: 8 KiB of it are read every 2 ms.
pub(crate) const SLOW: u8 = b'r';

/// How much of a stream a slow handler reads at once.
const SLOW_READ: usize = 8 * 1024;

/// The resources of a process under attack.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    handlers: Gauge,
    conns: Gauge,
    peak_heap: AtomicUsize,
}

/// How many there are, and how many there were at most since the last mark.
#[derive(Debug, Default)]
struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    fn enter(&self) -> Entered<'_> {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
        Entered(self)
    }

    fn mark(&self) {
        self.peak
            .store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

struct Entered<'a>(&'a Gauge);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The resources of a process at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Bytes of the heap in use.
    pub(crate) heap: usize,
    /// The most of them since the last mark.
    pub(crate) peak_heap: usize,
    /// Resident bytes.
    pub(crate) resident: usize,
    /// Open file descriptors.
    pub(crate) descriptors: usize,
    /// Handlers of streams.
    pub(crate) handlers: usize,
    /// The most of them since the last mark.
    pub(crate) peak_handlers: usize,
    /// Connections that were accepted and have not ended.
    pub(crate) conns: usize,
    /// Tasks of the runtime.
    pub(crate) tasks: usize,
    /// Microseconds that its threads have spent on a processor.
    pub(crate) spent: usize,
}

impl Sample {
    const FIELDS: usize = 9;

    /// Writes it as one line.
    pub(crate) fn to_line(self) -> String {
        let fields = [
            self.heap,
            self.peak_heap,
            self.resident,
            self.descriptors,
            self.handlers,
            self.peak_handlers,
            self.conns,
            self.tasks,
            self.spent,
        ];
        fields.map(|field| field.to_string()).join(" ")
    }
}

impl FromStr for Sample {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let fields: Vec<usize> = line
            .split(' ')
            .map_while(|word| word.parse().ok())
            .collect();
        let fields: [usize; Self::FIELDS] = fields
            .try_into()
            .map_err(|_| format!("not a sample: {line:?}"))?;
        let [
            heap,
            peak_heap,
            resident,
            descriptors,
            handlers,
            peak_handlers,
            conns,
            tasks,
            spent,
        ] = fields;
        Ok(Self {
            heap,
            peak_heap,
            resident,
            descriptors,
            handlers,
            peak_handlers,
            conns,
            tasks,
            spent,
        })
    }
}

impl Counters {
    /// Forgets the peaks.
    pub(crate) fn mark(&self) {
        self.handlers.mark();
        self.conns.mark();
        let heap = measure::heap_in_use().unwrap_or(0);
        self.peak_heap.store(heap, Ordering::Relaxed);
    }

    /// Watches the heap for its peak, on a thread of its own for as long as the process lives.
    pub(crate) fn watch(self: &Arc<Self>) {
        let counters = self.clone();
        std::thread::spawn(move || {
            loop {
                let heap = measure::heap_in_use().unwrap_or(0);
                counters.peak_heap.fetch_max(heap, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }

    pub(crate) fn sample(&self, runtime: &Handle) -> Sample {
        let heap = measure::heap_in_use().unwrap_or(0);
        Sample {
            heap,
            peak_heap: self.peak_heap.load(Ordering::Relaxed).max(heap),
            resident: resident().unwrap_or(0),
            descriptors: measure::open_fds().unwrap_or(0),
            handlers: self.handlers.now.load(Ordering::Relaxed),
            peak_handlers: self.handlers.peak.load(Ordering::Relaxed),
            conns: self.conns.now.load(Ordering::Relaxed),
            tasks: runtime.metrics().num_alive_tasks(),
            spent: measure::processor_time().map_or(0, |time| time.as_micros() as usize),
        }
    }
}

/// The resident bytes of the process; `None` where the system has no `/proc/self/status`.
fn resident() -> Option<usize> {
    let mut status = String::new();
    std::fs::File::open("/proc/self/status")
        .ok()?
        .read_to_string(&mut status)
        .ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Serves every connection until the listener is closed. The first byte of each stream chooses its handler; one
/// that does not come makes a handler that still works for the stream, as an application may.
pub(crate) async fn serve(listener: BoxListener, counters: Arc<Counters>) {
    while let Ok(conn) = listener.accept().await {
        let counters = counters.clone();
        tokio::spawn(async move {
            let _conn = counters.conns.enter();
            while let Ok(stream) = conn.accept_stream().await {
                tokio::spawn(handle(stream, conn.clone(), counters.clone()));
            }
            conn.closed().await;
        });
    }
}

async fn handle(mut stream: BoxStream, conn: BoxConn, counters: Arc<Counters>) {
    let _handler = counters.handlers.enter();
    match stream.read_u8().await {
        Ok(ECHO) => {
            let (mut from, mut to) = split(stream);
            if copy(&mut from, &mut to).await.is_ok() {
                let _ = to.shutdown().await;
            }
        }
        Ok(SINK) => {
            let mut bytes = vec![0; SLOW_READ];
            while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        }
        Ok(SLOW) => {
            let mut bytes = vec![0; SLOW_READ];
            while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                sleep(Duration::from_millis(2)).await;
            }
        }
        Ok(_) | Err(_) => {
            let mut state = conn.state();
            let _ = state.wait_for(|state| state.is_final()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_read_as_it_was_written() {
        let sample = Sample {
            heap: 1,
            peak_heap: 2,
            resident: 3,
            descriptors: 4,
            handlers: 5,
            peak_handlers: 6,
            conns: 7,
            tasks: 8,
            spent: 9,
        };
        assert_eq!(sample.to_line().parse(), Ok(sample));
        assert!("1 2 3".parse::<Sample>().is_err());
    }
}
