use std::time::Duration;

use pipewerks::{Addr, BoxConn, Conn};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::exit::Exit;
use crate::failure::{Failure, explain};
use crate::net::Net;
use crate::report::Report;

/// The least and the longest time between two attempts to dial.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// A connection that is dialed again whenever it is over.
#[derive(Debug)]
pub(crate) struct Redialer {
    net: Net,
    addr: Address,
    report: Report,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    conn: Option<BoxConn>,
    /// Number of connections so far.
    number: u64,
}

impl Redialer {
    /// Dials for the first time, and not again if that fails.
    pub(crate) async fn new(net: Net, addr: Address, report: Report) -> Result<Self, Failure> {
        let conn = net.dial(&addr).await?;
        let remote = conn.remote_addr();
        let redialer = Self {
            net,
            addr,
            report,
            current: Mutex::new(Current {
                conn: Some(conn),
                number: 1,
            }),
        };
        redialer.note("connected", &remote);
        Ok(redialer)
    }

    pub(crate) fn addr(&self) -> &Addr {
        &self.addr
    }

    /// Returns the connection, or a new one with its number, after as many attempts as it takes
    /// until the deadline. Safe to drop.
    ///
    /// An error comes at once where another attempt would end alike, as with a wrong certificate.
    pub(crate) async fn conn(&self, deadline: Instant) -> Result<(BoxConn, u64), Failure> {
        let mut current = self.current.lock().await;
        if let Some(conn) = &current.conn
            && !conn.state().borrow().is_final()
        {
            return Ok((conn.clone(), current.number));
        }
        let (mut pause, longest) = PAUSES;
        loop {
            match self.net.try_dial(&self.addr).await {
                Ok(conn) => {
                    self.note("connected", &conn.remote_addr());
                    current.conn = Some(conn.clone());
                    current.number += 1;
                    return Ok((conn, current.number));
                }
                Err(error) => {
                    tracing::info!(addr = %self.addr, error = explain(&error), "could not dial");
                    let failure = Failure::unreached(self.addr.as_str(), &error);
                    let lasting = matches!(failure.exit, Exit::Usage | Exit::Unauthenticated);
                    if lasting || Instant::now() + pause >= deadline {
                        return Err(failure);
                    }
                }
            }
            // Not all in step, where many have lost the same peer.
            sleep(pause.mul_f64(0.75 + jitter() / 2.0)).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Takes this connection for over, if it is still the current one. Its streams live on.
    pub(crate) async fn forget(&self, number: u64) {
        let mut current = self.current.lock().await;
        if current.number == number {
            current.conn = None;
        }
    }

    /// Returns the connection that there is at the moment.
    pub(crate) async fn take(&self) -> Option<BoxConn> {
        self.current.lock().await.conn.take()
    }

    fn note(&self, event: &str, remote: &Addr) {
        let addr = match self.addr.alternatives() {
            [_] => self.addr.as_str(),
            _ => remote.as_str(),
        };
        let event = json!({"event": event, "remote": addr});
        self.report
            .note(format_args!("connected to {addr}"), &event);
    }
}

/// Returns a number from 0 to 1 that differs from process to process and from call to call.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
