//! `pipe perf`: what a connection carries, and how it answers meanwhile.
//!
//! The protocol is `pipe-perf/1`, in the frames of [`channel`](crate::channel). The client opens a stream
//! for each request: `answer` is answered at once; after `sink`, what follows is counted by the server,
//! which answers how much it was; after `source`, the server sends zeros for so many milliseconds.

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
