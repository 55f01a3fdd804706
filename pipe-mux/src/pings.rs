use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pipe_core::backend::wire::PING_LEN;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

/// How many pings may be under way. Further ones wait.
const MAX_PINGS: usize = 64;

/// The bytes of a ping, which its answer repeats.
pub(crate) type PingBytes = [u8; PING_LEN];

/// The pings of a connection that wait for their answers.
pub(crate) struct Pings {
    places: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<PingBytes, Waiting>,
    last_round_trip: Option<Duration>,
    over: bool,
}

struct Waiting {
    answer: oneshot::Sender<Duration>,
    started: Instant,
    _place: OwnedSemaphorePermit,
}

impl Pings {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_PINGS)),
            table: Mutex::default(),
        }
    }

    /// Measures a round trip; `send` sends the ping. `None` when the connection ends first.
    pub(crate) async fn measure(
        &self,
        bytes: PingBytes,
        send: impl FnOnce(PingBytes),
    ) -> Option<Duration> {
        let place = self.places.clone().acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        let started = Instant::now();
        {
            let mut table = self.table.lock();
            if table.over {
                return None;
            }
            let waiting = Waiting {
                answer,
                started,
                _place: place,
            };
            table.waiting.insert(bytes, waiting);
        }
        send(bytes);
        answered.await.ok()
    }

    /// An answer has come.
    pub(crate) fn answer(&self, bytes: &PingBytes) {
        let mut table = self.table.lock();
        if let Some(ping) = table.waiting.remove(bytes) {
            // Never none, however coarse the clock.
            let took = ping.started.elapsed().max(Duration::from_nanos(1));
            table.last_round_trip = Some(took);
            drop(table);
            // Whoever asked may have given up.
            let _ = ping.answer.send(took);
        }
    }

    pub(crate) fn last_round_trip(&self) -> Option<Duration> {
        self.table.lock().last_round_trip
    }

    /// No answers come any more.
    pub(crate) fn end(&self) {
        self.places.close();
        let waiting = {
            let mut table = self.table.lock();
            table.over = true;
            std::mem::take(&mut table.waiting)
        };
        drop(waiting);
    }
}

/// The bytes of a ping that carries one number.
pub(crate) fn from_value(value: u32) -> PingBytes {
    let mut bytes = [0; PING_LEN];
    bytes[..4].copy_from_slice(&value.to_be_bytes());
    bytes
}
