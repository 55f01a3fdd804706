//! A connection whose runtime goes away, with its driver: nothing that a handle waits for hangs.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use pipe_core::{CloseReason, Conn, ConnState, Error, ErrorKind, Listener, Result, Transport};
use pipe_quic::{QuicConn, QuicStream, QuicTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::common::{addr, connect, listen, soon};

type Wait = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn failed<T: std::fmt::Debug>(what: &str, result: Result<T>) {
    let error = result.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Failed, "{what}: {error}");
}

fn io_failed<T: std::fmt::Debug>(what: &str, result: std::io::Result<T>) {
    let error = result.expect_err(what);
    let error = Error::from_io(&error).expect("a pipe error");
    assert_eq!(error.kind(), ErrorKind::Failed, "{what}: {error}");
}

/// What waits when the runtime goes, and what is tried afterwards.
async fn assert_over(
    conn: QuicConn,
    mut reading: QuicStream,
    mut writing: QuicStream,
    gone: Runtime,
) {
    let mut waits: Vec<(&str, Wait)> = Vec::new();
    for (what, conn) in ["ping", "accept", "drain", "closed"].map(|what| (what, conn.clone())) {
        waits.push((
            what,
            Box::pin(async move {
                match what {
                    "ping" => loop {
                        conn.ping().await?;
                    },
                    "accept" => conn.accept_stream().await.map(drop),
                    "drain" => conn.drain().await,
                    _ => match conn.closed().await {
                        CloseReason::Failed(error) => Err(error),
                        reason => panic!("not a failure: {reason:?}"),
                    },
                }
            }),
        ));
    }
    waits.push((
        "read",
        Box::pin(async move {
            let read = reading.read(&mut [0; 16]).await;
            read.map(drop).map_err(Error::from)
        }),
    ));
    waits.push((
        "write",
        Box::pin(async move {
            loop {
                writing.write_all(&[0; 65536]).await.map_err(Error::from)?;
            }
        }),
    ));
    let mut spawned = Vec::new();
    for (what, mut wait) in waits {
        let (begins, begun) = oneshot::channel();
        let mut begins = Some(begins);
        let wait = tokio::spawn(poll_fn(move |cx| {
            let ended = wait.as_mut().poll(cx);
            if let Some(begins) = begins.take() {
                begins.send(()).unwrap();
            }
            ended
        }));
        soon(begun).await.unwrap();
        spawned.push((what, wait));
    }
    gone.shutdown_background();
    for (what, wait) in spawned {
        failed(what, soon(wait).await.unwrap());
    }
    assert_eq!(*conn.state().borrow(), ConnState::Failed);
    failed("an open", soon(conn.open_stream()).await);
    failed("an accept", soon(conn.accept_stream()).await);
    failed("a ping", soon(conn.ping()).await);
    failed("a drain", soon(conn.drain()).await);
}

#[test]
fn a_connection_whose_runtime_is_gone_has_failed() {
    let (here, there) = (runtime(), runtime());
    let listener = there.block_on(listen(&QuicTransport::new()));
    let at = listener.local_addr();
    let (conn, peer) = here.block_on(connect(&QuicTransport::new(), &listener, &at));
    let (reading, writing, mut idle) = here.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(conn.open_stream().await.unwrap());
        }
        let idle = streams.pop().unwrap();
        let writing = streams.pop().unwrap();
        (streams.pop().unwrap(), writing, idle)
    });
    there.block_on(async {
        assert_over(conn, reading, writing, here).await;
        io_failed("a shutdown", soon(idle.shutdown()).await);
        // The peer hears of it by itself; its handles work as ever.
        drop(peer);
    });
}

#[test]
fn an_accepted_connection_whose_runtime_is_gone_has_failed() {
    let (here, there) = (runtime(), runtime());
    let listener = here.block_on(listen(&QuicTransport::new()));
    let at = listener.local_addr();
    let dialing = there.spawn(async move { QuicTransport::new().dial(&at).await });
    let conn = here.block_on(async { soon(listener.accept()).await.unwrap() });
    let peer = there.block_on(dialing).unwrap().unwrap();
    there.block_on(async {
        let reading = conn.open_stream().await.unwrap();
        let writing = conn.open_stream().await.unwrap();
        assert_over(conn, reading, writing, here).await;
        drop(peer);
    });
}

#[test]
fn a_listener_whose_runtime_is_gone_has_failed_and_its_address_is_free() {
    let (here, there) = (runtime(), runtime());
    let transport = QuicTransport::new();
    let listener = here.block_on(listen(&transport));
    let port = listener.local_addr().port().unwrap();
    there.block_on(async {
        let waiting = async {
            here.shutdown_background();
            listener.accept().await
        };
        failed("an accept", soon(waiting).await);
        let again = addr(&format!("quic://127.0.0.1:{port}"));
        let again = async {
            loop {
                match transport.listen(&again).await {
                    Ok(listener) => break listener,
                    // The old socket goes with the task of its runtime.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let again = soon(again).await;
        connect(&transport, &again, &again.local_addr()).await;
        listener.close();
        connect(&transport, &again, &again.local_addr()).await;
    });
}
