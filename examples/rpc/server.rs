//! [`Server`]: one task a call, which ends early when nobody waits for its answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pipewerks::{Conn, Listener, RecvStream, Result, SendStream, Stream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::frame::{self, LIMIT};
use crate::message::{Answer, Call, Fault, Request};

/// The code that both directions of a stream end with when what came is no message.
pub(crate) const MALFORMED: u32 = 1;

/// How many calls came to which end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) running: u64,
    pub(crate) answered: u64,
    /// The client wanted no answer any more.
    pub(crate) abandoned: u64,
    /// Nothing sensible came.
    pub(crate) malformed: u64,
}

/// Answers calls. Clones share their counts.
#[derive(Clone, Default)]
pub(crate) struct Server {
    counts: Arc<watch::Sender<Counts>>,
}

impl Server {
    /// The counts, to look at or to wait for.
    pub(crate) fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    /// Serves until the listener fails. Dropping the future ends all connections.
    pub(crate) async fn serve<L: Listener>(&self, listener: L) -> Result<()> {
        let mut conns = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    conns.spawn(self.clone().serve_conn(accepted?));
                }
                Some(_) = conns.join_next() => {}
            }
        }
    }

    async fn serve_conn<C: Conn>(self, conn: C) {
        // As many as the client may open at once: the limit is `Config::max_streams`.
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                accepted = conn.accept_stream() => match accepted {
                    Ok(stream) => {
                        calls.spawn(self.clone().answer(stream));
                    }
                    // The client has gone, and with it whoever waited for answers.
                    Err(_) => return,
                },
                Some(_) = calls.join_next() => {}
            }
        }
    }

    async fn answer<S: Stream>(self, stream: S) {
        self.counts.send_modify(|counts| counts.running += 1);
        let (mut send, mut recv) = stream.into_split();
        let answered = self.exchange(&mut send, &mut recv).await;
        self.counts.send_modify(|counts| {
            counts.running -= 1;
            match &answered {
                Ok(true) => counts.answered += 1,
                Ok(false) => counts.abandoned += 1,
                Err(error) if of_stream(error) => counts.abandoned += 1,
                Err(_) => counts.malformed += 1,
            }
        });
        if answered.is_err() {
            // No effect where the stream broke, and not the message.
            send.reset(MALFORMED);
            recv.stop(MALFORMED);
        }
    }

    /// Reads a call and answers it. Returns whether the client waited for that.
    async fn exchange(
        &self,
        send: &mut impl SendStream,
        recv: &mut impl RecvStream,
    ) -> io::Result<bool> {
        let answer = match frame::read::<Call>(recv).await {
            Ok(call) => {
                let work = timeout(Duration::from_millis(call.deadline_ms), run(call.request));
                tokio::select! {
                    done = work => done.unwrap_or(Err(Fault::DeadlineExceeded)),
                    // Dropping the work is what gives it up.
                    _ = send.stopped() => return Ok(false),
                }
            }
            Err(error) => match error.get_ref() {
                // A message of another kind has an answer.
                Some(inner) if inner.is::<serde_json::Error>() => {
                    Err(Fault::BadRequest(inner.to_string()))
                }
                _ => return Err(error),
            },
        };
        frame::write(send, &answer).await?;
        Ok(true)
    }
}

/// Whether the stream broke, and not what came over it.
fn of_stream(error: &io::Error) -> bool {
    pipewerks::Error::from_io(error).is_some()
}

async fn run(request: Request) -> Result<Answer, Fault> {
    let undefined = |what: String| Fault::Undefined(what);
    match request {
        Request::Add { a, b } => match a.checked_add(b) {
            Some(sum) => Ok(Answer::Number(sum)),
            None => Err(undefined(format!("{a} + {b}"))),
        },
        Request::Divide { a, b } => match a.checked_div(b) {
            Some(quotient) => Ok(Answer::Number(quotient)),
            None => Err(undefined(format!("{a} / {b}"))),
        },
        Request::Repeat { text, times } => {
            // In JSON, one byte of a text takes up to six.
            let bytes = text.len().saturating_mul(times);
            let limit = LIMIT / 8;
            if bytes > limit {
                return Err(Fault::TooLong { bytes, limit });
            }
            Ok(Answer::Text(text.repeat(times)))
        }
        Request::Wait { ms } => {
            sleep(Duration::from_millis(ms)).await;
            Ok(Answer::Waited)
        }
    }
}
