//! `pipe listen`, `pipe dial` and `pipe offer`: streams joined to standard input and output, or to commands.

mod broadcast;
mod exec;
pub(crate) mod group;
mod offer;

use clap::Args;
use futures::future::{join_all, try_join_all};
use pipewerks::{BoxConn, BoxStream, Conn};
use serde_json::json;

use crate::arrivals::Arrivals;
use crate::context::Context;
use crate::door::GuardArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::{Net, NetArgs, farewell};
use crate::serve::{Guard, serve};
use crate::standard::Input;

pub(crate) use offer::{OfferArgs, offer};

/// Maximum number of commands that run at once for the streams of peers.
const MAX_COMMANDS: usize = 256;

#[derive(Args, Clone, Debug)]
pub(crate) struct DialArgs {
    /// Address to connect to, such as tcp://host:7000
    addr: String,
    #[command(flatten)]
    streams: StreamArgs,
    #[command(flatten)]
    net: NetArgs,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ListenArgs {
    /// Address to listen on, such as tcp://127.0.0.1:0 (port 0 takes a free one)
    addr: String,
    #[command(flatten)]
    streams: StreamArgs,
    /// Go on listening when the streams are over, and take the next ones
    #[arg(long, conflicts_with = "exec")]
    keep: bool,
    #[command(flatten)]
    guard: GuardArgs,
    #[command(flatten)]
    net: NetArgs,
}

#[derive(Args, Clone, Debug)]
struct StreamArgs {
    /// Join each stream to this command of the shell, instead of standard input and output
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// How many streams to use at once. Each gets all of standard input, and what comes out of them is
    /// mixed line by line
    #[arg(long = "stream", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    count: u16,
}

/// Joins streams that this side opens.
pub(crate) async fn dial(context: &Context, args: &DialArgs) -> Result<Exit, Failure> {
    let (net, addr) = (Net::new(&args.net)?, Net::addr(&args.addr)?);
    let conn = tokio::select! {
        conn = net.dial(&addr) => conn?,
        () = context.stop.asked() => return Err(context.stopped()),
    };
    over(context, addr.as_str(), &conn, &args.streams).await
}

/// Joins streams that this side opens over a connection, and ends it.
async fn over(
    context: &Context,
    addr: &str,
    conn: &BoxConn,
    args: &StreamArgs,
) -> Result<Exit, Failure> {
    let remote = conn.remote_addr();
    context.report.note(
        format_args!("connected to {remote}"),
        &json!({"event": "connected", "remote": remote.as_str(), "local": conn.local_addr().as_str()}),
    );
    let lost = |error: pipewerks::Error| Failure::on_conn(addr, &error);
    let opened = try_join_all((0..args.count).map(|_| conn.open_stream()));
    let streams = tokio::select! {
        streams = opened => streams.map_err(lost)?,
        () = context.stop.asked() => return Err(context.stopped()),
    };
    let joined = match &args.exec {
        None => {
            let mut input = Input::default();
            broadcast::join(context, addr, &mut input, streams).await
        }
        Some(command) => run_all(context, addr, command, conn, streams).await,
    };
    farewell(conn).await;
    joined
}

async fn run_all(
    context: &Context,
    addr: &str,
    command: &str,
    conn: &BoxConn,
    streams: Vec<BoxStream>,
) -> Result<Exit, Failure> {
    let runs = streams
        .into_iter()
        .map(|stream| exec::run(command, addr, conn, stream));
    match context.stop.grace(try_join_all(runs)).await {
        Some(Ok(_)) if context.stop.is_asked() => Err(context.stopped()),
        Some(done) => done.map(|_| Exit::Done),
        None => Err(context.stopped()),
    }
}

/// Joins streams that peers open.
pub(crate) async fn listen(context: &Context, args: &ListenArgs) -> Result<Exit, Failure> {
    if let Some(command) = &args.streams.exec {
        let guard = Guard {
            args: &args.guard,
            secret: true,
            at_once: MAX_COMMANDS,
        };
        return serve(context, &args.net, &args.addr, guard, |conn, stream| {
            let command = command.clone();
            async move {
                let addr = conn.remote_addr();
                exec::run(&command, addr.as_str(), &conn, stream).await
            }
        })
        .await;
    }
    // Only one stream is joined to the terminal, and it is visible there: a token is added on
    // request.
    let door = context
        .listen(&args.net, &args.addr, &args.guard, false)
        .await?;
    let mut arrivals = Arrivals::new(door);
    let mut input = Input::default();
    loop {
        let mut streams = Vec::new();
        let mut conns = Vec::new();
        while streams.len() < usize::from(args.streams.count) {
            let (conn, stream) = tokio::select! {
                arrival = arrivals.next() => arrival?,
                () = context.stop.asked() => return Ok(Exit::Done),
            };
            streams.push(stream);
            conns.push(conn);
        }
        let addr = conns[0].remote_addr();
        let joined = broadcast::join(context, addr.as_str(), &mut input, streams).await;
        join_all(conns.iter().map(farewell)).await;
        match joined {
            Ok(_) if args.keep => {}
            Err(failure) if args.keep && !context.stop.is_asked() => context.report.warn(failure),
            joined => return joined,
        }
    }
}
