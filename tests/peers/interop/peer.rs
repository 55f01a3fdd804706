//! A program that does what it is told.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

/// A running peer.
///
/// It is told what to do in lines `ID VERB ARGUMENTS…` on its standard input, and answers each, in any
/// order, with `ID ok WORDS…` or `ID error TEXT` on its standard output. Its answer to 0, which nobody
/// asks, is its address: it comes when the peer listens, or has connected. The peer ends with its input.
pub(crate) struct Peer {
    addr: String,
    input: AsyncMutex<ChildStdin>,
    questions: Arc<Questions>,
    next: AtomicU64,
    _child: Child,
}

/// What a peer says to a question: its words, or why it cannot.
pub(crate) type Answer = Result<Vec<String>, String>;

/// The questions without an answer; none once the peer has ended.
struct Questions(Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>);

impl Peer {
    /// Starts a peer, and waits until it is ready.
    pub(crate) async fn start(command: &mut Command) -> Self {
        let log = std::env::var_os("PIPE_PEER_LOG").is_some();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if log { Stdio::inherit() } else { Stdio::null() })
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let input = child.stdin.take().expect("a pipe to the peer");
        let output = child.stdout.take().expect("a pipe from the peer");
        let (ready, started) = oneshot::channel();
        let questions = Arc::new(Questions(Mutex::new(Some(HashMap::from([(0, ready)])))));
        tokio::spawn(listen(output, questions.clone()));
        let words = started.await.expect("the peer ended at its start");
        Self {
            addr: words.expect("a peer that is ready")[0].clone(),
            input: AsyncMutex::new(input),
            questions,
            next: AtomicU64::new(1),
            _child: child,
        }
    }

    /// Where it listens, or what it has connected from.
    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    /// Tells the peer to do something, and waits until it has done it.
    pub(crate) async fn ask(&self, what: &str) -> Answer {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        match &mut *self.questions.0.lock().expect("a sound lock") {
            Some(questions) => questions.insert(id, answer),
            None => panic!("the peer ended before {what:?}"),
        };
        let line = format!("{id} {what}\n");
        let sent = self.input.lock().await.write_all(line.as_bytes()).await;
        sent.unwrap_or_else(|error| panic!("the peer does not take {what:?}: {error}"));
        answered
            .await
            .unwrap_or_else(|_| panic!("the peer ended during {what:?}"))
    }

    /// The same, where it has to succeed.
    pub(crate) async fn tell(&self, what: &str) -> Vec<String> {
        let answer = self.ask(what).await;
        answer.unwrap_or_else(|error| panic!("the peer failed to {what}: {error}"))
    }

    /// The same, for an answer of one word.
    pub(crate) async fn word(&self, what: &str) -> String {
        let words = self.tell(what).await;
        let [word] = &words[..] else {
            panic!("the peer said {words:?} to {what:?}");
        };
        word.clone()
    }
}

/// Hands the peer's answers to those who asked.
async fn listen(output: ChildStdout, questions: Arc<Questions>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut words = line.split_whitespace();
        let id = words.next().and_then(|id| id.parse::<u64>().ok());
        let asker = id.and_then(|id| questions.0.lock().ok()?.as_mut()?.remove(&id));
        let Some(asker) = asker else {
            eprintln!("a peer said: {line}");
            continue;
        };
        let verdict = words.next();
        let words: Vec<_> = words.map(str::to_owned).collect();
        // Whoever asked may have given up.
        let _ = asker.send(if verdict == Some("ok") {
            Ok(words)
        } else {
            Err(words.join(" "))
        });
    }
    // Those who wait for an answer hear that none comes.
    if let Ok(mut questions) = questions.0.lock() {
        questions.take();
    }
}
