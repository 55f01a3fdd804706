//! WebRTC that is signalled over HTTP: by `pipe dial`, and by any program, with the files of `pipe offer`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::pipe::Pipe;

#[test]
fn commands_meet_over_http() {
    for listen in [
        "webrtc+http://127.0.0.1:0/chat",
        "webrtc+https://127.0.0.1:0",
    ] {
        let mut listener = Pipe::start(&["listen", listen]);
        let addr = listener.addr();
        listener.end_input();
        Pipe::run(&["doctor", &addr], b"").ok();
        assert_eq!(Pipe::run(&["dial", &addr], b"hello").ok().text(), "");
        assert_eq!(listener.wait().ok().text(), "hello");
    }
}

#[test]
fn any_program_carries_an_offer_and_its_answer() {
    for (listen, args) in [
        ("webrtc+http://127.0.0.1:0/chat", &[][..]),
        ("webrtc+http://127.0.0.1:0/chat?wire=raw", &["--raw"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (offer, answer) = (file("offer"), file("answer"));
        let made = Command::new("mkfifo").args([&offer, &answer]).status();
        assert!(made.unwrap().success());
        // Plain data channels have no half-close.
        let command = "head -c 5 | tr a-z A-Z";
        let listener = Pipe::start(&["listen", listen, "--no-token", "--exec", command]);
        let at = listener.addr();
        let at = at.trim_start_matches("webrtc+http://");
        let at = at.split('/').next().unwrap();
        let mut dialer = Pipe::start(&[&["offer", &offer, &answer][..], args].concat());
        dialer.write(b"hello");
        dialer.end_input();

        let sdp = fs::read_to_string(&offer).unwrap();
        let mut stream = TcpStream::connect(at).unwrap();
        write!(
            stream,
            "POST /chat HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 201 Created"), "{text}");
        fs::write(&answer, body).unwrap();
        assert_eq!(dialer.wait().ok().text(), "HELLO");
    }
}

#[test]
fn what_is_no_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (offer, answer) = (file("offer"), file("answer"));
    let args = ["offer", &offer, &answer];
    Pipe::run(&args, b"").fails(1, &["answer", "No such file"]);
    assert!(fs::read_to_string(&offer).unwrap().starts_with("v=0"));
    fs::write(&answer, "no answer").unwrap();
    Pipe::run(&args, b"").fails(3, &["no text of a WebRTC negotiation"]);
}
