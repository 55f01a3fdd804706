//! Two associations, a clock, and a link in each direction with a delay and a filter.

use super::*;

/// An end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

type Filter = Box<dyn FnMut(Side, &Bytes) -> Verdict>;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Drop,
    Delay(Duration),
    Duplicate,
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) a: Association,
    pub(super) b: Association,
    pub(super) delay: Duration,
    /// Packets on their way: when and where they arrive.
    flight: Vec<(Instant, u64, Side, Bytes)>,
    sequence: u64,
    filter: Filter,
    pub(super) events: [Vec<Event>; 2],
    pub(super) messages: [Vec<Message>; 2],
    /// Whether messages are taken as they come.
    pub(super) reading: bool,
}

impl Pair {
    pub(super) fn new(a: Config, b: Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            a: Association::new(a, 11, now),
            b: Association::new(b, 12, now),
            delay: Duration::from_millis(5),
            flight: Vec::new(),
            sequence: 0,
            filter: Box::new(|_, _| Verdict::Pass),
            events: Default::default(),
            messages: Default::default(),
            reading: true,
        }
    }

    /// Returns a pair that is connected.
    pub(super) fn connected(a: Config, b: Config) -> Self {
        let mut pair = Self::new(a, b);
        pair.a.connect(pair.now);
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.take_events(Side::A), [Event::Connected]);
        assert_eq!(pair.take_events(Side::B), [Event::Connected]);
        pair
    }

    pub(super) fn default_connected() -> Self {
        Self::connected(Config::default(), Config::default())
    }

    pub(super) fn end(&mut self, side: Side) -> &mut Association {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Sets what becomes of packets; the side is the one that sends.
    pub(super) fn filter(&mut self, filter: impl FnMut(Side, &Bytes) -> Verdict + 'static) {
        self.filter = Box::new(filter);
    }

    pub(super) fn send(&mut self, side: Side, stream: u16, payload: impl Into<Bytes>) {
        self.send_with(side, stream, payload, SendOptions::default());
    }

    pub(super) fn send_with(
        &mut self,
        side: Side,
        stream: u16,
        payload: impl Into<Bytes>,
        options: SendOptions,
    ) {
        let now = self.now;
        self.end(side)
            .send(now, stream, 53, payload.into(), options)
            .expect("taken");
    }

    pub(super) fn take_events(&mut self, side: Side) -> Vec<Event> {
        std::mem::take(&mut self.events[side as usize])
    }

    pub(super) fn take_messages(&mut self, side: Side) -> Vec<Message> {
        std::mem::take(&mut self.messages[side as usize])
    }

    /// Takes what an end has to send, report and deliver.
    pub(super) fn poll(&mut self, side: Side) {
        let now = self.now;
        while let Some(packet) = self.end(side).poll_transmit(now) {
            assert!(
                packet.len() <= self.end(side).config.mtu,
                "a packet exceeds the mtu"
            );
            assert_eq!(packet.len() % 4, 0);
            let verdict = (self.filter)(side, &packet);
            let mut arrive = |delay| {
                self.sequence += 1;
                self.flight
                    .push((now + delay, self.sequence, side.other(), packet.clone()));
            };
            match verdict {
                Verdict::Pass => arrive(self.delay),
                Verdict::Drop => {}
                Verdict::Delay(extra) => arrive(self.delay + extra),
                Verdict::Duplicate => {
                    arrive(self.delay);
                    arrive(self.delay);
                }
            }
        }
        loop {
            let mut idle = true;
            while let Some(event) = self.end(side).poll_event() {
                self.events[side as usize].push(event);
                idle = false;
            }
            while self.reading
                && let Some(message) = self.end(side).poll_message()
            {
                self.messages[side as usize].push(message);
                idle = false;
            }
            if idle {
                break;
            }
        }
    }

    /// Runs until nothing is left to do before `time` has passed.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        loop {
            for side in [Side::A, Side::B] {
                self.poll(side);
            }
            let arrival = self.flight.iter().map(|(at, ..)| *at).min();
            let timers = [self.a.poll_timeout(), self.b.poll_timeout()];
            let next = timers.into_iter().flatten().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            let now = self.now;
            for side in [Side::A, Side::B] {
                if self.end(side).poll_timeout().is_some_and(|at| at <= now) {
                    self.end(side).handle_timeout(now);
                }
            }
            self.flight
                .sort_by_key(|(at, sequence, ..)| (*at, *sequence));
            let due = self.flight.partition_point(|(at, ..)| *at <= now);
            for (_, _, side, packet) in self.flight.drain(..due).collect::<Vec<_>>() {
                self.end(side).handle_packet(now, packet);
            }
            steps += 1;
            assert!(steps < 2_000_000, "the pair does not come to rest");
        }
        self.now = end;
    }

    /// Puts a packet to `side` on its way.
    pub(super) fn inject(&mut self, side: Side, packet: Bytes) {
        let now = self.now;
        self.end(side).handle_packet(now, packet);
    }
}

/// Returns the kinds of the chunks in a packet.
pub(super) fn kinds(packet: &[u8]) -> Vec<u8> {
    crate::chunk::Chunks::new(packet)
        .map(|chunk| chunk.kind)
        .collect()
}

/// Returns a message of `len` bytes that differs from others.
pub(super) fn content(seed: usize, len: usize) -> Bytes {
    (0..len)
        .map(|i| (i * 31 + i / 251 + seed * 7) as u8)
        .collect()
}
