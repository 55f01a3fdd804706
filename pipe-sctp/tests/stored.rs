//! What a peer makes an association store takes about what it counts against the receive buffer, however small the
//! pieces are.

// A `Config` is made by changing the default.
#![allow(clippy::field_reassign_with_default)]

mod sim;

use bytes::Bytes;
use pipe_sctp::Config;
use sim::mutate::{Observer, chunks};
use sim::{LinkConfig, Ours, Output, Pair, Sending, Stack};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The receive buffer. Incomplete messages may take twice of it.
const BUFFER: usize = 512 * 1_024;

/// The least allocation, and what an allocation takes beyond its size.
const ALLOCATION: usize = 16;

const END: u8 = 1;
const BEGIN: u8 = 2;
const UNORDERED: u8 = 4;

/// A chunk that a hostile peer sends.
struct Data {
    /// How far its TSN is beyond the first that is missing.
    offset: u32,
    flags: u8,
    stream: u16,
    mid: u32,
    fsn: u32,
}

/// Puts what `data` makes of 0, 1, 2 … into an endpoint until 65,000 chunks are sent or the association ends.
/// Returns the bytes of the heap that are held at most.
fn flood(interleaving: bool, read: bool, data: impl Fn(u32) -> Data) -> usize {
    let mut config = Config::default();
    config.receive_buffer = BUFFER;
    config.interleaving = interleaving;
    let base = Instant::now();
    let ends: [Box<dyn Stack>; 2] = [
        Ours::boxed(config.clone(), 1, base),
        Ours::boxed(config, 2, base),
    ];
    let link = || LinkConfig::with_delay(Duration::from_millis(1));
    let mut pair = Pair::new(ends, [link(), link()], 1);
    pair.connect(Duration::from_secs(5));
    let now = pair.now;
    // The TSN that follows is that of the first message.
    let mut observer = Observer::default();
    let sent = pair.ends[0].send(now, 0, Bytes::from_static(b"x"), Sending::default());
    assert!(sent);
    let packet = pair.ends[0].poll_transmit(now).expect("a packet");
    observer.observe(&packet);
    let kind = chunks(&packet).next().expect("a chunk")[0];
    let first = observer.tsn;
    let region = Region::new(ALLOCATOR);
    let mut most = 0;
    for number in 0..65_000 {
        let data = data(number);
        let mut chunk = vec![kind, data.flags, 0, 0];
        chunk.extend(first.wrapping_add(data.offset).to_be_bytes());
        chunk.extend(data.stream.to_be_bytes());
        if interleaving {
            let last = if data.flags & BEGIN != 0 {
                53
            } else {
                data.fsn
            };
            chunk.extend(0u16.to_be_bytes());
            chunk.extend(data.mid.to_be_bytes());
            chunk.extend(last.to_be_bytes());
        } else {
            chunk.extend((data.mid as u16).to_be_bytes());
            chunk.extend(53u32.to_be_bytes());
        }
        chunk.push(7);
        let len = chunk.len() as u16;
        chunk[2..4].copy_from_slice(&len.to_be_bytes());
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        pair.ends[1].handle_packet(now, observer.packet(&chunk));
        while pair.ends[1].poll_transmit(now).is_some() {}
        while read && pair.ends[1].poll_output().is_some() {}
        let change = region.change();
        let blocks = (change.allocations - change.deallocations) * ALLOCATION;
        most = most.max(blocks + change.bytes_allocated - change.bytes_deallocated);
        if pair.ends[1].is_closed() {
            break;
        }
    }
    most
}

/// Compares what is held with what is counted.
#[track_caller]
fn assert_bounded(held: usize, of: usize) {
    println!("{held} bytes of {of}");
    // A queue that has just doubled is half empty.
    let most = of + of / 4 + 64 * 1_024;
    assert!(held <= most, "{held} bytes are held, {of} are counted");
    // The attack has to get far.
    assert!(held >= of / 4, "{held} bytes are held, of {of}");
}

const fn data(offset: u32, flags: u8, mid: u32, fsn: u32) -> Data {
    Data {
        offset,
        flags,
        stream: 1,
        mid,
        fsn,
    }
}

fn first(number: u32) -> u8 {
    if number == 0 { BEGIN } else { 0 }
}

