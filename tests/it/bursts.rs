//! Thousands of streams that are opened at once, on every transport: none is lost, however many wait to be accepted.

use std::time::Duration;

use pipewerks::inproc::{InprocTransport, Namespace};
use pipewerks::quic::QuicTransport;
use pipewerks::tcp::TcpTransport;
use pipewerks::webrtc::{Engine, WebRtcSettings, WebRtcTransport};
use pipewerks::{Config, Conn, Listener, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const STREAMS: u32 = 4000;

/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

fn config() -> Config {
    Config::default().with_max_streams(8192)
}

/// Opens the streams, each of which carries its number, and checks that each number arrives once.
async fn all_arrive(transport: impl Transport, addr: &str) {
    let listener = transport.listen(&addr.parse().unwrap()).await.unwrap();
    let addr = listener.local_addr();
    let (here, there) = tokio::try_join!(transport.dial(&addr), listener.accept()).unwrap();
    let open = async |number: u32| {
        let mut stream = here.open_stream().await.unwrap();
        stream.write_all(&number.to_be_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let opening = futures::future::join_all((0..STREAMS).map(open));
    let accepting = async {
        let mut numbers = Vec::new();
        for _ in 0..STREAMS {
            let mut stream = there.accept_stream().await.unwrap();
            numbers.push(stream.read_u32().await.unwrap());
        }
        numbers.sort_unstable();
        numbers
    };
    let both = timeout(LIMIT, async { tokio::join!(opening, accepting) });
    let (_, numbers) = both.await.expect("a stream is lost");
    assert!(numbers.into_iter().eq(0..STREAMS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inproc() {
    let transport = InprocTransport::new().with_namespace(Namespace::new());
    all_arrive(transport.with_config(config()).unwrap(), "inproc://").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp() {
    let transport = TcpTransport::new().with_config(config()).unwrap();
    all_arrive(transport, "tcp://127.0.0.1:0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic() {
    let transport = QuicTransport::new().with_config(config()).unwrap();
    all_arrive(transport, "quic://127.0.0.1:0").await;
}

async fn webrtc(engine: Engine) {
    let signaling = InprocTransport::new().with_namespace(Namespace::new());
    let transport = WebRtcTransport::new(signaling)
        .with_settings(WebRtcSettings::default().with_engine(engine))
        .and_then(|transport| transport.with_config(config()));
    all_arrive(transport.unwrap(), "webrtc+inproc://").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webrtc_on_its_own_engine() {
    webrtc(Engine::Own).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webrtc_on_the_crate() {
    webrtc(Engine::WebRtcCrate).await;
}
