//! Every way that a call can go, from both sides, in one process.

use std::time::Duration;

use anyhow::ensure;
use futures::future::try_join_all;
use pipewerks::{Addr, Conn, Listener};
use tokio_util::task::AbortOnDropHandle;

use crate::client::{CallError, Client};
use crate::message::{Answer, Fault, Request};
use crate::server::Server;

/// Longer than a call ever takes, on a machine under load too.
const LONG: Duration = Duration::from_secs(60);

/// How many calls run at once: more than there may be streams.
const AT_ONCE: i64 = 400;

/// Serves at `addr`, and tries all of it.
pub(crate) async fn run(addr: &Addr) -> anyhow::Result<()> {
    let listener = pipewerks::listen(addr).await?;
    let addr = listener.local_addr();
    eprintln!("calls over {addr}");
    let server = Server::default();
    let mut counts = server.counts();
    let serving = tokio::spawn(async move { server.serve(listener).await });
    let _serving = AbortOnDropHandle::new(serving);
    let conn = pipewerks::dial(&addr).await?;
    let client = Client::new(conn.clone());

    let sum = client.call(Request::Add { a: 2, b: 3 }, LONG).await?;
    ensure!(sum == Answer::Number(5), "2 + 3 is {sum:?}");
    eprintln!("  an answer: {sum:?}");

    let refused = client.call(Request::Divide { a: 1, b: 0 }, LONG).await;
    let Err(CallError::Fault(Fault::Undefined(_))) = &refused else {
        anyhow::bail!("1 / 0 is {refused:?}");
    };
    eprintln!("  an error: {}", refused.unwrap_err());

    let calls = (0..AT_ONCE).map(async |a| {
        let sum = client.call(Request::Add { a, b: 1 }, LONG).await?;
        ensure!(sum == Answer::Number(a + 1), "{a} + 1 is {sum:?}");
        Ok(())
    });
    try_join_all(calls).await?;
    eprintln!("  {AT_ONCE} calls at once");

    let request = Request::Wait { ms: 3_600_000 };
    let before = counts
        .wait_for(|counts| counts.running == 0)
        .await?
        .abandoned;
    tokio::select! {
        answer = client.call(request.clone(), LONG) => anyhow::bail!("an hour took {answer:?}"),
        running = counts.wait_for(|counts| counts.running == 1) => drop(running?),
    }
    let counts = *counts.wait_for(|counts| counts.running == 0).await?;
    ensure!(counts.abandoned == before + 1, "{counts:?}");
    eprintln!("  a call that was dropped: the server has given it up");

    let late = client.call(request, Duration::from_millis(50)).await;
    // Whoever of the two looks at the clock first.
    let Err(CallError::Deadline(_) | CallError::Fault(Fault::DeadlineExceeded)) = &late else {
        anyhow::bail!("an hour took {late:?}");
    };
    eprintln!("  a deadline: {}", late.unwrap_err());

    Ok(conn.drain().await?)
}
