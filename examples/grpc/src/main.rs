//! gRPC over any transport: the address chooses.
//!
//! ```text
//! cargo run --bin pipe-example-grpc -- demo [ADDR]
//! cargo run --bin pipe-example-grpc -- serve ADDR
//! cargo run --bin pipe-example-grpc -- now ADDR PLACE
//! cargo run --bin pipe-example-grpc -- forecast ADDR PLACE --hours 24
//! ```
//!
//! The service is in `proto/weather.proto`, and `build.rs` makes Rust of it without a `protoc` to be
//! installed. `demo` runs both sides in one process: a call with one answer, one with a stream of answers,
//! one with streams both ways, many at once, and those that fail.
//!
//! The adapters, `Incoming` and `Connector`, are those of the HTTP example, since gRPC is HTTP/2.

mod client;
mod proto;
mod server;
#[cfg(test)]
mod tests;
mod tour;

use std::time::Duration;

use clap::{Parser, Subcommand};
use pipewerks::{Addr, Conn, Listener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::proto::{ForecastRequest, Place, Report};

/// How long the server waits for open calls when it is asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// gRPC over any transport
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
    /// Ask for the weather at a place
    Now {
        /// Where the server listens
        addr: Addr,
        /// The place, such as Oslo
        place: String,
    },
    /// Ask for the weather at a place as it goes on
    Forecast {
        /// Where the server listens
        addr: Addr,
        /// The place, such as Oslo
        place: String,
        /// For how many hours
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// Run server and client in one process, and try everything
    Demo {
        /// Where to meet
        #[arg(default_value = "inproc://grpc")]
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
            eprintln!("stopping: open calls have {GRACE:?}");
            stop.cancel();
            timeout(GRACE, server).await??
        }
        Role::Now { addr, place } => {
            let conn = pipewerks::dial(addr).await?;
            let mut client = client::connect(conn.clone()).await?;
            print(client.now(Place { name: place }).await?.get_ref());
            drop(client);
            Ok(conn.drain().await?)
        }
        Role::Forecast { addr, place, hours } => {
            let conn = pipewerks::dial(addr).await?;
            let mut client = client::connect(conn.clone()).await?;
            let place = Some(Place { name: place });
            let request = ForecastRequest { place, hours };
            let mut reports = client.forecast(request).await?.into_inner();
            while let Some(report) = reports.message().await? {
                print(&report);
            }
            drop((client, reports));
            Ok(conn.drain().await?)
        }
        Role::Demo { addr } => tour::run(&addr).await,
    }
}

fn print(report: &Report) {
    let Report {
        place,
        hour,
        temperature,
    } = report;
    println!("{place} in {hour} h: {temperature:.1} °C");
}
