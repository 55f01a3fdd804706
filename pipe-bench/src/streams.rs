use std::io;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::opener::{Acceptor, ByteStream, Opener};

/// What each stream carries in each direction, in bytes.
const MESSAGE: usize = 1024;

/// Opens streams, sends 1 KiB over each and back, and shuts both directions down. Returns the streams
/// a second.
///
/// `at_once` tasks do that, each with one stream after another, `each` times. The server accepts in a
/// loop and starts a task for each stream.
///
/// # Errors
///
/// Those of opening, writing and reading.
pub async fn echo_streams<O: Opener, A: Acceptor>(
    opener: O,
    acceptor: A,
    at_once: usize,
    each: usize,
) -> io::Result<f64> {
    let mut server = JoinSet::new();
    server.spawn(serve(acceptor));
    let mut clients = JoinSet::new();
    let start = Instant::now();
    for _ in 0..at_once {
        let opener = opener.clone();
        clients.spawn(async move {
            for _ in 0..each {
                call(opener.open().await?).await?;
            }
            Ok::<_, io::Error>(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let time = start.elapsed();
    server.shutdown().await;
    Ok((at_once * each) as f64 / time.as_secs_f64())
}

async fn serve<A: Acceptor>(mut acceptor: A) {
    while let Some(stream) = acceptor.accept().await {
        tokio::spawn(echo(stream));
    }
}

/// Sends back what comes, to the end.
async fn echo(mut stream: impl ByteStream) -> io::Result<()> {
    let mut message = [0; MESSAGE];
    loop {
        let len = stream.read(&mut message).await?;
        if len == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&message[..len]).await?;
    }
}

async fn call(mut stream: impl ByteStream) -> io::Result<()> {
    let mut message = [7; MESSAGE];
    stream.write_all(&message).await?;
    stream.shutdown().await?;
    stream.read_exact(&mut message).await?;
    if stream.read(&mut message).await? != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more came back than was sent",
        ));
    }
    Ok(())
}
