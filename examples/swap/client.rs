//! The client: [`Client`], over any [`Conn`].

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use pipewerks::{Conn, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::body::{self, CopyError};
use crate::failure::{At, Failure};
use crate::folder::{Folder, blocking, open_file};
use crate::message::{Answer, Entry, Request};
use crate::progress::Progress;
use crate::rel_path::RelPath;
use crate::server::FILE_BROKEN;

/// How long [`Client::round_trip`] goes on at most, once it has three.
const PINGING: Duration = Duration::from_secs(1);

/// A client of the file service. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Client<C> {
    conn: C,
}

impl<C: Conn> Client<C> {
    pub(crate) fn new(conn: C) -> Self {
        Self { conn }
    }

    /// The median round trip of a few pings.
    pub(crate) async fn round_trip(&self) -> pipewerks::Result<Duration> {
        let start = Instant::now();
        let mut times = Vec::new();
        while times.len() < 3 || (times.len() < 101 && start.elapsed() < PINGING) {
            times.push(self.conn.ping().await?);
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }

    /// All files and folders that the server has.
    pub(crate) async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let mut stream = self.ask(&Request::List).await.at("the list")?;
        let mut entries = Vec::new();
        loop {
            match Answer::read(&mut stream).await.at("the list")? {
                Some(Answer::Entry(entry)) => entries.push(entry),
                // A clean end comes only after the server's shutdown, so nothing is missing.
                None => return Ok(entries),
                Some(other) => return Err(unexpected("the list", Some(other))),
            }
        }
    }

    /// Fetches a file into `folder`, under the same path. It is there only if its hash is the one that
    /// the server sent.
    pub(crate) async fn get(
        &self,
        path: &RelPath,
        folder: &Folder,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let request = Request::Get { path: path.clone() };
        let mut stream = self.ask(&request).await.at(path)?;
        let size = match Answer::read(&mut stream).await.at(path)? {
            Some(Answer::File { size }) => size,
            other => return Err(unexpected(path, other)),
        };
        let mut partial = folder.create(path).await.at(path)?;
        body::receive(&mut stream, &mut partial.file, size, progress)
            .await
            .at(path)?;
        end(&mut stream).await.at(path)?;
        partial.keep().await.at(path)
    }

    /// Sends the file at `from`. It is at the server only if both ends hashed the same.
    pub(crate) async fn put(
        &self,
        path: &RelPath,
        from: &Path,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let on_disk = from.to_owned();
        let (mut file, size) = blocking(move || open_file(&on_disk))
            .await
            .at(from.display())?;
        let mut stream = self.conn.open_stream().await.at(path)?;
        let request = Request::Put {
            path: path.clone(),
            size,
        };
        let sent = async {
            let write = CopyError::Write;
            stream.write_all(&request.encode()).await.map_err(write)?;
            let digest = body::send(&mut file, &mut stream, size, progress).await?;
            stream.shutdown().await.map_err(write)?;
            Ok(digest)
        };
        let sent = sent.await;
        if let Err(CopyError::Read(error)) = sent {
            stream.reset(FILE_BROKEN);
            return Err(error).at(from.display());
        }
        // A server that refuses stops the stream, and the answer tells why.
        match (Answer::read(&mut stream).await, sent) {
            (Ok(Some(Answer::Stored { digest })), Ok(sent)) if digest == sent => {
                end(&mut stream).await.at(path)
            }
            (Ok(Some(Answer::Stored { .. })), Ok(_)) => {
                Err(Failure::new(path, "the server hashed something else"))
            }
            (Ok(Some(answer)), _) => Err(unexpected(path, Some(answer))),
            (_, Err(error)) => Err(error).at(path),
            (Ok(None), Ok(_)) => Err(unexpected(path, None)),
            (Err(error), Ok(_)) => Err(error).at(path),
        }
    }

    /// Makes a folder at the server.
    pub(crate) async fn make_folder(&self, path: &RelPath) -> Result<(), Failure> {
        let request = Request::MakeFolder { path: path.clone() };
        let mut stream = self.ask(&request).await.at(path)?;
        match Answer::read(&mut stream).await.at(path)? {
            Some(Answer::Made) => end(&mut stream).await.at(path),
            other => Err(unexpected(path, other)),
        }
    }

    /// Ends the connection once its streams are over.
    pub(crate) async fn finish(self) -> pipewerks::Result<()> {
        self.conn.drain().await
    }

    /// Sends a request that nothing follows, on a stream of its own.
    async fn ask(&self, request: &Request) -> io::Result<C::Stream> {
        let mut stream = self.conn.open_stream().await?;
        stream.write_all(&request.encode()).await?;
        stream.shutdown().await?;
        Ok(stream)
    }
}

/// Reads the end of a stream.
async fn end<S: Stream>(stream: &mut S) -> io::Result<()> {
    if stream.read(&mut [0]).await? == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the server sent more than its answer",
    ))
}

fn unexpected(subject: impl std::fmt::Display, answer: Option<Answer>) -> Failure {
    match answer {
        Some(Answer::Refused { why }) => Failure::new(subject, format!("refused: {why}")),
        Some(_) => Failure::new(subject, "the server answered something else"),
        None => Failure::new(subject, "the server gave no answer"),
    }
}
