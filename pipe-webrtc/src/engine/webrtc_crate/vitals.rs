use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::refusals::Refusals;
use super::checks::Checks;
use super::early::Early;
use super::resets::Resets;

/// While a connection is made the engine's timers fire at least this often: it looks for work at its
/// timers only, which are 200 ms apart.
const EAGER_STEP: Duration = Duration::from_millis(1);
/// The same once that has gone on for [`EAGER_TIME`].
const PATIENT_STEP: Duration = Duration::from_millis(20);
/// Duration of the eager steps, and of any steps.
const EAGER_TIME: Duration = Duration::from_millis(500);
const PATIENT_TIME: Duration = Duration::from_secs(10);

/// Number of further turns that the engine needs where packets go through a TURN server: in one it
/// reads from the relay, in the next it hands the answer to the relay, and in the one after that
/// the relay sends it. By itself it would wait between them for the next packet or timer.
const RELAY_TURNS: u8 = 2;

/// The observations of one connection's runtime, and its hooks.
#[derive(Debug)]
pub(crate) struct Vitals {
    /// Datagrams and TCP reads that have arrived, ever.
    heard: AtomicU64,
    /// The same when a timer was last cut short because of them.
    answered: AtomicU64,
    /// Number of times that the engine has sent its packets and begun to wait.
    turns: AtomicU64,
    turned: Notify,
    connecting: AtomicBool,
    since: parking_lot::Mutex<Instant>,
    /// The description of the fatal DTLS alert that this side sent in the handshake; 0 is none, since
    /// it stands for a close, which is no failure.
    alert: AtomicU8,
    alerted: Notify,
    /// Number of sockets bound.
    sockets: AtomicUsize,
    /// Why STUN and TURN servers do not help.
    refusals: Refusals,
    checks: Checks,
    early: Early,
    resets: parking_lot::Mutex<Resets>,
    /// Description of the fatal DTLS alert that ended the association under the connection, as sent
    /// by one of its sides under its keys, plus one; 0 is none.
    fatal: AtomicU16,
    ended: Notify,
    /// Whether the last packet was sent through a TURN server.
    relayed: AtomicBool,
    /// Number of turns of the engine without a wait between them.
    naps: AtomicU8,
}

