use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures::FutureExt;
use parking_lot::Mutex;
use pipe_core::Result;
use pipe_core::backend::ConnStatus;
use quinn::ConnectionError;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Both directions of a stream of quinn.
pub(crate) type StreamPair = (quinn::SendStream, quinn::RecvStream);

/// The streams of the peer that were not accepted: those that quinn keeps, and those that were looked at before.
#[derive(Default)]
pub(crate) struct Arrivals {
    /// Streams that were looked at. Bounded by quinn's limit.
    waiting: Mutex<VecDeque<StreamPair>>,
    /// Whether there may be some.
    has_waiting: AtomicBool,
    /// Notified when there are some, and when the connection has ended.
    news: Notify,
}

impl Arrivals {
    /// Returns the next stream. `lost` gives the error of a connection that quinn has lost.
    pub(crate) async fn next(
        &self,
        conn: &quinn::Connection,
        status: &ConnStatus,
        lost: impl Fn(&ConnectionError) -> pipe_core::Error,
    ) -> Result<StreamPair> {
        let mut arriving = pin!(conn.accept_bi());
        // Under load streams are there already, and no accept waits for news.
        let mut news = pin!(None::<Notified<'_>>);
        poll_fn(|cx| {
            loop {
                status.check()?;
                if let Some(pair) = self.take_waiting() {
                    return Poll::Ready(Ok(pair));
                }
                if let Poll::Ready(arrived) = arriving.as_mut().poll(cx) {
                    return Poll::Ready(arrived.map_err(|error| lost(&error)));
                }
                // The news report what was looked at before this.
                if let Some(news) = news.as_mut().as_pin_mut()
                    && news.poll(cx).is_pending()
                {
                    return Poll::Pending;
                }
                news.set(Some(self.news.notified()));
            }
        })
        .await
    }

    /// Takes one of the streams that were looked at before.
    fn take_waiting(&self) -> Option<StreamPair> {
        if !self.has_waiting.load(Ordering::Acquire) {
            return None;
        }
        let mut waiting = self.waiting.lock();
        let pair = waiting.pop_front();
        if waiting.is_empty() {
            self.has_waiting.store(false, Ordering::Release);
        } else {
            // One wake-up may have stood for several streams.
            self.news.notify_one();
        }
        pair
    }

    /// Looks for streams that were not accepted, and returns how many there are.
    pub(crate) fn sweep(&self, conn: &quinn::Connection) -> usize {
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        while let Some(Ok(pair)) = conn.accept_bi().now_or_never() {
            waiting.push_back(pair);
        }
        let count = waiting.len();
        if count > before {
            self.has_waiting.store(true, Ordering::Release);
            self.news.notify_one();
        }
        count
    }

    /// Ends all accepts with the connection, and returns the streams that were looked at.
    pub(crate) fn end(&self) -> VecDeque<StreamPair> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        self.news.notify_waiters();
        waiting
    }
}
