//! An attack, and its means.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use pipe_core::{Addr, BoxTransport};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::peer::{Attacker, MoveKind, Peer, Reading};
use super::setting::Setting;

/// How many connections an attack has at once.
pub(crate) const CONNS: usize = 4;

/// How many connections are kept up that do not end their handshake.
pub(crate) const SILENT: usize = 400;

/// How much is made before it is sent.
const BATCH: usize = 32 * 1024;

/// A pause between two connections, so that an attack on a connection is no flood of dials.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

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

/// The costs of an attack to the listener, and their measures.
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
    /// The bytes that the [setting](Setting) allows for a connection whose streams are not read, on the heap and
    /// resident.
    Unread(Setting),
}

impl Costs {
    /// The settings of the listener under attack.
    pub(crate) fn setting(self) -> Setting {
        match self {
            Self::Unread(setting) => setting,
            _ => Setting::Usual,
        }
    }
}

/// How many packets may go to the addresses that an attempt names: some for each of as many as are used.
pub(crate) const PACKETS: u64 = 64 * 8;

/// The means of an attack.
pub(crate) struct Arms {
    pub(crate) addr: Addr,
    pub(crate) transport: Arc<BoxTransport>,
    pub(crate) attacker: Option<Arc<dyn Attacker>>,
    pub(crate) max_streams: u64,
    /// The unread bytes that the listener grants to a connection, and to each of its streams.
    pub(crate) window: usize,
    pub(crate) stream_window: usize,
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

impl Arms {
    pub(super) fn attacker(&self) -> &dyn Attacker {
        let attacker = self.attacker.as_deref();
        attacker.expect("attacks on the wire are skipped without an attacker")
    }

    /// A greeted peer.
    pub(super) async fn peer(&self, reading: Reading) -> io::Result<Box<dyn Peer>> {
        let mut peer = self.attacker().connect(&self.addr, reading).await?;
        peer.greet().await?;
        self.tally.conns.fetch_add(1, Ordering::Relaxed);
        Ok(peer)
    }

    pub(super) async fn send(&self, peer: &mut dyn Peer) -> io::Result<()> {
        self.tally.batches.fetch_add(1, Ordering::Relaxed);
        peer.flush().await?;
        yield_now().await;
        Ok(())
    }

    /// Sends once enough was made.
    pub(super) async fn send_batch(&self, peer: &mut dyn Peer) -> io::Result<()> {
        if peer.pending() < BATCH {
            return Ok(());
        }
        self.send(peer).await
    }
}

/// Runs the same on so many connections at once, each again as soon as it ends.
pub(super) async fn again_and_again<F>(
    arms: Arc<Arms>,
    conns: usize,
    attack: impl Fn(Arc<Arms>) -> F,
) where
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
pub(super) async fn flood(
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
pub(super) async fn paced(
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
