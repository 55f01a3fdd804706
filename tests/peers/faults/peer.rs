use std::env;
use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use pipewerks::Addr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use crate::namespace::Namespace;

/// How long a peer may take for anything, on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(30);

const ROLE: &str = "PIPE_FAULTS_ROLE";
const SIDE: &str = "PIPE_FAULTS_SIDE";
const ADDR: &str = "PIPE_FAULTS_ADDR";
const FAILED_AFTER: &str = "PIPE_FAULTS_FAILED_AFTER_MS";

/// What a process of this program is to do, instead of testing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    /// Does for each stream what its first byte says.
    Serve,
    /// Sends and receives until it is told to finish, and tells what happens.
    Flow,
}

/// Which side of the connection it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    Listen,
    Dial,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) role: Role,
    pub(crate) side: Side,
    pub(crate) addr: Addr,
    /// When it gives the other side up.
    pub(crate) failed_after: Duration,
}

impl Task {
    /// The task that the environment gives to this process.
    pub(crate) fn of_this_process() -> Option<Self> {
        let role = match env::var(ROLE).ok()?.as_str() {
            "serve" => Role::Serve,
            _ => Role::Flow,
        };
        let side = match env::var(SIDE).ok()?.as_str() {
            "listen" => Side::Listen,
            _ => Side::Dial,
        };
        let addr = env::var(ADDR).ok()?.parse().ok()?;
        let failed_after = env::var(FAILED_AFTER).ok()?.parse().ok()?;
        Some(Self {
            role,
            side,
            addr,
            failed_after: Duration::from_millis(failed_after),
        })
    }
}

/// A process with a task. It is killed when this is dropped, and ends by itself when the test's process
/// is gone.
pub(crate) struct Peer {
    process: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// All that it has said.
    said: Vec<String>,
}

impl Peer {
    /// Starts a peer, in a namespace of the network or in this one.
    pub(crate) fn start(task: &Task, namespace: Option<&Namespace>) -> Self {
        let program = env::current_exe().expect("the path of this program");
        let mut command = match namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                let name = OsStr::new(namespace.name());
                command.args([OsStr::new("netns"), OsStr::new("exec"), name]);
                command.arg(program);
                command
            }
        };
        let role = match task.role {
            Role::Serve => "serve",
            Role::Flow => "flow",
        };
        let side = match task.side {
            Side::Listen => "listen",
            Side::Dial => "dial",
        };
        let mut process = command
            .env(ROLE, role)
            .env(SIDE, side)
            .env(ADDR, task.addr.as_str())
            .env(FAILED_AFTER, task.failed_after.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let commands = process.stdin.take().expect("its input");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self {
            process,
            commands,
            lines,
            said: Vec::new(),
        }
    }

    /// Waits for a line that begins like this, and returns its rest.
    pub(crate) async fn hears(&mut self, start: &str) -> String {
        let seen = self.hears_all(&[start]).await;
        seen.into_iter().next().expect("one line").text
    }

    /// Waits for a line that begins with each of these, in any order. Returns when each came first, and
    /// its rest.
    pub(crate) async fn hears_all(&mut self, starts: &[&str]) -> Vec<Said> {
        let mut said: Vec<Option<Said>> = vec![None; starts.len()];
        let before = self.said.len();
        let listen = async {
            while said.iter().any(Option::is_none) {
                let line = self.lines.next_line().await.expect("its output");
                let Some(line) = line else {
                    panic!("the peer has ended");
                };
                let at = Instant::now();
                for (start, said) in starts.iter().zip(&mut said) {
                    if let (Some(rest), None) = (line.strip_prefix(start), &said) {
                        let text = rest.trim().to_owned();
                        *said = Some(Said { at, text });
                    }
                }
                self.said.push(line);
            }
        };
        if timeout(LIMIT, listen).await.is_err() {
            panic!(
                "the peer did not say {starts:?} within {LIMIT:?}, but {:?}",
                &self.said[before..]
            );
        }
        said.into_iter().flatten().collect()
    }

    /// Whether it has said a line that begins like this, among those that were heard.
    pub(crate) fn has_said(&self, start: &str) -> bool {
        self.said.iter().any(|line| line.starts_with(start))
    }

    pub(crate) fn said(&self) -> &[String] {
        &self.said
    }

    /// Tells it to finish.
    pub(crate) async fn finish(&mut self) {
        let told = self.commands.write_all(b"finish\n").await;
        told.expect("a peer that takes commands");
    }

    /// Kills the process (SIGKILL), and waits until the system has cleared it away.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.expect("a process to be killed");
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id().expect("a process that lives")
    }
}

/// A line of a peer.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) at: Instant,
    pub(crate) text: String,
}
