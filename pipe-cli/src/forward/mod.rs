//! `pipe forward` and `pipe expose`: connections of TCP, each carried by a stream of its own.

mod join;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use pipewerks::{BoxStream, Conn, Stream};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, io_text};
use crate::net::{Net, NetArgs, farewell};
use crate::redial::Redialer;
use crate::serve::{finish, serve, tell};

/// How long a client of the forwarder waits for a lost peer to come back.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long connecting to the target may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The code of a stream whose connection of TCP was reset, or whose peer's was.
pub(crate) const RESET: u32 = 1;

/// The code of a stream whose target could not be reached.
const UNREACHED: u32 = 2;

#[derive(Args, Clone, Debug)]
pub(crate) struct ForwardArgs {
    /// Where to listen for TCP, such as 127.0.0.1:8080 (port 0 takes a free one)
    #[arg(long, value_name = "HOST:PORT")]
    local: String,
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
    net: NetArgs,
}

/// Carries the connections of a local port to the peer, until the program is asked to stop.
pub(crate) async fn forward(context: &Context, args: &ForwardArgs) -> Result<Exit, Failure> {
    let (net, addr) = (Net::new(&args.net)?, Net::addr(&args.addr)?);
    host_port("--local", &args.local)?;
    let listener = TcpListener::bind(&args.local).await.map_err(|error| {
        let why = format!("cannot listen on {}: {}", args.local, io_text(&error));
        Failure::new(Exit::Unreached, why)
    })?;
    let redialer = tokio::select! {
        redialer = Redialer::new(net, addr, context.report) => Arc::new(redialer?),
        () = context.stop.asked() => return Err(context.stopped()),
    };
    let local = listener
        .local_addr()
        .map_err(|error| Failure::local(&args.local, &error))?;
    context.report.note(
        format_args!("forwarding {local} to {}", redialer.addr()),
        &json!({"event": "forwarding", "local": local, "remote": redialer.addr().as_str()}),
    );
    let mut running = JoinSet::new();
    let mut connected = JoinSet::new();
    connected.spawn(stay_connected(context.clone(), redialer.clone()));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, client)) => {
                    running.spawn(forward_one(redialer.clone(), tcp, client));
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
    if let Some(conn) = redialer.take().await {
        farewell(&conn).await;
    }
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
        let reason = conn.closed().await;
        let addr = redialer.addr();
        context.report.note(
            format_args!("lost {addr}: {reason}"),
            &json!({"event": "lost", "remote": addr.as_str(), "message": reason.to_string()}),
        );
        redialer.forget(number).await;
    }
}

async fn forward_one(
    redialer: Arc<Redialer>,
    tcp: TcpStream,
    client: SocketAddr,
) -> Result<(), Failure> {
    let stream = timeout(PATIENCE, redialer.open(Instant::now() + PATIENCE)).await;
    let opened = stream.unwrap_or_else(|_| {
        let why = format!("{}: no stream within {PATIENCE:?}", redialer.addr());
        Err(Failure::new(Exit::Lost, why))
    });
    match opened {
        Ok(stream) => match join::join(tcp, stream).await {
            Err(error) if error.code() == Some(UNREACHED) => {
                let addr = redialer.addr();
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

/// Connects the streams of peers to the target, until the program is asked to stop.
pub(crate) async fn expose(context: &Context, args: &ExposeArgs) -> Result<Exit, Failure> {
    host_port("--to", &args.to)?;
    serve(context, &args.net, &args.addr, |_, stream| {
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
