//! The program as a user runs it: its output, and its exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pipe-example-http"))
}

#[test]
fn the_demo_succeeds() {
    let output = program()
        .args(["demo", "tcp://127.0.0.1:0"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    for version in ["HTTP/1.1 over tcp://", "HTTP/2.0 over tcp://"] {
        assert!(told.contains(version), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn two_processes_meet_and_an_interrupt_ends_the_server_in_good_order() {
    let mut server = program()
        .args(["serve", "quic://127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(server.stderr.take().unwrap()).lines();
    let listening = told.next().unwrap().unwrap();
    let addr = listening.strip_prefix("listening on ").unwrap();

    for (version, options) in [("HTTP/1.1", &[][..]), ("HTTP/2.0", &["--http2"])] {
        let output = program()
            .args(["get", addr, "/about"])
            .args(options)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let about: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(about["http"], version);
    }

    let pid = server.id().to_string();
    let interrupted = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(interrupted.success());
    let status = server.wait().unwrap();
    assert!(status.success(), "{status}: {:?}", told.collect::<Vec<_>>());
}

#[test]
fn a_page_that_cannot_be_got_is_an_error() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = program()
        .args(["get", &format!("tcp://{nobody}")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&nobody.to_string()), "{told}");

    let output = program().args(["get", "no address"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
