//! The times at which frames are sent over the control stream.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf;
use parking_lot::MutexGuard;

use super::state::{Inner, Shared};
use crate::error::{Condition, protocol};
use crate::stream_core::StreamCore;

impl Inner {
    /// Sends the frames that are due. Ready when the control stream is cut.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<quinn::WriteError> {
        let (Some(control), true) = (&mut self.control, self.output.urgent) else {
            return Poll::Pending;
        };
        loop {
            let bytes = self.output.bytes();
            if bytes.is_empty() {
                break;
            }
            match ready!(Pin::new(&mut *control).poll_write(cx, bytes)) {
                Ok(count) => bytes.advance(count),
                Err(error) => return Poll::Ready(error),
            }
        }
        self.output.urgent = false;
        self.output.gathered = 0;
        Poll::Pending
    }
}

impl Shared {
    /// Sends the frames that are due, together with those of the streams. The driver sends the
    /// rest, and deferrable frames when their time has come.
    pub(super) fn send(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.output.is_empty() {
            return;
        }
        let news = if inner.output.urgent {
            let _ = inner.poll_send(&mut Context::from_waker(Waker::noop()));
            inner.output.urgent
        } else {
            !mem::replace(&mut inner.output.gathers, true)
        };
        let flooded = inner.output.is_flooded(self.config.max_streams);
        drop(inner);
        if flooded {
            let why = protocol("it does not read its control stream");
            self.fail(Condition::Protocol, why);
        } else if news {
            self.news.notify_one();
        }
    }

    /// Returns whether deferrable frames wait for the driver.
    pub(crate) fn gathers(&self) -> bool {
        let inner = self.inner.lock();
        inner.output.gathers || !inner.unshown.is_empty()
    }

    /// Sends the frames that have waited for their time, and adds the streams that were not
    /// announced to the peer meanwhile.
    pub(crate) fn stop_gathering(&self, unshown: &mut Vec<Arc<StreamCore>>) {
        let mut inner = self.inner.lock();
        inner.output.gathers = false;
        inner.output.urgent |= !inner.output.is_empty();
        inner.take_unshown(unshown);
    }
}
