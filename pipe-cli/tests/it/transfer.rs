//! `pipe send` and `pipe receive`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::pipe::{LIMIT, Pipe, bare};
use crate::route::{Route, on_every_route};

on_every_route! {
    files_and_folders_arrive_as_they_were
    a_sender_that_was_killed_goes_on_where_it_was
    a_receiver_that_was_killed_goes_on_where_it_was
}

/// Bytes that differ from place to place.
fn bytes(size: usize, seed: u32) -> Vec<u8> {
    (0..size as u32)
        .map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder to send from, and one to receive into.
struct Folders {
    temp: TempDir,
}

impl Folders {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("to")).unwrap();
        Self { temp }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.temp.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn to(&self) -> PathBuf {
        self.temp.path().join("to")
    }

    /// The names of all that has arrived.
    fn arrived(&self) -> Vec<String> {
        let entries = walkdir::WalkDir::new(self.to())
            .min_depth(1)
            .sort_by_file_name();
        let names = entries.into_iter().map(|entry| {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(self.to()).unwrap();
            name.to_str().unwrap().to_owned()
        });
        names.collect()
    }

    /// Waits until the part of the file has at least so many bytes.
    fn wait_for_part(&self, size: u64) {
        let part = self.to().join(".file.pipe.part");
        let deadline = Instant::now() + LIMIT;
        while fs::metadata(&part).map_or(0, |part| part.len()) < size {
            assert!(Instant::now() < deadline, "nothing arrives");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A certificate that stays the same when a listener is started again.
    fn certificate(&self) -> String {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        text(&self.file("cert.pem", pem.as_bytes())).to_owned()
    }
}

/// The events on standard output.
fn events(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// From where the file was sent.
fn from(out: &str) -> u64 {
    let events = events(out);
    let file = events
        .iter()
        .find(|event| event["event"] == "file")
        .unwrap();
    file["from"].as_u64().unwrap()
}

fn files_and_folders_arrive_as_they_were(route: &Route) {
    let folders = Folders::new();
    let big = bytes(1_300_001, 0);
    folders.file("tree/deep/er/big", &big);
    folders.file("tree/empty", b"");
    folders.file("tree/ä 日本", b"unicode");
    fs::create_dir_all(folders.temp.path().join("tree/nothing/in/it")).unwrap();
    let script = folders.file("script", b"#!/bin/sh\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let tree = folders.temp.path().join("tree");

    let receiver = Pipe::start(&["receive", &route.addr, text(&folders.to())]);
    let addr = receiver.addr();
    let sent = Pipe::run(&["send", text(&tree), text(&script), &addr], b"").ok();
    assert!(sent.text().starts_with("sent 5 files, "), "{}", sent.text());
    let received = receiver.wait().ok();
    assert!(
        received.text().starts_with("received "),
        "{}",
        received.text()
    );

    let names = folders.arrived();
    let expected = [
        "script",
        "tree",
        "tree/deep",
        "tree/deep/er",
        "tree/deep/er/big",
        "tree/empty",
        "tree/nothing",
        "tree/nothing/in",
        "tree/nothing/in/it",
        "tree/ä 日本",
    ];
    assert_eq!(names, expected);
    assert!(fs::read(folders.to().join("tree/deep/er/big")).unwrap() == big);
    assert_eq!(
        fs::read(folders.to().join("tree/ä 日本")).unwrap(),
        b"unicode"
    );
    let copy = fs::metadata(folders.to().join("script")).unwrap();
    assert_eq!(copy.permissions().mode() & 0o111, 0o111);
    let millis = |metadata: &fs::Metadata| {
        let since = metadata
            .modified()
            .unwrap()
            .duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_millis()
    };
    assert_eq!(millis(&copy), millis(&fs::metadata(&script).unwrap()));
}

fn a_sender_that_was_killed_goes_on_where_it_was(route: &Route) {
    let folders = Folders::new();
    let bytes = bytes(12_000_000, 1);
    let file = folders.file("file", &bytes);
    let receiver = Pipe::start(&["receive", &route.addr, text(&folders.to())]);
    let addr = receiver.addr();
    let sender = Pipe::start(&["send", "--limit", "1M", text(&file), &addr]);
    folders.wait_for_part(500_000);
    sender.kill();
    assert_eq!(folders.arrived(), [".file.pipe.part"]);
    let sent = Pipe::run(&["--json", "send", text(&file), &addr], b"").ok();
    receiver.wait().ok();
    assert!(from(&sent.text()) >= 500_000, "{}", sent.text());
    assert_eq!(folders.arrived(), ["file"]);
    assert!(fs::read(folders.to().join("file")).unwrap() == bytes);
}

fn a_receiver_that_was_killed_goes_on_where_it_was(route: &Route) {
    let folders = Folders::new();
    let bytes = bytes(4_000_000, 2);
    let file = folders.file("file", &bytes);
    let certificate = folders.certificate();
    let to = folders.to();
    let receive = |addr: &str| Pipe::start(&["receive", addr, text(&to), "--cert", &certificate]);
    let receiver = receive(&route.lasting());
    let addr = receiver.addr();
    let sender = Pipe::start(&[
        "--json",
        "send",
        "--limit",
        "1M",
        "--failed-after",
        "3s",
        text(&file),
        &addr,
    ]);
    folders.wait_for_part(500_000);
    receiver.kill();
    assert_eq!(folders.arrived(), [".file.pipe.part"]);
    let receiver = receive(&addr);
    let sent = sender.wait().ok();
    receiver.wait().ok();
    assert!(from(&sent.text()) >= 500_000, "{}", sent.text());
    assert!(sent.text().contains(r#""event":"lost""#), "{}", sent.text());
    assert_eq!(folders.arrived(), ["file"]);
    assert!(fs::read(folders.to().join("file")).unwrap() == bytes);
}

#[test]
fn what_is_there_already_is_kept_or_replaced_but_never_mixed() {
    let folders = Folders::new();
    let file = folders.file("file", b"new content");
    let there = folders.file("to/file", b"old content");
    let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(&folders.to())]);
    let sent = Pipe::run(&["send", text(&file), &receiver.addr()], b"");
    sent.fails(1, &["file: another file of this name is there"]);
    receiver
        .wait()
        .fails(1, &["file: another file of this name is there"]);
    assert_eq!(fs::read(&there).unwrap(), b"old content");

    // A part of something else is not built upon.
    folders.file("to/.file.pipe.part", b"not it");
    for _ in 0..2 {
        let receiver = Pipe::start(&[
            "receive",
            "--overwrite",
            "tcp://127.0.0.1:0",
            text(&folders.to()),
        ]);
        let sent = Pipe::run(&["send", text(&file), &receiver.addr()], b"").ok();
        assert!(sent.text().starts_with("sent 1 file, "), "{}", sent.text());
        receiver.wait().ok();
        assert_eq!(fs::read(&there).unwrap(), b"new content");
    }
    assert_eq!(folders.arrived(), ["file"]);
}

#[test]
fn an_interrupted_transfer_says_so_and_can_go_on() {
    let folders = Folders::new();
    let file = folders.file("file", &bytes(40_000_000, 3));
    let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(&folders.to())]);
    let addr = receiver.addr();
    let sender = Pipe::start(&["-v", "send", "--limit", "1M", text(&file), &addr]);
    folders.wait_for_part(100_000);
    sender.signal(Signal::INT);
    sender.err_line("stopping");
    sender.signal(Signal::INT);
    let ended = sender.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.err);
    let again = Pipe::run(&["--json", "send", text(&file), &addr], b"").ok();
    assert!(from(&again.text()) >= 100_000);
    receiver.wait().ok();
}

#[test]
fn a_receiver_that_keeps_on_takes_several_transfers_at_once() {
    let folders = Folders::new();
    let receiver = Pipe::start(&[
        "receive",
        "--keep",
        "tcp://127.0.0.1:0",
        text(&folders.to()),
    ]);
    let addr = receiver.addr();
    thread::scope(|scope| {
        for number in 0..4 {
            let (folders, addr) = (&folders, &addr);
            scope.spawn(move || {
                let file = folders.file(&format!("file{number}"), &bytes(300_000, number));
                Pipe::run(&["send", text(&file), addr], b"").ok();
            });
        }
    });
    assert_eq!(folders.arrived(), ["file0", "file1", "file2", "file3"]);
    receiver.signal(Signal::TERM);
    receiver.wait().ok();
}

#[test]
fn names_from_the_peer_never_leave_the_folder() {
    let folders = Folders::new();
    let outside = folders.temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, folders.to().join("link")).unwrap();
    std::os::unix::fs::symlink(outside.join("made"), folders.to().join("file")).unwrap();
    let receiver = Pipe::start(&[
        "receive",
        "--keep",
        "tcp://127.0.0.1:0",
        text(&folders.to()),
    ]);
    let addr = receiver.addr();
    for (path, why) in [
        ("../outside/evil", "has . or .. in it"),
        ("/tmp/evil", "is absolute"),
        ("a/../../evil", "has . or .. in it"),
        ("link/evil", "a symbolic link leads out of the folder"),
        ("link/deep/evil", "a symbolic link leads out of the folder"),
        ("file", "another file of this name is there"),
    ] {
        let message = serde_json::json!({
            "protocol": "pipe-transfer/1", "request": "file", "path": path, "size": 4,
        });
        let message = message.to_string();
        let frame = [&(message.len() as u32).to_be_bytes(), message.as_bytes()].concat();
        let answer = Pipe::run(&["dial", &addr], &frame);
        let answer = String::from_utf8_lossy(&answer.out).into_owned();
        assert!(
            answer.contains("refused") && answer.contains(why),
            "{path}: {answer}"
        );
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn what_speaks_something_else_is_told_so() {
    let folders = Folders::new();
    let file = folders.file("file", b"x");
    let echo = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--exec", "cat"]);
    let addr = echo.addr();
    Pipe::run(&["send", text(&file), &addr], b"")
        .fails(1, &[&bare(&addr), "does not answer as `pipe receive` does"]);

    let receiver = Pipe::start(&[
        "receive",
        "--keep",
        "tcp://127.0.0.1:0",
        text(&folders.to()),
    ]);
    let dialed = Pipe::run(&["dial", &receiver.addr()], b"GET / HTTP/1.1\r\n\r\n");
    let answer = String::from_utf8_lossy(&dialed.out).into_owned();
    assert!(answer.contains("this is `pipe receive`"), "{answer}");
    receiver.err_line("pipe: refused a request of tcp://127.0.0.1:");
}

#[test]
fn a_limit_of_the_disk_gives_one_clear_line_on_both_sides() {
    let folders = Folders::new();
    let file = folders.file("file", &bytes(300_000, 4));
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -f 100; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_pipe"),
    ]);
    command.args(["receive", "tcp://127.0.0.1:0", text(&folders.to())]);
    let receiver = Pipe::start_command(&mut command);
    let sent = Pipe::run(&["send", text(&file), &receiver.addr()], b"");
    sent.fails(1, &["file: File too large"]);
    receiver.wait().fails(1, &["file: File too large"]);
    assert_eq!(folders.arrived(), [".file.pipe.part"]);
}

