//! Several flows over one path.

use crate::sim::{Link, LinkConfig, Output, Sending, Stack};
use bytes::Bytes;
use std::time::Duration;

/// Bytes that a bulk flow keeps queued or unacknowledged: more than any path of the bench holds.
const QUEUED: usize = 32 << 20;

/// A pair of endpoints. The first sends to the second.
pub struct Flow {
    pub ends: [Box<dyn Stack>; 2],
    /// Bytes of each packet on the wire besides its own.
    pub overhead: usize,
    /// Streams that always have messages of this size to send.
    pub bulk: Vec<(u16, Bytes)>,
    /// Bytes that arrived, by stream of the first 16.
    pub delivered: [u64; 16],
    pub messages: u64,
    connected: [bool; 2],
    /// Why an end closed the association, if one did.
    pub closed: Option<String>,
}

impl Flow {
    pub fn new(ends: [Box<dyn Stack>; 2], overhead: usize) -> Flow {
        Flow {
            ends,
            overhead,
            bulk: Vec::new(),
            delivered: [0; 16],
            messages: 0,
            connected: [false; 2],
            closed: None,
        }
    }

    /// Keeps `streams` filled with messages of `len` bytes.
    pub fn with_bulk_on(mut self, streams: std::ops::Range<u16>, len: usize) -> Flow {
        self.bulk
            .extend(streams.map(|stream| (stream, Bytes::from(vec![7; len]))));
        self
    }

    /// Keeps `stream` filled with messages of `len` bytes.
    pub fn with_bulk(mut self, stream: u16, len: usize) -> Flow {
        self.bulk.push((stream, vec![7; len].into()));
        self
    }

    pub fn total(&self) -> u64 {
        self.delivered.iter().sum()
    }
}

/// Flows that share a link each way.
pub struct Shared {
    pub flows: Vec<Flow>,
    pub links: [Link; 2],
    pub now: Duration,
}

/// A message that arrived at the second endpoint of a flow.
pub struct Arrival {
    pub flow: usize,
    pub at: Duration,
    pub stream: u16,
    pub payload: Bytes,
}

impl Shared {
    pub fn new(flows: Vec<Flow>, there: LinkConfig, back: LinkConfig, seed: u64) -> Shared {
        let links = [Link::new(there, seed), Link::new(back, !seed)];
        Shared {
            flows,
            links,
            now: Duration::ZERO,
        }
    }

    /// Connects all flows. Panics after a minute.
    pub fn connect(&mut self) {
        for flow in 0..self.flows.len() {
            self.flows[flow].ends[0].connect(self.now);
            self.flush(flow, 0);
        }
        while self.flows.iter().any(|flow| flow.connected != [true; 2]) {
            assert!(self.now < Duration::from_secs(60), "not connected");
            self.step(Some(self.now + Duration::from_millis(10)), &mut |_| {});
        }
    }

    pub fn flush(&mut self, flow: usize, end: usize) {
        let overhead = self.flows[flow].overhead;
        while let Some(packet) = self.flows[flow].ends[end].poll_transmit(self.now) {
            self.links[end].send_of(self.now, flow, overhead, packet);
        }
    }

    /// Tops up the bulk streams.
    pub fn fill(&mut self, flow: usize) {
        let now = self.now;
        let Flow { ends, bulk, .. } = &mut self.flows[flow];
        let share = QUEUED / bulk.len().max(1);
        for (stream, payload) in bulk.iter() {
            // Not beyond what is left to the others.
            let mut queued = 0;
            while ends[0].buffered() < QUEUED && queued < share {
                if !ends[0].send(now, *stream, payload.clone(), Sending::default()) {
                    break;
                }
                queued += payload.len();
            }
        }
        self.flush(flow, 0);
    }

    /// Runs until `until`, with bulk streams always full.
    pub fn run_until(&mut self, until: Duration, arrival: &mut dyn FnMut(Arrival)) {
        for flow in 0..self.flows.len() {
            self.fill(flow);
        }
        while self.now < until && self.flows.iter().all(|flow| flow.closed.is_none()) {
            self.step(Some(until), arrival);
        }
    }

    fn step(&mut self, until: Option<Duration>, arrival: &mut dyn FnMut(Arrival)) {
        let arrivals = self.links.iter().filter_map(Link::next_arrival);
        let ends = self.flows.iter_mut().flat_map(|flow| &mut flow.ends);
        let timers = ends.filter_map(|end| end.poll_timeout());
        let next = arrivals.chain(timers).chain(until).min().expect("a limit");
        self.now = self.now.max(next);
        let mut touched = vec![[false; 2]; self.flows.len()];
        for (end, link) in self.links.iter_mut().rev().enumerate() {
            while let Some((flow, packet)) = link.receive_of(self.now) {
                self.flows[flow].ends[end].handle_packet(self.now, packet);
                touched[flow][end] = true;
            }
        }
        for (flow, touched) in touched.into_iter().enumerate() {
            for (end, touched) in touched.into_iter().enumerate() {
                let due = self.flows[flow].ends[end]
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now);
                if due {
                    self.flows[flow].ends[end].handle_timeout(self.now);
                }
                if due || touched {
                    self.collect(flow, end, arrival);
                    if end == 0 && !self.flows[flow].bulk.is_empty() {
                        self.fill(flow);
                    }
                    self.flush(flow, end);
                }
            }
        }
    }

    fn collect(&mut self, flow: usize, end: usize, arrival: &mut dyn FnMut(Arrival)) {
        let now = self.now;
        let this = &mut self.flows[flow];
        while let Some(output) = this.ends[end].poll_output() {
            match output {
                Output::Connected => this.connected[end] = true,
                Output::Message { stream, payload } => {
                    this.delivered[usize::from(stream) % 16] += payload.len() as u64;
                    this.messages += 1;
                    arrival(Arrival {
                        flow,
                        at: now,
                        stream,
                        payload,
                    });
                }
                Output::Closed(reason) => this.closed = Some(reason),
                _ => {}
            }
        }
    }
}
