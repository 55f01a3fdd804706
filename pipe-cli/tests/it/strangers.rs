//! Peers that have not been invited, or want more than is good.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pipe::{LIMIT, Pipe, bare};
use crate::route::{Route, on_every_route};

on_every_route! {
    an_address_without_its_token_opens_nothing
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The frames of messages.
fn frames(messages: &[Value]) -> Vec<u8> {
    let mut frames = Vec::new();
    for message in messages {
        let message = message.to_string();
        frames.extend((message.len() as u32).to_be_bytes());
        frames.extend(message.as_bytes());
    }
    frames
}

/// A request of a transfer.
fn request(mut fields: Value) -> Value {
    fields["protocol"] = "pipe-transfer/1".into();
    fields
}

/// What is answered to a request on a connection of its own.
fn answer(addr: &str, fields: Value) -> String {
    let ended = Pipe::run(&["dial", addr], &frames(&[request(fields)]));
    String::from_utf8_lossy(&ended.out).into_owned()
}

fn token(addr: &str) -> &str {
    let (_, from) = addr.split_once("token=").unwrap();
    from.split(',').next().unwrap()
}

/// A receiver that knows no token, with its folder and address.
fn open_receiver(options: &[&str]) -> (Pipe, TempDir, String) {
    let to = TempDir::new().unwrap();
    let args = [
        "receive",
        "--no-token",
        "tcp://127.0.0.1:0",
        text(to.path()),
    ];
    let receiver = Pipe::start(&[&args, options].concat());
    let addr = receiver.addr();
    (receiver, to, addr)
}

fn an_address_without_its_token_opens_nothing(route: &Route) {
    let touched = TempDir::new().unwrap();
    let made = touched.path().join("made");
    let command = format!("touch {}; cat", made.display());
    let listener = Pipe::start(&["listen", &route.addr, "--exec", &command]);
    let addr = listener.addr();
    let secret = token(&addr);
    assert_eq!(secret.len(), 32, "{addr}");
    let stranger = bare(&addr);
    Pipe::run(&["dial", &stranger], b"hello").fails(4, &["the token is missing or wrong"]);
    let wrong = addr.replace(secret, &"0".repeat(32));
    let ended = Pipe::run(&["dial", &wrong], b"hello");
    ended.fails(4, &["the peer does not take the token"]);
    assert!(!ended.err.contains("000000"), "{}", ended.err);
    assert!(!made.exists());
    let dialed = Pipe::run(&["dial", &addr], b"hello").ok();
    assert_eq!(dialed.text(), "hello");
    assert!(!dialed.err.contains(secret), "{}", dialed.err);
    Pipe::run(&["ping", "--count", "1", &addr], b"").ok();
    assert!(
        Pipe::run(&["doctor", &addr], b"")
            .ok()
            .text()
            .ends_with("all is well\n")
    );
}

#[test]
fn each_command_that_serves_prints_another_secret_unless_told_not_to() {
    let to = TempDir::new().unwrap();
    let at = "tcp://127.0.0.1:0";
    let mut seen = Vec::new();
    for args in [
        &["listen", at, "--exec", "cat"][..],
        &["receive", at, text(to.path())],
        &["expose", at, "--to", "127.0.0.1:1"],
    ] {
        let addr = Pipe::start(args).addr();
        seen.push(token(&addr).to_owned());
        let addr = Pipe::start(&[args, &["--no-token"]].concat()).addr();
        assert!(!addr.contains("token"), "{addr}");
        let chosen = format!("{at}?token=a-secret-of-my-own");
        let args: Vec<_> = args
            .iter()
            .map(|arg| if *arg == at { &chosen } else { *arg })
            .collect();
        assert_eq!(token(&Pipe::start(&args).addr()), "a-secret-of-my-own");
        Pipe::run(&[&args[..], &["--no-token"]].concat(), b"").fails(2, &["--no-token"]);
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
    // One stream on the terminal has none, unless it is asked for.
    assert!(!Pipe::start(&["listen", at]).addr().contains("token"));
    Pipe::run(&["dial", "tcp://a:1?token=short"], b"").fails(2, &["a token has from 16 to 128"]);
}

#[test]
fn senders_and_forwarders_without_the_token_give_up_at_once() {
    let to = TempDir::new().unwrap();
    let file = to.path().join("file");
    fs::write(&file, "x").unwrap();
    let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(to.path())]);
    let stranger = bare(&receiver.addr());
    Pipe::run(&["send", text(&file), &stranger], b"").fails(4, &["the token is missing"]);
    let wrong = format!("{stranger}?token={}", "0".repeat(32));
    Pipe::run(&["send", text(&file), &wrong], b"").fails(4, &["does not take the token"]);
    Pipe::run(&["forward", "--local", "127.0.0.1:0", &wrong], b"")
        .fails(4, &["does not take the token"]);
    let sent = Pipe::run(&["send", text(&file), &receiver.addr()], b"").ok();
    assert!(!sent.err.contains(token(&receiver.addr())), "{}", sent.err);
    receiver.wait().ok();
}