/// One test, since each part measures the memory of the process.
#[test]
fn small_pieces_take_no_more_memory_than_they_count() {
    const WHOLE: u8 = BEGIN | END;
    // One message that never ends, in order.
    for kind in [false, true] {
        let held = flood(kind, false, |n| data(n, first(n), 0, n));
        assert_bounded(held, 2 * BUFFER);
    }
    // From the last fragment to the first.
    for kind in [false, true] {
        let held = flood(kind, false, |n| data(65_000 - n, 0, 0, 65_000 - n));
        assert_bounded(held, 2 * BUFFER);
    }
    // Every second fragment.
    for kind in [false, true] {
        let held = flood(kind, false, |n| data(2 * n, first(n), 0, 2 * n));
        assert_bounded(held, 2 * BUFFER);
    }
    // The first fragment of many messages on many streams.
    let held = flood(true, false, |n| Data {
        stream: n as u16 % 100,
        ..data(n, BEGIN, n / 100, 0)
    });
    assert_bounded(held, 2 * BUFFER);
    // Messages that are not taken.
    for kind in [false, true] {
        let held = flood(kind, false, |n| data(n, WHOLE | UNORDERED, 0, 0));
        assert_bounded(held, BUFFER);
    }
    // Messages that wait for the first of their stream.
    for kind in [false, true] {
        let held = flood(kind, true, |n| data(n, WHOLE, 1 + n % 30_000, 0));
        assert_bounded(held, 2 * BUFFER);
    }
    // Messages that are taken, between gaps.
    for kind in [false, true] {
        let held = flood(kind, true, |n| data(2 * n, WHOLE | UNORDERED, 0, 0));
        assert_bounded(held, 2 * BUFFER);
    }
    reset_of_all_streams();
}

/// A request that names no stream resets all (RFC 6525, section 4.1). It costs no more than one that names a stream, and
/// again nothing until streams are used again.
fn reset_of_all_streams() {
    const STREAMS: u16 = 20_000;
    let base = Instant::now();
    let [mut a, mut b] =
        [1, 2].map(|seed| Ours::new(Config::default(), seed, base, Duration::ZERO));
    let mut now = Duration::ZERO;
    let mut header = Observer::default();
    a.connect(now);
    let exchange = |a: &mut Ours, b: &mut Ours, now: &mut Duration, header: &mut Observer| {
        let (mut events, mut idle) = (0, 0);
        while idle < 2 {
            idle += 1;
            *now += Duration::from_millis(20);
            for end in [&mut *a, &mut *b] {
                if end.poll_timeout().is_some_and(|at| at <= *now) {
                    end.handle_timeout(*now);
                }
            }
            while let Some(packet) = a.poll_transmit(*now) {
                header.observe(&packet);
                b.handle_packet(*now, packet);
                idle = 0;
            }
            while let Some(packet) = b.poll_transmit(*now) {
                a.handle_packet(*now, packet);
                idle = 0;
            }
            while a.poll_output().is_some() {}
            while let Some(output) = b.poll_output() {
                events += usize::from(matches!(output, Output::IncomingReset { .. }));
            }
        }
        events
    };
    exchange(&mut a, &mut b, &mut now, &mut header);
    // Half of the streams are used by both ends.
    for stream in 0..STREAMS {
        let message = || Bytes::from_static(b"x");
        assert!(b.send(now, stream, message(), Sending::default()));
        assert!(a.send(now, stream / 2, message(), Sending::default()));
        exchange(&mut a, &mut b, &mut now, &mut header);
    }
    let first = header.request;
    for (number, expected) in [(0, usize::from(STREAMS)), (1, 0), (2, 0)] {
        let mut chunk = vec![130, 0, 0, 20, 0, 13, 0, 16];
        for word in [first.wrapping_add(number), 0, first] {
            chunk.extend(word.to_be_bytes());
        }
        let packet = header.packet(&chunk);
        let region = Region::new(ALLOCATOR);
        b.handle_packet(now, packet);
        let change = region.change();
        let allocations = change.allocations + change.reallocations;
        assert!(allocations <= 8, "{allocations} allocations");
        assert_eq!(exchange(&mut a, &mut b, &mut now, &mut header), expected);
    }
}
