//! How long it takes to make a connection.

use std::time::{Duration, Instant};

use pipe_core::{Conn, Listener, Transport};
use pipe_tcp::TcpTransport;
use pipe_webrtc::WebRtcTransport;
use tokio::time::timeout;

/// Far above what is usual, for a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

const DIALS: usize = 50;

/// The first flight of DTLS that is lost comes again after a second, and so does a pair that is chosen late.
/// Most dials need neither, on any machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_waits_for_no_timer() {
    let transport = WebRtcTransport::new(TcpTransport::new());
    let addr = "webrtc+tcp://127.0.0.1:0".parse().expect("an address");
    let listener = transport.listen(&addr).await.expect("a listener");
    let addr = listener.local_addr();
    let serving = tokio::spawn(async move {
        let mut conns = Vec::new();
        while let Ok(conn) = listener.accept().await {
            conns.push(conn);
        }
    });
    let mut took = Vec::new();
    for _ in 0..DIALS {
        let began = Instant::now();
        let dial = async {
            let conn = transport.dial(&addr).await?;
            conn.ping().await?;
            Ok::<_, pipe_core::Error>(conn)
        };
        let conn = timeout(LIMIT, dial)
            .await
            .expect("in time")
            .expect("a dial");
        took.push(began.elapsed());
        conn.close(0, "");
    }
    serving.abort();
    took.sort_unstable();
    println!(
        "webrtc+tcp, idle: dial and ping: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}",
        took[DIALS / 2],
        took[DIALS * 9 / 10],
        took[DIALS * 99 / 100],
        took[DIALS - 1],
    );
}
