//! The streams of the peer, until they are accepted.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures::FutureExt;
use pipe_core::Result;
use tokio::sync::futures::Notified;

use super::half::{Half, StreamPair};
use super::state::Shared;
use crate::stream_core::StreamCore;

impl Shared {
    /// Returns the next stream of the peer.
    pub(crate) async fn accept(&self) -> Result<(StreamPair, Arc<StreamCore>)> {
        let pair = self.next_pair().await?;
        self.insert_accepted(pair)
    }

    async fn next_pair(&self) -> Result<StreamPair> {
        let mut arriving = pin!(self.quinn.accept_bi());
        // Under load streams are there already, and no accept waits for news.
        let mut news = pin!(None::<Notified<'_>>);
        poll_fn(|cx| {
            loop {
                if let Some(pair) = self.take_waiting()? {
                    return Poll::Ready(Ok(pair));
                }
                if let Poll::Ready(arrived) = arriving.as_mut().poll(cx) {
                    return Poll::Ready(arrived.map_err(|error| self.lost(&error)));
                }
                // The news report what was looked at before this.
                if let Some(news) = news.as_mut().as_pin_mut()
                    && news.poll(cx).is_pending()
                {
                    return Poll::Pending;
                }
                news.set(Some(self.arrivals.news.notified()));
            }
        })
        .await
    }

    /// Takes one of the streams that were looked at before.
    fn take_waiting(&self) -> Result<Option<StreamPair>> {
        self.status.check()?;
        if !self.arrivals.has_waiting.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut waiting = self.arrivals.waiting.lock();
        let pair = waiting.pop_front();
        if waiting.is_empty() {
            self.arrivals.has_waiting.store(false, Ordering::Release);
        } else {
            // One wake-up may have stood for several streams.
            self.arrivals.news.notify_one();
        }
        Ok(pair)
    }

    /// Looks for streams of the peer that were not accepted, and returns how many there are.
    pub(super) fn sweep(&self) -> usize {
        let mut waiting = self.arrivals.waiting.lock();
        let before = waiting.len();
        while let Some(Ok(pair)) = self.quinn.accept_bi().now_or_never() {
            waiting.push_back(pair);
        }
        let count = waiting.len();
        if count > before {
            self.arrivals.has_waiting.store(true, Ordering::Release);
            self.arrivals.news.notify_one();
        }
        count
    }

    /// Ends all accepts with the connection, and drops the streams that have arrived.
    pub(super) fn end_arrivals(&self) {
        for (send, recv) in std::mem::take(&mut *self.arrivals.waiting.lock()) {
            self.drop_half(Half::Send(send));
            self.drop_half(Half::Recv(recv));
        }
        self.arrivals.news.notify_waiters();
    }
}
