//! The attacks themselves, in moves of a wire or through the public traits.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, PING_LEN};
use pipe_core::{Addr, BoxTransport, Conn, Stream, Transport};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::peer::{Attacker, Move, MoveKind, Peer, Reading};
use super::victim::{ECHO, HOLD, SINK};

/// How many connections an attack has at once.
pub(crate) const CONNS: usize = 4;

/// How many connections are kept up that do not end their handshake.
pub(crate) const SILENT: usize = 400;

/// How much is made before it is sent.
const BATCH: usize = 32 * 1024;

/// A pause between two connections, so that an attack on a connection is no flood of dials.
const PAUSE: Duration = Duration::from_millis(5);

/// One way to harm a listener and its other peers.
#[derive(Clone, Copy)]
pub(crate) struct Attack {
    /// It identifies the attack.
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    /// What it does on the wire; none is needed for an attack through the public traits.
    pub(crate) needs: &'static [MoveKind],
    pub(crate) on_wire: bool,
    /// How many connections it has at once.
    pub(crate) conns: usize,
    pub(crate) costs: Costs,
    pub(crate) run: fn(Arc<Arms>) -> BoxFuture<'static, ()>,
}

/// What an attack may cost the listener, and what is measured of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Costs {
    /// Its windows full of bytes for each connection.
    Windows,
    /// Little for each connection, whatever is sent.
    Little,
    /// Little, and as much time on a processor for the same bytes as where they come in the [easy](Arms::easy)
    /// way, a few times over.
    Time,
    /// What handshakes under way cost, and what is left of those that have just been given up. An innocent dial
    /// waits for a place.
    Places,
    /// Little, and few packets to addresses that were named.
    Packets,
}

/// How many packets may go to the addresses that an attempt names: some for each of as many as are used.
pub(crate) const PACKETS: u64 = 64 * 8;

/// What an attack has to work with.
pub(crate) struct Arms {
    pub(crate) addr: Addr,
    pub(crate) transport: Arc<BoxTransport>,
    pub(crate) attacker: Option<Arc<dyn Attacker>>,
    pub(crate) max_streams: u64,
    pub(crate) window: usize,
    /// Say as much in the way that costs the other side least, to compare with.
    pub(crate) easy: bool,
    pub(crate) tally: Tally,
}

/// How much an attack has done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) conns: AtomicU64,
    pub(crate) batches: AtomicU64,
    /// Packets that came to addresses which were named.
    pub(crate) packets: AtomicU64,
}

const WIRE: &str = "A hostile peer on the wire";
const PUBLIC: &str = "A rude peer through the public traits";

/// All attacks, in the order of the matrix.
pub(crate) fn all() -> Vec<Attack> {
    macro_rules! attacks {
        ($($name:ident $group:ident $on_wire:literal $conns:expr, $costs:ident, [$($need:ident)*];)*) => {
            vec![$(Attack {
                name: stringify!($name),
                group: $group,
                needs: &[$(MoveKind::$need),*],
                on_wire: $on_wire,
                conns: $conns,
                costs: Costs::$costs,
                run: |arms| $name(arms).boxed(),
            }),*]
        };
    }
    attacks![
        rapid_reset WIRE true CONNS, Little, [Stop];
        rapid_reset_at_once WIRE true CONNS, Little, [];
        unread_windows WIRE true CONNS, Windows, [Excess];
        one_byte_frames_unread WIRE true CONNS, Windows, [];
        bytes_before_the_hello WIRE true 8, Windows, [Early Excess];
        numbers_used_again WIRE true CONNS, Little, [Number];
        silent_handshakes WIRE true SILENT, Little, [Silence];
        streams_beyond_the_limit WIRE true CONNS, Little, [Number];
        colliding_numbers WIRE true CONNS, Time, [Number];
        pings_without_end WIRE true CONNS, Little, [Ping];
        answers_that_are_never_read WIRE true CONNS, Little, [Ping];
        output_that_is_never_read WIRE true CONNS, Little, [];
        messages_about_unknown_streams WIRE true CONNS, Time, [Unknown];
        one_byte_credits WIRE true CONNS, Time, [Credit];
        one_byte_messages WIRE true CONNS, Little, [Control];
        idle_frames WIRE true CONNS, Little, [Mux];
        streams_whose_end_does_not_come WIRE true CONNS, Time, [Stop Excess];
        credit_that_is_never_read WIRE true CONNS, Little, [];
        candidates_without_end WIRE true CONNS, Packets, [Candidates];
        handshakes_that_stall WIRE true SILENT, Places, [Stall];
        opens_and_drops PUBLIC false CONNS, Little, [];
        writes_and_never_reads PUBLIC false CONNS, Windows, [];
        dials_and_drops PUBLIC false CONNS, Little, [];
        one_byte_writes PUBLIC false CONNS, Windows, [];
        pings_at_once PUBLIC false CONNS, Little, [];
        holds_all_streams PUBLIC false CONNS, Little, [];
        closes_in_the_middle PUBLIC false CONNS, Little, [];
    ]
}

