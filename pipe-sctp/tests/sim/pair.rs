//! Two endpoints and the path between them.

use super::link::{Link, LinkConfig};
use super::stack::{Output, Sending, Stack};
use bytes::Bytes;
use std::time::Duration;

/// Steps without progress of the time that count as a loop.
const SPINS: u32 = 1_000_000;

/// What one step of a simulation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something happened, at this time.
    At(Duration),
    /// No packet is on its way and no timer is set.
    Quiet,
}

/// Two endpoints, and a link from each to the other.
pub struct Pair {
    pub ends: [Box<dyn Stack>; 2],
    /// `links[i]` carries the packets of `ends[i]`.
    pub links: [Link; 2],
    pub now: Duration,
    /// Whether each application takes what arrives.
    pub reading: [bool; 2],
    /// Whether each endpoint is suspended: its packets wait and its timers are late.
    pub suspended: [bool; 2],
    spins: u32,
}

impl Pair {
    pub fn new(ends: [Box<dyn Stack>; 2], links: [LinkConfig; 2], seed: u64) -> Pair {
        let [there, back] = links;
        Pair {
            ends,
            links: [
                Link::new(there, seed),
                Link::new(back, seed ^ 0x9e37_79b9_7f4a_7c15),
            ],
            now: Duration::ZERO,
            reading: [true; 2],
            suspended: [false; 2],
            spins: 0,
        }
    }

    /// Sends what the endpoint has to send.
    pub fn flush(&mut self, end: usize) {
        while let Some(packet) = self.ends[end].poll_transmit(self.now) {
            self.links[end].send(self.now, packet);
        }
    }

    /// Queues a message and sends what may be sent.
    pub fn send(&mut self, end: usize, stream: u16, payload: Bytes, sending: Sending) -> bool {
        let taken = self.ends[end].send(self.now, stream, payload, sending);
        self.flush(end);
        taken
    }

    pub fn reset(&mut self, end: usize, stream: u16) {
        self.ends[end].reset(self.now, stream);
        self.flush(end);
    }

    /// Goes to the next packet or timer, but not beyond `until`, and passes what the endpoints report to
    /// `report`.
    pub fn step(&mut self, until: Option<Duration>, report: &mut dyn FnMut(usize, Output)) -> Step {
        let reported = self.collect(report);
        let mut next = until;
        for end in (0..2).filter(|end| !self.suspended[*end]) {
            let (arrival, timeout) = (
                self.links[1 - end].next_arrival(),
                self.ends[end].poll_timeout(),
            );
            next = next.into_iter().chain(arrival).chain(timeout).min();
        }
        let Some(next) = next else {
            return if reported {
                Step::At(self.now)
            } else {
                Step::Quiet
            };
        };
        if next > self.now {
            self.now = next;
            self.spins = 0;
        } else {
            self.spins += 1;
            assert!(
                self.spins < SPINS,
                "the time stands still at {:?}\n{}",
                self.now,
                self.describe()
            );
        }
        for end in (0..2)
            .filter(|end| !self.suspended[*end])
            .collect::<Vec<_>>()
        {
            let mut changed = false;
            while let Some(packet) = self.links[1 - end].receive(self.now) {
                self.ends[end].handle_packet(self.now, packet);
                changed = true;
            }
            if self.ends[end]
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.ends[end].handle_timeout(self.now);
                changed = true;
            }
            if changed {
                self.collect(report);
                self.flush(end);
            }
        }
        self.collect(report);
        Step::At(self.now)
    }

    /// Passes on what the endpoints report. Reading may open the window, of which the peer is told.
    /// Returns whether anything was.
    pub fn collect(&mut self, report: &mut dyn FnMut(usize, Output)) -> bool {
        let mut reported = false;
        for end in 0..2 {
            if !self.reading[end] || self.suspended[end] {
                continue;
            }
            let mut any = false;
            while let Some(output) = self.ends[end].poll_output() {
                report(end, output);
                any = true;
            }
            if any {
                self.flush(end);
            }
            reported |= any;
        }
        reported
    }

    /// Runs until `at`.
    pub fn run_until(&mut self, at: Duration, report: &mut dyn FnMut(usize, Output)) {
        while self.now < at {
            self.step(Some(at), report);
        }
    }

    /// Runs until nothing is left to happen, or `limit`. Returns whether it is quiet.
    pub fn run_to_quiet(&mut self, limit: Duration, report: &mut dyn FnMut(usize, Output)) -> bool {
        while self.now < limit {
            if self.step(None, report) == Step::Quiet {
                return true;
            }
        }
        false
    }

    /// Connects the first endpoint to the second and runs until both are connected. Panics after `limit`.
    pub fn connect(&mut self, limit: Duration) {
        let now = self.now;
        self.ends[0].connect(now);
        self.flush(0);
        self.wait_connected(now + limit);
    }

    /// Runs until both endpoints have reported that they are connected.
    pub fn wait_connected(&mut self, limit: Duration) {
        let mut connected = [false; 2];
        while connected != [true; 2] {
            let step = self.step(None, &mut |end, output| match output {
                Output::Connected => connected[end] = true,
                Output::Closed(reason) => panic!("end {end} closed: {reason}"),
                other => panic!("end {end} reported {other:?} before the connection"),
            });
            let stuck = step == Step::Quiet && connected != [true; 2];
            assert!(
                !stuck && self.now < limit,
                "not connected: {connected:?}\n{}",
                self.describe()
            );
        }
    }

    pub fn describe(&self) -> String {
        format!(
            "at {:?}\n0: {}\n   {:?}\n1: {}\n   {:?}",
            self.now,
            self.ends[0].describe(),
            self.links[0].counters,
            self.ends[1].describe(),
            self.links[1].counters
        )
    }
}