#[test]
fn silent_strangers_do_not_keep_a_sender_out() {
    let listener = Pipe::start(&[
        "listen",
        "tcp://127.0.0.1:0",
        "--exec",
        "cat",
        "--max-conns",
        "1",
    ]);
    let addr = listener.addr();
    let stranger = bare(&addr);
    let silent: Vec<_> = (0..4).map(|_| Pipe::start(&["ping", &stranger])).collect();
    for pipe in &silent {
        pipe.out_line("seq=1");
    }
    assert_eq!(Pipe::run(&["dial", &addr], b"hello").ok().text(), "hello");
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let listener = Pipe::start(&[
        "listen",
        "tcp://127.0.0.1:0",
        "--exec",
        "cat",
        "--max-conns",
        "1",
    ]);
    let addr = listener.addr();
    let mut first = Pipe::start(&["dial", &addr]);
    first.write(b"hello\n");
    first.out_line("hello");
    let second = Pipe::run(&["dial", &addr], b"");
    assert_ne!(second.code, Some(0));
    assert!(
        second.err.contains("too many connections (--max-conns)"),
        "{}",
        second.err
    );
    first.wait().ok();
    // The place is free again, once the connection has gone.
    let deadline = Instant::now() + LIMIT;
    while Pipe::run(&["dial", &addr], b"").code != Some(0) {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_finish_ends_no_transfer_but_its_own() {
    let (receiver, to, addr) = open_receiver(&[]);
    let from = TempDir::new().unwrap();
    let file = from.path().join("file");
    fs::write(&file, vec![7; 3_000_000]).unwrap();
    let sender = Pipe::start(&["send", "--limit", "2M", text(&file), &addr]);
    let part = to.path().join(".file.pipe.part");
    let deadline = Instant::now() + LIMIT;
    while !part.exists() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(2));
    }
    let told = answer(&addr, json!({"request": "finish", "failed": 0}));
    assert!(
        told.contains("no transfer of this connection has begun"),
        "{told}"
    );
    let told = answer(&addr, json!({"request": "hello", "files": 0, "bytes": 0}));
    assert!(told.contains("announces nothing"), "{told}");
    sender.wait().ok();
    receiver.wait().ok();
    assert_eq!(fs::read(to.path().join("file")).unwrap().len(), 3_000_000);
}

#[test]
fn a_newcomer_does_not_displace_a_sender_that_is_there() {
    let (receiver, to, addr) = open_receiver(&[]);
    let from = TempDir::new().unwrap();
    let file = from.path().join("file");
    fs::write(&file, vec![7; 3_000_000]).unwrap();
    let sender = Pipe::start(&["send", "--limit", "1M", text(&file), &addr]);
    let part = to.path().join(".file.pipe.part");
    let deadline = Instant::now() + LIMIT;
    while fs::metadata(&part).map_or(0, |part| part.len()) < 100_000 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(2));
    }
    let told = answer(&addr, json!({"request": "file", "path": "file", "size": 4}));
    assert!(told.contains("another sender is sending it"), "{told}");
    let sent = sender.wait().ok();
    assert!(!sent.err.contains("lost"), "{}", sent.err);
    receiver.wait().ok();
    assert_eq!(
        fs::read(to.path().join("file")).unwrap(),
        vec![7; 3_000_000]
    );
}

