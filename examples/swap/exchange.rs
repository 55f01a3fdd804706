//! The program itself, written once for every transport: [`Exchange`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pipewerks::{Conn, Listener, Transport};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::compare::{compare_file, compare_folder};
use crate::failure::{At, Failure};
use crate::folder::{Folder, blocking};
use crate::message::Entry;
use crate::parallel::for_each;
use crate::progress::Progress;
use crate::route::Route;
use crate::server;
use crate::source::{Source, SourceFile};

/// Sends files to a server over one route, fetches them back, and compares.
pub(crate) struct Exchange<'a> {
    route: &'a Route,
    source: &'a Source,
    streams: usize,
    progress: Progress,
    outcome: Outcome,
}

/// What came of a route.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The name of the route.
    pub(crate) route: &'static str,
    /// The scheme of its address.
    pub(crate) transport: String,
    /// The address that was dialed.
    pub(crate) address: String,
    /// How long the dial took.
    pub(crate) connect: Option<Duration>,
    /// The median round trip.
    pub(crate) round_trip: Option<Duration>,
    /// How many files went there and back.
    pub(crate) files: usize,
    /// How many bytes they have.
    pub(crate) bytes: u64,
    /// How fast files were sent, in bytes a second, with reading, hashing and writing them.
    pub(crate) send_rate: Option<f64>,
    /// How fast files were received, in bytes a second, with reading, hashing and writing them.
    pub(crate) receive_rate: Option<f64>,
    /// What went wrong.
    pub(crate) failures: Vec<Failure>,
    /// Whether it went on to the end.
    pub(crate) complete: bool,
}

impl Outcome {
    /// Whether every file came back as it was.
    pub(crate) fn verified(&self) -> bool {
        self.complete && self.failures.is_empty()
    }
}

impl<'a> Exchange<'a> {
    /// An exchange of these files, on so many streams at once.
    pub(crate) fn new(route: &'a Route, source: &'a Source, streams: usize) -> Self {
        Self {
            route,
            source,
            streams,
            progress: Progress::new(route.name, 2 * source.bytes()),
            outcome: Outcome {
                route: route.name,
                transport: String::new(),
                address: String::new(),
                connect: None,
                round_trip: None,
                files: 0,
                bytes: 0,
                send_rate: None,
                receive_rate: None,
                failures: Vec::new(),
                complete: false,
            },
        }
    }

    /// Runs it over a transport that serves the route's address.
    pub(crate) async fn run<T: Transport>(mut self, transport: &T) -> Outcome {
        let mut server = JoinSet::new();
        match self.steps(transport, &mut server).await {
            Ok(()) => self.outcome.complete = true,
            Err(failure) => self.outcome.failures.push(failure),
        }
        // The address is free for the next route once the listener is dropped.
        server.shutdown().await;
        self.progress.finish();
        self.outcome
    }

    async fn steps<T: Transport>(
        &mut self,
        transport: &T,
        server: &mut JoinSet<()>,
    ) -> Result<(), Failure> {
        let temp = tempfile::tempdir().at("a temporary folder")?;
        let at_server = folder_in(&temp, "server")?;
        let at_client = folder_in(&temp, "client")?;

        let addr = self.route.listen_addr()?;
        self.outcome.transport = addr.scheme().to_owned();
        let listener = transport.listen(&addr).await.at(&addr)?;
        let addr = self.route.dial_addr(listener.local_addr());
        self.outcome.address = addr.to_string();
        server.spawn(server::serve(listener, at_server.clone()));

        let start = Instant::now();
        let conn = transport.dial(&addr).await.at(&addr)?;
        self.outcome.connect = Some(start.elapsed());
        let client = Client::new(conn);
        self.outcome.round_trip = Some(client.round_trip().await.at(&addr)?);

        let sent = self.send(&client).await;
        let received = self.receive(&client, sent, &at_client).await?;
        client.finish().await.at(&addr)?;
        self.compare(received, [at_server, at_client]).await;

        blocking(move || temp.close())
            .await
            .at("a temporary folder")
    }