/// A disk of 1 MB, in a namespace of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_gives_one_clear_line_on_both_sides() {
    let folders = Folders::new();
    let isolated = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!(
            "mount -t tmpfs -o size=1m tmpfs \"$1\" && {script}"
        ));
        command.args([env!("CARGO_BIN_EXE_pipe"), text(&folders.to())]);
        command
    };
    let possible = isolated("true")
        .output()
        .is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("left out: this system lets nobody mount anything in a namespace of their own");
        return;
    }
    for name in ["one", "two", "three", "four", "five", "six"] {
        folders.file(&format!("tree/{name}"), &bytes(500_000, 5));
    }
    let script = "exec \"$0\" receive tcp://127.0.0.1:0 \"$1\"";
    let receiver = Pipe::start_command(&mut isolated(script));
    let tree = folders.temp.path().join("tree");
    let sent = Pipe::run(&["send", text(&tree), &receiver.addr()], b"");
    sent.fails(1, &["tree/", "No space left on device"]);
    receiver
        .wait()
        .fails(1, &["tree/", "No space left on device"]);
}

#[test]
fn files_that_cannot_be_read_are_named_and_the_others_are_sent() {
    let folders = Folders::new();
    let good = folders.file("good", b"x");
    let missing = folders.temp.path().join("missing");
    let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(&folders.to())]);
    let sent = Pipe::run(
        &["send", text(&good), text(&missing), &receiver.addr()],
        b"",
    );
    sent.fails(1, &[text(&missing), "No such file or directory"]);
    receiver
        .wait()
        .fails(1, &["1 files or folders could not be sent"]);
    assert_eq!(folders.arrived(), ["good"]);
    // Nothing to send is known before the dial.
    Pipe::run(&["send", text(&missing), "tcp://127.0.0.1:1"], b"").fails(1, &["No such file"]);
}