#[test]
fn strangers_learn_no_hash_and_yet_the_same_file_is_no_error() {
    let (receiver, to, addr) = open_receiver(&["--keep"]);
    fs::write(to.path().join("file"), b"secret").unwrap();
    fs::write(to.path().join(".part.pipe.part"), b"sec").unwrap();
    let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for path in ["file", "part"] {
        // Up to the end of the hash.
        let frame = frames(&[request(json!({"request": "file", "path": path, "size": 6}))]);
        let own = TempDir::new().unwrap();
        fs::write(own.path().join("frame"), frame).unwrap();
        let script = format!("cd {}; cat frame; head -c 106 >told", text(own.path()));
        Pipe::run(&["dial", &addr, "--exec", &script], b"");
        let told = fs::read(own.path().join("told")).unwrap();
        let told = String::from_utf8_lossy(&told);
        assert!(
            told.contains(of_nothing) && told.contains(r#""offset":0"#),
            "{told}"
        );
    }
    let from = TempDir::new().unwrap();
    let file = from.path().join("file");
    fs::write(&file, b"secret").unwrap();
    Pipe::run(&["send", text(&file), &addr], b"").ok();
    fs::write(&file, b"others").unwrap();
    Pipe::run(&["send", text(&file), &addr], b"").fails(1, &["another file of this name is there"]);
    assert_eq!(fs::read(to.path().join("file")).unwrap(), b"secret");
    drop(receiver);
}

#[test]
fn no_more_is_stored_than_the_limits_say() {
    let (receiver, to, addr) = open_receiver(&["--keep", "--max-size", "10k", "--max-files", "4"]);
    let from = TempDir::new().unwrap();
    let file = |name: &str, size| {
        let path = from.path().join(name);
        fs::write(&path, vec![1; size]).unwrap();
        text(&path).to_owned()
    };
    Pipe::run(&["send", &file("large", 10_001), &addr], b"").fails(1, &["--max-size"]);
    Pipe::run(&["send", &file("fits", 6_000), &addr], b"").ok();
    Pipe::run(&["send", &file("beyond", 5_000), &addr], b"").fails(1, &["--max-size"]);
    // What is announced is not believed.
    let hello = json!({"request": "file", "path": "more", "size": 5000});
    assert!(answer(&addr, hello).contains("--max-size"));
    let many: Vec<_> = (0..4).map(|number| file(&number.to_string(), 1)).collect();
    let mut args = vec!["send"];
    args.extend(many.iter().map(String::as_str));
    args.push(&addr);
    Pipe::run(&args, b"").fails(1, &["--max-files"]);
    assert!(!to.path().join("beyond").exists());
    drop(receiver);
}

#[test]
fn a_transfer_that_is_not_whole_is_no_success() {
    let (receiver, to, addr) = open_receiver(&[]);
    let own = TempDir::new().unwrap();
    let hello = json!({"request": "hello", "files": 2, "bytes": 2});
    let finish = json!({"request": "finish", "failed": 0});
    fs::write(own.path().join("hello"), frames(&[request(hello)])).unwrap();
    fs::write(own.path().join("finish"), frames(&[request(finish)])).unwrap();
    // One connection, and a stream for each request, one after the other.
    let script = "cd DIR; if mkdir first; then cat hello; head -c 1 >/dev/null; touch said; cat >/dev/null; \
                  else until test -e said; do sleep 0.02; done; cat finish; cat >told; fi";
    let script = script.replace("DIR", text(own.path()));
    Pipe::run(&["dial", &addr, "--stream", "2", "--exec", &script], b"");
    assert!(
        fs::read_to_string(own.path().join("told"))
            .unwrap()
            .contains("done")
    );
    receiver.wait().fails(1, &["0 of 2 files or folders came"]);
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn a_plain_listener_for_others_is_warned_of() {
    let word = "neither encrypted nor authenticated";
    let open = Pipe::start(&["listen", "tcp://0.0.0.0:0", "--exec", "cat"]);
    open.addr();
    assert!(open.err_line("pipe: tcp://").contains(word));
    for addr in ["tcp://127.0.0.1:0", "tls://0.0.0.0:0", "quic://0.0.0.0:0"] {
        let listener = Pipe::start(&["listen", addr, "--exec", "cat"]);
        listener.addr();
        listener.signal(Signal::TERM);
        let ended = listener.wait().ok();
        assert!(!ended.err.contains("pipe: "), "{}", ended.err);
    }
}

#[test]
fn the_token_goes_over_the_plain_wire_too() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0?wire=raw", "--exec", "cat"]);
    let addr = listener.addr();
    assert!(addr.contains("wire=raw&token="), "{addr}");
    assert_eq!(Pipe::run(&["dial", &addr], b"hello").ok().text(), "hello");
    // That wire has no way to say why.
    let stranger = Pipe::run(&["dial", &bare(&addr)], b"hello");
    assert_ne!(stranger.code, Some(0));
    assert_eq!(stranger.text(), "");
}
