//! Streams that were opened and that the peer has not seen yet.
//!
//! QUIC shows a stream with its first byte. Most streams are written to at once, and then that byte goes
//! with what is written. The driver shows the others, a little later.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::WriteError;

use super::{Inner, Shared};
use crate::stream_core::StreamCore;

/// How far apart the numbers of one side's streams are (RFC 9000, section 2.1).
const STEP: usize = 4;

/// Which streams the driver has to look at: those of this side from the first to the last.
#[derive(Default)]
pub(super) struct Unshown(Option<(u64, u64)>);

impl Unshown {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds a stream. Returns whether it is the only one, so that the driver does not know of it.
    pub(super) fn add(&mut self, id: u64) -> bool {
        match &mut self.0 {
            Some((first, last)) => {
                *first = id.min(*first);
                *last = id.max(*last);
                false
            }
            none => {
                *none = Some((id, id));
                true
            }
        }
    }
}

impl Inner {
    /// Adds the streams that nobody has shown meanwhile.
    pub(super) fn take_unshown(&mut self, streams: &mut Vec<Arc<StreamCore>>) {
        let Some((first, last)) = mem::take(&mut self.unshown).0 else {
            return;
        };
        let ids = (first..=last).step_by(STEP);
        let cores = ids.filter_map(|id| self.table.get(id));
        streams.extend(cores.filter(|core| core.is_unshown()).cloned());
    }
}

impl Shared {
    /// Shows streams to the peer, and forgets those that are shown. Whoever finds no room is woken when
    /// there is some.
    pub(crate) fn show(&self, streams: &mut Vec<Arc<StreamCore>>, cx: &mut Context<'_>) {
        streams.retain(|core| match core.poll_show(cx) {
            Poll::Pending => true,
            Poll::Ready(shown) => {
                if let Err(WriteError::ZeroRttRejected) = shown {
                    self.refuse_early();
                }
                // Any other error is told by whoever uses the stream.
                false
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_told_of_the_first_and_looks_at_all() {
        let mut unshown = Unshown::default();
        assert!(unshown.add(8));
        assert!(!unshown.add(16));
        assert!(!unshown.add(4));
        assert_eq!(unshown.0, Some((4, 16)));
    }
}
