//! `pipe listen` and `pipe dial`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::pipe::{LIMIT, Pipe};
use crate::route::{Route, on_every_route};

on_every_route! {
    bytes_go_both_ways_and_each_way_ends_by_itself
    a_command_answers_each_stream
}

/// More than any window, and with every byte in it.
fn many_bytes() -> Vec<u8> {
    (0..1_500_003_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
        .collect()
}

fn bytes_go_both_ways_and_each_way_ends_by_itself(route: &Route) {
    let bytes = many_bytes();
    let mut listener = Pipe::start(&["listen", &route.addr]);
    let addr = listener.addr();
    // All goes one way and ends, before the other way begins.
    let mut dialer = Pipe::start(&["dial", &addr]);
    dialer.write(&bytes);
    dialer.end_input();
    listener.write(b"the ");
    listener.write(b"end\n");
    let (listened, dialed) = (listener.wait().ok(), dialer.wait().ok());
    assert_eq!(listened.out, bytes);
    assert_eq!(dialed.text(), "the end\n");
}

fn a_command_answers_each_stream(route: &Route) {
    let listener = Pipe::start(&["listen", &route.addr, "--exec", "tr a-z A-Z"]);
    let addr = listener.addr();
    for text in ["hello", "there"] {
        let dialed = Pipe::run(&["dial", &addr], text.as_bytes()).ok();
        assert_eq!(dialed.text(), text.to_uppercase());
    }
    let dialed = Pipe::run(&["dial", &addr, "--stream", "3"], b"line\n").ok();
    assert_eq!(dialed.text(), "LINE\n".repeat(3));
    listener.signal(Signal::TERM);
    listener.wait().ok();
}

#[test]
fn connections_over_webrtc_share_a_udp_port() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let port = addr.port().to_string();
    let args = [
        "listen",
        "webrtc+tcp://127.0.0.1:0",
        "--exec",
        "cat",
        "--udp-port",
        &port,
    ];
    Pipe::run(&args, b"").fails(3, &["udp_port", &port, "is taken"]);
    drop(taken);
    let listener = Pipe::start(&args);
    let dialed = listener.addr();
    assert!(UdpSocket::bind(addr).is_err(), "it is bound");
    for _ in 0..2 {
        assert_eq!(Pipe::run(&["dial", &dialed], b"hello").ok().text(), "hello");
    }
    listener.signal(Signal::TERM);
    listener.wait().ok();
}

#[test]
fn commands_on_both_sides_talk_to_each_other() {
    let listener = Pipe::start(&[
        "listen",
        "tcp://127.0.0.1:0",
        "--exec",
        "read x; echo got $x",
    ]);
    let out = tempfile::NamedTempFile::new().unwrap();
    let command = format!("echo ping; cat >> {}", out.path().display());
    // The command's own output is the stream: what it hears it writes into a file.
    let dialed = Pipe::run(
        &[
            "dial",
            &listener.addr(),
            "--exec",
            &command,
            "--stream",
            "2",
        ],
        b"",
    );
    assert_eq!(dialed.ok().text(), "");
    let heard = std::fs::read_to_string(out.path()).unwrap();
    assert_eq!(heard, "got ping\n".repeat(2));
}

#[test]
fn a_command_that_fails_does_not_look_like_one_that_is_done() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--exec", "echo half; exit 7"]);
    let dialed = Pipe::run(&["dial", &listener.addr()], b"");
    dialed.fails(1, &["stream reset with code 7"]);
    assert!(listener.err_line("pipe: ").contains("exit status: 7"));
}

#[test]
fn a_listener_that_keeps_on_takes_the_next_stream() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--keep"]);
    let addr = listener.addr();
    // Its own input is still open: the dialer has to say that it wants no more of it.
    for text in ["one\n", "two\n"] {
        let mut dialer = Pipe::start(&["dial", &addr]);
        dialer.write(text.as_bytes());
        listener.out_line(text.trim());
        dialer.signal(Signal::INT);
        drop(dialer);
    }
}

#[test]
fn a_lost_peer_is_told_by_the_exit_code() {
    let mut listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let mut dialer = Pipe::start(&["dial", &listener.addr()]);
    dialer.write(b"hello\n");
    listener.out_line("hello");
    dialer.kill();
    listener
        .wait_with_open_input()
        .fails(5, &["tcp://127.0.0.1:"]);
}

#[test]
fn an_interrupted_dialer_ends_its_direction_and_says_so() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let mut dialer = Pipe::start(&["dial", &listener.addr()]);
    dialer.write(b"hello\n");
    listener.out_line("hello");
    dialer.signal(Signal::INT);
    let listened = listener.wait().ok();
    assert_eq!(listened.text(), "hello\n");
    dialer.wait_with_open_input().fails(130, &["stopped"]);
}

#[test]
fn a_second_signal_ends_at_once() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let mut dialer = Pipe::start(&["-v", "dial", &listener.addr()]);
    dialer.write(b"hello\n");
    listener.out_line("hello");
    // The listener does not end its direction, so the dialer waits after the first signal.
    dialer.signal(Signal::TERM);
    dialer.err_line("stopping");
    dialer.signal(Signal::TERM);
    let ended = dialer.wait_with_open_input();
    assert_eq!(ended.code, Some(143), "{}", ended.err);
}

