//! WebRTC that is signalled over HTTP (`webrtc+http://…`), with curl in the place of the dialer's signalling.

use std::path::PathBuf;

use libtest_mimic::Trial;
use pipewerks::inproc::InprocTransport;
use pipewerks::prelude::*;
use pipewerks::webrtc::{Engine, WebRtcSettings, WebRtcTransport, Wire};
use pipewerks::{BoxListener, CloseReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::interop::tools;
use crate::interop::trial;

const SDP: &str = "Content-Type: application/sdp";
const FRAGMENT: &str = "Content-Type: application/trickle-ice-sdpfrag";

pub(crate) fn trials() -> Vec<Trial> {
    let curl = || tools::program("curl");
    vec![
        trial("whip::curl::our_own_offer", curl, |curl| {
            offer(curl, Engine::Own, Wire::Pipe)
        }),
        trial("whip::curl::offer_of_another_engine", curl, |curl| {
            offer(curl, Engine::WebRtcCrate, Wire::Raw { ping: true })
        }),
        trial("whip::curl::refusals", curl, refusals),
        trial("whip::curl::over_tls", curl, over_tls),
    ]
}

/// What curl has received.
#[derive(Debug)]
struct Answer {
    status: String,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).unwrap_or_default()
    }
}

/// Runs curl.
async fn curl(curl: &PathBuf, args: &[&str], body: Option<&str>) -> Answer {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body");
    let mut command = Command::new(curl);
    command
        .args(["--silent", "--show-error", "--include", "--noproxy", "*"])
        .args(["--header", "Expect:"])
        .args(args);
    if let Some(body) = body {
        std::fs::write(&file, body).expect("a file");
        command
            .arg("--data-binary")
            .arg(format!("@{}", file.display()));
    }
    let output = command.output().await.expect("curl runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    Answer {
        status: head.split(' ').nth(1).unwrap_or_default().to_owned(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

async fn listen(addr: &str) -> (BoxListener, String) {
    let listener = pipewerks::listen(addr).await.expect("a listener");
    let local = listener.local_addr();
    let url = local.as_str().trim_start_matches("webrtc+");
    let url = url.split('?').next().unwrap_or_default().to_owned();
    (listener, url)
}

/// curl posts an offer, the connection is made, and curl restarts ICE for it and deletes it.
async fn offer(program: PathBuf, engine: Engine, wire: Wire) {
    let addr = match wire {
        Wire::Pipe => "webrtc+http://127.0.0.1:0/curl",
        _ => "webrtc+http://127.0.0.1:0/curl?wire=raw",
    };
    let (listener, url) = listen(addr).await;
    let settings = WebRtcSettings::default().with_engine(engine);
    let transport = WebRtcTransport::new(InprocTransport::new())
        .with_wire(wire)
        .with_settings(settings)
        .expect("settings");
    let offered = transport.offer_by_hand().await.expect("an offer");
    let sdp = offered.sdp();
    let answer = curl(&program, &["--header", SDP, &url], Some(&sdp)).await;
    assert_eq!(answer.status, "201", "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/sdp");
    let (dialed, accepted) =
        tokio::try_join!(offered.accept(&answer.body), listener.accept()).expect("a connection");
    let mut stream = dialed.open_stream().await.expect("a stream");
    stream.write_all(b"hello").await.expect("a write");
    let mut peer = accepted.accept_stream().await.expect("a stream");
    let mut bytes = [0; 5];
    peer.read_exact(&mut bytes).await.expect("a read");
    assert_eq!(&bytes, b"hello");

    let origin = url.rsplit_once('/').expect("a path").0;
    let resource = format!("{origin}{}", answer.header("location"));
    let ice: String = sdp
        .lines()
        .filter(|line| line.starts_with("a=ice-ufrag") || line.starts_with("a=ice-pwd"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let tag = format!("If-Match: {}", answer.header("etag"));
    let patch = ["--request", "PATCH", "--header", FRAGMENT, &resource];
    let none = curl(&program, &patch, Some(&ice)).await;
    assert_eq!(none.status, "428", "{none:?}");
    let tagged = [&patch[..], &["--header", &tag]].concat();
    let with = format!(
        "{ice}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n\
        a=candidate:9 1 udp 1 127.0.0.1 9 typ host\r\na=end-of-candidates\r\n"
    );
    let taken = curl(&program, &tagged, Some(&with)).await;
    assert_eq!(taken.status, "204", "{taken:?}");
    let any = [&patch[..], &["--header", "If-Match: *"]].concat();
    let other = "a=ice-ufrag:curlcurl\r\na=ice-pwd:0123456789012345678901\r\n";
    let restarted = curl(&program, &any, Some(other)).await;
    assert_eq!(restarted.status, "200", "{restarted:?}");
    assert!(restarted.body.contains("a=ice-pwd:"), "{restarted:?}");
    let stale = curl(&program, &tagged, Some(&with)).await;
    assert_eq!(stale.status, "412", "{stale:?}");

    let delete = ["--request", "DELETE", &resource];
    assert_eq!(curl(&program, &delete, None).await.status, "200");
    let reason = accepted.closed().await;
    let is_right = match wire {
        Wire::Pipe => matches!(reason, CloseReason::Failed(_)),
        _ => matches!(reason, CloseReason::Remote { .. }),
    };
    assert!(is_right, "{reason:?}");
    assert_eq!(curl(&program, &delete, None).await.status, "404");
}

async fn refusals(program: PathBuf) {
    let (_listener, url) = listen("webrtc+http://127.0.0.1:0/curl").await;
    let options = curl(&program, &["--request", "OPTIONS", &url], None).await;
    assert_eq!(options.status, "204");
    assert_eq!(options.header("accept-post"), "application/sdp");
    let elsewhere = format!("{url}/elsewhere");
    let page = "Origin: https://page.example";
    let long = "a=".repeat(64 * 1024);
    for (args, body, status) in [
        (&[url.as_str()][..], None, "405"),
        (&[&url], Some("v=0"), "415"),
        (&["--header", SDP, &url], Some("v=0"), "400"),
        (&["--header", SDP, &url], Some(&long), "413"),
        (&["--header", SDP, &elsewhere], Some("v=0"), "404"),
        (
            &["--header", SDP, "--header", page, &url],
            Some("v=0"),
            "403",
        ),
    ] {
        let answer = curl(&program, args, body).await;
        assert_eq!(answer.status, status, "{args:?}: {answer:?}");
        assert!(answer.body.len() > 2, "{answer:?}");
    }
}

/// The listener's certificate is one that it has made, which curl is told not to verify.
async fn over_tls(program: PathBuf) {
    let (listener, url) = listen("webrtc+https://127.0.0.1:0/curl").await;
    let transport = WebRtcTransport::new(InprocTransport::new());
    let offered = transport.offer_by_hand().await.expect("an offer");
    let args = ["--insecure", "--http1.1", "--header", SDP, &url];
    let answer = curl(&program, &args, Some(&offered.sdp())).await;
    assert_eq!(answer.status, "201", "{answer:?}");
    let (dialed, accepted) =
        tokio::try_join!(offered.accept(&answer.body), listener.accept()).expect("a connection");
    dialed.close(7, "enough");
    let reason = accepted.closed().await;
    assert!(
        matches!(reason, CloseReason::Remote { code: 7, .. }),
        "{reason:?}"
    );
}
