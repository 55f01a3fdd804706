//! A web server and its client, in HTTP/1.1 and HTTP/2, over any transport: the address chooses.
//!
//! ```text
//! cargo run --bin pipe-example-http -- demo [ADDR]
//! cargo run --bin pipe-example-http -- serve ADDR
//! cargo run --bin pipe-example-http -- get ADDR /about [--http2]
//! ```
//!
//! `demo` runs both sides in one process: it gets a page and JSON, sends a body of some MiB and has it
//! sent back while it is still sending, makes many requests at once, and stops the server in the middle of
//! a request, which still ends as it should.
//!
//! What is to be copied is the library beside this program: `Incoming` and `Connector`. A browser or curl
//! reaches the server through `pipe forward --local 127.0.0.1:8080 ADDR`, since that carries a connection
//! of TCP as a stream too.

mod blob;
mod client;
mod server;
#[cfg(test)]
mod tests;
mod tour;

use std::time::Duration;

use clap::{Parser, Subcommand};
use pipewerks::{Addr, Conn, Listener};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Version};

/// How long the server waits for open requests when it is asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// HTTP over any transport
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
    /// Get a page and print it
    Get {
        /// Where the server listens
        addr: Addr,
        /// What to get
        #[arg(default_value = "/")]
        path: String,
        /// Speak HTTP/2 instead of HTTP/1.1
        #[arg(long)]
        http2: bool,
    },
    /// Run server and client in one process, and try everything
    Demo {
        /// Where to meet
        #[arg(default_value = "inproc://http")]
        addr: Addr,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().role {
        Role::Serve { addr } => {
            let listener = pipewerks::listen(addr).await?;
            eprintln!("listening on {}", listener.local_addr());
            let stop = CancellationToken::new();
            let mut server = tokio::spawn(server::serve(listener, stop.clone()));
            tokio::select! {
                served = &mut server => return served?,
                interrupted = tokio::signal::ctrl_c() => interrupted?,
            }
            eprintln!("stopping: open requests have {GRACE:?}");
            stop.cancel();
            timeout(GRACE, server).await??
        }
        Role::Get { addr, path, http2 } => {
            let version = if http2 {
                Version::Http2
            } else {
                Version::Http1
            };
            let conn = pipewerks::dial(addr).await?;
            let client = Client::new(conn.clone(), version);
            let body = client.get(&path).await?;
            tokio::io::stdout().write_all(&body).await?;
            tokio::io::stdout().flush().await?;
            drop(client);
            Ok(conn.drain().await?)
        }
        Role::Demo { addr } => {
            for version in [Version::Http1, Version::Http2] {
                tour::run(&addr, version).await?;
            }
            Ok(())
        }
    }
}
