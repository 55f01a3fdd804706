//! Runs the commands of the book, through the real program.
//!
//! A block of ```` ```sh listen ```` is started and goes on; it is stopped at the next heading. What it says
//! to listen on stands for `ADDR` in the blocks behind it. A block of ```` ```sh dial ```` has to succeed.
//!
//! Ports that a block names are free ones here, `/tmp` is a folder of its own, and behind `127.0.0.1:80` is a
//! web server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The exit code of a program that was stopped before everything was done.
const TERMINATED: i32 = 143;

const CHAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/book/src/command.md");

#[test]
fn the_commands_of_the_book_do_what_it_says() {
    let text = std::fs::read_to_string(CHAPTER).unwrap();
    let mut section = Section::new();
    let mut block: Option<(&str, String)> = None;
    let mut ran = 0;
    for line in text.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (None, Some(info)) => block = Some((info, String::new())),
            (Some((info, code)), Some("")) => {
                match *info {
                    "sh listen" => section.listen(code),
                    "sh dial" => section.dial(code),
                    other => panic!("a block of {other:?}"),
                }
                ran += 1;
                block = None;
            }
            (Some((_, code)), _) => *code += &format!("{line}\n"),
            (None, None) if line.starts_with("## ") => {
                section.end();
                section = Section::new();
            }
            (None, None) => {}
        }
    }
    section.end();
    assert!(ran >= 15, "only {ran} blocks were found");
}

/// What runs between two headings.
struct Section {
    folder: TempDir,
    running: Vec<Running>,
    /// What the texts of the book stand for.
    names: Vec<(String, String)>,
}

struct Running {
    code: String,
    child: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Section {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let tmp = folder.path().display().to_string();
        Self {
            folder,
            running: Vec::new(),
            names: vec![("/tmp".into(), tmp)],
        }
    }

    /// Starts a block, and waits until it listens.
    fn listen(&mut self, code: &str) {
        let mut names = self.quoted();
        names.push(("127.0.0.1:80\n".into(), format!("{}\n", web_server())));
        let local = code.split("--local ").nth(1).map(first_word);
        if let Some(local) = &local {
            names.push((local.clone(), "127.0.0.1:0".into()));
        }
        let code = replace(code, &names);
        let mut child = shell(&code, self.folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut running = Running {
            code,
            child,
            lines,
            heard: Vec::new(),
        };
        let name = if local.is_some() {
            "forwarding "
        } else {
            "listening on "
        };
        let addr = running.word_after(name);
        self.running.push(running);
        let before = local.unwrap_or_else(|| "ADDR".into());
        self.names.retain(|(name, _)| *name != before);
        self.names.push((before, addr));
    }

    /// What the texts stand for, quoted where an address may have signs that mean something to a shell.
    fn quoted(&self) -> Vec<(String, String)> {
        let names = self.names.iter().map(|(name, value)| match name.as_str() {
            "ADDR" => (name.clone(), format!("'{value}'")),
            _ => (name.clone(), value.clone()),
        });
        names.collect()
    }

    /// Runs a block to its end, which has to be a good one.
    fn dial(&mut self, code: &str) {
        let code = replace(code, &self.quoted());
        let child = shell(&code, self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let group = Pid::from_child(&child);
        let (sender, done) = channel();
        thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = done.recv_timeout(LIMIT) else {
            let _ = kill_process_group(group, Signal::KILL);
            panic!("it takes longer than {LIMIT:?}:\n{code}");
        };
        let output = output.unwrap();
        assert!(output.status.success(), "{code}\n{output:?}");
    }

    /// Stops what is running. What was to end by itself may have done so.
    fn end(mut self) {
        for mut running in self.running.drain(..).rev() {
            if running.child.try_wait().unwrap().is_none() {
                let group = Pid::from_child(&running.child);
                let _ = kill_process_group(group, Signal::TERM);
            }
            running.rest();
            let status = running.child.wait().unwrap();
            // The shell itself may be what the signal has ended.
            let fine = status.success() || matches!(status.code(), None | Some(TERMINATED));
            let Running { code, heard, .. } = &running;
            assert!(fine, "{status}: {code}\n{heard:?}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Running {
    /// Waits until it writes no more, which is when it has ended.
    fn rest(&mut self) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("it does not stop:\n{}", self.code),
            }
        }
    }

    /// Waits for a line that begins like this, and returns its next word.
    fn word_after(&mut self, beginning: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let word = line.strip_prefix(beginning).map(first_word);
                    self.heard.push(line);
                    if let Some(word) = word {
                        return word;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no {beginning:?} from:\n{}\n{:?}", self.code, self.heard);
                }
            }
        }
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().into()
}

fn replace(code: &str, names: &[(String, String)]) -> String {
    names.iter().fold(code.to_owned(), |code, (name, value)| {
        code.replace(name, value)
    })
}

/// A shell in a group of its own that finds the program.
fn shell(code: &str, folder: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_pipe"));
    let programs = program.parent().unwrap().display();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", code])
        .current_dir(folder)
        .env("PATH", format!("{programs}:{path}"))
        .env_remove("RUST_LOG")
        .process_group(0);
    command
}

/// Serves one page to everybody, as long as the test runs; its address.
fn web_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(&mut client));
        }
    });
    addr
}

fn answer(client: &mut TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte)? > 0 {
        request.push(byte[0]);
    }
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
}
