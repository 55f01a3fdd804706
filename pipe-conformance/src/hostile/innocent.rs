use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pipe_core::{Addr, BoxTransport, Conn, Error, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::victim::ECHO;

/// How often an echo is asked for, and a connection is dialed.
const ECHO_PACE: Duration = Duration::from_millis(2);
const DIAL_PACE: Duration = Duration::from_millis(20);

/// After how long something counts as failed.
const LIMIT: Duration = Duration::from_secs(15);

/// A polite peer that measures how it is served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Innocent(Arc<Mutex<Seen>>);

/// The measurements of a polite peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) echoes: Latencies,
    pub(crate) dials: Latencies,
    pub(crate) failures: Vec<String>,
    echo_since: Option<Instant>,
    dial_since: Option<Instant>,
}

/// How long something took, each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds one that took so long, and those that would have started meanwhile.
    fn add(&mut self, took: Duration, pace: Duration) {
        let mut left = took;
        self.0.push(left);
        while left > pace && self.0.len() < 1 << 20 {
            left -= pace;
            self.0.push(left);
        }
    }

    /// Returns the time that so many of a hundred took at most.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Innocent {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was seen, and returns it; what is under way counts with the time that it has taken.
    pub(crate) fn take(&self) -> Seen {
        let mut seen = self.seen();
        let (echo_since, dial_since) = (seen.echo_since, seen.dial_since);
        let mut taken = std::mem::take(&mut *seen);
        let now = Instant::now();
        if let Some(since) = echo_since {
            taken.echoes.add(now - since, ECHO_PACE);
            seen.echo_since = Some(now);
        }
        if let Some(since) = dial_since {
            taken.dials.add(now - since, DIAL_PACE);
            seen.dial_since = Some(now);
        }
        taken
    }

    fn fail(&self, what: &str, error: &Error) {
        let mut seen = self.seen();
        if seen.failures.len() < 8 {
            seen.failures.push(format!("{what}: {error}"));
        }
    }

    fn echoed(&self, started: Instant) {
        let mut seen = self.seen();
        let since = seen.echo_since.take().unwrap_or(started);
        seen.echoes.add(since.elapsed(), ECHO_PACE);
    }

    fn dialed(&self, started: Instant) {
        let mut seen = self.seen();
        let since = seen.dial_since.take().unwrap_or(started);
        seen.dials.add(since.elapsed(), DIAL_PACE);
    }

    /// Asks for echoes over one connection, for ever.
    pub(crate) async fn echo(self, transport: Arc<BoxTransport>, addr: Addr) {
        loop {
            if let Err(error) = self.echo_until_an_error(&transport, &addr).await {
                self.fail("an echo", &error);
            }
            sleep(DIAL_PACE).await;
        }
    }

    async fn echo_until_an_error(
        &self,
        transport: &BoxTransport,
        addr: &Addr,
    ) -> Result<(), Error> {
        let conn = transport.dial(addr).await?;
        let mut stream = conn.open_stream().await?;
        stream.write_all(&[ECHO]).await?;
        loop {
            let started = Instant::now();
            self.seen().echo_since = Some(started);
            let echo = async {
                stream.write_all(&[7; 32]).await?;
                stream.flush().await?;
                stream.read_exact(&mut [0; 32]).await
            };
            match timeout(LIMIT, echo).await {
                Ok(echoed) => echoed?,
                Err(_) => return Err(late("an echo")),
            };
            self.echoed(started);
            sleep(ECHO_PACE).await;
        }
    }

    /// Dials again and again, for ever: each connection carries an echo, and is drained.
    pub(crate) async fn dial(self, transport: Arc<BoxTransport>, addr: Addr, pace: Duration) {
        loop {
            let started = Instant::now();
            self.seen().dial_since = Some(started);
            let dialed = match timeout(LIMIT, transport.dial(&addr)).await {
                Ok(dialed) => dialed,
                Err(_) => Err(late("a dial")),
            };
            self.dialed(started);
            match dialed {
                Ok(conn) => match timeout(LIMIT, use_once(&conn)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.fail("a fresh connection", &error),
                    Err(_) => self.fail("a fresh connection", &late("its echo and drain")),
                },
                Err(error) => self.fail("a dial", &error),
            }
            sleep(pace).await;
        }
    }
}

/// How often a measured innocent dials.
pub(crate) const fn dial_pace() -> Duration {
    DIAL_PACE
}

async fn use_once<C: Conn>(conn: &C) -> Result<(), Error> {
    let mut stream = conn.open_stream().await?;
    stream.write_all(&[ECHO]).await?;
    stream.write_all(b"here I am").await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; 9]).await?;
    // Not every wire has an end of one direction that lets the other one go on.
    stream.shutdown().await?;
    drop(stream);
    conn.drain().await
}

fn late(what: &str) -> Error {
    Error::new(
        pipe_core::ErrorKind::TimedOut,
        format!("{what} took more than {LIMIT:?}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_hangs_counts_for_those_that_would_have_started() {
        let mut latencies = Latencies::default();
        let ms = Duration::from_millis;
        for _ in 0..50 {
            latencies.add(ms(1), ms(2));
        }
        latencies.add(ms(100), ms(2));
        assert_eq!(latencies.len(), 100);
        assert_eq!(latencies.percentile(50), ms(1));
        assert!(latencies.percentile(99) >= ms(98));
        assert_eq!(latencies.percentile(100), ms(100));
    }
}
