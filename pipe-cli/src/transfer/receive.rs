use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use pipewerks::{BoxConn, BoxStream, Conn, Listener};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::file_error::FileError;
use super::folder::Folder;
use super::message::{Answer, FileMessage, FileRequest, PROTOCOL, Request};
use super::part::{Found, Part};
use super::rel_path::RelPath;
use super::summary::{Summary, bar, count};
use super::trouble::Trouble;
use crate::channel::{Broken, Channel};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, explain};
use crate::net::NetArgs;

/// How long a sender may take to go once it has finished.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Args, Clone, Debug)]
pub(crate) struct ReceiveArgs {
    /// Address to listen on, such as tls://0.0.0.0:7000
    addr: String,
    /// Folder to receive into; it is made if it is missing
    dir: PathBuf,
    /// Go on after the first transfer, until interrupted
    #[arg(long)]
    keep: bool,
    /// Replace files that are there with other content
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    net: NetArgs,
}

/// Receives files, until a transfer is finished.
pub(crate) async fn receive(context: &Context, args: &ReceiveArgs) -> Result<Exit, Failure> {
    let folder = Folder::new(&args.dir, args.overwrite)
        .map_err(|error| Failure::local(args.dir.display(), &error))?;
    let listener = context.listen(&args.net, &args.addr).await?;
    let (finished, mut finishes) = mpsc::channel(16);
    let receiver = Receiver {
        context: context.clone(),
        folder,
        finished,
        transfer: Arc::default(),
        bar: bar(&context.report),
    };
    let mut conns = JoinSet::new();
    loop {
        tokio::select! {
            conn = listener.accept() => match conn {
                Ok(conn) => drop(conns.spawn(receiver.clone().serve(conn))),
                Err(error) => return Err(Failure::unreached(&args.addr, &error)),
            },
            Some(_) = conns.join_next() => {}
            Some(conn) = finishes.recv() => {
                receiver.bar.finish_and_clear();
                let done = receiver.tell();
                if !args.keep {
                    listener.close();
                    // The sender is told, and goes first.
                    let _ = timeout(FAREWELL, conn.closed()).await;
                    return done;
                }
                if let Err(failure) = done {
                    context.report.warn(failure);
                }
            }
            () = context.stop.asked() => break,
        }
    }
    listener.close();
    receiver.bar.finish_and_clear();
    let whole = receiver.is_idle();
    let rest = async { while conns.join_next().await.is_some() {} };
    if context.stop.grace(rest).await.is_none() || !whole {
        let why =
            "stopped before everything was received; a sender that tries again goes on from there";
        return Err(Failure::new(context.stop.exit(), why));
    }
    Ok(Exit::Done)
}

#[derive(Clone, Debug)]
struct Receiver {
    context: Context,
    folder: Folder,
    /// The connections whose transfers are finished.
    finished: mpsc::Sender<BoxConn>,
    transfer: Arc<Mutex<Transfer>>,
    bar: ProgressBar,
}

/// What has come since the last transfer was finished.
#[derive(Debug, Default)]
struct Transfer {
    began: Option<Instant>,
    summary: Summary,
    /// Whether something failed that more files would fail of.
    fatal: bool,
}