impl Vitals {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::SeqCst)
    }

    pub(super) fn note_socket(&self) {
        self.sockets.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the reasons why STUN and TURN servers do not help, as far as they gave any.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Returns the pace of the connectivity checks.
    pub(super) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Returns the datagrams that came before a pair of candidates was chosen.
    pub(super) fn early(&self) -> &Early {
        &self.early
    }

    /// Returns the resets of streams that are under way.
    pub(crate) fn resets(&self) -> &parking_lot::Mutex<Resets> {
        &self.resets
    }

    /// Notes an alert that one of the sides has sent under the keys of DTLS. A fatal one ends the
    /// association (RFC 5246, section 7.2). The engine does not pass that on.
    pub(crate) fn note_alert(&self, alert: &[u8]) {
        if let [2, description, ..] = *alert {
            self.fatal
                .store(u16::from(description) + 1, Ordering::SeqCst);
            self.ended.notify_waiters();
        }
    }

    /// Waits until a fatal alert has ended the association, and gives its description.
    pub(crate) async fn ended(&self) -> u8 {
        loop {
            let ended = self.ended.notified();
            match self.fatal.load(Ordering::SeqCst).checked_sub(1) {
                None => ended.await,
                Some(description) => return description.to_le_bytes()[0],
            }
        }
    }

    /// Notes that the engine has sent all it can.
    pub(super) fn note_turn(&self) {
        self.turns.fetch_add(1, Ordering::SeqCst);
        self.turned.notify_waiters();
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Waits until the engine has had another turn than this one.
    pub(crate) async fn turn_after(&self, turn: u64) {
        loop {
            let turned = self.turned.notified();
            if self.turns() != turn {
                return;
            }
            turned.await;
        }
    }

    /// Sets whether the engine is to hurry.
    pub(crate) fn set_connecting(&self, connecting: bool) {
        *self.since.lock() = Instant::now();
        self.connecting.store(connecting, Ordering::Relaxed);
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connecting.load(Ordering::Relaxed)
    }

    /// Returns whether the next wait is none at all, where packets go through a TURN server.
    pub(super) fn take_nap(&self) -> Option<bool> {
        if !self.relayed.load(Ordering::Relaxed) {
            return None;
        }
        let naps = self.naps.load(Ordering::Relaxed);
        self.naps.store(naps.saturating_sub(1), Ordering::Relaxed);
        Some(naps > 0)
    }

    /// Something has happened before a wait was over.
    pub(super) fn stay_awake(&self) {
        self.naps.store(RELAY_TURNS, Ordering::Relaxed);
    }

    /// Counts received datagrams.
    pub(super) fn note_heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether a timer is to fire at once. After a datagram, the engine begins the next
    /// step, such as the handshake after the path was found, at its next timer only, and even a
    /// short one takes 2 ms.
    pub(super) fn is_urgent(&self) -> bool {
        let heard = self.heard();
        self.connecting.load(Ordering::Relaxed)
            && self.answered.swap(heard, Ordering::Relaxed) != heard
            && self.since.lock().elapsed() < EAGER_TIME
    }

    pub(super) fn step(&self, asked: Duration) -> Duration {
        if !self.connecting.load(Ordering::Relaxed) {
            return asked;
        }
        match self.since.lock().elapsed() {
            time if time < EAGER_TIME => asked.min(EAGER_STEP),
            time if time < PATIENT_TIME => asked.min(PATIENT_STEP),
            _ => asked,
        }
    }

    /// Notes whether an outgoing datagram goes through a TURN server. Others that carry something are of
    /// DTLS (RFC 7983, section 7).
    pub(super) fn note_path(&self, datagram: &[u8]) {
        match datagram {
            // Data of a channel, or an indication to send (RFC 8656, sections 12.4 and 18).
            [64..=79, ..] | [0, 0x16, ..] => self.relayed.store(true, Ordering::Relaxed),
            [20..=63, ..] => self.relayed.store(false, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Waits until this side has refused the peer in the handshake of DTLS, and gives the alert's
    /// description (RFC 5246, section 7.2).
    pub(crate) async fn refused(&self) -> u8 {
        loop {
            let alerted = self.alerted.notified();
            match self.alert.load(Ordering::SeqCst) {
                0 => alerted.await,
                alert => return alert,
            }
        }
    }

    /// Finds a fatal alert in the clear among the DTLS records of an outgoing datagram. The engine
    /// refuses a certificate with one, and does not report it otherwise.
    pub(super) fn inspect(&self, mut datagram: &[u8]) {
        // A record (RFC 6347, section 4.1): type 1, version 2, epoch 2, sequence 6, length 2.
        while let [kind, 254, _, e0, e1, _, _, _, _, _, _, l0, l1, body @ ..] = datagram {
            if let (21, 0, 0, [2, description, ..]) = (*kind, *e0, *e1, body)
                && *description != 0
            {
                self.alert.store(*description, Ordering::SeqCst);
                self.alerted.notify_waiters();
            }
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let Some(rest) = body.get(length..) else {
                return;
            };
            datagram = rest;
        }
    }
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            heard: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            turned: Notify::new(),
            connecting: AtomicBool::new(true),
            since: parking_lot::Mutex::new(Instant::now()),
            alert: AtomicU8::new(0),
            alerted: Notify::new(),
            sockets: AtomicUsize::new(0),
            refusals: Refusals::default(),
            checks: Checks::default(),
            early: Early::default(),
            resets: parking_lot::Mutex::default(),
            fatal: AtomicU16::new(0),
            ended: Notify::new(),
            relayed: AtomicBool::new(false),
            naps: AtomicU8::new(0),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::engine) fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 254, 253, 0, epoch, 0, 0, 0, 0, 0, 7];
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    #[test]
    fn a_fatal_alert_in_the_clear_is_found_behind_other_records() {
        let vitals = Vitals::new();
        let mut datagram = record(22, 0, &[1; 40]);
        vitals.inspect(&datagram);
        vitals.inspect(&record(21, 1, &[2, 42]));
        vitals.inspect(&record(21, 0, &[1, 0]));
        vitals.inspect(&[21, 254]);
        assert_eq!(vitals.alert.load(Ordering::SeqCst), 0);
        datagram.extend(record(21, 0, &[2, 42]));
        vitals.inspect(&datagram);
        assert_eq!(vitals.alert.load(Ordering::SeqCst), 42);
    }
}
