//! The whole program on every transport.

#[path = "../../testing/each_transport.rs"]
mod each_transport;

use pipewerks::{Conn, Listener};
use tokio_util::sync::CancellationToken;

use crate::proto::Place;
use crate::{client, server, tour};
use each_transport::on_every_transport;

on_every_transport! {
    every_kind_of_call_is_answered
    a_call_over_a_connection_that_is_gone_fails
}

async fn every_kind_of_call_is_answered(addr: &str) -> anyhow::Result<()> {
    tour::run(&addr.parse()?).await
}

async fn a_call_over_a_connection_that_is_gone_fails(addr: &str) -> anyhow::Result<()> {
    let listener = pipewerks::listen(addr).await?;
    let addr = listener.local_addr();
    let stop = CancellationToken::new();
    let server = tokio::spawn(server::serve(listener, stop.clone()));
    let conn = pipewerks::dial(&addr).await?;
    let mut client = client::connect(conn.clone()).await?;
    let oslo = || Place {
        name: "Oslo".to_owned(),
    };
    client.now(oslo()).await?;

    conn.close(3, "no more weather");
    // With which code, depends on how much of that tonic has seen: Unknown, Cancelled or Unavailable.
    client.now(oslo()).await.unwrap_err();
    let error = client::connect(conn).await.unwrap_err();
    assert!(
        format!("{error:?}").contains("no more weather"),
        "{error:?}"
    );
    stop.cancel();
    server.await?
}
