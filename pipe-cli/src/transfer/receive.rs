use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use indicatif::ProgressBar;
use pipewerks::{BoxConn, BoxStream, Conn};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::file_error::FileError;
use super::folder::{Folder, answers};
use super::limits::{LimitArgs, Limits};
use super::message::{Answer, FileMessage, FileRequest, PROTOCOL, Request};
use super::part::{Found, Part};
use super::rel_path::RelPath;
use super::summary::{bar, count};
use super::transfers::{Owner, Transfer, Transfers};
use super::trouble::Trouble;
use crate::channel::{Broken, Channel};
use crate::context::Context;
use crate::door::{Admitted, GuardArgs};
use crate::exit::Exit;
use crate::failure::{Failure, explain};
use crate::net::NetArgs;

/// Time limit for a sender to close once it has finished.
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
    limits: LimitArgs,
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    net: NetArgs,
}

/// Receives files, until a transfer is finished and no other one is under way.
pub(crate) async fn receive(context: &Context, args: &ReceiveArgs) -> Result<Exit, Failure> {
    let folder = Folder::new(&args.dir, args.overwrite)
        .map_err(|error| Failure::local(args.dir.display(), &error))?;
    let mut door = context
        .listen(&args.net, &args.addr, &args.guard, true)
        .await?;
    let (finished, mut finishes) = mpsc::channel(16);
    let receiver = Receiver {
        context: context.clone(),
        folder,
        limits: Limits::new(&args.limits),
        // A token in the address counts as well, and then --no-token is refused.
        trusting: !args.guard.no_token,
        finished,
        transfers: Arc::default(),
        senders: Arc::default(),
        bar: bar(&context.report),
    };
    let mut conns = JoinSet::new();
    let mut number = 0;
    let mut ended = None;
    loop {
        tokio::select! {
            admitted = door.next() => {
                number += 1;
                conns.spawn(receiver.clone().serve(number, admitted?));
            }
            Some(_) = conns.join_next(), if !conns.is_empty() => {
                if let Some((conn, done)) = ended.take() {
                    if receiver.is_empty().await {
                        return receiver.farewell(&conn, done).await;
                    }
                    ended = Some((conn, done));
                }
            }
            Some((conn, transfer)) = finishes.recv() => {
                receiver.bar.finish_and_clear();
                let took = transfer.began.elapsed();
                let done = transfer.summary.tell(&context.report, "received", took);
                if args.keep {
                    if let Err(failure) = done {
                        context.report.warn(failure);
                    }
                    continue;
                }
                let done = match ended.take() {
                    Some((_, Err(before))) => {
                        if let Err(failure) = done {
                            context.report.warn(failure);
                        }
                        Err(before)
                    }
                    _ => done,
                };
                if receiver.is_empty().await {
                    door.close().await;
                    return receiver.farewell(&conn, done).await;
                }
                ended = Some((conn, done));
            }
            () = context.stop.asked() => break,
        }
    }
    door.close().await;
    receiver.bar.finish_and_clear();
    let whole = receiver.transfers().is_idle();
    let rest = async { while conns.join_next().await.is_some() {} };
    if context.stop.grace(rest).await.is_none() || !whole {
        let why =
            "stopped before everything was received; a sender that tries again goes on from there";
        return Err(Failure::new(context.stop.exit(), why));
    }
    ended.map_or(Ok(Exit::Done), |(_, done)| done)
}

#[derive(Clone, Debug)]
struct Receiver {
    context: Context,
    folder: Folder,
    limits: Limits,
    /// Whether every sender has shown the token.
    trusting: bool,
    /// The transfers that are finished, and their connections.
    finished: mpsc::Sender<(BoxConn, Transfer)>,
    transfers: Arc<Mutex<Transfers>>,
    /// The connections that are there.
    senders: Arc<Mutex<HashMap<u64, Sender>>>,
    bar: ProgressBar,
}

/// The other side of a connection.
#[derive(Clone, Debug)]
struct Sender {
    conn: BoxConn,
    owner: Owner,
}

