//! Windows of streams that grow with the path.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pipe_webrtc::{MemorySignaling, WebRtcConn, WebRtcStream};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use crate::common::{Changed, soon, stream, through, transport};

/// How long a datagram is under way.
const DELAY: Duration = Duration::from_millis(25);

/// The window of a stream that has not grown.
const WINDOW: usize = 256 * 1024;

/// Carries datagrams that come to one socket from the other, to this address once it is known.
fn carry(from: Arc<UdpSocket>, to: Arc<UdpSocket>, addr: Arc<OnceLock<SocketAddr>>) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buf = [0; 2048];
        while let Ok((len, _)) = from.recv_from(&mut buf).await {
            let at = tokio::time::Instant::now() + DELAY;
            if sender.send((at, buf[..len].to_vec())).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((at, datagram)) = receiver.recv().await {
            sleep_until(at).await;
            if let Some(addr) = addr.get() {
                let _ = to.send_to(&datagram, addr).await;
            }
        }
    });
}

/// The two ends of a connection whose datagrams take [`DELAY`].
async fn pair_far_apart() -> (WebRtcConn, WebRtcConn) {
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // As much as the system grants: what overflows is lost, and slows the connection down.
        let _ = SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        sockets.push(Arc::new(socket));
    }
    let [near, far] = &sockets[..] else {
        panic!("two sockets");
    };
    let [offerer, answerer] = [(); 2].map(|()| Arc::new(OnceLock::new()));
    carry(near.clone(), far.clone(), answerer.clone());
    carry(far.clone(), near.clone(), offerer.clone());
    let [near, far] = [near, far].map(|socket| socket.local_addr().unwrap().port());
    let (here, there) = MemorySignaling::pair();
    let here = Changed::new(here, through(near, answerer));
    let there = Changed::new(there, through(far, offerer));
    let transport = transport();
    let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
    let (here, there) = soon("a connection", both).await;
    (here.unwrap(), there.unwrap())
}

/// Writes until the writer has to wait for long. Returns how many bytes that were.
async fn fill(stream: &mut WebRtcStream) -> usize {
    let piece = vec![7; 32 * 1024];
    let mut count = 0;
    while let Ok(written) = timeout(Duration::from_secs(1), stream.write(&piece)).await {
        count += written.unwrap();
    }
    count
}

async fn read_exactly(stream: &mut WebRtcStream, mut count: usize) {
    let mut buf = vec![0; 64 * 1024];
    while count > 0 {
        let most = count.min(buf.len());
        let read = stream.read(&mut buf[..most]).await.unwrap();
        assert!(read > 0, "an early end");
        count -= read;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_grows_with_the_path_while_the_application_reads() {
    let (here, there) = pair_far_apart().await;
    let (mut ours, mut theirs) = stream(&here, &there).await;
    // The buffers of the sender hold some of it.
    let taken = fill(&mut ours).await;
    assert!((WINDOW / 2..=2 * WINDOW).contains(&taken), "{taken}");
    soon("what was written", read_exactly(&mut theirs, taken)).await;

    const MUCH: usize = 64 << 20;
    let piece = vec![7; 64 * 1024];
    let start = Instant::now();
    let write = async {
        for _ in 0..MUCH / piece.len() {
            ours.write_all(&piece).await.unwrap();
        }
    };
    let both = async { tokio::join!(write, read_exactly(&mut theirs, MUCH)) };
    soon("a transfer", both).await;
    let rate = MUCH as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{rate:.1} MB/s");

    // A stream that stalls holds what its window has grown to, and leaves others theirs.
    let taken = fill(&mut ours).await;
    println!("{taken} bytes of a stream that is not read");
    assert!(taken > 4 * WINDOW, "{taken}");
    let (mut other, mut reader) = stream(&here, &there).await;
    let held = fill(&mut other).await;
    assert!((WINDOW / 2..=2 * WINDOW).contains(&held), "{held}");
    soon("the other stream", read_exactly(&mut reader, held)).await;
    soon("what was held", read_exactly(&mut theirs, taken)).await;
}
