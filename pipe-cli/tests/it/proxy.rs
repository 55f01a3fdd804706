//! Dials through proxies.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::pipe::{Pipe, bare};

/// Starts a proxy of HTTP for one client after another, which passes on to this machine. Returns its host and port.
fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || pass(client.unwrap()));
        }
    });
    at
}

fn pass(mut client: TcpStream) -> io::Result<()> {
    // The client says nothing more before it is answered.
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let asked = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut login = String::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(given) = line.strip_prefix("Proxy-Authorization: Basic ") {
            login = given.to_owned();
        }
    }
    // me:secret
    if login != "bWU6c2VjcmV0" {
        return client.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n");
    }
    let (host, port) = asked
        .split_whitespace()
        .nth(1)
        .unwrap()
        .split_once(':')
        .unwrap();
    assert_eq!(host, "name.invalid");
    let onward = TcpStream::connect(("127.0.0.1", port.parse().unwrap()))?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut back, mut to_client) = (onward.try_clone()?, client.try_clone()?);
    thread::spawn(move || io::copy(&mut back, &mut to_client));
    io::copy(&mut client, &mut &onward)?;
    onward.shutdown(std::net::Shutdown::Write)
}

/// The program with these variables, and no proxies in others.
fn with(variables: &[(&str, &str)], args: &[&str]) -> Pipe {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
    for name in ["ALL_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIPE_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    Pipe::start_command(command.args(args).envs(variables.iter().copied()))
}

#[test]
fn a_dial_goes_through_the_proxy_of_the_option_or_the_environment() {
    let url = format!("http://me:secret@{}", proxy());
    for (scheme, variables, options) in [
        ("tcp", &[][..], &["--proxy", &url][..]),
        ("tls", &[("PIPE_PROXY", url.as_str())], &[]),
        ("tcp", &[("ALL_PROXY", url.as_str())], &[]),
        ("wss", &[("HTTPS_PROXY", url.as_str())], &[]),
        ("ws", &[("http_proxy", url.as_str())], &[]),
    ] {
        let mut listener = Pipe::start(&["listen", &format!("{scheme}://127.0.0.1:0")]);
        listener.end_input();
        let addr = listener.addr().replace("127.0.0.1", "name.invalid");
        let mut args = vec!["dial", &*addr];
        args.extend(options);
        let mut dialer = with(variables, &args);
        dialer.write(b"hello\n");
        dialer.wait().ok();
        assert_eq!(listener.wait().ok().text(), "hello\n");
    }
}

#[test]
fn a_proxy_that_refuses_is_named_without_the_password() {
    let at = proxy();
    let url = format!("http://me:hunter2@{at}");
    let to = "tcp://name.invalid:7";
    let ended = with(&[], &["dial", to, "--proxy", &url]).wait();
    ended.fails(
        4,
        &[to, &format!("the proxy http://{at}"), "407 Who are you"],
    );
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    for wrong in ["https://me:hunter2@a:1", "gopher://me:hunter2@a"] {
        let ended = with(&[], &["dial", to, "--proxy", wrong]).wait();
        ended.fails(2, &["proxy", "a"]);
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
        let ended = with(&[("all_proxy", wrong)], &["dial", to]).wait();
        assert_ne!(ended.code, Some(0));
        assert!(ended.err.contains("variable all_proxy"), "{}", ended.err);
        assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    }
}

#[test]
fn the_environment_is_not_for_this_machine_and_none_is_none() {
    let variables = [("ALL_PROXY", "socks5://proxy.invalid:1")];
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--keep"]);
    let addr = listener.addr();
    with(&variables, &["ping", "-c", "1", &addr]).wait().ok();
    // The proxy is what is not found, and then the host itself.
    for (options, missing) in [
        (&[][..], "proxy.invalid"),
        (&["--proxy", "none"], "name.invalid"),
    ] {
        let mut args = vec!["dial", "tcp://name.invalid:7"];
        args.extend(options);
        let ended = with(&variables, &args).wait();
        ended.fails(3, &[&format!("the name {missing:?}")]);
    }
}

#[test]
fn the_doctor_tells_of_the_proxy() {
    let at = proxy();
    let url = format!("http://me:secret@{at}");
    let listener = Pipe::start(&["listen", "tcp://127.0.0.1:0", "--keep"]);
    let addr = listener.addr().replace("127.0.0.1", "name.invalid");
    let told = with(&[], &["--json", "doctor", &addr, "--proxy", &url]);
    let told: Value = serde_json::from_str(&told.wait().ok().text()).unwrap();
    let steps = told["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| &step["name"]).collect();
    assert_eq!(
        names,
        ["address", "proxy", "name", "socket", "connection", "ping"]
    );
    assert_eq!(steps[1]["detail"], format!("through http://{at}"));
    assert_eq!(steps[3]["detail"], format!("TCP {at} takes connections"));
    let wrong = format!("http://{at}");
    let ended = with(&[], &["doctor", &bare(&addr), "--proxy", &wrong]).wait();
    assert_eq!(ended.code, Some(4));
    assert!(ended.text().contains("The dial goes through a proxy"));
}

#[test]
fn a_listener_behind_a_proxy_wants_its_header() {
    let listen = ["listen", "tcp://127.0.0.1:0", "--keep", "--proxy-protocol"];
    let listener = Pipe::start(&[&listen[..], &["127.0.0.0/8,::1"]].concat());
    let ended = with(&[], &["ping", "-c", "1", &listener.addr()]).wait();
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    let ended = Pipe::run(&[&listen[..], &["10.0.0.0/99"]].concat(), b"");
    ended.fails(2, &["10.0.0.0/99", "no IP address and no network"]);
}

#[test]
fn a_listener_takes_the_socket_that_it_is_given() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let start = |args: &[&str]| {
        let mut command = Command::new("sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_pipe")])
            .args(args)
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "web");
        Pipe::start_with_input(&mut command, OwnedFd::from(socket.try_clone().unwrap()))
    };
    for (scheme, option) in [("tcp", "--listen-fds"), ("tls", "--listen-fds=web")] {
        let on = format!("{scheme}://0.0.0.0:1");
        let listener = start(&["listen", &on, option]);
        let addr = listener.addr();
        assert!(addr.starts_with(&format!("{scheme}://{at}")), "{addr}");
        Pipe::run(&["dial", &addr], b"hello").ok();
        assert_eq!(listener.wait().ok().text(), "hello");
    }
    let ended = start(&["listen", "tcp://a:1", "--listen-fds=mail"]).wait();
    ended.fails(2, &["no socket with the name \"mail\"", "of 1 in all"]);
    let ended = start(&["listen", "quic://a:1", "--listen-fds"]).wait();
    ended.fails(2, &["quic://a:1: no socket that fits"]);
    let ended = Pipe::run(&["listen", "tcp://a:1", "--listen-fds"], b"");
    ended.fails(2, &["no socket that fits was given", "of 0 in all"]);
}
