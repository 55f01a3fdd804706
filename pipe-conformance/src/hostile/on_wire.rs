//! Attacks in moves of a wire.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, PING_LEN};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::attack::{Arms, CONNS, PAUSE, SILENT, again_and_again, flood, paced};
use super::peer::{Attacker, Move, MoveKind, Peer, Reading};
use super::victim::{ECHO, HOLD, SINK};

/// Opens a stream, with the byte that chooses its handler.
fn open(peer: &mut dyn Peer, stream: u64, handler: u8) -> io::Result<()> {
    peer.make(Move::Open(stream))?;
    peer.make(Move::Data(stream, &[handler]))
}

pub(super) async fn rapid_reset(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, stream| {
        open(peer, stream, HOLD)?;
        peer.make(Move::Reset(stream))?;
        peer.make(Move::Stop(stream))
    };
    let in_a_row = arms.max_streams / 2;
    paced(arms, Reading::Discards, in_a_row, step).await;
}

pub(super) async fn rapid_reset_at_once(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, stream| {
        peer.make(Move::Open(stream))?;
        peer.make(Move::Reset(stream))
    };
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

pub(super) async fn unread_windows(arms: Arc<Arms>) {
    let streams = arms.max_streams;
    let prepare = move |peer: &mut dyn Peer| (0..streams).try_for_each(|n| open(peer, n, HOLD));
    let bytes = vec![1; 16 * 1024];
    let step = move |peer: &mut dyn Peer, turn: u64| peer.make(Move::Data(turn % streams, &bytes));
    flood(arms, Reading::Discards, prepare, step).await;
}

pub(super) async fn one_byte_frames_unread(arms: Arc<Arms>) {
    // No byte more than the window of each stream: all of it is allowed.
    let (streams, window) = (arms.max_streams, arms.window as u64);
    again_and_again(arms, CONNS, |arms| async move {
        let mut peer = arms.peer(Reading::Discards).await?;
        (0..streams).try_for_each(|n| open(&mut *peer, n, HOLD))?;
        for _ in 0..(window / streams).saturating_sub(2) {
            for stream in 0..streams {
                peer.make(Move::Data(stream, &[1]))?;
                arms.send_batch(&mut *peer).await?;
            }
        }
        loop {
            arms.send(&mut *peer).await?;
            sleep(Duration::from_millis(50)).await;
            peer.make(Move::Data(0, &[]))?;
        }
    })
    .await;
}

pub(super) async fn bytes_before_the_hello(arms: Arc<Arms>) {
    again_and_again(arms, 8, |arms| async move {
        let mut peer = arms
            .attacker()
            .connect(&arms.addr, Reading::Discards)
            .await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        for stream in 0..arms.max_streams {
            peer.make(Move::Open(stream))?;
        }
        let bytes = vec![1; 16 * 1024];
        for turn in 0.. {
            peer.make(Move::Data(turn % arms.max_streams, &bytes))?;
            arms.send_batch(&mut *peer).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn numbers_used_again(arms: Arc<Arms>) {
    // A stream whose handler reads is hidden by another one of its number. Then every order of opens and ends
    // of a few numbers comes up sooner or later.
    again_and_again(arms, CONNS, |arms| async move {
        let mut peer = arms.peer(Reading::Discards).await?;
        open(&mut *peer, 0, SINK)?;
        arms.send(&mut *peer).await?;
        open(&mut *peer, 0, SINK)?;
        arms.send(&mut *peer).await?;
        for _ in 0..8 {
            let number = fastrand::u64(..2);
            match fastrand::u8(..6) {
                0..3 => open(&mut *peer, number, SINK)?,
                3 => peer.make(Move::End(number, 1))?,
                4 => peer.make(Move::Reset(number))?,
                _ => peer.make(Move::Data(number, &[1; 100]))?,
            }
            arms.send(&mut *peer).await?;
        }
        // Time to be served, then it goes without a word.
        sleep(PAUSE).await;
        Ok(())
    })
    .await;
}

pub(super) async fn silent_handshakes(arms: Arc<Arms>) {
    // Each comes again as soon as it was let go.
    again_and_again(arms, SILENT, |arms| async move {
        let held = arms.attacker().knock(&arms.addr).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        held.await;
        Ok(())
    })
    .await;
}

pub(super) async fn handshakes_that_stall(arms: Arc<Arms>) {
    again_and_again(arms, SILENT, |arms| async move {
        let held = arms.attacker().stall(&arms.addr).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        held.await;
        Ok(())
    })
    .await;
}

pub(super) async fn streams_beyond_the_limit(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, stream| open(peer, stream, HOLD);
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

pub(super) async fn colliding_numbers(arms: Arc<Arms>) {
    let numbers = if arms.easy {
        (0..512).collect()
    } else {
        colliding(arms.attacker(), 512)
    };
    let numbers = Arc::new(numbers);
    let most = arms.max_streams;
    let messages = arms.attacker().lacks(MoveKind::Unknown).is_none();
    let step = move |peer: &mut dyn Peer, turn: u64| {
        let number = numbers[turn as usize % numbers.len()];
        if turn >= most && messages {
            peer.make(Move::Credit(number, 1))
        } else if turn >= most {
            peer.make(Move::Credit(numbers[(turn % most) as usize], 1))
        } else {
            open(peer, number, HOLD)
        }
    };
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

/// Streams whose numbers differ in no bit that an unkeyed multiplicative hash looks at first.
fn colliding(attacker: &dyn Attacker, count: usize) -> Vec<u64> {
    /// The multiplier of rustc-hash 2.
    const MULTIPLIER: u64 = 0xf135_7aea_2e62_a9c5;
    (0..1 << 24)
        .filter(|&n| attacker.number(n).wrapping_mul(MULTIPLIER) >> 52 == 0)
        .take(count)
        .collect()
}

pub(super) async fn pings_without_end(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, _| peer.make(Move::Ping);
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

pub(super) async fn answers_that_are_never_read(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, _| peer.make(Move::Ping);
    flood(arms, Reading::Never, |_| Ok(()), step).await;
}

pub(super) async fn output_that_is_never_read(arms: Arc<Arms>) {
    // What was never read is said to be, so that streams are over whose bytes still wait.
    let in_a_row = arms.max_streams / 4;
    let step = |peer: &mut dyn Peer, stream: u64| {
        open(peer, stream, ECHO)?;
        peer.make(Move::Data(stream, &[1; 4000]))?;
        peer.make(Move::End(stream, 4001))?;
        for earlier in (1..=3).filter_map(|rows| stream.checked_sub(rows * in_a_row)) {
            match peer.make(Move::Taken(earlier)) {
                Err(error) if error.kind() != io::ErrorKind::Unsupported => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    paced(arms, Reading::Never, in_a_row, step).await;
}

pub(super) async fn credit_that_is_never_read(arms: Arc<Arms>) {
    // Each byte is read, and makes the other side say so.
    let streams = arms.max_streams;
    let prepare = move |peer: &mut dyn Peer| (0..streams).try_for_each(|n| open(peer, n, SINK));
    let step = move |peer: &mut dyn Peer, turn: u64| peer.make(Move::Data(turn % streams, &[1]));
    flood(arms, Reading::Never, prepare, step).await;
}

pub(super) async fn messages_about_unknown_streams(arms: Arc<Arms>) {
    let known = arms.easy;
    let prepare = |peer: &mut dyn Peer| open(peer, 0, HOLD);
    let step = move |peer: &mut dyn Peer, turn: u64| {
        if known {
            return peer.make(Move::Credit(0, 1));
        }
        let stream = 1000 + turn % 100_000;
        match turn % 4 {
            0 => peer.make(Move::Reset(stream)),
            1 => peer.make(Move::Stop(stream)),
            2 => peer.make(Move::Credit(stream, 1)),
            _ => peer.make(Move::Done(stream)),
        }
    };
    flood(arms, Reading::Discards, prepare, step).await;
}

pub(super) async fn one_byte_credits(arms: Arc<Arms>) {
    // Echoes that the peer's windows hold up, and which are let go byte by byte.
    let streams = if arms.easy { 1 } else { arms.max_streams };
    let prepare = move |peer: &mut dyn Peer| {
        for stream in 0..streams {
            open(peer, stream, ECHO)?;
            peer.make(Move::Data(stream, &[1; 1000]))?;
        }
        Ok(())
    };
    let step = move |peer: &mut dyn Peer, turn: u64| peer.make(Move::Credit(turn % streams, 1));
    flood(arms, Reading::Discards, prepare, step).await;
}

pub(super) async fn one_byte_messages(arms: Arc<Arms>) {
    let mut ping = bytes::BytesMut::new();
    binary::encode(&Frame::Ping([5; PING_LEN]), &mut ping);
    let step = move |peer: &mut dyn Peer, turn: u64| {
        let at = turn as usize % ping.len();
        peer.make(Move::Control(&ping[at..=at]))
    };
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

pub(super) async fn idle_frames(arms: Arc<Arms>) {
    let prepare = |peer: &mut dyn Peer| open(peer, 0, HOLD);
    let step = |peer: &mut dyn Peer, turn: u64| {
        if turn.is_multiple_of(2) {
            peer.make(Move::Idle)
        } else {
            peer.make(Move::MuxPing)
        }
    };
    flood(arms, Reading::Discards, prepare, step).await;
}

pub(super) async fn streams_whose_end_does_not_come(arms: Arc<Arms>) {
    // Each is stopped and never ended; what still comes is one byte in each frame.
    let streams = if arms.easy { 1 } else { arms.max_streams };
    let prepare = move |peer: &mut dyn Peer| {
        for stream in 0..streams {
            open(peer, stream, ECHO)?;
            peer.make(Move::Stop(stream))?;
        }
        Ok(())
    };
    let step = move |peer: &mut dyn Peer, turn: u64| peer.make(Move::Data(turn % streams, &[1]));
    flood(arms, Reading::Discards, prepare, step).await;
}

pub(super) async fn candidates_without_end(arms: Arc<Arms>) {
    // All of 127.0.0.0/8 is this machine, and each address and port is another candidate.
    let mut named = Vec::new();
    for _ in 0..8 {
        let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else {
            continue;
        };
        let port = socket.local_addr().map_or(0, |addr| addr.port());
        named.extend((1..=125).map(|n| SocketAddr::from(([127, 0, 0, n], port))));
        let arms = arms.clone();
        tokio::spawn(async move {
            while socket.recv_from(&mut [0; 2048]).await.is_ok() {
                arms.tally.packets.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let named = &named;
    again_and_again(arms, CONNS, |arms| async move {
        let held = arms.attacker().name_candidates(&arms.addr, named).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        held.await;
        Ok(())
    })
    .await;
}
