//! Remote calls over any transport, made of nothing but `serde` and a codec: each call is a stream.
//!
//! ```text
//! cargo run --example rpc -- demo [ADDR]
//! cargo run --example rpc -- serve ADDR
//! cargo run --example rpc -- call ADDR '{"add":{"a":2,"b":3}}' [--deadline-ms 1000]
//! ```
//!
//! A call opens a stream and sends one message: JSON behind its length (`LengthDelimitedCodec`). One
//! message comes back. Since each call has its stream, many run side by side without ids or a task that
//! sorts the answers, a big one holds up no other, and whoever no longer wants an answer stops the stream:
//! the server hears of it and gives the work up.
//!
//! `demo` runs both sides in one process.

mod client;
mod frame;
mod message;
mod server;
#[cfg(test)]
mod tests;
mod tour;

use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use pipewerks::{Addr, Conn, Listener};

use crate::client::Client;
use crate::message::Request;
use crate::server::Server;

/// Remote calls over any transport
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve until interrupted
    Serve {
        /// Where to listen
        addr: Addr,
    },
    /// Make one call and print the answer
    Call {
        /// Where the server listens
        addr: Addr,
        /// The request, in JSON
        request: String,
        /// How long it may take, in milliseconds
        #[arg(long, default_value_t = 10_000)]
        deadline_ms: u64,
    },
    /// Run server and client in one process, and try everything
    Demo {
        /// Where to meet
        #[arg(default_value = "inproc://rpc")]
        addr: Addr,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().role {
        Role::Serve { addr } => {
            let listener = pipewerks::listen(addr).await?;
            eprintln!("listening on {}", listener.local_addr());
            let server = Server::default();
            tokio::select! {
                served = server.serve(listener) => Ok(served?),
                interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
            }
        }
        Role::Call {
            addr,
            request,
            deadline_ms,
        } => {
            let request: Request = serde_json::from_str(&request).context("the request")?;
            let conn = pipewerks::dial(addr).await?;
            let deadline = Duration::from_millis(deadline_ms);
            let answer = Client::new(conn.clone()).call(request, deadline).await?;
            println!("{}", serde_json::to_string(&answer)?);
            Ok(conn.drain().await?)
        }
        Role::Demo { addr } => tour::run(&addr).await,
    }
}