#[test]
fn links_in_a_folder_are_left_out_with_a_word_and_a_missing_folder_is_made() {
    let folders = Folders::new();
    let file = folders.file("tree/file", b"x");
    let tree = file.parent().unwrap();
    std::os::unix::fs::symlink("file", tree.join("link")).unwrap();
    let made = folders.to().join("made");
    let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(&made)]);
    let sent = Pipe::run(&["send", text(tree), &receiver.addr()], b"").ok();
    let word = format!("pipe: {}/link: a symbolic link, left out", text(tree));
    assert!(sent.err.contains(&word), "{}", sent.err);
    receiver.wait().ok();
    assert_eq!(folders.arrived(), ["made", "made/tree", "made/tree/file"]);
}

#[test]
fn a_file_without_permission_is_named() {
    use std::os::unix::process::CommandExt;
    let folders = Folders::new();
    let secret = folders.file("secret", b"x");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything, and so becomes nobody, with a program in reach.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folders.temp.path(), open.clone()).unwrap();
    let program = folders.temp.path().join("pipe");
    fs::copy(env!("CARGO_BIN_EXE_pipe"), &program).unwrap();
    fs::set_permissions(&program, open).unwrap();
    let mut command = Command::new(&program);
    command.args(["send", text(&secret), "tcp://127.0.0.1:1"]);
    if rustix::process::getuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let sent = Pipe::start_command(&mut command).wait();
    sent.fails(1, &[text(&secret), "Permission denied"]);
}

