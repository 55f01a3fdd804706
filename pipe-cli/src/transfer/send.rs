use std::collections::VecDeque;
use std::fs::File;
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

/// How many streams in a row may break off with nothing sent before the transfer is given up.
const MAX_BREAKS: u32 = 20;

/// How long a frame is where the rate is limited, in bytes: so that it goes evenly.
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
    bar: ProgressBar,
    pace: Option<Pace>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    left: VecDeque<Item>,
    summary: Summary,
    /// How many streams broke off since bytes were sent.
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

    /// Sends what is left over this connection.
    async fn over(&self, conn: &BoxConn) -> Result<(), Broken> {
        let (files, bytes) = (self.files, self.bytes);
        self.ask(conn, &Request::Hello { files, bytes }).await?;
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
                Item::Folder(path) => self.send_folder(conn, path.clone()).await,
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
                        // The others would fare alike, and are not told one by one.
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

    async fn send_folder(
        &self,
        conn: &BoxConn,
        path: super::rel_path::RelPath,
    ) -> Result<u64, Trouble> {
        let mut channel = Channel::open(conn, PROTOCOL, &Request::Folder { path }).await?;
        channel.finish().await?;
        done(channel.receive().await?)?;
        Ok(0)
    }

    /// Sends a file, or what the receiver lacks of it. Returns how many bytes that were.
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
        let (mut file, mut hash, from) = common(file, offset, sha256).await?;
        self.bar.inc(from);
        let pushed = async {
            self.send_body(&mut channel, &mut file, &mut hash, from, size)
                .await?;
            unchanged(&file, on_disk, &request).await?;
            let sha256 = hex(hash);
            let end = FileMessage::End {
                sha256: sha256.clone(),
            };
            channel.send(&end).await?;
            Ok(sha256)
        };
        let sha256 = match pushed.await {
            // A receiver that wants no more says why.
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
        file: &mut tokio::fs::File,
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

/// Ends a connection that one of its streams says is lost.
fn conn_over(conn: &BoxConn) {
    use pipewerks::Conn;
    conn.close(0, "");
}

/// Opens a file, and describes it as it is now.
async fn open(on_disk: PathBuf, request: FileRequest) -> Result<(File, FileRequest), FileError> {
    blocking(move || {
        let file = File::open(&on_disk)?;
        let request = describe(request.path, &file.metadata()?);
        Ok((file, request))
    })
    .await
}

/// Finds out how much of the file the receiver has, and goes there: all of what it says, if that has this
/// hash, or nothing.
async fn common(
    mut file: File,
    offset: u64,
    sha256: String,
) -> Result<(tokio::fs::File, Sha256, u64), FileError> {
    let (file, hash, from) = blocking(move || {
        let (prefix, read) = hash(&mut file, offset)?;
        if read == offset && hex(prefix.clone()) == sha256 {
            return Ok((file, prefix, offset));
        }
        let (nothing, _) = hash(&mut file, 0)?;
        Ok((file, nothing, 0))
    })
    .await?;
    Ok((file.into(), hash, from))
}

/// Whether a file is still as it was described.
async fn unchanged(
    file: &tokio::fs::File,
    on_disk: &Path,
    request: &FileRequest,
) -> Result<(), FileError> {
    let now = describe(request.path.clone(), &file.metadata().await?);
    if (now.size, now.modified) != (request.size, request.modified) {
        tracing::info!(path = %on_disk.display(), "changed");
        return Err(FileError::new("it has changed while it was sent"));
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
