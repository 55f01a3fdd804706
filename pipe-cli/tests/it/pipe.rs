//! [`Pipe`]: the program, running.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// An address as messages show it: without its token, or without those of a list.
pub(crate) fn bare(addr: &str) -> String {
    let bare = |part: &str| match part.split_once("token=") {
        Some((before, _)) => before.trim_end_matches(['?', '&']).to_owned(),
        None => part.to_owned(),
    };
    let parts: Vec<_> = addr.split(',').map(bare).collect();
    parts.join(",")
}

/// A process of the program. Dropping it kills it.
pub(crate) struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    out: Arc<Output>,
    err: Arc<Output>,
}

/// How a process has ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// What a process writes, as it comes.
#[derive(Default)]
struct Output {
    state: Mutex<(Vec<u8>, bool)>,
    news: Condvar,
}

impl Pipe {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_command(Command::new(env!("CARGO_BIN_EXE_pipe")).args(args))
    }

    pub(crate) fn start_command(command: &mut Command) -> Self {
        Self::start_with_input(command, Stdio::piped())
    }

    pub(crate) fn start_with_input(command: &mut Command, input: impl Into<Stdio>) -> Self {
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("RUST_LOG")
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            out: Output::of(child.stdout.take().unwrap()),
            err: Output::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Runs to the end with this input.
    pub(crate) fn run(args: &[&str], input: &[u8]) -> Ended {
        let mut pipe = Self::start(args);
        pipe.write(input);
        pipe.wait()
    }

    /// Waits for the address that it listens on.
    pub(crate) fn addr(&self) -> String {
        let text = self.err_line("listening on ");
        text.trim_start_matches("listening on ").to_owned()
    }

    /// Waits for a line on standard error that has this in it.
    pub(crate) fn err_line(&self, part: &str) -> String {
        self.err.line(part)
    }

    /// Waits for a line on standard output that has this in it.
    pub(crate) fn out_line(&self, part: &str) -> String {
        self.out.line(part)
    }

    /// Gives it input. What it does not want is dropped.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(bytes).and_then(|()| input.flush());
        }
    }

    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends the process at once, and waits for that.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends its input, and waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        self.end_input();
        self.wait_with_open_input()
    }

    /// Waits for its end.
    pub(crate) fn wait_with_open_input(&mut self) -> Ended {
        let (out, err) = (self.out.all(), self.err.all());
        let status = self.child.wait().unwrap();
        Ended {
            code: status.code(),
            out,
            err: String::from_utf8(err).unwrap(),
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Whether all went well, and else what did not.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self
    }

    /// Checks an error: the exit code, one line on standard error, and what is in it.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        let last = self.err.lines().last().unwrap_or_default();
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert!(last.starts_with("pipe: "), "{}", self.err);
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in {last:?}");
        }
        let errors = self.err.lines().filter(|line| line.starts_with("pipe: "));
        assert_eq!(errors.count(), 1, "{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }
}

impl Output {
    fn of(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let output = Arc::<Self>::default();
        let to = output.clone();
        thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            loop {
                let read = from.read(&mut buffer).unwrap_or_default();
                let mut state = to.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.0.extend_from_slice(&buffer[..read]);
                state.1 = read == 0;
                to.news.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        output
    }

    fn line(&self, part: &str) -> String {
        let found = |state: &(Vec<u8>, bool)| {
            let text = String::from_utf8_lossy(&state.0).into_owned();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            whole
                .lines()
                .find(|line| line.contains(part))
                .map(str::to_owned)
        };
        self.until(|state| found(state)).unwrap_or_else(|state| {
            panic!(
                "no line with {part:?} in {:?}",
                String::from_utf8_lossy(&state.0)
            )
        })
    }

    fn all(&self) -> Vec<u8> {
        self.until(|state| state.1.then(|| state.0.clone()))
            .unwrap_or_else(|state| panic!("no end of {:?}", String::from_utf8_lossy(&state.0)))
    }

    /// Waits until there is what is looked for; the error is what there was when it ended or took too long.
    fn until<T>(
        &self,
        mut look: impl FnMut(&(Vec<u8>, bool)) -> Option<T>,
    ) -> Result<T, (Vec<u8>, bool)> {
        let deadline = Instant::now() + LIMIT;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                return Err(state.clone());
            }
            state = match self.news.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
