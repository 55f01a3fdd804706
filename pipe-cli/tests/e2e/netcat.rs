//! `pipe listen` and `pipe dial`.

use rustix::process::Signal;

use crate::pipe::Pipe;
use crate::route::{Route, on_every_transport};

on_every_transport! {
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
        let mut command = std::process::Command::new("sh");
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
