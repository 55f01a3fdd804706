use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Time limit for a refused peer to read the reason.
const FAREWELL: Duration = Duration::from_secs(1);

/// Ends a byte stream so that the last words reach the peer: a socket that is closed with unread data would
/// take them back. It takes a second at most.
///
/// # Cancel safety
///
/// Dropping the future closes the byte stream at once.
pub async fn farewell(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let listen = async {
        let mut scratch = [0; 1024];
        io.shutdown().await?;
        while io.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // The peer is refused, whether it has read the reason or not.
    let _ = timeout(FAREWELL, listen).await;
}