/// Whether an attack can be made with these arms, or why not.
pub(crate) fn lacks(attack: &Attack, attacker: Option<&dyn Attacker>) -> Option<String> {
    if !attack.on_wire {
        return None;
    }
    let Some(attacker) = attacker else {
        return Some("there is no attacker for its wire".to_owned());
    };
    let lack = attack.needs.iter().find_map(|&need| attacker.lacks(need));
    lack.map(str::to_owned)
}

impl Arms {
    fn attacker(&self) -> &dyn Attacker {
        let attacker = self.attacker.as_deref();
        attacker.expect("attacks on the wire are skipped without an attacker")
    }

    /// A greeted peer.
    async fn peer(&self, reading: Reading) -> io::Result<Box<dyn Peer>> {
        let mut peer = self.attacker().connect(&self.addr, reading).await?;
        peer.greet().await?;
        self.tally.conns.fetch_add(1, Ordering::Relaxed);
        Ok(peer)
    }

    async fn send(&self, peer: &mut dyn Peer) -> io::Result<()> {
        self.tally.batches.fetch_add(1, Ordering::Relaxed);
        peer.flush().await?;
        yield_now().await;
        Ok(())
    }

    /// Sends once enough was made.
    async fn send_batch(&self, peer: &mut dyn Peer) -> io::Result<()> {
        if peer.pending() < BATCH {
            return Ok(());
        }
        self.send(peer).await
    }
}

/// Runs the same on so many connections at once, each again as soon as it ends.
async fn again_and_again<F>(arms: Arc<Arms>, conns: usize, attack: impl Fn(Arc<Arms>) -> F)
where
    F: Future<Output = io::Result<()>>,
{
    let again = || async {
        loop {
            // A peer that is found out has lost its connection, and makes another.
            let _ = attack(arms.clone()).await;
            sleep(PAUSE).await;
        }
    };
    join_all((0..conns).map(|_| again())).await;
}

/// Says the same for ever, in batches.
async fn flood(
    arms: Arc<Arms>,
    reading: Reading,
    prepare: impl Fn(&mut dyn Peer) -> io::Result<()>,
    step: impl Fn(&mut dyn Peer, u64) -> io::Result<()>,
) {
    let (prepare, step) = (&prepare, &step);
    again_and_again(arms, CONNS, |arms| async move {
        let mut peer = arms.peer(reading).await?;
        prepare(&mut *peer)?;
        arms.send(&mut *peer).await?;
        for turn in 0.. {
            step(&mut *peer, turn)?;
            arms.send_batch(&mut *peer).await?;
        }
        Ok(())
    })
    .await;
}

