use std::collections::VecDeque;
use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use clap::Args;
use futures::future::join_all;
use indicatif::ProgressBar;
use pipewerks::BoxConn;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_util::either::Either;

use super::file_error::FileError;
use super::message::{Answer, FileMessage, FileRequest, PROTOCOL, Request};
use super::part::{blocking, hash, hex};
use super::source::{Item, Source, describe};
use super::summary::{Summary, bar};
use super::trouble::Trouble;
use crate::channel::{Broken, Channel, MAX_FRAME};
use crate::context::Context;
use crate::duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::{Net, NetArgs, farewell};
use crate::rate::{Pace, parse_bytes};
use crate::redial::Redialer;
use crate::token::Token;

/// Maximum number of consecutive streams that break off without progress before the transfer is
/// given up.
const MAX_BREAKS: u32 = 20;

/// Maximum length of a file that is read at once, in bytes.
const SMALL: u64 = 64 * 1024;

/// Maximum length that it may turn out to have.
const MAX_UNKNOWN: u64 = 64 * 1024 * 1024;

/// Length of a frame where the rate is limited, in bytes, for an even flow.
const PACED_FRAME: usize = 32 * 1024;

#[derive(Args, Clone, Debug)]
pub(crate) struct SendArgs {
    /// Files and folders to send
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Address where `pipe receive` listens
    addr: String,
    /// How many files to send at once, each on a stream of its own
    #[arg(long = "stream", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=128))]
    streams: u16,
    /// Send no more than so many bytes a second, as in 500k or 2M
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    limit: Option<u64>,
    /// How long to try to reach a receiver again that was lost
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration::parse)]
    retry: Duration,
    #[command(flatten)]
    net: NetArgs,
}

/// Sends files, over as many connections in turn as it takes.
pub(crate) async fn send(context: &Context, args: &SendArgs) -> Result<Exit, Failure> {
    let (net, addr) = (Net::new(&args.net)?, Net::addr(&args.addr)?);
    let files = args.files.clone();
    let source = tokio::task::spawn_blocking(move || Source::collect(&files)).await;
    let source = source.map_err(|error| Failure::failed(error.to_string()))??;
    let sender = Sender {
        context,
        args,
        files: source.items.len() as u64,
        bytes: source.bytes(),
        transfer: Token::random()?,
        bar: bar(&context.report),
        pace: args.limit.map(Pace::new),
        state: Mutex::new(State {
            left: source.items.into(),
            ..State::default()
        }),
    };
    for link in source.links {
        let what = format_args!("{}: a symbolic link, left out", link.display());
        context.report.warn(what);
    }
    for problem in source.problems {
        sender.state().summary.fail(problem);
    }
    let began = Instant::now();
    if sender.files == 0 {
        return sender.tell(began);
    }
    sender.bar.set_length(sender.bytes);
    let redialer = tokio::select! {
        redialer = Redialer::new(net, addr, context.report) => redialer?,
        () = context.stop.asked() => return Err(context.stopped()),
    };
    let sent = context.stop.grace(sender.run(&redialer)).await;
    sender.bar.finish_and_clear();
    if let Some(conn) = redialer.take().await {
        farewell(&conn).await;
    }
    match sent {
        Some(Err(failure)) => return Err(failure),
        Some(Ok(())) if sender.state().finished => {}
        _ => {
            let why = "stopped before everything was sent; the same command goes on from there";
            return Err(Failure::new(context.stop.exit(), why));
        }
    }
    sender.tell(began)
}

struct Sender<'a> {
    context: &'a Context,
    args: &'a SendArgs,
    files: u64,
    bytes: u64,
    /// Number that joins all connections to one transfer.
    transfer: Token,
    bar: ProgressBar,
    pace: Option<Pace>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    left: VecDeque<Item>,
    summary: Summary,
    /// Number of streams that broke off since bytes were sent.
    breaks: u32,
    /// Why nothing more can be sent.
    fatal: Option<String>,
    finished: bool,
}

