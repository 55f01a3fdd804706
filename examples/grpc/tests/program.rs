//! The program as a user runs it: its output, and its exit codes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pipe-example-grpc"))
}

#[test]
fn the_demo_succeeds() {
    let output = program()
        .args(["demo", "tcp://127.0.0.1:0"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("gRPC over tcp://"), "{told}");
}

#[test]
fn two_processes_meet_and_an_error_of_the_server_is_told() {
    let mut server = program()
        .args(["serve", "tls://127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(server.stderr.take().unwrap()).lines();
    let listening = told.next().unwrap().unwrap();
    let addr = listening.strip_prefix("listening on ").unwrap();

    let forecast = ["forecast", addr, "Perth", "--hours", "3"];
    let output = program().args(forecast).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 3, "{printed}");
    assert!(printed.starts_with("Perth in 0 h: "), "{printed}");

    let output = program().args(["now", addr, "Atlantis"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("Atlantis"), "{error}");
    server.kill().unwrap();
    server.wait().unwrap();
}
