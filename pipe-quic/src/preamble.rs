use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use quinn::WriteError;

/// The first byte of each stream of the application, from its opener: it makes the stream visible.
pub(crate) const PREAMBLE: u8 = 0x01;

/// The same, for a stream that is shown without anything else. It takes no memory.
const ANNOUNCEMENT: Bytes = Bytes::from_static(&[PREAMBLE]);

/// Sends the opener's first byte.
pub(crate) fn poll_announce(
    send: &mut quinn::SendStream,
    cx: &mut Context<'_>,
) -> Poll<Result<(), WriteError>> {
    let bufs = &mut [ANNOUNCEMENT];
    let mut write = std::pin::pin!(send.write_chunks(bufs));
    write.poll_unpin(cx).map_ok(drop)
}