impl Receiver {
    /// Serves one connection, until it is over or the program is stopped.
    async fn serve(self, number: u64, admitted: Admitted) {
        let Admitted {
            conn,
            place: _place,
        } = admitted;
        let sender = Sender {
            conn: conn.clone(),
            owner: Owner::Conn(number),
        };
        self.senders().insert(number, sender);
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = conn.accept_stream() => match stream {
                    Ok(stream) => drop(streams.spawn(self.clone().answer(number, conn.clone(), stream))),
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
        // Tasks that wait for the connection end with it.
        while streams.join_next().await.is_some() {}
        let sender = self.senders().remove(&number);
        if let Some(Sender { owner, .. }) = sender {
            self.transfers().leave(&owner);
        }
    }

    async fn answer(self, number: u64, conn: BoxConn, stream: BoxStream) {
        let answered = async {
            let (mut channel, request) = Channel::accept::<Request>(stream, PROTOCOL).await?;
            let owner = self.owner(number);
            let path = match &request {
                Request::Folder { path, .. } => Some(path.clone()),
                Request::File(file) => Some(file.path.clone()),
                Request::Hello { .. } | Request::Finish { .. } => None,
            };
            let mut finished = None;
            let done = match request {
                Request::Hello {
                    files,
                    bytes,
                    left,
                    transfer,
                } => self.hello(number, files, bytes, left, transfer),
                Request::Folder { path, folders } => self.make_folder(&owner, path, folders).await,
                Request::File(file) => self.file(&mut channel, &owner, &conn, file).await?,
                Request::Finish { failed } => {
                    finished = self.transfers().finish(&owner, failed);
                    match &finished {
                        Some(_) => Ok(Answer::Done),
                        None => Err(FileError::new("no transfer of this connection has begun")),
                    }
                }
            };
            let answer = done.unwrap_or_else(|FileError { why, fatal }| {
                // The others in progress fail alike, and are not reported one by one.
                if let Some(path) = path
                    && let Some(transfer) = self.transfers().of(&owner)
                    && !(fatal && transfer.fatal)
                {
                    transfer.summary.fail(format!("{path}: {why}"));
                    transfer.fatal |= fatal;
                }
                Answer::Refused { why, fatal }
            });
            let told = async {
                channel.send(&answer).await?;
                channel.stop();
                channel.finish().await
            };
            let told = told.await;
            if let Some(transfer) = finished {
                let _ = self.finished.send((conn.clone(), transfer)).await;
            }
            told
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

    fn hello(
        &self,
        number: u64,
        files: u64,
        bytes: u64,
        left: Option<u64>,
        transfer: Option<String>,
    ) -> Result<Answer, FileError> {
        if files == 0 {
            return Err(FileError::new("it announces nothing"));
        }
        // A sender that comes back has sent some of it already.
        self.limits.fits(left.unwrap_or(files), 0)?;
        if left.is_none_or(|left| left == files) {
            self.limits.fits(0, bytes)?;
        }
        let mut senders = self.senders();
        let Some(sender) = senders.get_mut(&number) else {
            return Err(FileError::new("the connection has ended"));
        };
        let remote = sender.conn.remote_addr();
        let owner = Owner::of(transfer, remote.host().unwrap_or_default());
        let owner = owner.map_err(FileError::new)?;
        if sender.owner != Owner::Conn(number) {
            return Err(FileError::new("this connection has said hello before"));
        }
        sender.owner = owner.clone();
        drop(senders);
        self.transfers().join(&owner, left.unwrap_or(files));
        self.bar.reset();
        self.bar.set_length(bytes);
        self.bar.set_message(count(files));
        Ok(Answer::Welcome)
    }

    async fn make_folder(
        &self,
        owner: &Owner,
        path: RelPath,
        modes: Vec<u32>,
    ) -> Result<Answer, FileError> {
        self.limits.take(1, 0)?;
        let (folder, own) = (self.folder.clone(), path.clone());
        super::part::blocking(move || folder.make_folder(&own, &modes)).await?;
        self.transfers().done(owner, &path, None);
        Ok(Answer::Done)
    }

    /// Receives a file. The outer error is that of the stream, the inner one of the file.
    async fn file(
        &self,
        channel: &mut Channel,
        owner: &Owner,
        conn: &BoxConn,
        request: FileRequest,
    ) -> Result<Result<Answer, FileError>, Broken> {
        let claim = match self.folder.claim(&request.path, owner, conn).await {
            Ok(claim) => claim,
            Err(error) => return Ok(Err(error)),
        };
        let received = async {
            match self.receive_file(channel, owner, request).await {
                Err(Trouble::File(error)) => Ok(Err(error)),
                Err(Trouble::Stream(error)) => Err(error),
                Ok(()) => Ok(Ok(Answer::Done)),
            }
        };
        tokio::select! {
            received = received => received,
            // That is no failure of the transfer: the newcomer sends it.
            () = claim.replaced() => Ok(Ok(Answer::Refused {
                why: "its sender has begun to send it again".to_owned(),
                fatal: true,
            })),
        }
    }

    async fn receive_file(
        &self,
        channel: &mut Channel,
        owner: &Owner,
        request: FileRequest,
    ) -> Result<(), Trouble> {
        let size = request.size;
        let own = self.transfers().begin(owner, &request.path);
        let may_know = self.trusting || own;
        // The existing part of a resumed file is not known yet.
        self.limits.take(1, 0)?;
        if !may_know {
            self.limits.fits(0, size)?;
        }
        let hashing = self.limits.hashing().await?;
        let folder = self.folder.clone();
        let (have, found) = match Part::find(folder, request.clone(), may_know, hashing).await? {
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
                self.transfers().done(owner, &request.path, Some(0));
                return Ok(());
            }
            Err(_) => Part::replace(self.folder.clone(), request.clone()).await?,
        };
        self.limits.fits(0, size.saturating_sub(from))?;
        part.go_on_from(from).await?;
        self.bar.inc(from);
        while part.offset() < size {
            let bytes = channel.receive_bytes().await?;
            if bytes.is_empty() {
                return Err(Trouble::out_of_turn("a message"));
            }
            self.limits.take(0, bytes.len() as u64)?;
            part.write(&bytes).await?;
            self.bar.inc(bytes.len() as u64);
        }
        let FileMessage::End { sha256 } = channel.receive().await? else {
            return Err(Trouble::out_of_turn("a message"));
        };
        let word = part.keep(&sha256).await?;
        self.transfers()
            .done(owner, &request.path, Some(size.saturating_sub(from)));
        let path = request.path.as_str();
        if let Some(word) = word {
            self.context.report.warn(format_args!("{path}: {word}"));
        }
        tracing::info!(path, size, from, sha256, "received");
        if self.context.report.json {
            let event = json!({"event": "file", "path": path, "size": size, "from": from, "sha256": sha256});
            self.context.report.result("", &event);
        }
        Ok(())
    }

    /// Returns whether no sender is there that has not finished. One that does not answer counts as
    /// gone.
    async fn is_empty(&self) -> bool {
        let others: Vec<_> = {
            let senders: Vec<_> = self.senders().values().cloned().collect();
            let mut transfers = self.transfers();
            senders
                .into_iter()
                .filter(|sender| transfers.of(&sender.owner).is_some())
                .collect()
        };
        let probes = others.iter().map(|sender| answers(&sender.conn));
        !join_all(probes).await.contains(&true)
    }

    /// Waits for the sender to close first, after the result was sent.
    async fn farewell(&self, conn: &BoxConn, done: Result<Exit, Failure>) -> Result<Exit, Failure> {
        let _ = timeout(FAREWELL, conn.closed()).await;
        done
    }

    fn owner(&self, number: u64) -> Owner {
        let senders = self.senders();
        let sender = senders.get(&number);
        sender.map_or(Owner::Conn(number), |sender| sender.owner.clone())
    }

    fn transfers(&self) -> MutexGuard<'_, Transfers> {
        self.transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<u64, Sender>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
