use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Acceptor, Opener};

/// Makes `count` connections one after another. Each gets a byte to and fro on a stream, and is let go. Returns
/// how long each took until the byte was back.
///
/// # Errors
///
/// Those of connecting, opening, writing and reading.
pub async fn connect_times<O, A, F>(
    connect: impl Fn() -> F,
    count: usize,
) -> io::Result<Vec<Duration>>
where
    O: Opener,
    A: Acceptor,
    F: Future<Output = io::Result<(O, A)>>,
{
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        let (opener, mut acceptor) = connect().await?;
        let near = async {
            let mut near = opener.open().await?;
            near.write_u8(7).await?;
            near.read_u8().await
        };
        let far = async {
            let far = acceptor.accept().await;
            let mut far = far.ok_or(io::ErrorKind::UnexpectedEof)?;
            let byte = far.read_u8().await?;
            far.write_u8(byte).await?;
            Ok(far)
        };
        let (byte, _far) = tokio::try_join!(near, far)?;
        if byte != 7 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a wrong echo"));
        }
        times.push(start.elapsed());
    }
    Ok(times)
}
