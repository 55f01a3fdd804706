//! Two sessions joined by a simulated wire, which delays, reorders the control channel against the bytes, cuts and
//! heals. Whatever two honest applications do, no rule is broken, nothing is cut short unnoticed, and nothing is left
//! when both are done.

mod side;
mod wire;

use pipe_proto::{RecvHalf, StreamHandle};
use proptest::collection::vec;
use proptest::prelude::*;

use side::{CONNECTION_WINDOW, MAX_STREAMS, Mode, STREAM_WINDOW};
use wire::{Op, Wire};

fn op() -> impl Strategy<Value = Op> {
    let stream = 0..8_u8;
    prop_oneof![
        6 => Just(Op::Open),
        6 => Just(Op::Accept),
        10 => (stream.clone(), 1..80_u64).prop_map(|(s, n)| Op::Write(s, n)),
        10 => (stream.clone(), 1..80_u64).prop_map(|(s, n)| Op::Read(s, n)),
        5 => stream.clone().prop_map(Op::Shutdown),
        2 => (stream.clone(), 5..9_u32).prop_map(|(s, code)| Op::Reset(s, code)),
        2 => (stream.clone(), 5..9_u32).prop_map(|(s, code)| Op::Stop(s, code)),
        3 => stream.prop_map(Op::Drop),
        2 => Just(Op::Ping),
        12 => Just(Op::Send),
        12 => (1..6_usize).prop_map(Op::Control),
        12 => (1..6_usize).prop_map(Op::Data),
        2 => (1..2000_u64).prop_map(Op::Wait),
        1 => Just(Op::Cut),
        2 => Just(Op::Heal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_honest_sides_leave_nothing_behind(
        ops in vec((0..2_usize, op()), 0..150),
        fails_streams: bool,
        every_byte: bool,
        is_native: bool,
        drains in proptest::option::weighted(0.3, 0..2_usize),
        closes in proptest::option::weighted(0.3, 0..2_usize),
    ) {
        let mode = if is_native { Mode::Native } else { Mode::Framed };
        let mut wire = Wire::new(mode, fails_streams, every_byte);
        let half = ops.len() / 2;
        for (step, (at, op)) in ops.iter().enumerate() {
            wire.act(*at, op);
            if let (true, Some(at)) = (step == half, drains) {
                wire.act(at, &Op::Drain);
            }
        }
        wire.settle();
        wire.check_ends();
        for side in &wire.sides {
            for end in &side.held {
                let state = end.0.borrow();
                // What waits was woken if there is something to see.
                let recv = state.stream.recv();
                let readable = state.buffer > 0 || recv == RecvHalf::Ended || recv.check_read().is_err();
                prop_assert!(!(state.read_waits && readable), "a reader was not woken");
                let has_window = mode == Mode::Native || state.stream.unacknowledged() < STREAM_WINDOW;
                let writable = side.room > 0 && has_window || state.stream.credit_ahead() > 0;
                let over = state.stream.send().check_write().is_err();
                prop_assert!(!(state.write_waits && (writable || over)), "a writer was not woken");
            }
            prop_assert_eq!(side.pings, side.answers);
            prop_assert!(!side.failed);
        }
        if let Some(at) = closes {
            wire.act(at, &Op::Close(9));
            wire.settle();
            prop_assert_eq!(&wire.sides[1 - at].closed, &Some((9, "bye".to_owned())));
            for side in &wire.sides {
                prop_assert!(side.session.is_ended());
                prop_assert_eq!(side.session.totals().open, 0);
                for end in &side.held {
                    prop_assert!(end.with(|s| s.send().check_write().is_err()));
                    prop_assert!(!end.with(|s| s.recv().takes_bytes()));
                }
            }
            return Ok(());
        }
        // Both applications take what there is and let go of it.
        for at in 0..2 {
            while !wire.sides[at].backlog.is_empty() {
                wire.sides[at].take_stream();
            }
            while let Some(end) = wire.sides[at].held.first().cloned() {
                wire.sides[at].drop_stream(&end);
            }
        }
        wire.settle();
        wire.check_ends();
        for side in &wire.sides {
            prop_assert_eq!(side.session.totals().open, 0);
            prop_assert_eq!(side.slots, MAX_STREAMS);
            prop_assert!(side.all.iter().all(|end| end.with(|s| s.is_retired() && s.unacknowledged() == 0)));
            if every_byte {
                prop_assert_eq!(side.room, CONNECTION_WINDOW);
            }
            if side.is_draining {
                prop_assert!(side.session.is_drained());
            }
            let totals = side.session.totals();
            prop_assert_eq!(totals.opened + totals.accepted, side.all.len() as u64);
        }
        let sent: Vec<u64> = wire.sides.iter().map(|side| side.session.totals().bytes_sent).collect();
        let read: Vec<u64> = wire.sides.iter().map(|side| side.session.totals().bytes_read).collect();
        prop_assert!(read[0] <= sent[1] && read[1] <= sent[0]);
    }
}

/// The same without chance, for Miri, in which a random case takes a minute.
#[test]
fn every_operation_of_both_sides_settles_and_ends() {
    for mode in [Mode::Framed, Mode::Native] {
        run_every_operation(mode);
    }
}

fn run_every_operation(mode: Mode) {
    let mut wire = Wire::new(mode, false, true);
    let at_both = |wire: &mut Wire, ops: &[Op]| {
        for at in 0..2 {
            ops.iter().for_each(|op| wire.act(at, op));
        }
        wire.settle();
        wire.check_ends();
    };
    at_both(&mut wire, &[Op::Open, Op::Open, Op::Write(0, 40), Op::Ping]);
    at_both(&mut wire, &[Op::Accept, Op::Accept, Op::Write(1, 40)]);
    at_both(
        &mut wire,
        &[Op::Read(0, 20), Op::Read(1, 20), Op::Shutdown(0)],
    );
    at_both(
        &mut wire,
        &[Op::Reset(1, 7), Op::Stop(2, 8), Op::Read(3, 40)],
    );
    at_both(&mut wire, &[Op::Cut, Op::Wait(100), Op::Heal, Op::Drop(3)]);
    wire.act(0, &Op::Drain);
    wire.settle();
    wire.act(0, &Op::Close(9));
    wire.settle();
    assert_eq!(wire.sides[1].closed, Some((9, "bye".to_owned())));
    for side in &wire.sides {
        assert!(side.session.is_ended() && !side.failed);
        assert_eq!(side.session.totals().open, 0);
    }
}
