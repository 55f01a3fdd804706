//! Pages and streams on one port: axum serves a page, and hands the WebSockets at `/pipe` to a listener.
//!
//! `cargo run -p pipe-ws --features tower --example behind_axum` serves, dials and prints an answer.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use pipe_core::{Addr, Conn, Listener, Stream, Transport};
use pipe_ws::{MuxListener, WsTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let addr: Addr = format!("ws://{}/pipe", socket.local_addr()?).parse()?;
    let transport = WsTransport::new();

    let (listener, service) = transport.listen_behind(&addr)?;
    let app = Router::new()
        .route("/", get(|| async { "a page" }))
        .route_service("/pipe", service);
    tokio::spawn(async move { axum::serve(socket, app).await });
    tokio::spawn(echo(listener));

    let conn = transport.dial(&addr).await?;
    let mut stream = conn.open_stream().await?;
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{addr} answers {answer:?}");
    conn.drain().await?;
    Ok(())
}

/// Sends back what comes on each stream.
async fn echo(listener: MuxListener) -> pipe_core::Result<()> {
    loop {
        let conn = listener.accept().await?;
        tokio::spawn(async move {
            while let Ok(stream) = conn.accept_stream().await {
                let (mut send, mut recv) = stream.into_split();
                copy(&mut recv, &mut send).await?;
                send.shutdown().await?;
            }
            std::io::Result::Ok(())
        });
    }
}
