//! The server: a [`Folder`] for the clients of any [`Listener`].

use std::io;

use pipewerks::{Conn, Listener, Stream};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::body::{self, CopyError};
use crate::folder::Folder;
use crate::message::{Answer, Request};
use crate::progress::Progress;
use crate::rel_path::RelPath;

/// The code of a stream that the sender of a body resets because its file cannot be read to the end.
pub(crate) const FILE_BROKEN: u32 = 1;

/// Serves every connection of a listener until the listener is closed. Dropping the future ends all.
///
/// How many requests run at once is up to the stream limit of the transport's configuration.
pub(crate) async fn serve<L: Listener>(listener: L, folder: Folder) {
    let mut conns = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(conn) => {
                    conns.spawn(serve_conn(conn, folder.clone()));
                }
                Err(_) => break,
            },
            Some(_) = conns.join_next() => {}
        }
    }
    conns.join_all().await;
}

async fn serve_conn<C: Conn>(conn: C, folder: Folder) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = conn.accept_stream() => match accepted {
                Ok(stream) => {
                    streams.spawn(serve_stream(stream, folder.clone()));
                }
                Err(_) => break,
            },
            Some(_) = streams.join_next() => {}
        }
    }
    streams.join_all().await;
}

/// Answers one request. Where that fails midway, dropping the stream tells the client.
async fn serve_stream<S: Stream>(mut stream: S, folder: Folder) -> io::Result<()> {
    match Request::read(&mut stream).await {
        Ok(Request::List) => list(&mut stream, &folder).await?,
        Ok(Request::Get { path }) => match folder.open(&path).await {
            Ok((file, size)) => send_file(&mut stream, file, size).await?,
            Err(error) => refuse(&mut stream, &error).await?,
        },
        Ok(Request::Put { path, size }) => {
            let answer = match store(&mut stream, &folder, &path, size).await {
                Ok(digest) => Answer::Stored { digest },
                Err(why) => Answer::Refused { why },
            };
            stream.write_all(&answer.encode()).await?;
        }
        Ok(Request::MakeFolder { path }) => match folder.make_folder(&path).await {
            Ok(()) => stream.write_all(&Answer::Made.encode()).await?,
            Err(error) => refuse(&mut stream, &error).await?,
        },
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            refuse(&mut stream, &error).await?;
        }
        Err(error) => return Err(error),
    }
    stream.shutdown().await
}

async fn refuse(stream: &mut (impl AsyncWrite + Unpin), error: &io::Error) -> io::Result<()> {
    let why = error.to_string();
    stream.write_all(&Answer::Refused { why }.encode()).await
}

/// Sends the list. It is complete for the client once the stream has ended cleanly.
async fn list(stream: &mut (impl AsyncWrite + Unpin), folder: &Folder) -> io::Result<()> {
    let entries = match folder.list().await {
        Ok(entries) => entries,
        Err(error) => return refuse(stream, &error).await,
    };
    for entry in entries {
        stream.write_all(&Answer::Entry(entry).encode()).await?;
    }
    Ok(())
}

async fn send_file<S: Stream>(
    stream: &mut S,
    mut file: tokio::fs::File,
    size: u64,
) -> io::Result<()> {
    stream.write_all(&Answer::File { size }.encode()).await?;
    match body::send(&mut file, stream, size, &Progress::hidden()).await {
        Ok(_) => Ok(()),
        Err(CopyError::Read(error)) => {
            stream.reset(FILE_BROKEN);
            Err(error)
        }
        Err(CopyError::Write(error)) => Err(error),
    }
}

/// Takes a file in, to the end of the stream, and puts it in its place. The error is for the client.
async fn store<S: Stream>(
    stream: &mut S,
    folder: &Folder,
    path: &RelPath,
    size: u64,
) -> Result<body::Digest, String> {
    let to_text = |error: io::Error| error.to_string();
    let mut partial = folder.create(path).await.map_err(to_text)?;
    let digest = body::receive(stream, &mut partial.file, size, &Progress::hidden())
        .await
        .map_err(|error| error.to_string())?;
    if stream.read(&mut [0]).await.map_err(to_text)? != 0 {
        return Err("there is more after the body".to_owned());
    }
    partial.keep().await.map_err(to_text)?;
    Ok(digest)
}
