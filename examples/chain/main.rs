//! A chain of proxies, each of which takes one transport and passes on to another.
//!
//! ```text
//! cargo run --example chain -- demo [FILE] [--via ADDR…]
//! cargo run --example chain -- receive webrtc+tcp://127.0.0.1:7003 FOLDER
//! cargo run --example chain -- proxy quic://127.0.0.1:7002 webrtc+tcp://127.0.0.1:7003
//! cargo run --example chain -- send FILE quic://127.0.0.1:7002
//! ```
//!
//! `demo` sends a file through inproc, tcp, quic and webrtc, one behind the other, in one process. A proxy
//! knows nothing of what it carries: for each connection it dials one, for each stream it opens one, and
//! it passes on the end of each direction, the codes of resets, stops and closes, and the pressure of a
//! receiver that is slow. See [`proxy`], which is what to copy.
//!
//! A file is a stream: its bytes and the end there, its hash back. The receiver stores it under that hash,
//! and only when all of it has come, which the end of a stream says for sure.

mod file;
mod proxy;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use pipewerks::{Addr, Conn, Listener};
use tokio::task::JoinSet;

/// How long the file is that `demo` makes when it is given none, in bytes.
const SIZE: usize = 16 * 1024 * 1024;

/// Proxies between any transports
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Store what is sent, each file under its hash, until interrupted
    Receive {
        /// Where to listen
        addr: Addr,
        /// Where to store files
        folder: PathBuf,
    },
    /// Pass connections on until interrupted
    Proxy {
        /// Where to listen
        addr: Addr,
        /// Where to dial
        next: Addr,
    },
    /// Send a file
    Send {
        /// The file
        file: PathBuf,
        /// Where a receiver or a proxy listens
        addr: Addr,
    },
    /// Send a file through a chain in one process
    Demo {
        /// The file; one of 16 MiB is made by default
        file: Option<PathBuf>,
        /// Where each listens, the last one being the receiver
        #[arg(long, num_args = 1.., default_values = [
            "inproc://", "tcp://127.0.0.1:0", "quic://127.0.0.1:0", "webrtc+tcp://127.0.0.1:0",
        ])]
        via: Vec<Addr>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let role = Args::parse().role;
    tokio::select! {
        done = run(role) => done,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn run(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Receive { addr, folder } => {
            let listener = pipewerks::listen(addr).await?;
            eprintln!("receiving at {}", listener.local_addr());
            file::receive(listener, folder).await
        }
        Role::Proxy { addr, next } => {
            let listener = pipewerks::listen(addr).await?;
            eprintln!("passing {} on to {next}", listener.local_addr());
            Ok(proxy::serve(listener, next).await?)
        }
        Role::Send { file, addr } => {
            let conn = pipewerks::dial(addr).await?;
            println!("{}", file::send(&conn, &file).await?);
            Ok(conn.drain().await?)
        }
        Role::Demo { file, via } => demo(file, &via).await,
    }
}

async fn demo(file: Option<PathBuf>, via: &[Addr]) -> anyhow::Result<()> {
    let temp = tempfile::tempdir()?;
    let file = match file {
        Some(file) => file,
        None => {
            let made = temp.path().join("file");
            let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
                .take(SIZE)
                .collect();
            tokio::fs::write(&made, bytes).await?;
            made
        }
    };
    let folder = temp.path().join("received");
    tokio::fs::create_dir(&folder).await?;

    let mut serving = JoinSet::new();
    let (last, proxies) = via.split_last().context("a chain has a receiver")?;
    let receiver = pipewerks::listen(last).await?;
    let mut next = receiver.local_addr();
    let mut shown = vec![next.to_string()];
    serving.spawn(file::receive(receiver, folder.clone()));
    for addr in proxies.iter().rev() {
        let listener = pipewerks::listen(addr).await?;
        let from = listener.local_addr();
        serving.spawn(async move { Ok(proxy::serve(listener, next).await?) });
        next = from;
        shown.insert(0, next.to_string());
    }
    eprintln!("{}", shown.join("\n -> "));

    let started = Instant::now();
    let conn = pipewerks::dial(&next).await?;
    let hash = file::send(&conn, &file).await?;
    let took = started.elapsed();
    conn.drain().await?;

    let (sent, received) = (
        tokio::fs::read(&file).await?,
        tokio::fs::read(folder.join(&hash)).await?,
    );
    ensure!(sent == received, "the file was changed on the way");
    eprintln!("{} bytes came through in {took:.2?}: {hash}", sent.len());
    Ok(())
}
