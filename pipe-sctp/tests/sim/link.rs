//! One direction of a path.

use bytes::Bytes;
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// What a link does to packets.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// From the end of the transmission to the arrival.
    pub delay: Duration,
    /// Most that is added to the delay. Packets stay in order.
    pub jitter: Duration,
    /// Share of packets that are held back by up to `reorder_delay`, so that later ones overtake them.
    pub reorder: f64,
    pub reorder_delay: Duration,
    /// In bits a second; `None`: no transmission time and no queue.
    pub rate: Option<u64>,
    /// Packets that wait for their transmission; further ones are dropped.
    pub queue: usize,
    /// Bytes that each packet has on the wire besides its own: IP, UDP and DTLS.
    pub overhead: usize,
    /// Share of packets that are lost independently of each other.
    pub loss: f64,
    /// Loss in bursts: the chance that a packet begins one, and that a packet ends it.
    pub burst_loss: Option<(f64, f64)>,
    pub duplicate: f64,
    /// Share of packets of which one to four bits are flipped.
    pub corrupt: f64,
    /// Times from, until which all packets are lost.
    pub blackouts: Vec<(Duration, Duration)>,
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(5),
            rate: None,
            queue: 64,
            overhead: 65,
            loss: 0.0,
            burst_loss: None,
            duplicate: 0.0,
            corrupt: 0.0,
            blackouts: Vec::new(),
        }
    }
}

impl LinkConfig {
    /// A link of `delay` that loses nothing.
    pub fn with_delay(delay: Duration) -> LinkConfig {
        LinkConfig {
            delay,
            ..LinkConfig::default()
        }
    }
}

/// What a link has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
    /// Lost at random, in bursts or in a blackout.
    pub lost: u64,
    /// Found the queue full.
    pub dropped: u64,
    pub delivered_bytes: u64,
}

/// One direction of a path, with the packets on it.
pub struct Link {
    pub config: LinkConfig,
    pub counters: Counters,
    rng: Rng,
    on_the_way: BinaryHeap<Reverse<(Duration, u64, usize, Bytes)>>,
    /// When each queued packet is transmitted.
    departures: VecDeque<Duration>,
    free_at: Duration,
    last_arrival: Duration,
    serial: u64,
    in_burst: bool,
}

impl Link {
    pub fn new(config: LinkConfig, seed: u64) -> Link {
        Link {
            config,
            counters: Counters::default(),
            rng: Rng::with_seed(seed),
            on_the_way: BinaryHeap::new(),
            departures: VecDeque::new(),
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            serial: 0,
            in_burst: false,
        }
    }

    /// Takes a packet at `now`.
    pub fn send(&mut self, now: Duration, packet: Bytes) {
        let overhead = self.config.overhead;
        self.send_of(now, 0, overhead, packet);
    }

    /// Takes a packet of one of the flows that share the link, with its own overhead.
    pub fn send_of(&mut self, now: Duration, flow: usize, overhead: usize, packet: Bytes) {
        self.counters.packets += 1;
        self.counters.bytes += packet.len() as u64;
        if self.loses(now) {
            self.counters.lost += 1;
            return;
        }
        let Some(departure) = self.transmit(now, packet.len() + overhead) else {
            self.counters.dropped += 1;
            return;
        };
        if self.rng.f64() < self.config.duplicate {
            self.deliver(departure, flow, packet.clone());
        }
        let packet = if self.rng.f64() < self.config.corrupt {
            self.corrupted(&packet)
        } else {
            packet
        };
        self.deliver(departure, flow, packet);
    }

    /// Returns when the next packet arrives.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.on_the_way.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes a packet that arrives by `now`.
    pub fn receive(&mut self, now: Duration) -> Option<Bytes> {
        self.receive_of(now).map(|(_, packet)| packet)
    }

    /// Takes a packet that arrives by `now`, with its flow.
    pub fn receive_of(&mut self, now: Duration) -> Option<(usize, Bytes)> {
        self.next_arrival().filter(|at| *at <= now)?;
        let Reverse((_, _, flow, packet)) = self.on_the_way.pop()?;
        self.counters.delivered_bytes += packet.len() as u64;
        Some((flow, packet))
    }

    pub fn is_empty(&self) -> bool {
        self.on_the_way.is_empty()
    }

    fn loses(&mut self, now: Duration) -> bool {
        if let Some((begin, end)) = self.config.burst_loss {
            let change = if self.in_burst { end } else { begin };
            if self.rng.f64() < change {
                self.in_burst = !self.in_burst;
            }
        }
        let random = self.rng.f64() < self.config.loss;
        let dark = self
            .config
            .blackouts
            .iter()
            .any(|(from, until)| (*from..*until).contains(&now));
        random || dark || (self.in_burst && self.config.burst_loss.is_some())
    }

    /// Returns when the last bit is sent, or `None` when the queue is full.
    fn transmit(&mut self, now: Duration, len: usize) -> Option<Duration> {
        let Some(rate) = self.config.rate else {
            return Some(now);
        };
        while self
            .departures
            .front()
            .is_some_and(|departure| *departure <= now)
        {
            self.departures.pop_front();
        }
        if self.departures.len() >= self.config.queue {
            return None;
        }
        let bits = len as u64 * 8;
        self.free_at = self.free_at.max(now) + Duration::from_nanos(bits * 1_000_000_000 / rate);
        self.departures.push_back(self.free_at);
        Some(self.free_at)
    }

    fn deliver(&mut self, departure: Duration, flow: usize, packet: Bytes) {
        let mut at = departure + self.config.delay + self.config.jitter.mul_f64(self.rng.f64());
        if self.rng.f64() < self.config.reorder {
            at += self.config.reorder_delay.mul_f64(self.rng.f64());
        } else {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        self.serial += 1;
        self.on_the_way
            .push(Reverse((at, self.serial, flow, packet)));
    }

    fn corrupted(&mut self, packet: &Bytes) -> Bytes {
        let mut bytes = packet.to_vec();
        for _ in 0..self.rng.u8(1..=4) {
            let bit = self.rng.usize(..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes.into()
    }
}
