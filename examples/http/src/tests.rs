//! The whole program on every transport.

#[path = "../../testing/each_transport.rs"]
mod each_transport;

use pipewerks::{Conn, Listener};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Version};
use crate::{server, tour};
use each_transport::on_every_transport;

on_every_transport! {
    http1_does_everything
    http2_does_everything
    a_peer_that_does_not_speak_http_harms_nobody
}

async fn http1_does_everything(addr: &str) -> anyhow::Result<()> {
    tour::run(&addr.parse()?, Version::Http1).await
}

async fn http2_does_everything(addr: &str) -> anyhow::Result<()> {
    tour::run(&addr.parse()?, Version::Http2).await
}

async fn a_peer_that_does_not_speak_http_harms_nobody(addr: &str) -> anyhow::Result<()> {
    let listener = pipewerks::listen(addr).await?;
    let addr = listener.local_addr();
    let stop = CancellationToken::new();
    let server = tokio::spawn(server::serve(listener, stop.clone()));

    let stranger = pipewerks::dial(&addr).await?;
    let mut silent = stranger.open_stream().await?;
    silent.write_all(b"GET").await?;
    let mut rude = stranger.open_stream().await?;
    rude.write_all(b"\0\0\0\0 no such protocol\r\n\r\n").await?;
    drop(stranger.open_stream().await?);

    let conn = pipewerks::dial(&addr).await?;
    for version in [Version::Http1, Version::Http2] {
        let page = Client::new(conn.clone(), version).get("/").await?;
        assert!(page.starts_with(b"<h1>"), "{page:?}");
    }

    // Whoever says nothing more is waited for, by a server that has been asked to drain.
    stop.cancel();
    drop((silent, rude));
    server.await??;
    assert_eq!(stranger.closed().await.code(), Some(0));
    Ok(())
}
