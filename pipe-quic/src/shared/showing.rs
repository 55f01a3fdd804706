//! Streams that were opened and are not announced to the peer yet.
//!
//! QUIC makes a stream visible with its first byte. Most streams are written to at once, and then
//! that byte goes with the first write. The driver announces the others, a little later.

use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::WriteError;

use super::state::{Inner, Shared};
use crate::stream_core::StreamCore;

/// Distance between the numbers of one side's streams (RFC 9000, section 2.1).
const STEP: usize = 4;

impl Inner {
    /// Adds the streams that were not shown meanwhile.
    pub(super) fn take_unshown(&mut self, streams: &mut Vec<Arc<StreamCore>>) {
        let Some((first, last)) = self.unshown.take() else {
            return;
        };
        let ids = (first..=last).step_by(STEP);
        let cores = ids.filter_map(|id| self.table.get(id));
        streams.extend(cores.filter(|core| core.is_unshown()).cloned());
    }
}

impl Shared {
    /// Shows streams to the peer, and forgets those that are shown. A task that finds no room is woken when
    /// there is some.
    pub(crate) fn show(&self, streams: &mut Vec<Arc<StreamCore>>, cx: &mut Context<'_>) {
        streams.retain(|core| match core.poll_show(cx) {
            Poll::Pending => true,
            Poll::Ready(shown) => {
                if let Err(WriteError::ZeroRttRejected) = shown {
                    self.refuse_early();
                }
                // The next use of the stream reports any other error.
                false
            }
        });
    }
}
