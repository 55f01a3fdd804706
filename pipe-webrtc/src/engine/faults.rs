use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::error::invalid;
use pipe_core::Result;

/// Harms the datagrams of every connection of a transport, for tests: datagrams sent while the link
/// is [cut](Self::cut) are lost silently, or only [those that the connection
/// carries](Self::cut_data), and a share of the rest can be lost at random.
///
/// Clones share the link. Signalling is not touched.
///
/// ```
/// # use pipe_webrtc::{Faults, WebRtcTransport};
/// # use pipe_inproc::InprocTransport;
/// let faults = Faults::new();
/// let transport = WebRtcTransport::new(InprocTransport::new()).with_faults(faults.clone());
/// faults.set_loss(0.01)?;
/// faults.cut();
/// faults.heal();
/// # Ok::<(), pipe_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    data_cut: AtomicBool,
    /// The share that is lost, in parts of 2^32.
    loss: AtomicU32,
    counter: AtomicU64,
}

impl Faults {
    /// Creates a link without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Drops every datagram from now on, in both directions.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
    }

    /// Drops every datagram of DTLS from now on, in both directions, while the checks of ICE pass:
    /// the path exists, and no data comes through. Packets through a TURN server pass too.
    pub fn cut_data(&self) {
        self.0.data_cut.store(true, Ordering::SeqCst);
    }

    /// Ends every [cut](Self::cut).
    pub fn heal(&self) {
        self.0.cut.store(false, Ordering::SeqCst);
        self.0.data_cut.store(false, Ordering::SeqCst);
    }

    /// Drops this share of the datagrams from now on, from 0.0 to 1.0. They are sent one by one
    /// then, so that a loss takes no more than one.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) for any other number.
    pub fn set_loss(&self, share: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&share) {
            return Err(invalid(format!(
                "the loss is {share}, but has to be from 0.0 to 1.0"
            )));
        }
        let parts = (share * f64::from(u32::MAX)) as u32;
        self.0.loss.store(parts, Ordering::SeqCst);
        Ok(())
    }

    /// Returns whether datagrams are lost one by one.
    #[cfg(feature = "webrtc")]
    pub(crate) fn is_lossy(&self) -> bool {
        self.0.loss.load(Ordering::Relaxed) > 0
    }

    /// Returns whether every datagram that begins with this byte is lost.
    pub(crate) fn cuts(&self, first: Option<&u8>) -> bool {
        // Those of DTLS begin so (RFC 7983, section 7).
        let is_data = || first.is_some_and(|byte| (20..=63).contains(byte));
        self.0.cut.load(Ordering::Relaxed) || (self.0.data_cut.load(Ordering::Relaxed) && is_data())
    }

    /// Returns whether the next datagram is lost, which begins with this byte.
    pub(crate) fn loses_one(&self, first: Option<&u8>) -> bool {
        if self.cuts(first) {
            return true;
        }
        let loss = self.0.loss.load(Ordering::Relaxed);
        loss > 0 && self.random() < loss
    }

    /// SplitMix64 over a counter: the same losses in the same order in every run.
    fn random(&self) -> u32 {
        let step = self.0.counter.fetch_add(1, Ordering::Relaxed);
        let mut x = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_losses_is_as_asked() {
        let faults = Faults::new();
        assert!(!faults.loses_one(None));
        faults.set_loss(0.1).unwrap();
        let lost = (0..100_000).filter(|_| faults.loses_one(None)).count();
        assert!((9_000..11_000).contains(&lost), "{lost}");
        faults.cut();
        assert!((0..100).all(|_| faults.loses_one(None)));
        faults.heal();
        faults.set_loss(0.0).unwrap();
        assert!((0..100).all(|_| !faults.loses_one(None)));
    }

    #[test]
    fn the_checks_of_ice_pass_where_data_is_cut() {
        let faults = Faults::new();
        faults.cut_data();
        for (first, lost) in [(0, false), (3, false), (20, true), (63, true), (64, false)] {
            assert_eq!(faults.loses_one(Some(&first)), lost, "{first}");
        }
        faults.heal();
        assert!(!faults.loses_one(Some(&23)));
    }

    #[test]
    fn a_share_out_of_range_is_refused() {
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(Faults::new().set_loss(share).is_err());
        }
    }
}