    /// Sends all files and empty folders. Returns the files that arrived.
    async fn send<C: Conn>(&mut self, client: &Client<C>) -> Vec<SourceFile> {
        self.progress.stage("sending");
        let start = Instant::now();
        let (put, progress) = (client.clone(), self.progress.clone());
        let sent = self
            .each(self.source.files.clone(), move |file| {
                let (put, progress) = (put.clone(), progress.clone());
                async move { put.put(&file.path, &file.on_disk, &progress).await }
            })
            .await;
        let make = client.clone();
        self.each(self.source.folders.clone(), move |path| {
            let make = make.clone();
            async move { make.make_folder(&path).await }
        })
        .await;
        self.outcome.send_rate = Some(rate(&sent, start));
        sent
    }

    /// Fetches what the server lists, which has to be what was sent. Returns the files that came.
    async fn receive<C: Conn>(
        &mut self,
        client: &Client<C>,
        mut sent: Vec<SourceFile>,
        to: &Folder,
    ) -> Result<Vec<SourceFile>, Failure> {
        self.progress.stage("receiving");
        let start = Instant::now();
        let listed = BTreeSet::from_iter(client.list().await?);
        self.check_list(&listed, &mut sent);

        let folders = listed.into_iter().filter_map(|entry| match entry {
            Entry::Folder { path } => Some(path),
            Entry::File { .. } => None,
        });
        let make = to.clone();
        self.each(folders.collect(), move |path| {
            let make = make.clone();
            async move { make.make_folder(&path).await.at(path) }
        })
        .await;
        let (get, to, progress) = (client.clone(), to.clone(), self.progress.clone());
        let received = self
            .each(sent, move |file| {
                let (get, to, progress) = (get.clone(), to.clone(), progress.clone());
                async move { get.get(&file.path, &to, &progress).await }
            })
            .await;
        self.outcome.receive_rate = Some(rate(&received, start));
        Ok(received)
    }

    /// Compares the server's list with what was sent, and leaves in `sent` what is in both.
    fn check_list(&mut self, listed: &BTreeSet<Entry>, sent: &mut Vec<SourceFile>) {
        let failures = &mut self.outcome.failures;
        let mut expected = BTreeSet::new();
        sent.retain(|file| {
            let (path, size) = (file.path.clone(), file.size);
            let entry = Entry::File { path, size };
            let there = listed.contains(&entry);
            if !there {
                failures.push(Failure::new(
                    &file.path,
                    "the server does not list it as it was sent",
                ));
            }
            expected.insert(entry);
            there
        });
        let files = listed
            .iter()
            .filter(|entry| matches!(entry, Entry::File { .. }));
        for entry in files.filter(|entry| !expected.contains(*entry)) {
            failures.push(Failure::new(
                entry,
                "the server lists it, and it was not sent like that",
            ));
        }
    }

    /// Compares the files and empty folders, read again from disk.
    async fn compare(&mut self, files: Vec<SourceFile>, copies: [Folder; 2]) {
        self.progress.stage("comparing");
        let folders = copies.clone();
        let same = self
            .each(files, move |file| compare_file(file, copies.clone()))
            .await;
        self.each(self.source.folders.clone(), move |path| {
            compare_folder(path, folders.clone())
        })
        .await;
        self.outcome.files = same.len();
        self.outcome.bytes = bytes(&same);
    }

    /// Works on all items on as many streams as allowed. Notes what fails, and returns the rest.
    async fn each<I, F>(
        &mut self,
        items: Vec<I>,
        work: impl Fn(I) -> F + Send + Sync + 'static,
    ) -> Vec<I>
    where
        I: Clone + Send + Sync + 'static,
        F: Future<Output = Result<(), Failure>> + Send,
    {
        let (well, failures) = for_each(items, self.streams, work).await;
        self.outcome.failures.extend(failures);
        well
    }
}

fn folder_in(temp: &tempfile::TempDir, name: &str) -> Result<Folder, Failure> {
    let path = temp.path().join(name);
    std::fs::create_dir(&path)
        .and_then(|()| Folder::new(&path))
        .at(path.display())
}

fn bytes(files: &[SourceFile]) -> u64 {
    files.iter().map(|file| file.size).sum()
}

/// How fast so many files were moved, in bytes a second.
fn rate(files: &[SourceFile], start: Instant) -> f64 {
    bytes(files) as f64 / start.elapsed().as_secs_f64()
}
