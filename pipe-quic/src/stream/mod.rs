mod end;
mod recv;
mod send;

use std::sync::Arc;

use pipe_core::backend::joined_stream;

use end::End;
pub use recv::QuicRecvStream;
pub use send::QuicSendStream;

use crate::handle::Handle;
use crate::stream_core::StreamCore;

joined_stream! {
    /// A stream of a [`QuicConn`](crate::QuicConn).
    pub struct QuicStream {
        send: QuicSendStream,
        recv: QuicRecvStream,
    }
}

impl QuicStream {
    /// Creates a stream that this side opened: its core has the sending direction.
    pub(crate) fn opened(
        core: Arc<StreamCore>,
        recv: quinn::RecvStream,
        handle: Arc<Handle>,
    ) -> Self {
        let end = End { core, handle };
        Self {
            send: QuicSendStream::new(None, end.clone()),
            recv: QuicRecvStream::new(recv, end),
        }
    }

    /// Creates a stream that the peer opened.
    pub(crate) fn accepted(
        (send, recv): (quinn::SendStream, quinn::RecvStream),
        core: Arc<StreamCore>,
        handle: Arc<Handle>,
    ) -> Self {
        let end = End { core, handle };
        Self {
            send: QuicSendStream::new(Some(send), end.clone()),
            recv: QuicRecvStream::new(recv, end),
        }
    }
}
