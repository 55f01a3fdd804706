//! Files, each on a stream of its own: the bytes there, the hash back.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use pipewerks::{Conn, Error, Listener, RecvStream, SendStream, Stream};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

/// The code that both directions of a stream end with when the file could not be stored.
pub(crate) const NOT_STORED: u32 = 1;

const CHUNK: usize = 64 * 1024;

/// Sends a file, and gives the hash that it was stored under.
pub(crate) async fn send<C: Conn>(conn: &C, path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path)
        .await
        .with_context(|| path.display().to_string())?;
    let mut stream = conn.open_stream().await?;
    let sending = async {
        let hash = copy(&mut file, &mut stream).await?;
        // The receiver takes the end for the end of the file, and answers.
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok((hash, answer))
    };
    let (hash, answer) = sending.await.map_err(|error| {
        match error
            .downcast_ref()
            .and_then(Error::from_io)
            .and_then(Error::code)
        {
            Some(NOT_STORED) => error.context("the receiver could not store the file"),
            _ => error.context(format!("sending {}", path.display())),
        }
    })?;
    ensure!(hash == answer, "{hash} was sent, but {answer} was stored");
    Ok(hash)
}

/// Stores what comes over the connections of a listener, until that fails.
pub(crate) async fn receive<L: Listener>(listener: L, folder: PathBuf) -> anyhow::Result<()> {
    let mut conns = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (conn, folder) = (accepted?, folder.clone());
                conns.spawn(async move {
                    let mut files = JoinSet::new();
                    while let Ok(stream) = conn.accept_stream().await {
                        files.spawn(receive_file(stream, folder.clone()));
                        while files.try_join_next().is_some() {}
                    }
                });
            }
            Some(_) = conns.join_next() => {}
        }
    }
}

async fn receive_file<S: Stream>(stream: S, folder: PathBuf) {
    let (mut send, mut recv) = stream.into_split();
    match store(&mut send, &mut recv, &folder).await {
        Ok(hash) => eprintln!("stored {hash}"),
        Err(error) => {
            eprintln!("stored nothing: {error:#}");
            // Without an effect on a direction that has ended, such as by the sender's own reset.
            send.reset(NOT_STORED);
            recv.stop(NOT_STORED);
        }
    }
}

async fn store(
    send: &mut impl SendStream,
    recv: &mut impl RecvStream,
    folder: &Path,
) -> anyhow::Result<String> {
    // A file that does not come to its end is gone with this.
    let part = NamedTempFile::new_in(folder).with_context(|| folder.display().to_string())?;
    let mut file = File::from_std(part.reopen()?);
    let hash = copy(recv, &mut file).await?;
    file.sync_all().await?;
    part.persist(folder.join(&hash))?;
    send.write_all(hash.as_bytes()).await?;
    send.shutdown().await?;
    Ok(hash)
}

/// Copies to the end, and gives the hash.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            to.flush().await?;
            return Ok(format!("{:x}", hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read]).await?;
    }
}
