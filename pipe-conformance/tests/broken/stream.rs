//! A stream: its two halves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pipe_core::backend::joined_stream;
use pipe_core::{Conn, Stream};
use tokio::sync::OwnedSemaphorePermit;

use crate::fault::Fault;
use crate::recv::BrokenRecv;
use crate::send::BrokenSend;
use crate::shared::{Both, Shared};

joined_stream! {
    /// A stream that breaks the contract in one way.
    pub(crate) struct BrokenStream<C: Conn> {
        send: BrokenSend<C>,
        recv: BrokenRecv<C>,
    }
}

/// What comes with a stream into its wrapper.
#[derive(Default)]
pub(crate) struct Extras<S> {
    /// The slot that the stream takes up.
    pub(crate) slot: Option<OwnedSemaphorePermit>,
    /// A second stream that carries the same bytes.
    pub(crate) twin: Option<S>,
    /// Bytes that were read already.
    pub(crate) ahead: Vec<u8>,
}

impl<C: Conn> BrokenStream<C> {
    /// A stream that this side has opened.
    pub(crate) fn opened(
        conn: &Arc<Shared<C>>,
        inner: C::Stream,
        extras: Extras<C::Stream>,
    ) -> Self {
        let nth = conn.opened.fetch_add(1, Ordering::SeqCst);
        let id = match conn.fault() {
            Fault::EachSideCountsIdsFromZero => nth,
            Fault::IdsRepeat => inner.id() % 2,
            _ => inner.id(),
        };
        Self::new(conn, inner, id, extras)
    }

    /// A stream that the peer has opened.
    pub(crate) fn accepted(
        conn: &Arc<Shared<C>>,
        inner: C::Stream,
        extras: Extras<C::Stream>,
    ) -> Self {
        let nth = conn.accepted.fetch_add(1, Ordering::SeqCst);
        let id = match conn.fault() {
            Fault::EachSideCountsIdsFromZero => nth,
            Fault::IdsRepeat => inner.id() % 2,
            Fault::IdsDiffer => inner.id() + 1,
            _ => inner.id(),
        };
        let mut stream = Self::new(conn, inner, id, extras);
        stream.recv.both().accepted.set();
        if conn.fault() == Fault::BytesBeforeAcceptAreLost {
            stream.recv.discard();
        }
        stream
    }

    fn new(conn: &Arc<Shared<C>>, inner: C::Stream, id: u64, extras: Extras<C::Stream>) -> Self {
        let both = Arc::new(Both::default());
        match (conn.fault(), extras.slot) {
            (Fault::ReadResetFreesTheSlot, Some(slot)) => {
                conn.setting.slots.lock().insert(id, slot);
            }
            (_, slot) => *both.slot.lock() = slot,
        }
        match conn.fault() {
            Fault::StreamTaskStays => {
                tokio::spawn(std::future::pending::<()>());
            }
            Fault::StreamsAreBig => *both.ballast.lock() = vec![1; 1 << 20],
            Fault::StreamMemoryStays => conn.setting.leak(vec![1_u8; 1024]),
            _ => {}
        }
        let (send, recv) = inner.into_split();
        Self {
            send: BrokenSend::new(send, id, conn.clone(), both.clone(), extras.twin),
            recv: BrokenRecv::new(recv, id, conn.clone(), both, extras.ahead),
        }
    }
}
