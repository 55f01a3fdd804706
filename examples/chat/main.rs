//! A chat room whose guests may each come over another transport.
//!
//! ```text
//! cargo run --example chat -- serve tcp://127.0.0.1:7000 quic://127.0.0.1:7000 webrtc+tcp://127.0.0.1:7001
//! cargo run --example chat -- join quic://127.0.0.1:7000 ann
//! cargo run --example chat -- demo [ADDR…]
//! ```
//!
//! One server listens on all addresses at once. A guest has one stream, of lines in both directions: the
//! first is the name, and the end of standard input says good-bye.
//!
//! Nobody waits for a slow guest: what is said waits in a queue for each, and whoever does not keep up with
//! it is sent away, with a code and a reason that the guest gets to read. `demo` brings in a guest over
//! each transport.

mod guest;
mod room;
mod server;
#[cfg(test)]
mod tests;
mod tour;

use anyhow::Context;
use clap::{Parser, Subcommand};
use pipewerks::{Addr, Listener};
use tokio::sync::mpsc;

use crate::guest::Guest;
use crate::room::Room;

/// A chat room over any transport
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve a room until interrupted
    Serve {
        /// Where to listen, at all of them at once
        #[arg(required = true)]
        addrs: Vec<Addr>,
    },
    /// Join a room: what you type is said, what others say is printed
    Join {
        /// Where the server listens
        addr: Addr,
        /// Who you are
        name: String,
    },
    /// Run server and guests in one process
    Demo {
        /// Where to meet, one guest at each
        #[arg(default_values = [
            "inproc://", "tcp://127.0.0.1:0", "tls://127.0.0.1:0", "quic://127.0.0.1:0", "webrtc+tcp://127.0.0.1:0",
        ])]
        addrs: Vec<Addr>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Args::parse().role {
        Role::Serve { addrs } => {
            let listeners = server::listen(&addrs).await?;
            for listener in &listeners {
                eprintln!("listening on {}", listener.local_addr());
            }
            let room = Room::new();
            tokio::select! {
                served = server::serve(listeners, room) => Ok(served?),
                interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
            }
        }
        Role::Join { addr, name } => join(&addr, &name).await,
        Role::Demo { addrs } => tour::run(&addrs).await,
    }
}

async fn join(addr: &Addr, name: &str) -> anyhow::Result<()> {
    let mut guest = Guest::join(addr, name).await?;
    let mut typed = typed();
    loop {
        tokio::select! {
            heard = guest.hear() => match heard? {
                Some(line) => println!("{line}"),
                None => break,
            },
            line = typed.recv() => match line {
                Some(line) => guest.say(&line?).await?,
                None => break,
            },
        }
    }
    guest.leave().await
}

/// The lines of standard input. A thread reads them, since such a read cannot be given up; the program
/// ends without waiting for it.
fn typed() -> mpsc::Receiver<anyhow::Result<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if sender
                .blocking_send(line.context("standard input"))
                .is_err()
            {
                return;
            }
        }
    });
    lines
}
