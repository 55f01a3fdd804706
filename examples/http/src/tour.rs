//! Everything that the server can do, from both sides, in one process.

use std::convert::Infallible;

use anyhow::{Context, ensure};
use axum::body::Body;
use bytes::Bytes;
use futures::SinkExt;
use futures::channel::mpsc;
use futures::future::try_join_all;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pipewerks::{Addr, Conn, Listener};
use tokio_util::sync::CancellationToken;

use crate::blob::{Hashed, blob, piece};
use crate::client::{Client, Version};
use crate::server::{self, About};

/// How long the big bodies are: 8 MiB.
const PIECES: u64 = 128;

/// How many requests run at once.
const AT_ONCE: u64 = 20;

/// Serves at `addr`, and tries all of it in one version of HTTP.
pub(crate) async fn run(addr: &Addr, version: Version) -> anyhow::Result<()> {
    let listener = pipewerks::listen(addr).await?;
    let addr = listener.local_addr();
    eprintln!("{version} over {addr}");
    let stop = CancellationToken::new();
    let server = tokio::spawn(server::serve(listener, stop.clone()));
    let conn = pipewerks::dial(&addr).await?;
    let client = Client::new(conn.clone(), version);

    pages(&client, version).await?;
    bodies(&client).await?;
    at_once(&client).await?;
    let streams = conn.stats().streams_opened;
    eprintln!("  streams that carried the requests so far: {streams}");
    ensure!(
        (streams == 1) == (version == Version::Http2),
        "{version} took {streams} streams"
    );

    stop_in_the_middle(&client, &stop).await?;
    server.await??;
    ensure!(client.get("/").await.is_err(), "a stopped server answered");
    let end = conn.closed().await;
    eprintln!("  the server has stopped: connection {end}");
    ensure!(end.code() == Some(0), "an end in good order has the code 0");
    Ok(())
}

async fn pages(client: &Client, version: Version) -> anyhow::Result<()> {
    let page = client.get("/").await?;
    ensure!(
        page.starts_with(b"<h1>Hello</h1>"),
        "another page: {page:?}"
    );
    let about: About = serde_json::from_slice(&client.get("/about").await?)?;
    ensure!(about.http == version.to_string(), "spoke {}", about.http);
    eprintln!("  a page and JSON: the server sees {}", about.client);

    let missing = client.get("/missing").await.unwrap_err().to_string();
    ensure!(missing.contains("404 Not Found"), "{missing}");
    Ok(())
}

/// Many MiB up, and many MiB both ways at the same time.
async fn bodies(client: &Client) -> anyhow::Result<()> {
    let (body, sent) = blob(PIECES);
    let answer = client.post("/digest", body).await?.collect().await?;
    let seen: Hashed = serde_json::from_slice(&answer.to_bytes())?;
    ensure!(seen == sent, "{sent:?} was sent, but {seen:?} arrived");
    eprintln!("  sent {} bytes, which arrived as they were", seen.bytes);

    let (body, sent) = blob(PIECES);
    let received = hashed(client.post("/mirror", body).await?).await?;
    ensure!(
        received == sent,
        "{sent:?} was sent, but {received:?} came back"
    );
    eprintln!("  had {} bytes sent back while sending", sent.bytes);
    Ok(())
}

async fn at_once(client: &Client) -> anyhow::Result<()> {
    let request = async |number: u64| {
        let (body, sent) = blob(1 + number % 4);
        let received = hashed(client.post("/mirror", body).await?).await?;
        ensure!(received == sent, "request {number} got another's answer");
        Ok(())
    };
    try_join_all((0..AT_ONCE).map(request)).await?;
    eprintln!("  made {AT_ONCE} requests at once");
    Ok(())
}

/// Stops the server while a request is half way, which still runs to its end.
async fn stop_in_the_middle(client: &Client, stop: &CancellationToken) -> anyhow::Result<()> {
    let (mut pieces, body) = mpsc::channel::<Result<Bytes, Infallible>>(1);
    pieces.send(Ok(piece(1))).await?;
    let mut answer = client.post("/mirror", Body::from_stream(body)).await?;
    let first = answer.frame().await.context("an empty answer")??;
    let first = first.into_data().ok().context("trailers before the end")?;

    stop.cancel();

    pieces.send(Ok(piece(2))).await?;
    drop(pieces);
    let rest = answer.collect().await?.to_bytes();
    ensure!(
        [first, rest].concat() == [piece(1), piece(2)].concat(),
        "a request was cut short by the end of the server"
    );
    eprintln!("  a request that was half way ran to its end");
    Ok(())
}

async fn hashed(mut body: Incoming) -> anyhow::Result<Hashed> {
    let mut hashing = Hashed::start();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            hashing.add(&data);
        }
    }
    Ok(hashing.finish())
}
