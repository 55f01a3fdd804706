//! Wrong uses: one clear line each, and the exit code that fits.

use std::fs;

use crate::pipe::Pipe;

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    for (args, parts) in [
        (
            &["dial", "gopher://a:70"][..],
            &["gopher://a:70", "the known schemes are"][..],
        ),
        (&["dial", "tcp://a"], &["tcp://a", "the port is missing"]),
        (
            &["dial", "nonsense"],
            &["nonsense", "expected the form scheme://"],
        ),
        (
            &["dial", "inproc://a"],
            &["inproc://a", "live in one process"],
        ),
        (&["listen", "webrtc+inproc://a"], &["live in one process"]),
        (&["dial"], &["<ADDR>"]),
        (
            &["ping", "tcp://a:1", "--count", "many"],
            &["--count", "many"],
        ),
        (
            &["ping", "tcp://a:1", "--interval", "soon"],
            &["--interval", "soon"],
        ),
        (&["dial", "tcp://a:1", "--stream", "0"], &["--stream", "0"]),
        (
            &["dial", "tcp://a:1", "--keep-alive", "1h"],
            &["keep_alive"],
        ),
        (
            &["dial", "tcp://a:1", "--roots", "/nowhere.pem"],
            &["/nowhere.pem", "No such file"],
        ),
        (&["dial", "tcp://a:1", "--key", "/nowhere.pem"], &["--cert"]),
        (
            &[
                "dial",
                "webrtc+tcp://a:1",
                "--turn",
                "turn:a:1",
                "--turn-user",
                "me",
            ],
            &["turn:a:1", "needs a user name and a credential"],
        ),
        (&["fly"], &["fly"]),
    ] {
        Pipe::run(args, b"").fails(2, parts);
    }
}

#[test]
fn an_address_without_a_listener_is_told_on_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    for addr in [
        "tcp://127.0.0.1:1".to_owned(),
        "tls://127.0.0.1:1".to_owned(),
        format!("quic://127.0.0.1:1?cert-sha256={}", "00".repeat(32)),
        "webrtc+tcp://127.0.0.1:1".to_owned(),
        "webrtc+http://127.0.0.1:1/a".to_owned(),
        format!("unix://{}/socket", dir.path().display()),
    ] {
        let at = addr.trim_start_matches("webrtc+");
        for command in ["dial", "ping"] {
            Pipe::run(&[command, &addr], b"").fails(3, &[at]);
        }
    }
}

#[test]
fn a_busy_address_is_told() {
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0"]);
    let addr = listener.addr();
    Pipe::run(&["listen", &addr], b"").fails(3, &[&addr, "there is a listener already"]);
}

#[test]
fn a_port_without_permission_and_a_missing_directory_are_told() {
    Pipe::run(&["listen", "unix:///nowhere/at/all/socket"], b"")
        .fails(3, &["/nowhere/at/all/socket"]);
    Pipe::run(&["listen", "tcp://192.0.2.1:1"], b"")
        .fails(3, &["192.0.2.1", "no address of this host"]);
}

#[test]
fn a_wrong_certificate_is_told_by_both_kinds_of_trust() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let roots = dir.path().join("roots.pem");
    fs::write(&roots, made.cert.pem()).unwrap();
    for scheme in ["tls", "quic"] {
        let listener = Pipe::start(&["listen", &format!("{scheme}://127.0.0.1:0")]);
        let addr = listener.addr();
        let (bare, _) = addr.split_once('?').unwrap();
        let wrong = format!("{bare}?cert-sha256={}", "00".repeat(32));
        Pipe::run(&["dial", &wrong], b"").fails(4, &[&wrong, "the pinned certificate is"]);
        let ended = Pipe::run(&["dial", bare, "--roots", roots.to_str().unwrap()], b"");
        ended.fails(4, &[bare, "certificate"]);
    }
}

#[test]
fn certificates_of_ones_own_are_checked_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["server", "client", "stranger"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(
            file(name),
            made.cert.pem() + &made.signing_key.serialize_pem(),
        )
        .unwrap();
    }
    for scheme in ["tls", "quic", "webrtc+tls", "webrtc+https"] {
        let listen = format!("{scheme}://127.0.0.1:0");
        let listener = Pipe::start(&[
            "listen",
            &listen,
            "--cert",
            &file("server"),
            "--client-roots",
            &file("client"),
            "--no-token",
            "--exec",
            "cat",
        ]);
        let addr = listener.addr();
        let (bare, _) = addr.split_once('?').unwrap();
        let dial = |addr: &str, own: &str| {
            let roots = file("server");
            Pipe::run(
                &["dial", addr, "--roots", &roots, "--cert", &file(own)],
                b"me",
            )
        };
        let by_name = format!("{bare}?server-name=localhost");
        assert_eq!(dial(&by_name, "client").ok().text(), "me");
        assert_eq!(dial(&addr, "client").ok().text(), "me");
        dial(&by_name, "stranger").fails(4, &["certificate"]);
    }
}