#[test]
fn events_are_json_when_asked_for() {
    let listener = Pipe::start(&["--json", "listen", "tls://127.0.0.1:0"]);
    let line = listener.err_line("listening");
    let addr = line
        .strip_prefix(r#"{"event":"listening","addr":""#)
        .and_then(|rest| rest.strip_suffix(r#""}"#))
        .unwrap();
    assert!(addr.contains("cert-sha256="), "{addr}");
    let mut dialer = Pipe::start(&["--json", "dial", addr]);
    dialer.end_input();
    listener.wait().ok();
    let dialed = dialer.wait().ok();
    assert!(
        dialed.err.starts_with(r#"{"event":"connected","#),
        "{}",
        dialed.err
    );
}

#[test]
fn output_that_nobody_reads_on_ends_it_without_a_word() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--exec", "yes"]);
    for streams in ["1", "2"] {
        let mut command = Command::new("sh");
        let script = "\"$0\" dial \"$1\" --stream \"$2\" | head -n 1; echo over";
        command.args([
            "-c",
            script,
            env!("CARGO_BIN_EXE_pipe"),
            &listener.addr(),
            streams,
        ]);
        // Its input stays open.
        let mut dialer = Pipe::start_command(&mut command);
        dialer.out_line("over");
        let ended = dialer.wait_with_open_input();
        assert_eq!(ended.text(), "y\nover\n");
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
}

/// A pair of sockets, one end of which does not block and is to be given to the program.
fn non_blocking() -> (UnixStream, Stdio) {
    let (here, there) = UnixStream::pair().unwrap();
    there.set_nonblocking(true).unwrap();
    (here, OwnedFd::from(there).into())
}

#[test]
fn input_and_output_that_do_not_block_carry_everything() {
    let bytes = many_bytes();
    let dir = tempfile::tempdir().unwrap();
    let addr = format!("unix://{}/socket", dir.path().display());
    let (mut from_listener, output) = non_blocking();
    let mut listener = Command::new(env!("CARGO_BIN_EXE_pipe"));
    listener
        .args(["listen", &addr])
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped());
    let mut child = listener.spawn().unwrap();
    drop(listener);
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line}");

    let (mut to_dialer, input) = non_blocking();
    let mut dialer = Command::new(env!("CARGO_BIN_EXE_pipe"));
    dialer
        .args(["dial", &addr])
        .stdin(input)
        .stdout(Stdio::null());
    let mut dialed = dialer.spawn().unwrap();
    drop(dialer);
    let sent = bytes.clone();
    let (goes_on, first_came) = mpsc::channel();
    let writer = thread::spawn(move || {
        // Nothing is there to read until the first byte has come, nor does the rest fit at once.
        to_dialer.write_all(&sent[..1]).unwrap();
        first_came.recv().unwrap();
        to_dialer.write_all(&sent[1..]).unwrap();
    });
    from_listener.set_read_timeout(Some(LIMIT)).unwrap();
    let mut came = vec![0];
    from_listener.read_exact(&mut came).unwrap();
    goes_on.send(()).unwrap();
    // The reader is slow: the output would block.
    thread::sleep(Duration::from_millis(500));
    from_listener.read_to_end(&mut came).unwrap();
    writer.join().unwrap();
    assert!(came == bytes, "{} of {} bytes", came.len(), bytes.len());
    assert!(dialed.wait().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_peer_that_cannot_write_is_no_success_for_the_sender() {
    let dir = tempfile::tempdir().unwrap();
    let addr = format!("unix://{}/socket", dir.path().display());
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut listener = Command::new(env!("CARGO_BIN_EXE_pipe"));
    listener
        .args(["listen", &addr])
        .stdin(Stdio::piped())
        .stdout(full)
        .stderr(Stdio::piped());
    let mut child = listener.spawn().unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    let dialed = Pipe::run(&["dial", &addr], &many_bytes());
    assert_eq!(dialed.code, Some(1), "{}", dialed.err);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Starts a listener whose command has several processes; each has its id in the folder.
fn listener_with_processes(dir: &Path) -> Pipe {
    let script = format!(
        "cd {}; (echo $$ >shell; exec sh -c 'echo $$ >one; exec sleep 600') | sh -c 'echo $$ >two; exec sleep 600'",
        dir.display()
    );
    Pipe::start(&["listen", "tcp://127.0.0.1:0", "--exec", &script])
}

/// The processes that the command has started, once they are there.
fn processes(dir: &Path) -> Vec<Pid> {
    let deadline = Instant::now() + LIMIT;
    let read = |name: &str| {
        let text = std::fs::read_to_string(dir.join(name)).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    };
    loop {
        let found: Option<Vec<_>> = ["shell", "one", "two"]
            .iter()
            .map(|name| read(name))
            .collect();
        if let Some(found) = found {
            return found;
        }
        assert!(Instant::now() < deadline, "the command does not start");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a process has ended. One whose parent has not looked counts as ended.
fn wait_for_end(pid: Pid) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        match stat {
            Err(_) => return,
            Ok(stat)
                if stat
                    .rsplit(") ")
                    .next()
                    .is_some_and(|rest| rest.starts_with('Z')) =>
            {
                return;
            }
            Ok(_) => {}
        }
        assert!(Instant::now() < deadline, "{pid:?} lives on");
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn all_processes_of_a_command_end_with_its_client() {
    for ended_input in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let listener = listener_with_processes(dir.path());
        let mut dialer = Pipe::start(&["dial", &listener.addr()]);
        if ended_input {
            dialer.end_input();
        }
        let processes = processes(dir.path());
        dialer.kill();
        processes.into_iter().for_each(wait_for_end);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn all_processes_of_a_command_end_with_the_listener() {
    for signals in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut listener = listener_with_processes(dir.path());
        let _dialer = Pipe::start(&["dial", &listener.addr()]);
        let processes = processes(dir.path());
        for _ in 0..signals {
            listener.signal(Signal::TERM);
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(listener.wait_with_open_input().code, Some(143));
        processes.into_iter().for_each(wait_for_end);
    }
}
