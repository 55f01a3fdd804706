//! Congestion control: how many bytes may be in flight, and how fast they leave.
//!
//! A [`Controller`] holds the congestion window of an association. [`Cubic`] (RFC 9438) is the default,
//! [`NewReno`] (RFC 9260, section 7.2) stands beside it. The [`Pacer`] spreads a window over a round trip.
//!
//! None of them reads a clock or sends a packet: the association reports what it sent, what was
//! acknowledged and what was lost, each with its time.

mod controller;
mod cubic;
mod hystart;
mod new_reno;
mod pacer;

pub use controller::{Ack, Controller, Loss};
pub use cubic::Cubic;
pub use new_reno::NewReno;
pub use pacer::Pacer;

/// Selects the congestion controller of an association.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CongestionKind {
    /// CUBIC, RFC 9438, with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// NewReno, RFC 9260, section 7.2.
    NewReno,
}

impl CongestionKind {
    /// Returns a new controller for packets of at most `mtu` bytes.
    pub fn controller(self, mtu: usize) -> Box<dyn Controller> {
        match self {
            CongestionKind::Cubic => Box::new(Cubic::new(mtu)),
            CongestionKind::NewReno => Box::new(NewReno::new(mtu)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_starts_in_slow_start_with_the_initial_window() {
        for kind in [CongestionKind::Cubic, CongestionKind::NewReno] {
            let controller = kind.controller(1_200);
            assert_eq!(controller.window(), 12_000, "{kind:?}");
            assert_eq!(controller.ssthresh(), usize::MAX, "{kind:?}");
            assert!(controller.is_in_slow_start(), "{kind:?}");
        }
    }
}
