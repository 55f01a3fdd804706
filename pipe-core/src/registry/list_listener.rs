use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tracing::debug;

use super::dial_list::about;
use crate::{Addr, BoxConn, BoxListener, Error, ErrorKind, Listener, Result};

/// The listeners on the addresses of a list, as one.
#[derive(Debug)]
pub(super) struct ListListener {
    /// The addresses at the start.
    addr: Addr,
    parts: Vec<Part>,
    /// The place of the listener that is asked first by the next accept: the one after that which gave a connection last.
    first: AtomicUsize,
    is_closed: AtomicBool,
    /// The error of the listener that ended last, once all have.
    end: Mutex<Option<Error>>,
}

#[derive(Debug)]
struct Part {
    listener: BoxListener,
    has_ended: AtomicBool,
}

/// An accept of one of the listeners.
type Accepting<'a> = Pin<Box<dyn Future<Output = Result<BoxConn>> + Send + 'a>>;

impl ListListener {
    /// Joins listeners.
    ///
    /// # Errors
    ///
    /// [`AddrInvalid`](ErrorKind::AddrInvalid) where their addresses make no list.
    pub(super) fn new(listeners: Vec<BoxListener>) -> Result<Self> {
        let addr = Addr::list(listeners.iter().map(Listener::local_addr))?;
        let parts = listeners.into_iter().map(|listener| Part {
            listener,
            has_ended: AtomicBool::new(false),
        });
        Ok(Self {
            addr,
            parts: parts.collect(),
            first: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            end: Mutex::new(None),
        })
    }

    /// Asks the listeners in turn, until one gives a connection or an error. No other is asked after that, so that what it
    /// would have given stays with it.
    fn poll_accept(
        &self,
        accepting: &mut [Option<Accepting<'_>>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<BoxConn>> {
        let count = self.parts.len();
        let first = self.first.load(Ordering::Relaxed);
        for at in (0..count).map(|turn| (first + turn) % count) {
            let Some(accept) = &mut accepting[at] else {
                continue;
            };
            let Poll::Ready(accepted) = accept.as_mut().poll(cx) else {
                continue;
            };
            accepting[at] = None;
            self.first.store((at + 1) % count, Ordering::Relaxed);
            match accepted {
                Ok(conn) => return Poll::Ready(Ok(conn)),
                Err(error) if is_end(&error) => {
                    if let Some(error) = self.ended(at, error) {
                        return Poll::Ready(Err(error));
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match self.over() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }

    /// Notes that a listener has ended. Returns the error to report, unless another accept has reported it.
    fn ended(&self, at: usize, error: Error) -> Option<Error> {
        let part = &self.parts[at];
        let addr = part.listener.local_addr();
        let mut end = self.end.lock();
        if part.has_ended.swap(true, Ordering::AcqRel) {
            return None;
        }
        if self.is_closed.load(Ordering::Acquire) {
            return Some(self.closed());
        }
        debug!(%addr, %error, "a listener of a list has ended");
        if self.parts.iter().all(Part::has_ended) {
            *end = Some(error.clone());
            return Some(error);
        }
        let why = format!(
            "a listener of {} has ended, and the others go on: {}",
            self.addr,
            about(&addr, &error)
        );
        Some(Error::new(ErrorKind::Failed, why))
    }

    /// Returns the error of an accept once no listener is left.
    fn over(&self) -> Option<Error> {
        if self.is_closed.load(Ordering::Acquire) {
            return Some(self.closed());
        }
        self.end.lock().clone()
    }

    fn closed(&self) -> Error {
        let why = format!("the listener on {} is closed", self.addr);
        Error::new(ErrorKind::Closed, why)
    }
}

impl Part {
    fn accept(&self) -> Option<Accepting<'_>> {
        (!self.has_ended()).then(|| -> Accepting<'_> { Box::pin(self.listener.accept()) })
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }
}

/// Returns whether a listener gives no more connections after this error.
fn is_end(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Failed)
}

impl Listener for ListListener {
    type Conn = BoxConn;

    async fn accept(&self) -> Result<BoxConn> {
        if let Some(error) = self.over() {
            return Err(error);
        }
        // An accept that is dropped leaves its connection to the next one, so those that give nothing can go.
        let mut accepting: Vec<_> = self.parts.iter().map(Part::accept).collect();
        poll_fn(|cx| self.poll_accept(&mut accepting, cx)).await
    }

    fn local_addr(&self) -> Addr {
        // A listener may renew the certificate whose hash is in its address.
        let now = Addr::list(self.parts.iter().map(|part| part.listener.local_addr()));
        now.unwrap_or_else(|_| self.addr.clone())
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        for part in &self.parts {
            part.listener.close();
        }
    }
}
