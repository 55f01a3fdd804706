//! Any bytes as the first that a client says to a server: it goes on, or ends with an error.
//!
//! The first byte chooses the wire and what the two applications do, the second the pieces. Time is
//! paused: whatever waits for ever is seen at once, as a task that is left over.

#![no_main]

use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pipe_core::backend::proto::codec::binary;
use pipe_core::backend::proto::{Frame, Hello};
use pipe_core::{CloseReason, Config, Conn};
use pipe_mux::{Mux, MuxConn, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

/// Longer than every time limit of a connection together.
const LONG: Duration = Duration::from_secs(300);

#[derive(Clone, Copy)]
struct Play {
    wire: Wire,
    /// The bytes follow a good handshake.
    greeted: bool,
    /// The client takes what the server says.
    client_reads: bool,
    /// The client ends its direction after its bytes.
    client_ends: bool,
    /// The server sends back what comes, or else leaves its streams alone.
    server_echoes: bool,
    /// The server opens streams of its own.
    server_opens: bool,
}

fuzz_target!(|data: &[u8]| {
    let [choices, size, bytes @ ..] = data else {
        return;
    };
    let chosen = |bit: u8| choices & (1 << bit) != 0;
    let play = Play {
        wire: if chosen(0) { Wire::Raw } else { Wire::Pipe },
        greeted: chosen(1),
        client_reads: chosen(2),
        client_ends: chosen(3),
        server_echoes: chosen(4),
        server_opens: chosen(5),
    };
    let mut said = Vec::new();
    if play.greeted && play.wire == Wire::Pipe {
        said = handshake();
    }
    said.extend_from_slice(bytes);
    let pieces = usize::from(*size) + 1;

    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(16 * 1024);
        let client = tokio::spawn(client(near, said, pieces, play));
        timeout(LONG, server(far, play))
            .await
            .expect("a server that ends");
        client.abort();
        let _ = client.await;
        // What the connection has spawned ends by itself.
        sleep(LONG).await;
    });
    assert_eq!(
        runtime.metrics().num_alive_tasks(),
        0,
        "a task is left over"
    );
});

/// What a good client says first: its control stream, with a hello on it.
fn handshake() -> Vec<u8> {
    const DATA_WITH_SYN: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
    let mut hello = BytesMut::new();
    let frame = Frame::Hello(Hello {
        max_streams: 4,
        stream_window: 1 << 18,
        connection_window: 0,
        flight: 0,
        takes_growth: false,
    });
    binary::encode(&frame, &mut hello);
    let mut frame = DATA_WITH_SYN.to_vec();
    frame.extend((hello.len() as u32).to_be_bytes());
    frame.extend(hello);
    frame
}

async fn client(io: DuplexStream, said: Vec<u8>, pieces: usize, play: Play) {
    let (mut from, mut to) = tokio::io::split(io);
    let reading = async {
        let mut taken = [0; 4096];
        while play.client_reads && from.read(&mut taken).await.is_ok_and(|count| count > 0) {}
    };
    let writing = async {
        for piece in said.chunks(pieces) {
            if to.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if play.client_ends {
            let _ = to.shutdown().await;
        }
        // The byte stream stays until the server has ended.
        sleep(4 * LONG).await;
    };
    tokio::join!(reading, writing);
}

async fn server(io: DuplexStream, play: Play) {
    let config = Config::default().with_max_streams(4);
    let Ok(conn) = Mux::builder()
        .wire(play.wire)
        .config(config)
        .server(io)
        .await
    else {
        return;
    };
    let accepting = tokio::spawn(accept(conn.clone(), play));
    if play.server_opens {
        // More than there are slots: the last ones wait until the end.
        for _ in 0..6 {
            let conn = conn.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = conn.open_stream().await {
                    let _ = stream.write_all(b"hello").await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read(&mut [0; 16]).await;
                }
            });
        }
    }
    // A peer of plain yamux may be silent for ever.
    let reason = match timeout(LONG / 4, conn.closed()).await {
        Ok(reason) => reason,
        Err(_) => {
            conn.close(1, "enough");
            conn.closed().await
        }
    };
    if let CloseReason::Failed(error) = &reason {
        assert!(!error.to_string().is_empty());
    }
    assert!(conn.open_stream().await.is_err());
    let _ = accepting.await;
}

async fn accept(conn: MuxConn, play: Play) {
    let mut kept = Vec::new();
    while let Ok(stream) = conn.accept_stream().await {
        if !play.server_echoes {
            kept.push(stream);
            continue;
        }
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
    }
}
