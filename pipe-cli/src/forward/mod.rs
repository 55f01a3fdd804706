//! `pipe forward` and `pipe expose`: connections of TCP, each carried by a stream of its own.

mod join;
mod lanes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use pipewerks::{BoxStream, Conn, Stream};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::lanes::Lanes;
use crate::context::Context;
use crate::door::GuardArgs;
use crate::exit::Exit;
use crate::failure::{Failure, io_text};
use crate::net::{Net, NetArgs};
use crate::redial::Redialer;
use crate::refusal::is_refused;
use crate::serve::{Guard, finish, serve, tell};

/// Time for which a client of the forwarder waits for a lost peer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that was shorter than this is not made again before as long has passed.
const BRIEF: Duration = Duration::from_secs(1);

/// Time limit for connecting to the target.
const CONNECT: Duration = Duration::from_secs(10);

/// Maximum number of connections to the target at once.
const MAX_EXPOSED: usize = 4096;

/// The code of a stream whose target could not be reached.
const UNREACHED: u32 = 2;

#[derive(Args, Clone, Debug)]
pub(crate) struct ForwardArgs {
    /// Where to listen for TCP, such as 127.0.0.1:8080 (port 0 takes a free one)
    #[arg(long, value_name = "HOST:PORT")]
    local: String,
    /// How many connections to carry at once. Those beyond are reset at once. As one connection to the
    /// peer carries 200 of them, there are as many of those as it takes
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..=16384))]
    max_streams: u16,
    /// Address where `pipe expose` listens
    addr: String,
    #[command(flatten)]
    net: NetArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ExposeArgs {
    /// Address to listen on, for `pipe forward`
    addr: String,
    /// Where to connect to by TCP, such as 127.0.0.1:80
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    net: NetArgs,
}

/// Carries the connections of a local port to the peer, until the program is stopped.
pub(crate) async fn forward(context: &Context, args: &ForwardArgs) -> Result<Exit, Failure> {
    let (net, addr) = (Net::new(&args.net)?, Net::addr(&args.addr)?);
    host_port("--local", &args.local)?;
    let listener = TcpListener::bind(&args.local).await.map_err(|error| {
        let why = format!("cannot listen on {}: {}", args.local, io_text(&error));
        Failure::new(Exit::Unreached, why)
    })?;
    let lanes = tokio::select! {
        lanes = Lanes::new(net, addr, context.report) => Arc::new(lanes?),
        () = context.stop.asked() => return Err(context.stopped()),
    };
    let redialer = lanes.first();
    let local = listener
        .local_addr()
        .map_err(|error| Failure::local(&args.local, &error))?;
    context.report.note(
        format_args!("forwarding {local} to {}", redialer.addr()),
        &json!({"event": "forwarding", "local": local, "remote": redialer.addr().as_str()}),
    );
    let mut running = JoinSet::new();
    let mut connected = JoinSet::new();
    // So that it is reported once.
    let mut full = false;
    connected.spawn(stay_connected(context.clone(), redialer));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, client)) if running.len() >= usize::from(args.max_streams) => {
                    if !full {
                        let max = args.max_streams;
                        context.report.warn(format_args!(
                            "{local}: {client} and others are reset: {max} connections are carried already \
                             (--max-streams)"
                        ));
                    }
                    full = true;
                    join::cut(tcp);
                }
                Ok((tcp, client)) => {
                    full = false;
                    running.spawn(forward_one(lanes.clone(), tcp, client));
                }
                // Out of files, or a client that has gone: others may come.
                Err(error) => {
                    context.report.warn(format_args!("{local}: {}", io_text(&error)));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(done) = running.join_next() => tell(context, done),
            Some(done) = connected.join_next() => {
                return Err(match done {
                    Ok(failure) => failure,
                    Err(error) => Failure::failed(error.to_string()),
                });
            }
            () = context.stop.asked() => break,
        }
    }
    drop(listener);
    connected.abort_all();
    finish(context, running).await?;
    lanes.farewell().await;
    Ok(Exit::Done)
}

/// Dials again whenever the connection is over. Returns when that makes no sense any more.
async fn stay_connected(context: Context, redialer: Arc<Redialer>) -> Failure {
    loop {
        // Years: as long as the program runs.
        let deadline = Instant::now() + Duration::from_secs(1 << 30);
        let (conn, number) = match redialer.conn(deadline).await {
            Ok(conn) => conn,
            Err(failure) => return failure,
        };
        let began = Instant::now();
        let reason = conn.closed().await;
        let addr = redialer.addr();
        if is_refused(&reason) {
            return Failure::new(
                Exit::Unauthenticated,
                format!("{addr}: connection {reason}"),
            );
        }
        context.report.note(
            format_args!("lost {addr}: {reason}"),
            &json!({"event": "lost", "remote": addr.as_str(), "message": reason.to_string()}),
        );
        redialer.forget(number).await;
        // A peer that closes what it has just accepted is not dialed again at once.
        if began.elapsed() < BRIEF {
            tokio::time::sleep(BRIEF).await;
        }
    }
}

async fn forward_one(lanes: Arc<Lanes>, tcp: TcpStream, client: SocketAddr) -> Result<(), Failure> {
    let addr = lanes.first().addr().clone();
    let stream = timeout(PATIENCE, lanes.open(Instant::now() + PATIENCE)).await;
    let opened = stream.unwrap_or_else(|_| {
        let why = format!("{addr}: no stream within {PATIENCE:?}");
        Err(Failure::new(Exit::Lost, why))
    });
    match opened {
        Ok((stream, _place)) => match join::join(tcp, stream).await {
            Err(error) if error.code() == Some(UNREACHED) => {
                let why = format!("{addr}: the other side cannot reach its target");
                Err(Failure::failed(why))
            }
            joined => {
                if let Err(error) = joined {
                    tracing::info!(%client, %error, "a connection was cut");
                }
                Ok(())
            }
        },
        Err(failure) => {
            join::cut(tcp);
            Err(failure)
        }
    }
}

/// Connects the streams of peers to the target, until the program is stopped.
pub(crate) async fn expose(context: &Context, args: &ExposeArgs) -> Result<Exit, Failure> {
    host_port("--to", &args.to)?;
    let guard = Guard {
        args: &args.guard,
        secret: true,
        at_once: MAX_EXPOSED,
    };
    serve(context, &args.net, &args.addr, guard, |_, stream| {
        expose_one(args.to.clone(), stream)
    })
    .await
}

async fn expose_one(to: String, mut stream: BoxStream) -> Result<(), Failure> {
    let connected = timeout(CONNECT, TcpStream::connect(&to)).await;
    let why = match connected {
        Ok(Ok(tcp)) => {
            if let Err(error) = join::join(tcp, stream).await {
                tracing::info!(to, %error, "a connection was cut");
            }
            return Ok(());
        }
        Ok(Err(error)) => io_text(&error),
        Err(_) => format!("no connection within {CONNECT:?}"),
    };
    stream.reset(UNREACHED);
    stream.stop(UNREACHED);
    Err(Failure::failed(format!("{to}: {why}")))
}

fn host_port(option: &str, text: &str) -> Result<(), Failure> {
    let parts = text.rsplit_once(':');
    if parts.is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
        let why = format!("{option} {text}: expected a host and a port, as in 127.0.0.1:8080");
        return Err(Failure::usage(why));
    }
    Ok(())
}
