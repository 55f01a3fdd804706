use std::collections::VecDeque;
use std::sync::Arc;

use clap::Args;
use pipewerks::{Addr, BoxConn, BoxListener, Conn, Listener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::exit::Exit;
use crate::failure::{Failure, explain};
use crate::token::Token;

/// Maximum number of connections whose token is pending. One more displaces the oldest of them.
const MAX_STRANGERS: usize = 64;

/// The code that a connection beyond `--max-conns` is closed with.
const TOO_MANY: u32 = 429;

/// Default maximum number of connections served at once.
const MAX_CONNS: u16 = 64;

/// Which peers are served.
#[derive(Args, Clone, Debug)]
pub(crate) struct GuardArgs {
    /// Serve every peer that reaches the address, also without the token that is printed in it
    #[arg(long)]
    pub(crate) no_token: bool,
    /// How many connections to serve at once. Those beyond are refused
    #[arg(long, value_name = "N", default_value_t = MAX_CONNS, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) max_conns: u16,
}

/// Uses the defaults, for a command without these options.
impl Default for GuardArgs {
    fn default() -> Self {
        Self {
            no_token: false,
            max_conns: MAX_CONNS,
        }
    }
}

/// A connection whose peer may be served. It counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) conn: BoxConn,
    pub(crate) place: OwnedSemaphorePermit,
}

/// The connections of a listener that have shown its token.
#[derive(Debug)]
pub(crate) struct Door {
    admitted: mpsc::Receiver<Result<Admitted, Failure>>,
    /// Holds the listener, and ends with this.
    accepting: JoinSet<()>,
}

impl Door {
    /// Begins to accept. Without a token, every connection is served.
    pub(crate) fn new(listener: BoxListener, token: Option<Token>, max_conns: u16) -> Self {
        // Further connections wait in the listener's backlog.
        let (admit, admitted) = mpsc::channel(1);
        let accept = Accept {
            token: token.map(Arc::new),
            places: Arc::new(Semaphore::new(usize::from(max_conns))),
            admit,
        };
        let mut accepting = JoinSet::new();
        accepting.spawn(accept.run(listener));
        Self {
            admitted,
            accepting,
        }
    }

    /// Returns the next connection. Safe to drop.
    pub(crate) async fn next(&mut self) -> Result<Admitted, Failure> {
        let over = || Err(Failure::failed("the listener is gone"));
        self.admitted.recv().await.unwrap_or_else(over)
    }

    /// Frees the address.
    pub(crate) async fn close(&mut self) {
        self.accepting.shutdown().await;
    }
}

struct Accept {
    token: Option<Arc<Token>>,
    places: Arc<Semaphore>,
    admit: mpsc::Sender<Result<Admitted, Failure>>,
}

impl Accept {
    async fn run(self, listener: BoxListener) {
        let mut checks = JoinSet::new();
        let mut strangers: VecDeque<(u64, BoxConn)> = VecDeque::new();
        let mut number = 0;
        // A listener on a list gives an error for each of its listeners that ends, and goes on with the others.
        let mut may_fail = listener.local_addr().alternatives().len();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(conn) => {
                        if strangers.len() >= MAX_STRANGERS
                            && let Some((_, oldest)) = strangers.pop_front()
                        {
                            oldest.close(TOO_MANY, "too many connections without a token");
                        }
                        number += 1;
                        strangers.push_back((number, conn.clone()));
                        checks.spawn(check(number, conn, self.token.clone(), self.places.clone(), self.admit.clone()));
                    }
                    Err(error) if may_fail > 1 => {
                        may_fail -= 1;
                        tracing::warn!(error = explain(&error), "accepting a connection failed");
                    }
                    Err(error) => {
                        let failure = failed(&listener.local_addr(), &error);
                        let _ = self.admit.send(Err(failure)).await;
                        return;
                    }
                },
                Some(Ok(number)) = checks.join_next() => strangers.retain(|(other, _)| *other != number),
            }
        }
    }
}

fn failed(addr: &Addr, error: &pipewerks::Error) -> Failure {
    Failure::new(Exit::Unreached, format!("{addr}: {}", explain(error)))
}

/// Lets a connection in that has the token, if there is a place. Returns its number.
async fn check(
    number: u64,
    conn: BoxConn,
    token: Option<Arc<Token>>,
    places: Arc<Semaphore>,
    admit: mpsc::Sender<Result<Admitted, Failure>>,
) -> u64 {
    if let Some(token) = token
        && let Err(why) = token.check(&conn).await
    {
        tracing::info!(remote = %conn.remote_addr(), why, "a connection was refused");
        return number;
    }
    match places.try_acquire_owned() {
        Ok(place) => drop(admit.send(Ok(Admitted { conn, place })).await),
        Err(_) => conn.close(TOO_MANY, "too many connections (--max-conns)"),
    }
    number
}