#[test]
fn wrong_uses_are_told() {
    let folders = Folders::new();
    let file = folders.file("file", b"x");
    let missing = folders.temp.path().join("missing/deep");
    Pipe::run(&["receive", "tcp://127.0.0.1:0", text(&missing)], b"")
        .fails(1, &[text(&missing), "No such file or directory"]);
    Pipe::run(&["receive", "tcp://127.0.0.1:0", text(&file)], b"")
        .fails(1, &[text(&file), "not a directory"]);
    Pipe::run(&["send", text(&file), "tcp://127.0.0.1:1"], b"").fails(3, &["tcp://127.0.0.1:1"]);
    Pipe::run(
        &["send", text(&file), text(&file), "tcp://127.0.0.1:1"],
        b"",
    )
    .fails(2, &["have this name"]);
    Pipe::run(&["send", text(&file)], b"").fails(2, &["required arguments"]);
    Pipe::run(&["send", "--limit", "1x", text(&file), "tcp://a:1"], b"")
        .fails(2, &["--limit", "1x"]);
}

#[test]
fn a_file_whose_size_the_system_does_not_know_arrives_with_its_content() {
    let folders = Folders::new();
    let source = Path::new("/proc/version");
    if !source.exists() {
        eprintln!("left out: this system has no /proc");
        return;
    }
    assert_eq!(fs::metadata(source).unwrap().len(), 0);
    let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(&folders.to())]);
    Pipe::run(&["send", text(source), &receiver.addr()], b"").ok();
    receiver.wait().ok();
    let content = fs::read(source).unwrap();
    assert!(!content.is_empty());
    assert_eq!(fs::read(folders.to().join("version")).unwrap(), content);
}

#[test]
fn a_file_that_grows_or_shrinks_meanwhile_is_told_and_not_taken_for_whole() {
    for (size, why) in [
        (5_000_000, "has changed while"),
        (1_000_000, "shorter while"),
    ] {
        let folders = Folders::new();
        let file = folders.file("file", &bytes(4_000_000, 9));
        let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(&folders.to())]);
        let sender = Pipe::start(&["send", "--limit", "3M", text(&file), &receiver.addr()]);
        folders.wait_for_part(100_000);
        let growing = fs::File::options().write(true).open(&file).unwrap();
        growing.set_len(size).unwrap();
        sender.wait().fails(1, &["file", why]);
        assert_eq!(receiver.wait().code, Some(1));
        assert!(!folders.to().join("file").exists());
    }
}

#[test]
fn permissions_and_old_times_arrive_as_they_were_within_the_umask() {
    let folders = Folders::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let old = std::time::UNIX_EPOCH - Duration::from_millis(1_500_000_000_250);
    for (name, mode) in [
        ("tree/secret", 0o600),
        ("tree/open", 0o666),
        ("tree/program", 0o4755),
        ("tree/own/inner", 0o644),
    ] {
        let path = folders.file(name, name.as_bytes());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    let tree = folders.temp.path().join("tree");
    fs::set_permissions(tree.join("own"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new("sh");
    let script = "umask 027; exec \"$0\" receive tcp://127.0.0.1:0 \"$1\"";
    command.args([
        "-c",
        script,
        env!("CARGO_BIN_EXE_pipe"),
        text(&folders.to()),
    ]);
    let receiver = Pipe::start_command(&mut command);
    Pipe::run(&["send", text(&tree), &receiver.addr()], b"").ok();
    receiver.wait().ok();
    let to = folders.to().join("tree");
    assert_eq!(mode(&to.join("secret")), 0o600);
    assert_eq!(mode(&to.join("open")), 0o640);
    assert_eq!(mode(&to.join("program")), 0o750);
    assert_eq!(mode(&to.join("own/inner")), 0o640);
    assert_eq!(mode(&to.join("own")), 0o700);
    let time = fs::metadata(to.join("secret")).unwrap().modified().unwrap();
    assert_eq!(
        time,
        fs::metadata(tree.join("secret"))
            .unwrap()
            .modified()
            .unwrap()
    );
}

#[test]
fn what_is_not_whole_yet_is_hidden_from_others() {
    let folders = Folders::new();
    let file = folders.file("file", &bytes(4_000_000, 9));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let receiver = Pipe::start(&["receive", "tcp://127.0.0.1:0", text(&folders.to())]);
    let sender = Pipe::start(&["send", "--limit", "1M", text(&file), &receiver.addr()]);
    folders.wait_for_part(100_000);
    let part = fs::metadata(folders.to().join(".file.pipe.part")).unwrap();
    assert_eq!(part.permissions().mode() & 0o777, 0o600);
    drop((sender, receiver));
}
