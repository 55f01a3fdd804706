//! An SCTP association whose peer sends what the input says, with right tags and checksums, in the middle of
//! traffic. It may end the association, and nothing else: no panic, no work and no memory beyond a bound.

#![no_main]

#[path = "../../pipe-sctp/tests/sim/mod.rs"]
mod sim;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pipe_sctp::Config;
use sim::mutate::Observer;
use sim::{LinkConfig, Ours, Pair, Sending, Stack};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BUFFER: usize = 64 * 1_024;
/// Twice the buffers of both ends, and a constant.
const MEMORY: usize = 6 * BUFFER + 512 * 1_024;

#[derive(Arbitrary, Debug)]
enum Turn {
    Packet {
        to_first: bool,
        chunks: Vec<Chunk>,
    },
    Send {
        from_first: bool,
        stream: u8,
        len: u16,
        unordered: bool,
        unreliable: bool,
    },
    Reset {
        from_first: bool,
        stream: u8,
    },
    Read {
        first: bool,
        reads: bool,
    },
    Wait {
        centiseconds: u8,
    },
    Lose {
        of_first: bool,
    },
}

#[derive(Arbitrary, Debug)]
struct Chunk {
    kind: u8,
    flags: u8,
    /// Instead of the right length.
    length: Option<u16>,
    /// The first word of the body: a number near one in use.
    number: Option<(Base, i16)>,
    body: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Base {
    Tsn,
    Acked,
    Request,
    FarAhead,
}

impl Chunk {
    fn write(&self, observer: &Observer, packet: &mut Vec<u8>) {
        let begin = packet.len();
        packet.extend([self.kind, self.flags, 0, 0]);
        if let Some((base, offset)) = &self.number {
            let base = match base {
                Base::Tsn => observer.tsn,
                Base::Acked => observer.acked,
                Base::Request => observer.request,
                Base::FarAhead => observer.tsn.wrapping_add(1 << 31),
            };
            packet.extend(base.wrapping_add_signed((*offset).into()).to_be_bytes());
        }
        packet.extend(&self.body);
        let len = self.length.unwrap_or((packet.len() - begin) as u16);
        packet[begin + 2..begin + 4].copy_from_slice(&len.to_be_bytes());
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
}

fn run(turns: &[Turn]) {
    let region = Region::new(ALLOCATOR);
    let base = Instant::now();
    let mut config = Config::default();
    config.receive_buffer = BUFFER;
    config.send_buffer = BUFFER;
    config.max_message_size = 16_000;
    let ends: [Box<dyn Stack>; 2] = [
        Ours::boxed(config.clone(), 1, base),
        Ours::boxed(config, 2, base),
    ];
    let link = || LinkConfig::with_delay(Duration::from_millis(1));
    let mut pair = Pair::new(ends, [link(), link()], 1);
    pair.connect(Duration::from_secs(5));
    let mut observers = [Observer::default(), Observer::default()];
    let mut lose = [false; 2];
    // The first packets show tags and numbers.
    for turn in [
        &Turn::Send {
            from_first: true,
            stream: 0,
            len: 100,
            unordered: false,
            unreliable: false,
        },
        &Turn::Send {
            from_first: false,
            stream: 0,
            len: 100,
            unordered: false,
            unreliable: false,
        },
        &Turn::Wait { centiseconds: 3 },
    ]
    .into_iter()
    .chain(turns)
    {
        match turn {
            Turn::Packet { to_first, chunks } => {
                let to = usize::from(!to_first);
                let mut bytes = Vec::new();
                for chunk in chunks {
                    chunk.write(&observers[1 - to], &mut bytes);
                }
                let packet = observers[1 - to].packet(&bytes);
                let before = Region::new(ALLOCATOR);
                pair.ends[to].handle_packet(pair.now, packet);
                let change = before.change();
                assert!(
                    change.allocations + change.reallocations < 2_000,
                    "{change:?}"
                );
            }
            Turn::Send {
                from_first,
                stream,
                len,
                unordered,
                unreliable,
            } => {
                let sending = Sending {
                    unordered: *unordered,
                    max_retransmits: unreliable.then_some(0),
                    lifetime: None,
                };
                let payload = vec![1; usize::from(*len)].into();
                pair.ends[usize::from(!from_first)].send(
                    pair.now,
                    (*stream).into(),
                    payload,
                    sending,
                );
            }
            Turn::Reset { from_first, stream } => {
                pair.ends[usize::from(!from_first)].reset(pair.now, (*stream).into());
            }
            Turn::Read { first, reads } => pair.reading[usize::from(!first)] = *reads,
            Turn::Wait { centiseconds } => {
                let until = pair.now + Duration::from_millis(10 * u64::from(*centiseconds));
                while pair.now < until {
                    pair.step(Some(until), &mut |_, _| {});
                }
            }
            Turn::Lose { of_first } => lose[usize::from(!of_first)] = true,
        }
        for from in 0..2 {
            let mut packets = 0;
            while let Some(packet) = pair.ends[from].poll_transmit(pair.now) {
                observers[from].observe(&packet);
                packets += 1;
                assert!(packets < 256, "packets without end");
                if !std::mem::take(&mut lose[from]) {
                    pair.links[from].send(pair.now, packet);
                }
            }
        }
        let change = region.change();
        let held = change
            .bytes_allocated
            .saturating_sub(change.bytes_deallocated);
        assert!(held <= MEMORY, "{held} bytes are held");
    }
}

fuzz_target!(|turns: Vec<Turn>| run(&turns));
