use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::env::Env;
use crate::time::unless_stuck;

/// The bytes of a stream that a transport may hold above its two windows, one for each side: the buffers of its
/// own and of the system.
pub(crate) const SLACK: usize = 1 << 20;

/// Returns more bytes than any writer may be rid of while there is no reader.
pub(crate) fn more_than_a_window(env: &Env) -> usize {
    2 * env.config().stream_window as usize + 2 * SLACK
}

/// Writes until the writer has to wait, and returns how many bytes it got rid of.
pub(crate) async fn fill(writer: &mut (impl AsyncWrite + Unpin), data: &[u8]) -> usize {
    let mut taken = 0;
    while taken < data.len() {
        let end = data.len().min(taken + 16 * 1024);
        match unless_stuck(writer.write(&data[taken..end])).await {
            Some(Ok(0)) => panic!("a write of {} bytes took none", end - taken),
            Some(Ok(n)) => taken += n,
            Some(Err(e)) => panic!("a write after {taken} bytes failed: {e:?}"),
            None => break,
        }
    }
    taken
}
