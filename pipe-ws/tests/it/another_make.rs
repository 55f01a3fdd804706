//! tokio-tungstenite with the `yamux` crate, in both roles.

use std::future::poll_fn;

use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use pipe_core::{CloseReason, Conn, Stream, Transport};
use pipe_ws::{MuxConn, WsTransport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::{accept_async, client_async};
use tokio_util::compat::TokioAsyncReadCompatExt;
use yamux::{Config, Connection, Mode};

use crate::common::{LIMIT, accept, addr, listen};
use crate::messages::Messages;

/// More than a window and a message, and no multiple of anything.
const MUCH: usize = 1_000_003;

/// Echoes the streams of a connection of the crate, and closes it when it is told to.
fn echo<T>(io: Messages<T>, mode: Mode, mut close: oneshot::Receiver<()>) -> JoinHandle<()>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connection = Connection::new(io.compat(), Config::default(), mode);
    tokio::spawn(async move {
        let mut echoes = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                _ = &mut close => break,
                next = poll_fn(|cx| connection.poll_next_inbound(cx)) => {
                    let stream = next.expect("a stream").expect("a connection");
                    echoes.spawn(async move {
                        let (reader, mut writer) = stream.split();
                        futures::io::copy(reader, &mut writer).await.unwrap();
                        writer.close().await.unwrap();
                    });
                }
                Some(done) = echoes.join_next() => done.unwrap(),
            }
        }
        poll_fn(|cx| connection.poll_close(cx)).await.unwrap();
    })
}

/// Sends much over a few streams at once, and checks what comes back.
async fn exchange(conn: &MuxConn, streams: usize) {
    let mut running = tokio::task::JoinSet::new();
    for seed in 0..streams {
        let stream = conn.open_stream().await.unwrap();
        running.spawn(async move {
            let sent: Vec<u8> = (0..MUCH).map(|i| (i * 31 + i / 251 + seed) as u8).collect();
            let (mut send, mut recv) = stream.into_split();
            let writing = async {
                send.write_all(&sent).await?;
                send.shutdown().await
            };
            let mut received = Vec::new();
            let (written, read) = tokio::join!(writing, recv.read_to_end(&mut received));
            written.unwrap();
            read.unwrap();
            assert!(received == sent, "stream {seed} came back changed");
        });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

async fn expect_close(conn: &MuxConn) {
    let closed = timeout(LIMIT, conn.closed()).await.expect("in time");
    assert!(matches!(closed, CloseReason::Remote { .. }), "{closed:?}");
}

#[tokio::test]
async fn it_dials_and_is_served() {
    let (listener, at) = listen(&WsTransport::new(), "ws://127.0.0.1:0/x?wire=raw").await;
    let socket = TcpStream::connect(("127.0.0.1", at.port().unwrap())).await;
    let url = format!("ws://127.0.0.1:{}/x", at.port().unwrap());
    let (socket, _) = client_async(url, socket.unwrap()).await.unwrap();
    let (close, closing) = oneshot::channel();
    let echo = echo(Messages::new(socket), Mode::Client, closing);
    let conn = accept(&listener).await;
    timeout(LIMIT, exchange(&conn, 4)).await.expect("in time");
    close.send(()).unwrap();
    expect_close(&conn).await;
    echo.await.unwrap();
}

#[tokio::test]
async fn it_serves_and_is_dialed() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let (close, closing) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let (socket, _) = socket.accept().await.unwrap();
        let socket = accept_async(socket).await.unwrap();
        echo(Messages::new(socket), Mode::Server, closing)
            .await
            .unwrap();
    });
    let at = addr(&format!("ws://127.0.0.1:{port}/y?wire=raw"));
    let conn = WsTransport::new().dial(&at).await.unwrap();
    timeout(LIMIT, exchange(&conn, 4)).await.expect("in time");
    close.send(()).unwrap();
    expect_close(&conn).await;
    serving.await.unwrap();
}