/// Says the same for ever, so many times in a row with a short pause behind them, in which the other side may
/// catch up: for attacks that stay within what is allowed at once.
async fn paced(
    arms: Arc<Arms>,
    reading: Reading,
    in_a_row: u64,
    step: impl Fn(&mut dyn Peer, u64) -> io::Result<()>,
) {
    let step = &step;
    again_and_again(arms, CONNS, |arms| async move {
        let mut peer = arms.peer(reading).await?;
        for turn in 0.. {
            step(&mut *peer, turn)?;
            if turn % in_a_row == in_a_row - 1 {
                arms.send(&mut *peer).await?;
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    })
    .await;
}

/// Opens a stream, with the byte that chooses its handler.
fn open(peer: &mut dyn Peer, stream: u64, handler: u8) -> io::Result<()> {
    peer.make(Move::Open(stream))?;
    peer.make(Move::Data(stream, &[handler]))
}

async fn rapid_reset(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, stream| {
        open(peer, stream, HOLD)?;
        peer.make(Move::Reset(stream))?;
        peer.make(Move::Stop(stream))
    };
    let in_a_row = arms.max_streams / 2;
    paced(arms, Reading::Discards, in_a_row, step).await;
}

async fn rapid_reset_at_once(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, stream| {
        peer.make(Move::Open(stream))?;
        peer.make(Move::Reset(stream))
    };
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

async fn unread_windows(arms: Arc<Arms>) {
    let streams = arms.max_streams;
    let prepare = move |peer: &mut dyn Peer| (0..streams).try_for_each(|n| open(peer, n, HOLD));
    let bytes = vec![1; 16 * 1024];
    let step = move |peer: &mut dyn Peer, turn: u64| peer.make(Move::Data(turn % streams, &bytes));
    flood(arms, Reading::Discards, prepare, step).await;
}

async fn one_byte_frames_unread(arms: Arc<Arms>) {
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

async fn bytes_before_the_hello(arms: Arc<Arms>) {
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

async fn numbers_used_again(arms: Arc<Arms>) {
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

async fn silent_handshakes(arms: Arc<Arms>) {
    // Each comes again as soon as it was let go.
    again_and_again(arms, SILENT, |arms| async move {
        let held = arms.attacker().knock(&arms.addr).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        held.await;
        Ok(())
    })
    .await;
}

async fn handshakes_that_stall(arms: Arc<Arms>) {
    again_and_again(arms, SILENT, |arms| async move {
        let held = arms.attacker().stall(&arms.addr).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        held.await;
        Ok(())
    })
    .await;
}

async fn streams_beyond_the_limit(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, stream| open(peer, stream, HOLD);
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

async fn colliding_numbers(arms: Arc<Arms>) {
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

async fn pings_without_end(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, _| peer.make(Move::Ping);
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

async fn answers_that_are_never_read(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, _| peer.make(Move::Ping);
    flood(arms, Reading::Never, |_| Ok(()), step).await;
}

async fn output_that_is_never_read(arms: Arc<Arms>) {
    let step = |peer: &mut dyn Peer, stream| {
        open(peer, stream, ECHO)?;
        peer.make(Move::Data(stream, &[1; 100]))?;
        peer.make(Move::End(stream, 101))
    };
    let in_a_row = arms.max_streams / 4;
    paced(arms, Reading::Never, in_a_row, step).await;
}

async fn credit_that_is_never_read(arms: Arc<Arms>) {
    // Each byte is read, and makes the other side say so.
    let streams = arms.max_streams;
    let prepare = move |peer: &mut dyn Peer| (0..streams).try_for_each(|n| open(peer, n, SINK));
    let step = move |peer: &mut dyn Peer, turn: u64| peer.make(Move::Data(turn % streams, &[1]));
    flood(arms, Reading::Never, prepare, step).await;
}

async fn messages_about_unknown_streams(arms: Arc<Arms>) {
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

async fn one_byte_credits(arms: Arc<Arms>) {
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

async fn one_byte_messages(arms: Arc<Arms>) {
    let mut ping = bytes::BytesMut::new();
    binary::encode(&Frame::Ping([5; PING_LEN]), &mut ping);
    let step = move |peer: &mut dyn Peer, turn: u64| {
        let at = turn as usize % ping.len();
        peer.make(Move::Control(&ping[at..=at]))
    };
    flood(arms, Reading::Discards, |_| Ok(()), step).await;
}

async fn idle_frames(arms: Arc<Arms>) {
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

async fn streams_whose_end_does_not_come(arms: Arc<Arms>) {
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

async fn candidates_without_end(arms: Arc<Arms>) {
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

/// Runs the same over connections of the public traits.
async fn with_conns<F>(arms: Arc<Arms>, attack: impl Fn(Arc<Arms>, pipe_core::BoxConn) -> F)
where
    F: Future<Output = io::Result<()>>,
{
    let attack = &attack;
    again_and_again(arms, CONNS, |arms| async move {
        let conn = arms.transport.dial(&arms.addr).await?;
        arms.tally.conns.fetch_add(1, Ordering::Relaxed);
        attack(arms.clone(), conn).await
    })
    .await;
}

async fn opens_and_drops(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        loop {
            let mut stream = conn.open_stream().await?;
            stream.reset(7);
            stream.stop(7);
            arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
}

async fn writes_and_never_reads(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let bytes = vec![1; 16 * 1024];
        let write = || async {
            let mut stream = conn.open_stream().await?;
            stream.write_all(&[ECHO]).await?;
            loop {
                stream.write_all(&bytes).await?;
                arms.tally.batches.fetch_add(1, Ordering::Relaxed);
            }
        };
        let writers: Vec<io::Result<()>> = join_all((0..arms.max_streams).map(|_| write())).await;
        writers.into_iter().collect()
    })
    .await;
}

async fn dials_and_drops(arms: Arc<Arms>) {
    with_conns(arms, |arms, _conn| async move {
        arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
    .await;
}

async fn one_byte_writes(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let write = || async {
            let mut stream = conn.open_stream().await?;
            stream.write_all(&[HOLD]).await?;
            loop {
                stream.write_all(&[1]).await?;
                stream.flush().await?;
                arms.tally.batches.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        let writers: Vec<io::Result<()>> = join_all((0..arms.max_streams).map(|_| write())).await;
        writers.into_iter().collect()
    })
    .await;
}

async fn pings_at_once(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        loop {
            let pings = join_all((0..64).map(|_| conn.ping())).await;
            pings.into_iter().collect::<Result<Vec<_>, _>>()?;
            arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
}

async fn holds_all_streams(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let mut held = Vec::new();
        // More opens than there are places: the last ones wait.
        while let Ok(stream) = timeout(Duration::from_millis(200), conn.open_stream()).await {
            let mut stream = stream?;
            stream.write_all(&[HOLD]).await?;
            held.push(stream);
            arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        }
        conn.closed().await;
        Ok(())
    })
    .await;
}

async fn closes_in_the_middle(arms: Arc<Arms>) {
    with_conns(arms, |arms, conn| async move {
        let mut stream = conn.open_stream().await?;
        stream.write_all(&[ECHO]).await?;
        stream.write_all(&[1; 8 * 1024]).await?;
        conn.close(7, "enough");
        arms.tally.batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_there_once() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all.len(), "two attacks have one name");
    }
}
