//! `pipe perf`: throughput and round trips of a connection.
//!
//! The protocol is `pipe-perf/1`, in the frames of [`channel`](crate::channel). The client opens a
//! stream for each request: `answer` is answered at once; after `sink`, the server counts the bytes
//! that follow, and answers with the number; after `source`, the server sends zeros for so many
//! milliseconds.

mod args;
mod client;
mod protocol;
mod result;
mod server;

pub(crate) use self::args::PerfArgs;
use self::protocol::MAX_MILLIS;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) async fn perf(context: &Context, args: &PerfArgs) -> Result<Exit, Failure> {
    if args.serve {
        return server::serve(context, args).await;
    }
    if args.time.as_millis() > u128::from(MAX_MILLIS) {
        let why = format!("--time {:?}: the longest is 10 minutes", args.time);
        return Err(Failure::usage(why));
    }
    client::measure(context, args).await
}
