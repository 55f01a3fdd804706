use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipe_core::backend::{Liveness, LivenessEvent, liveness, lost};
use pipe_core::{CloseReason, Error, ErrorKind};
use tokio::time::{Instant, sleep_until};

use crate::conn_core::ConnCore;
use crate::event::Event;
use crate::pings::Pings;
use crate::side::{PerSide, Side};

/// Starts the pump of a connection when its wire needs it for the first time.
pub(crate) fn ensure(conn: &Arc<ConnCore>) {
    if !conn.wire.is_direct() && !conn.is_over() && !conn.pumped.swap(true, Ordering::AcqRel) {
        conn.runtime.spawn(run(conn.clone()));
    }
}

/// Delivers the events in flight on a wire that is not direct, and detects silence between the
/// sides. Runs until both sides have ended; rests while the wire is direct.
///
/// If it is dropped before, together with its runtime, it ends both sides: nothing would arrive any
/// more.
async fn run(conn: Arc<ConnCore>) {
    let _end = EndOnDrop(conn.clone());
    let mut clocks = new_clocks(&conn);
    loop {
        let changed = conn.wire.changed();
        let now = Instant::now();
        while let Some((at, event)) = conn.wire.arrived(now) {
            if clocks[at].heard(now.into_std()) {
                conn.sides[at].status.set_connected(true);
            }
            conn.apply(at, event);
        }
        if conn.is_over() {
            return;
        }
        if !conn.is_ending() && conn.wire.try_direct() {
            for side in Side::BOTH {
                conn.sides[side].status.set_connected(true);
            }
            changed.await;
            clocks = new_clocks(&conn);
            continue;
        }
        let alarm = Side::BOTH
            .into_iter()
            .filter_map(|side| watch(&conn, side, &mut clocks[side], now))
            .chain(conn.wire.next_arrival())
            .min();
        let sleep = sleep_until(alarm.unwrap_or_else(|| now + Duration::from_secs(3600)));
        tokio::select! {
            () = changed => {}
            () = sleep => {}
        }
    }
}

/// Ends both sides of a connection that loses its pump.
struct EndOnDrop(Arc<ConnCore>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        for side in Side::BOTH {
            let why = "the runtime of the connection is gone";
            let reason = CloseReason::Failed(Error::new(ErrorKind::Failed, why));
            self.0.end(side, reason);
        }
    }
}

fn new_clocks(conn: &ConnCore) -> PerSide<Liveness> {
    let now = Instant::now();
    PerSide::new(|side| liveness(&conn.sides[side].config, now.into_std()))
}

/// Performs the due actions of one side's liveness clock. Returns when to look again; never, once
/// the side has ended.
fn watch(conn: &ConnCore, side: Side, clock: &mut Liveness, now: Instant) -> Option<Instant> {
    while conn.sides[side].status.reason().is_none() {
        match clock.poll(now.into_std()) {
            None => return Some(clock.deadline().into()),
            Some(LivenessEvent::Ping) => conn.send(side, Event::Ping(Pings::KEEP_ALIVE)),
            Some(LivenessEvent::Disconnected) => conn.disconnect(side),
            Some(LivenessEvent::Failed) => {
                conn.end(side, CloseReason::Failed(lost(&conn.sides[side].config)));
            }
        }
    }
    None
}