impl Receiver {
    /// Serves one connection, until it is over or the program is asked to stop.
    async fn serve(self, conn: BoxConn) {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = conn.accept_stream() => match stream {
                    Ok(stream) => drop(streams.spawn(self.clone().answer(conn.clone(), stream))),
                    Err(error) => {
                        tracing::info!(remote = %conn.remote_addr(), error = explain(&error), "a connection ended");
                        break;
                    }
                },
                Some(_) = streams.join_next() => {}
                () = self.context.stop.asked() => {
                    // The files that are under way may end.
                    let drained = async { while streams.join_next().await.is_some() {} };
                    let _ = tokio::join!(timeout(FAREWELL, drained), timeout(FAREWELL, conn.drain()));
                    conn.close(0, "stopped");
                    break;
                }
            }
        }
        // What waits for the connection ends with it.
        while streams.join_next().await.is_some() {}
    }

    async fn answer(self, conn: BoxConn, stream: BoxStream) {
        let answered = async {
            let (mut channel, request) = Channel::accept::<Request>(stream, PROTOCOL).await?;
            let path = match &request {
                Request::Folder { path } => Some(path.clone()),
                Request::File(file) => Some(file.path.clone()),
                Request::Hello { .. } | Request::Finish { .. } => None,
            };
            let done = match request {
                Request::Hello { files, bytes } => {
                    self.hello(files, bytes);
                    Ok(Answer::Welcome)
                }
                Request::Folder { path } => self.make_folder(path).await,
                Request::File(file) => self.file(&mut channel, file).await?,
                Request::Finish { failed } => {
                    self.finish(&conn, failed).await;
                    Ok(Answer::Done)
                }
            };
            let answer = done.unwrap_or_else(|FileError { why, fatal }| {
                let mut transfer = self.transfer();
                // The others that are under way fail alike, and are not told one by one.
                if let Some(path) = path
                    && !(fatal && transfer.fatal)
                {
                    transfer.summary.fail(format!("{path}: {why}"));
                    transfer.fatal |= fatal;
                }
                drop(transfer);
                Answer::Refused { why, fatal }
            });
            channel.send(&answer).await?;
            channel.stop();
            channel.finish().await
        };
        match answered.await {
            Ok(()) => {}
            Err(Broken::Protocol(why)) => {
                let remote = conn.remote_addr();
                let told = format!("refused a request of {remote}: {why}");
                self.context.report.warn(told);
            }
            Err(Broken::Stream(error)) => {
                tracing::info!(remote = %conn.remote_addr(), error = explain(&error), "a stream broke");
            }
        }
    }

    fn hello(&self, files: u64, bytes: u64) {
        let mut transfer = self.transfer();
        transfer.began.get_or_insert_with(Instant::now);
        self.bar.reset();
        self.bar.set_length(bytes);
        self.bar.set_message(count(files));
    }

    async fn make_folder(&self, path: RelPath) -> Result<Answer, FileError> {
        let folder = self.folder.clone();
        super::part::blocking(move || folder.make_folder(&path)).await?;
        Ok(Answer::Done)
    }

    /// Receives a file. The outer error is that of the stream, the inner one of the file.
    async fn file(
        &self,
        channel: &mut Channel,
        request: FileRequest,
    ) -> Result<Result<Answer, FileError>, Broken> {
        let claim = self.folder.claim(&request.path).await;
        let received = async {
            match self.receive_file(channel, request).await {
                Err(Trouble::File(error)) => Ok(Err(error)),
                Err(Trouble::Stream(error)) => Err(error),
                Ok(()) => Ok(Ok(Answer::Done)),
            }
        };
        tokio::select! {
            received = received => received,
            // That is no failure of the transfer: the newcomer sends it.
            () = claim.replaced() => Ok(Ok(Answer::Refused {
                why: "somebody else has begun to send it".to_owned(),
                fatal: true,
            })),
        }
    }

    async fn receive_file(
        &self,
        channel: &mut Channel,
        request: FileRequest,
    ) -> Result<(), Trouble> {
        let size = request.size;
        let (have, found) = match Part::find(self.folder.clone(), request.clone()).await? {
            Found::Part(part) => {
                let have = Answer::Have {
                    offset: part.offset(),
                    sha256: part.sha256(),
                };
                (have, Ok(part))
            }
            Found::Whole(sha256) => {
                let have = Answer::Have {
                    offset: size,
                    sha256: sha256.clone(),
                };
                (have, Err(sha256))
            }
        };
        channel.send(&have).await?;
        let from = match channel.receive().await? {
            FileMessage::From { offset } => offset,
            FileMessage::End { .. } => return Err(Trouble::out_of_turn("a message")),
        };
        let mut part = match found {
            Ok(part) => *part,
            Err(own) if from == size => {
                self.bar.inc(size);
                match channel.receive().await? {
                    FileMessage::End { sha256 } if sha256 == own => {}
                    _ => return Err(Trouble::out_of_turn("a message")),
                }
                self.transfer().count(0);
                return Ok(());
            }
            Err(_) => Part::replace(self.folder.clone(), request.clone()).await?,
        };
        part.go_on_from(from).await?;
        self.bar.inc(from);
        while part.offset() < size {
            let bytes = channel.receive_bytes().await?;
            if bytes.is_empty() {
                return Err(Trouble::out_of_turn("a message"));
            }
            part.write(&bytes).await?;
            self.bar.inc(bytes.len() as u64);
        }
        let FileMessage::End { sha256 } = channel.receive().await? else {
            return Err(Trouble::out_of_turn("a message"));
        };
        part.keep(&sha256).await?;
        self.transfer().count(size - from);
        let path = request.path.as_str();
        tracing::info!(path, size, from, sha256, "received");
        if self.context.report.json {
            let event = json!({"event": "file", "path": path, "size": size, "from": from, "sha256": sha256});
            self.context.report.result("", &event);
        }
        Ok(())
    }

    async fn finish(&self, conn: &BoxConn, failed: u64) {
        if failed > 0 {
            let mut transfer = self.transfer();
            // What failed here is known already.
            if transfer.summary.failed() == 0 {
                let why = format!("{failed} files or folders could not be sent");
                transfer.summary.fail(why);
            }
        }
        let _ = self.finished.send(conn.clone()).await;
    }

    /// Tells how the transfer ended, and begins the next one.
    fn tell(&self) -> Result<Exit, Failure> {
        let transfer = std::mem::take(&mut *self.transfer());
        let took = transfer.began.map(|at| at.elapsed()).unwrap_or_default();
        transfer
            .summary
            .tell(&self.context.report, "received", took)
    }

    /// Whether no transfer has begun that is not finished.
    fn is_idle(&self) -> bool {
        self.transfer().began.is_none()
    }

    fn transfer(&self) -> std::sync::MutexGuard<'_, Transfer> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transfer {
    fn count(&mut self, bytes: u64) {
        self.summary.files += 1;
        self.summary.bytes += bytes;
    }
}
