//! Two proxies of each transport, one behind the other, and the chain of the demo.

#[path = "../testing/each_transport.rs"]
mod each_transport;

use std::path::Path;

use pipewerks::{
    Addr, BoxConn, BoxListener, BoxStream, CloseReason, Conn, Error, ErrorKind, Listener,
    SendStream, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::proxy::{self, LOST};
use crate::{demo, file};
use each_transport::on_every_transport;

on_every_transport! {
    a_file_comes_through
    the_codes_of_streams_come_through
    a_direction_ends_by_itself
    the_server_can_open_streams
    the_end_of_a_connection_comes_through
    nobody_behind_the_proxy_is_told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_of_the_demo_moves_a_file() -> anyhow::Result<()> {
    let via = [
        "inproc://",
        "tcp://127.0.0.1:0",
        "quic://127.0.0.1:0",
        "webrtc+tcp://127.0.0.1:0",
    ];
    demo(None, &via.map(|addr| addr.parse().unwrap())).await
}

#[tokio::test]
async fn a_file_that_cannot_be_stored_is_refused() -> anyhow::Result<()> {
    let folder = Path::new("/no such folder").to_owned();
    let listener = pipewerks::listen("inproc://").await?;
    let conn = pipewerks::dial(listener.local_addr()).await?;
    let mut serving = JoinSet::new();
    serving.spawn(file::receive(listener, folder));
    let source = tempfile::NamedTempFile::new()?;
    source.as_file().set_len(1 << 20)?;
    let error = file::send(&conn, source.path()).await.unwrap_err();
    assert_eq!(error.to_string(), "the receiver could not store the file");
    Ok(())
}

async fn a_file_comes_through(addr: &str) -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let (entry, listener, _proxies) = chain(addr).await?;
    let mut serving = JoinSet::new();
    serving.spawn(file::receive(listener, temp.path().to_owned()));
    let source = tempfile::NamedTempFile::new()?;
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|i| (i % 251) as u8).collect();
    tokio::fs::write(source.path(), &bytes).await?;

    let conn = pipewerks::dial(&entry).await?;
    let hash = file::send(&conn, source.path()).await?;
    assert!(tokio::fs::read(temp.path().join(hash)).await? == bytes);
    Ok(conn.drain().await?)
}

async fn the_codes_of_streams_come_through(addr: &str) -> anyhow::Result<()> {
    let (client, server, _chain) = pair(addr).await?;

    let (mut near, mut far) = stream(&client, &server).await?;
    near.reset(7);
    let error = Error::from(far.read_u8().await.unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(7)));

    // It comes through while nothing is being sent.
    let (near, mut far) = stream(&client, &server).await?;
    far.stop(8);
    let (mut send, _recv) = near.into_split();
    assert_eq!(send.stopped().await?, Some(8));

    let (mut near, mut far) = stream(&client, &server).await?;
    far.reset(9);
    let error = Error::from(near.read_u8().await.unwrap_err());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Reset, Some(9)));

    // And the connection goes on.
    let (mut near, mut far) = stream(&client, &server).await?;
    near.write_all(b"hello").await?;
    near.shutdown().await?;
    let mut text = String::new();
    far.read_to_string(&mut text).await?;
    assert_eq!(text, "hello");
    Ok(())
}

async fn a_direction_ends_by_itself(addr: &str) -> anyhow::Result<()> {
    let (client, server, _chain) = pair(addr).await?;
    let (mut near, mut far) = stream(&client, &server).await?;
    near.shutdown().await?;
    assert_eq!(far.read(&mut [0; 1]).await?, 0);
    // The other one is open, and outlives the first as long as it likes.
    far.write_all(b"still here").await?;
    far.shutdown().await?;
    let mut text = String::new();
    near.read_to_string(&mut text).await?;
    assert_eq!(text, "still here");
    Ok(())
}

async fn the_server_can_open_streams(addr: &str) -> anyhow::Result<()> {
    let (client, server, _chain) = pair(addr).await?;
    let (mut near, mut far) = stream(&server, &client).await?;
    near.write_all(b"news").await?;
    near.shutdown().await?;
    let mut text = String::new();
    far.read_to_string(&mut text).await?;
    assert_eq!(text, "news");
    Ok(())
}

async fn the_end_of_a_connection_comes_through(addr: &str) -> anyhow::Result<()> {
    // In good order: what was sent last arrives, though nobody waits for it.
    let (client, server, _chain) = pair(addr).await?;
    let (mut near, mut far) = stream(&client, &server).await?;
    near.write_all(&[5; 100_000]).await?;
    near.shutdown().await?;
    let draining = tokio::spawn(async move { client.drain().await });
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).await?;
    assert_eq!(bytes.len(), 100_000);
    far.shutdown().await?;
    assert_eq!(near.read(&mut [0; 1]).await?, 0);
    draining.await??;
    assert_eq!(server.closed().await.code(), Some(0));

    // From either end, with a code and a reason, in the middle of a stream.
    for from_client in [true, false] {
        let (client, server, _chain) = pair(addr).await?;
        let _streams = stream(&client, &server).await?;
        let (closing, told) = match from_client {
            true => (client, server),
            false => (server, client),
        };
        closing.close(9, "enough");
        let CloseReason::Remote { code, reason } = told.closed().await else {
            panic!("the peer did not close");
        };
        assert_eq!((code, &*reason), (9, "enough"));
    }
    Ok(())
}

async fn nobody_behind_the_proxy_is_told(addr: &str) -> anyhow::Result<()> {
    let (entry, listener, _proxies) = chain(addr).await?;
    let gone = listener.local_addr();
    drop(listener);
    let conn = pipewerks::dial(entry).await?;
    let reason = conn.closed().await;
    assert_eq!(reason.code(), Some(LOST));
    assert!(reason.to_string().contains(gone.as_str()), "{reason}");
    Ok(())
}

type Proxies = JoinSet<pipewerks::Result<()>>;

/// Two proxies in front of a listener, and where the first of them listens. It is the transport of `addr`
/// three times.
async fn chain(addr: &str) -> anyhow::Result<(Addr, BoxListener, Proxies)> {
    let last = pipewerks::listen(addr).await?;
    let mut next = last.local_addr();
    let mut proxies = JoinSet::new();
    for _ in 0..2 {
        let listener = pipewerks::listen(addr).await?;
        let entry = listener.local_addr();
        proxies.spawn(proxy::serve(listener, next));
        next = entry;
    }
    Ok((next, last, proxies))
}

/// A connection through two proxies: the side that dialed, the side that accepted, and what is in between.
async fn pair(addr: &str) -> anyhow::Result<(BoxConn, BoxConn, (BoxListener, Proxies))> {
    let (entry, listener, proxies) = chain(addr).await?;
    let (client, server) = tokio::try_join!(pipewerks::dial(entry), listener.accept())?;
    Ok((client, server, (listener, proxies)))
}

/// A stream from one side, and the same on the other.
async fn stream(from: &BoxConn, to: &BoxConn) -> anyhow::Result<(BoxStream, BoxStream)> {
    let (near, far) = tokio::join!(from.open_stream(), to.accept_stream());
    Ok((near?, far?))
}
