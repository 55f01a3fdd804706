//! A connection.

use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pipe_core::{
    Addr, CloseReason, Conn, ConnState, ConnStats, Error, ErrorKind, PeerIdentity, Result,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::fault::Fault;
use crate::shared::{Setting, Shared, Side};
use crate::stream::{BrokenStream, Extras};

/// A connection that breaks the contract in one way.
#[derive(Clone)]
pub(crate) struct BrokenConn<C: Conn> {
    shared: Arc<Shared<C>>,
    state: Option<watch::Receiver<ConnState>>,
    /// Closes the connection with the last handle.
    _last: Option<Arc<CloseOnDrop<C>>>,
    /// Closes the connection with each handle.
    _each: Option<CloseOnDrop<C>>,
}

impl<C: Conn> BrokenConn<C> {
    pub(crate) fn new(inner: C, side: Side, setting: &Arc<Setting>) -> Self {
        let fault = setting.fault;
        match fault {
            Fault::ConnTaskStays => {
                tokio::spawn(pending::<()>());
            }
            Fault::ConnMemoryStays => setting.leak(vec![1_u8; 32 * 1024]),
            Fault::ConnFileStays => setting.leak(std::fs::File::open("/dev/null")),
            Fault::LastHandleDropIsSilent => setting.leak(inner.clone()),
            Fault::IdleConnSpins => {
                let conn = inner.clone();
                tokio::spawn(async move {
                    while !conn.state().borrow().is_final() {
                        yield_now().await;
                    }
                });
            }
            Fault::IdleConnTicks => {
                let conn = inner.clone();
                tokio::spawn(async move {
                    while !conn.state().borrow().is_final() {
                        sleep(Duration::from_millis(1)).await;
                    }
                });
            }
            Fault::IdleConnDies => {
                let conn = inner.clone();
                let lifetime = 3 * setting.config.keep_alive;
                tokio::spawn(async move {
                    sleep(lifetime).await;
                    conn.close(1, "idle");
                });
            }
            Fault::CutEndsConn => {
                let conn = inner.clone();
                tokio::spawn(async move {
                    let mut state = conn.state();
                    let cut = |state: &ConnState| *state != ConnState::Connected;
                    let _ = state.wait_for(cut).await;
                    conn.close(1, "cut");
                });
            }
            _ => {}
        }
        let state = told_state(fault, &inner);
        let guard = |of: Fault| (fault == of).then(|| CloseOnDrop(inner.clone()));
        Self {
            state,
            _last: guard(Fault::LastHandleDropEndsStreams).map(Arc::new),
            _each: guard(Fault::EveryHandleDropCloses),
            shared: Arc::new(Shared::new(inner, side, setting.clone())),
        }
    }

    fn inner(&self) -> &C {
        &self.shared.inner
    }

    fn fault(&self) -> Fault {
        self.shared.fault()
    }

    /// Takes a slot for a stream that is opened, for the faults that count by themselves.
    async fn slot(&self) -> Result<Option<OwnedSemaphorePermit>> {
        let slots = self.shared.slots.clone();
        match self.fault() {
            Fault::WaitingOpenIsForgotten => match slots.try_acquire_owned() {
                Ok(slot) => Ok(Some(slot)),
                Err(_) => pending().await,
            },
            Fault::LimitEndsConn => match slots.try_acquire_owned() {
                Ok(slot) => Ok(Some(slot)),
                Err(_) => {
                    self.inner().close(1, "too many streams");
                    Err(Error::new(ErrorKind::LimitReached, "too many streams"))
                }
            },
            Fault::LostRuntimeStopsOpens if self.shared.driver.is_closed() => pending().await,
            Fault::FinishedStreamsStay
            | Fault::ResetFreesTheSlot
            | Fault::ReadResetFreesTheSlot
            | Fault::CrossingResetKeepsItsSlot => Ok(slots.acquire_owned().await.ok()),
            Fault::StreamKeepsItsSlot => {
                if let Ok(slot) = slots.acquire_owned().await {
                    slot.forget();
                }
                Ok(None)
            }
            Fault::CancelledOpenKeepsItsSlot => {
                let (sender, receiver) = oneshot::channel();
                tokio::spawn(async move {
                    if let Ok(slot) = slots.acquire_owned().await
                        && let Err(unwanted) = sender.send(slot)
                    {
                        unwanted.forget();
                    }
                });
                Ok(receiver.await.ok())
            }
            Fault::IdsHave16Bits
                if self.shared.opened.load(Ordering::SeqCst) >= u64::from(u16::MAX) =>
            {
                Err(Error::new(ErrorKind::LimitReached, "no stream id is left"))
            }
            _ => Ok(None),
        }
    }

    /// The next stream of the connection inside, and what was read of it already.
    async fn next_stream(&self) -> Result<(C::Stream, Vec<u8>)> {
        let shared = &self.shared;
        match self.fault() {
            Fault::StreamShowsAtFirstByte => self.stream_with_first_byte().await,
            Fault::ListenersStreamShowsAtFirstByte if shared.side == Side::Dialer => {
                self.stream_with_first_byte().await
            }
            Fault::LastStreamIsAcceptedFirst => {
                if shared.stack.lock().is_empty() {
                    let stream = shared.inner.accept_stream().await?;
                    shared.stack.lock().push(stream);
                }
                while let Some(Ok(stream)) = at_once(shared.inner.accept_stream()) {
                    shared.stack.lock().push(stream);
                }
                let last = shared.stack.lock().pop();
                match last {
                    Some(stream) => Ok((stream, Vec::new())),
                    None => pending().await,
                }
            }
            Fault::CancelledAcceptLosesAStream => {
                let (sender, receiver) = oneshot::channel();
                let conn = shared.inner.clone();
                tokio::spawn(async move {
                    let _ = sender.send(conn.accept_stream().await);
                });
                let stream = match receiver.await {
                    Ok(stream) => stream?,
                    Err(_) => pending().await,
                };
                Ok((stream, Vec::new()))
            }
            Fault::SecondAcceptorLosesAStream => {
                let others = shared.accepting.fetch_add(1, Ordering::SeqCst);
                let mut stream = shared.inner.accept_stream().await;
                if others > 0 && stream.is_ok() {
                    stream = shared.inner.accept_stream().await;
                }
                shared.accepting.fetch_sub(1, Ordering::SeqCst);
                Ok((stream?, Vec::new()))
            }
            Fault::StatsPanicWhileAccepting => {
                shared.accepting.fetch_add(1, Ordering::SeqCst);
                let stream = shared.inner.accept_stream().await;
                shared.accepting.fetch_sub(1, Ordering::SeqCst);
                Ok((stream?, Vec::new()))
            }
            Fault::AcceptKeepsItsFirstWaker => Ok((
                FirstWaker::new(shared.inner.accept_stream()).await?,
                Vec::new(),
            )),
            Fault::CloseDoesNotWakeAccepts => match shared.inner.accept_stream().await {
                Err(e) if e.kind() == ErrorKind::Closed => pending().await,
                accepted => Ok((accepted?, Vec::new())),
            },
            _ => Ok((shared.inner.accept_stream().await?, Vec::new())),
        }
    }

    /// The next stream, once its first byte is there.
    async fn stream_with_first_byte(&self) -> Result<(C::Stream, Vec<u8>)> {
        let mut stream = self.inner().accept_stream().await?;
        let mut first = vec![0];
        let n = stream.read(&mut first).await?;
        first.truncate(n);
        Ok((stream, first))
    }

    /// Opens a stream; `begun` is what came of a beginning.
    async fn open(&self, begun: Option<Result<C::Stream>>) -> Result<BrokenStream<C>> {
        let slot = self.slot().await?;
        let opened = match begun {
            Some(opened) => opened,
            None => match self.fault() {
                Fault::OpenKeepsItsFirstWaker => FirstWaker::new(self.inner().open_stream()).await,
                Fault::CancelledOpenEndsCleanly => self.open_in_a_task().await,
                _ => self.inner().open_stream().await,
            },
        };
        let stream = match opened {
            Err(e)
                if (self.fault() == Fault::CloseDoesNotWakeOpens
                    && e.kind() == ErrorKind::Closed)
                    || (self.fault() == Fault::FailureDoesNotWakeOpens
                        && e.kind() == ErrorKind::Failed) =>
            {
                pending().await
            }
            opened => opened.map_err(|e| self.error(e))?,
        };
        let twin = match self.fault() {
            Fault::StreamsComeTwice => Some(self.inner().open_stream().await?),
            _ => None,
        };
        let extras = Extras {
            slot,
            twin,
            ahead: Vec::new(),
        };
        Ok(BrokenStream::opened(&self.shared, stream, extras))
    }

    /// Opens a stream in a task, which ends it cleanly if it is not wanted any more.
    async fn open_in_a_task(&self) -> Result<C::Stream> {
        let (sender, receiver) = oneshot::channel();
        let conn = self.inner().clone();
        tokio::spawn(async move {
            let opened = conn.open_stream().await;
            if let Err(Ok(mut unwanted)) = sender.send(opened) {
                let _ = unwanted.shutdown().await;
            }
        });
        match receiver.await {
            Ok(opened) => opened,
            Err(_) => pending().await,
        }
    }

    /// What an error of an open or an accept becomes.
    fn error(&self, error: Error) -> Error {
        match (self.fault(), error.close_reason()) {
            (Fault::RemoteCloseSeemsLocal, Some(CloseReason::Remote { code, reason })) => {
                Error::closed(&CloseReason::local(*code, reason))
            }
            (Fault::CloseSeemsIo, Some(_)) => Error::new(ErrorKind::Io, "broken pipe"),
            _ => error,
        }
    }
}

impl<C: Conn> Conn for BrokenConn<C> {
    type Stream = BrokenStream<C>;

    fn open_stream(&self) -> impl Future<Output = Result<BrokenStream<C>>> + Send {
        let begun = match self.fault() {
            Fault::OpenBeginsUnpolled => at_once(self.inner().open_stream()),
            _ => None,
        };
        self.open(begun)
    }

    async fn accept_stream(&self) -> Result<BrokenStream<C>> {
        let (stream, ahead) = self.next_stream().await.map_err(|e| self.error(e))?;
        let extras = Extras {
            slot: None,
            twin: None,
            ahead,
        };
        Ok(BrokenStream::accepted(&self.shared, stream, extras))
    }

    async fn ping(&self) -> Result<Duration> {
        let nth = self.shared.pings.fetch_add(1, Ordering::SeqCst);
        match self.fault() {
            Fault::PingAsksNobody => return Ok(Duration::from_millis(1)),
            Fault::PingWaitsForSilence => {
                const SILENCE: Duration = Duration::from_secs(1);
                let asked = Instant::now();
                loop {
                    let last = *self.shared.last_write.lock();
                    if last.unwrap_or(asked).max(asked).elapsed() >= SILENCE {
                        break;
                    }
                    sleep(SILENCE / 5).await;
                }
            }
            _ => {}
        }
        if self.fault() == Fault::LostRuntimeIsNotNoticed && self.shared.driver.is_closed() {
            return pending().await;
        }
        let ping = async {
            if self.fault() == Fault::PingKeepsItsFirstWaker {
                sleep(Duration::from_millis(1)).await;
            }
            self.inner().ping().await
        };
        let result = match self.fault() {
            Fault::PingKeepsItsFirstWaker => FirstWaker::new(ping).await,
            _ => ping.await,
        };
        match self.fault() {
            Fault::PingTakesNoTime => result.map(|_| Duration::ZERO),
            Fault::PingHasOneWaiter if self.shared.pings.load(Ordering::SeqCst) > nth + 1 => {
                pending().await
            }
            Fault::PingHangsOnFailure if result.is_err() => pending().await,
            _ => result,
        }
    }

    fn state(&self) -> watch::Receiver<ConnState> {
        self.state.clone().unwrap_or_else(|| self.inner().state())
    }

    fn stats(&self) -> ConnStats {
        if self.fault() == Fault::StatsPanicWhileAccepting {
            let accepting = self.shared.accepting.load(Ordering::SeqCst);
            assert_eq!(accepting, 0, "the connection is borrowed");
        }
        let mut stats = self.inner().stats();
        match self.fault() {
            Fault::StatsForgetOpenStreams => stats.streams_open = 0,
            Fault::StatsRoundBytes => stats.bytes_sent &= !1023,
            _ => {}
        }
        stats.streams_open += self.shared.ghosts.load(Ordering::SeqCst);
        stats
    }

    async fn drain(&self) -> Result<()> {
        match self.fault() {
            Fault::DrainCutsStreams => {
                self.inner().close(0, "");
                Ok(())
            }
            Fault::AcceptorsDrainCutsStreams if self.shared.opened.load(Ordering::SeqCst) == 0 => {
                self.inner().close(0, "");
                Ok(())
            }
            Fault::DrainForgetsWaitingStreams
                if self.shared.opened.load(Ordering::SeqCst) == 0
                    && self.shared.accepted.load(Ordering::SeqCst) == 0 =>
            {
                self.inner().close(0, "");
                Ok(())
            }
            Fault::DrainKeepsItsFirstWaker => FirstWaker::new(self.inner().drain()).await,
            Fault::DrainSucceedsOnFailure => match self.inner().drain().await {
                Err(e) if e.kind() == ErrorKind::Failed => Ok(()),
                drained => drained,
            },
            Fault::DrainIgnoresFailure | Fault::DrainIgnoresClose => {
                let drained = self.inner().drain().await;
                let ignored = match self.fault() {
                    Fault::DrainIgnoresFailure => ErrorKind::Failed,
                    _ => ErrorKind::Closed,
                };
                match drained {
                    Err(e) if e.kind() == ignored => pending().await,
                    drained => drained,
                }
            }
            Fault::DrainAllowsOpens => {
                while self.inner().stats().streams_open > 0 {
                    sleep(Duration::from_millis(5)).await;
                }
                self.inner().close(0, "");
                Ok(())
            }
            Fault::DrainWaitsForAStream if self.inner().stats().streams_open == 0 => {
                pending().await
            }
            Fault::DrainDoesNotClose => {
                while self.inner().stats().streams_open > 0 {
                    sleep(Duration::from_millis(5)).await;
                }
                Ok(())
            }
            _ => self.inner().drain().await,
        }
    }

    fn close(&self, code: u32, reason: &str) {
        match self.fault() {
            Fault::LongReasonPanics => assert!(reason.len() <= 1024, "the reason is too long"),
            Fault::LastCloseWins => {
                *self.shared.last_close.lock() = Some((code, reason.to_owned()));
            }
            Fault::CloseLingers => {
                let (conn, reason) = (self.inner().clone(), reason.to_owned());
                tokio::spawn(async move {
                    sleep(Duration::from_secs(5)).await;
                    conn.close(code, &reason);
                });
                return;
            }
            _ => {}
        }
        let (code, reason) = match self.fault() {
            Fault::CloseLosesItsCode => (0, reason),
            Fault::CloseLosesItsReason => (code, ""),
            _ => (code, reason),
        };
        self.inner().close(code, reason);
    }

    async fn closed(&self) -> CloseReason {
        if self.shared.asked.put(true) && self.fault() == Fault::ClosedIsToldOnce {
            return pending().await;
        }
        let reason = match self.fault() {
            Fault::ClosedKeepsItsFirstWaker => FirstWaker::new(self.inner().closed()).await,
            _ => self.inner().closed().await,
        };
        match (self.fault(), &reason) {
            (Fault::RemoteCloseSeemsLocal, CloseReason::Remote { code, reason }) => {
                CloseReason::local(*code, reason)
            }
            (Fault::LastCloseWins, CloseReason::Local { .. }) => {
                match &*self.shared.last_close.lock() {
                    Some((code, last)) => CloseReason::local(*code, last),
                    None => reason,
                }
            }
            (Fault::ClosedIgnoresFailure, CloseReason::Failed(_)) => pending().await,
            _ => reason,
        }
    }

    fn local_addr(&self) -> Addr {
        self.inner().local_addr()
    }

    fn remote_addr(&self) -> Addr {
        match self.fault() {
            Fault::RemoteAddrIsLocal => self.inner().local_addr(),
            _ => self.inner().remote_addr(),
        }
    }

    fn peer_identity(&self) -> Option<PeerIdentity> {
        self.inner().peer_identity()
    }
}

/// The state that the application is told of, if it is not the real one.
fn told_state<C: Conn>(fault: Fault, conn: &C) -> Option<watch::Receiver<ConnState>> {
    let tell: fn(ConnState, ConnState) -> ConnState = match fault {
        Fault::StateNeverChanges => |told, _| told,
        Fault::StateBeginsDisconnected => |_, real| real,
        Fault::OutageIsNotTold => |told, real| match real {
            ConnState::Disconnected => told,
            _ => real,
        },
        Fault::RecoveryIsNotTold => |told, real| match (told, real) {
            (ConnState::Disconnected, ConnState::Connected) => told,
            _ => real,
        },
        _ => return None,
    };
    let mut real = conn.state();
    let first = match fault {
        Fault::StateBeginsDisconnected => ConnState::Disconnected,
        _ => *real.borrow_and_update(),
    };
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        while real.changed().await.is_ok() {
            let real = *real.borrow_and_update();
            sender.send_modify(|told| *told = tell(*told, real));
        }
        sender.closed().await;
    });
    Some(receiver)
}

/// The output of a future that is ready.
pub(crate) fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A future that keeps the waker of its first poll.
pub(crate) struct FirstWaker<F> {
    future: Pin<Box<F>>,
    first: Option<Waker>,
}

impl<F: Future> FirstWaker<F> {
    pub(crate) fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            first: None,
        }
    }
}

impl<F: Future> Future for FirstWaker<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let first = self.first.get_or_insert_with(|| cx.waker().clone()).clone();
        self.future.as_mut().poll(&mut Context::from_waker(&first))
    }
}

/// Closes the connection when it is dropped.
#[derive(Clone)]
struct CloseOnDrop<C: Conn>(C);

impl<C: Conn> Drop for CloseOnDrop<C> {
    fn drop(&mut self) {
        self.0.close(0, "");
    }
}