impl Sender<'_> {
    /// Sends everything, and dials again when the connection breaks.
    async fn run(&self, redialer: &Redialer) -> Result<(), Failure> {
        loop {
            let deadline = Instant::now() + self.args.retry;
            let (conn, number) =
                redialer
                    .conn(deadline)
                    .await
                    .map_err(|failure| match failure.exit {
                        Exit::Unreached => Failure::new(
                            Exit::Lost,
                            format!("{failure}: given up after {:?}", self.args.retry),
                        ),
                        _ => failure,
                    })?;
            match self.over(&conn).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_lost() && self.state().breaks < MAX_BREAKS => {
                    self.state().breaks += 1;
                    let addr = redialer.addr().as_str();
                    let event =
                        json!({"event": "lost", "remote": addr, "message": error.to_string()});
                    self.context
                        .report
                        .note(format_args!("lost {addr}: {error}"), &event);
                    conn_over(&conn);
                    redialer.forget(number).await;
                }
                Err(error) => return Err(error.failure(redialer.addr().as_str(), PROTOCOL)),
            }
        }
    }

    /// Sends the remaining files over this connection.
    async fn over(&self, conn: &BoxConn) -> Result<(), Broken> {
        let (files, bytes) = (self.files, self.bytes);
        let hello = Request::Hello {
            files,
            bytes,
            left: Some(self.state().left.len() as u64),
            transfer: Some(self.transfer.as_str().to_owned()),
        };
        self.ask(conn, &hello).await?;
        let workers = (0..self.args.streams).map(|_| self.work(conn));
        join_all(workers)
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        if self.context.stop.is_asked() && !self.state().left.is_empty() {
            return Ok(());
        }
        let failed = {
            let state = self.state();
            state.summary.failed() + state.left.len() as u64
        };
        match self.ask(conn, &Request::Finish { failed }).await {
            // All files are there: a receiver that went without a farewell has them.
            Err(error) if error.is_lost() => {}
            asked => asked?,
        }
        self.state().finished = true;
        Ok(())
    }

    /// Makes a request that is answered in one word.
    async fn ask(&self, conn: &BoxConn, request: &Request) -> Result<(), Broken> {
        let mut channel = Channel::open(conn, PROTOCOL, request).await?;
        let answer = channel.receive_first().await?;
        channel.finish().await?;
        match answer {
            Answer::Welcome | Answer::Done => Ok(()),
            Answer::Refused { why, .. } => Err(Broken::Protocol(why)),
            Answer::Have { .. } => Err(Broken::Protocol("an answer came out of turn".to_owned())),
        }
    }

    /// Sends one item after the other.
    async fn work(&self, conn: &BoxConn) -> Result<(), Broken> {
        loop {
            let item = {
                let mut state = self.state();
                if state.fatal.is_some() || self.context.stop.is_asked() {
                    return Ok(());
                }
                match state.left.pop_front() {
                    Some(item) => item,
                    None => return Ok(()),
                }
            };
            let sent = match &item {
                Item::Folder { path, folders } => {
                    let request = Request::Folder {
                        path: path.clone(),
                        folders: folders.clone(),
                    };
                    self.send_folder(conn, &request).await
                }
                Item::File { request, on_disk } => {
                    let before = self.bar.position();
                    let sent = self.send_file(conn, request, on_disk).await;
                    if sent.is_err() && self.args.streams == 1 {
                        self.bar.set_position(before);
                    }
                    sent
                }
            };
            match sent {
                Ok(bytes) => {
                    let mut state = self.state();
                    state.summary.files += 1;
                    state.summary.bytes += bytes;
                    state.breaks = 0;
                }
                Err(Trouble::File(FileError { why, fatal })) => {
                    let failure = format!("{}: {why}", item.path());
                    let mut state = self.state();
                    if !fatal {
                        state.summary.fail(failure);
                    } else if state.fatal.is_none() {
                        // The others would fail alike, and are not reported one by one.
                        state.summary.fail(&failure);
                        state.fatal = Some(failure);
                    }
                }
                Err(Trouble::Stream(error)) => {
                    self.state().left.push_front(item);
                    return Err(error);
                }
            }
        }
    }

    async fn send_folder(&self, conn: &BoxConn, request: &Request) -> Result<u64, Trouble> {
        let mut channel = Channel::open(conn, PROTOCOL, request).await?;
        channel.finish().await?;
        done(channel.receive().await?)?;
        Ok(0)
    }

    /// Sends a file, or the part that the receiver lacks. Returns the number of bytes.
    async fn send_file(
        &self,
        conn: &BoxConn,
        request: &FileRequest,
        on_disk: &Path,
    ) -> Result<u64, Trouble> {
        let (file, request) = open(on_disk.to_owned(), request.clone()).await?;
        let size = request.size;
        let mut channel = Channel::open(conn, PROTOCOL, &Request::File(request.clone())).await?;
        let (offset, sha256) = match channel.receive().await? {
            Answer::Have { offset, sha256 } if offset <= size => (offset, sha256),
            Answer::Refused { why, fatal } => return Err(Trouble::File(FileError { why, fatal })),
            _ => return Err(Trouble::out_of_turn("an answer")),
        };
        let (mut file, mut hash, from) = file.common(offset, sha256).await?;
        self.bar.inc(from);
        let pushed = async {
            self.send_body(&mut channel, &mut file, &mut hash, from, size)
                .await?;
            unchanged(&mut file, on_disk, &request).await?;
            let sha256 = hex(hash);
            let end = FileMessage::End {
                sha256: sha256.clone(),
            };
            channel.send(&end).await?;
            Ok(sha256)
        };
        let sha256 = match pushed.await {
            // A receiver that stops the stream sends the reason.
            Err(Trouble::Stream(Broken::Stream(error)))
                if error.kind() == pipewerks::ErrorKind::Stopped =>
            {
                done(channel.receive().await?)?;
                return Err(Trouble::Stream(Broken::Stream(error)));
            }
            pushed => pushed?,
        };
        done(channel.receive().await?)?;
        channel.finish().await?;
        let path = request.path.as_str();
        tracing::info!(path, size, from, sha256, "sent");
        if self.context.report.json {
            let event = json!({"event": "file", "path": path, "size": size, "from": from, "sha256": sha256});
            self.context.report.result("", &event);
        }
        Ok(size - from)
    }

    async fn send_body(
        &self,
        channel: &mut Channel,
        file: &mut Body,
        hash: &mut Sha256,
        from: u64,
        size: u64,
    ) -> Result<(), Trouble> {
        channel.send(&FileMessage::From { offset: from }).await?;
        let mut left = size - from;
        while left > 0 {
            let frame = if self.pace.is_some() {
                PACED_FRAME
            } else {
                MAX_FRAME
            };
            let want = usize::try_from(left).map_or(frame, |left| left.min(frame));
            if let Some(pace) = &self.pace {
                pace.before(want).await;
            }
            let mut bytes = BytesMut::with_capacity(want);
            let mut limited = (&mut *file).take(want as u64);
            while bytes.len() < want {
                if limited
                    .read_buf(&mut bytes)
                    .await
                    .map_err(FileError::from)?
                    == 0
                {
                    return Err(FileError::new("it has become shorter while it was sent").into());
                }
            }
            hash.update(&bytes);
            left -= bytes.len() as u64;
            let sent = bytes.len() as u64;
            channel.feed_bytes(bytes.freeze()).await?;
            if self.pace.is_some() {
                channel.flush().await?;
            }
            self.bar.inc(sent);
            self.state().breaks = 0;
        }
        Ok(())
    }

    fn tell(&self, began: Instant) -> Result<Exit, Failure> {
        self.state()
            .summary
            .tell(&self.context.report, "sent", began.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a connection that one of its streams reports as lost.
fn conn_over(conn: &BoxConn) {
    use pipewerks::Conn;
    conn.close(0, "");
}

/// The content of a file: on disk, or in memory if it is small.
type Body = Either<tokio::fs::File, Cursor<Vec<u8>>>;

/// A file that was opened.
#[derive(Debug)]
enum Opened {
    OnDisk(File),
    InMemory(Vec<u8>),
}

/// Opens a file, and describes its present state.
///
/// A small file is read at once, and that content is sent: the system does not know the length of
/// files in procfs and the like before they are read.
async fn open(on_disk: PathBuf, request: FileRequest) -> Result<(Opened, FileRequest), FileError> {
    blocking(move || {
        let mut file = File::open(&on_disk)?;
        let mut request = FileRequest {
            folders: request.folders,
            ..describe(request.path, &file.metadata()?)
        };
        if request.size > SMALL {
            return Ok((Opened::OnDisk(file), request));
        }
        let mut bytes = Vec::new();
        (&mut file).take(MAX_UNKNOWN + 1).read_to_end(&mut bytes)?;
        let size = bytes.len() as u64;
        if size > MAX_UNKNOWN {
            let told = request.size;
            return Err(FileError::new(format!(
                "its size is unknown: the system says {told} bytes, and there are more than {MAX_UNKNOWN}; send \
                 a copy of it"
            )));
        }
        request.size = size;
        Ok((Opened::InMemory(bytes), request))
    })
    .await
}

impl Opened {
    /// Finds out how much of the file the receiver has, and seeks there: all of the receiver's
    /// offset, if that part has this hash, or nothing.
    async fn common(self, offset: u64, sha256: String) -> Result<(Body, Sha256, u64), FileError> {
        fn find(
            content: &mut (impl Read + Seek),
            offset: u64,
            sha256: &str,
        ) -> Result<(Sha256, u64), FileError> {
            let (prefix, read) = hash(content, offset)?;
            if read == offset && hex(prefix.clone()) == sha256 {
                return Ok((prefix, offset));
            }
            Ok((hash(content, 0)?.0, 0))
        }
        blocking(move || match self {
            Self::OnDisk(mut file) => {
                let (hash, from) = find(&mut file, offset, &sha256)?;
                Ok((Either::Left(file.into()), hash, from))
            }
            Self::InMemory(bytes) => {
                let mut content = Cursor::new(bytes);
                let (hash, from) = find(&mut content, offset, &sha256)?;
                Ok((Either::Right(content), hash, from))
            }
        })
        .await
    }
}

/// Returns whether a file is still as it was described, and has no more bytes than were sent.
async fn unchanged(
    body: &mut Body,
    on_disk: &Path,
    request: &FileRequest,
) -> Result<(), FileError> {
    let Either::Left(file) = body else {
        return Ok(());
    };
    let now = describe(request.path.clone(), &file.metadata().await?);
    let time = |request: &FileRequest| (request.modified, request.modified_before);
    if (now.size, time(&now)) != (request.size, time(request)) {
        tracing::info!(path = %on_disk.display(), "changed");
        return Err(FileError::new("it has changed while it was sent"));
    }
    if file.read(&mut [0]).await? > 0 {
        let size = request.size;
        let why = format!("it has more bytes than the {size} that the system says");
        return Err(FileError::new(why));
    }
    Ok(())
}

fn done(answer: Answer) -> Result<(), Trouble> {
    match answer {
        Answer::Done => Ok(()),
        Answer::Refused { why, fatal } => Err(Trouble::File(FileError { why, fatal })),
        Answer::Welcome | Answer::Have { .. } => Err(Trouble::out_of_turn("an answer")),
    }
}
