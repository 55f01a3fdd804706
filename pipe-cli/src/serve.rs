use pipewerks::{BoxConn, BoxStream};
use tokio::task::{JoinError, JoinSet};

use crate::arrivals::Arrivals;
use crate::context::Context;
use crate::door::GuardArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::NetArgs;

/// The result of a stream. A failure is reported, and harms no other stream.
pub(crate) type Served = Result<(), Failure>;

/// The peers to serve, and the number of streams at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard<'a> {
    pub(crate) args: &'a GuardArgs,
    /// Whether the address gets a token if it has none.
    pub(crate) secret: bool,
    pub(crate) at_once: usize,
}

/// Listens, and serves each stream of each connection in a task of its own, until the program is
/// stopped. Streams in progress may end then.
pub(crate) async fn serve<F>(
    context: &Context,
    net: &NetArgs,
    addr: &str,
    guard: Guard<'_>,
    each: impl Fn(BoxConn, BoxStream) -> F,
) -> Result<Exit, Failure>
where
    F: Future<Output = Served> + Send + 'static,
{
    let door = context.listen(net, addr, guard.args, guard.secret).await?;
    let mut arrivals = Arrivals::new(door);
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            // Those beyond wait in the backlogs of their connections.
            arrival = arrivals.next(), if running.len() < guard.at_once => {
                let (conn, stream) = arrival?;
                running.spawn(each(conn, stream));
            }
            Some(done) = running.join_next() => tell(context, done),
            () = context.stop.asked() => break,
        }
    }
    arrivals.stop_listening();
    finish(context, running).await?;
    arrivals.farewell().await;
    Ok(Exit::Done)
}

/// Lets the tasks end that are under way.
pub(crate) async fn finish(context: &Context, mut running: JoinSet<Served>) -> Result<(), Failure> {
    let rest = async {
        while let Some(done) = running.join_next().await {
            tell(context, done);
        }
    };
    let finished = context.stop.grace(rest).await;
    finished.ok_or_else(|| context.stopped())
}

/// Reports the failure of a task.
pub(crate) fn tell(context: &Context, done: Result<Served, JoinError>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => context.report.warn(failure),
        Err(error) => context.report.warn(error),
    }
}
