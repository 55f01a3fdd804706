//! The liveness clock of a connection, as cases set it and wait for it.

use std::future::Future;
use std::time::Duration;

use pipe_core::{BoxConn, Config, Conn, ConnState};

use crate::env::Env;
use crate::waits::in_time;

/// Sets the times of the liveness clock, in milliseconds.
pub(crate) fn times(
    config: Config,
    keep_alive: u64,
    disconnected_after: u64,
    failed_after: u64,
) -> Config {
    config
        .with_keep_alive(Duration::from_millis(keep_alive))
        .with_disconnected_after(Duration::from_millis(disconnected_after))
        .with_failed_after(Duration::from_millis(failed_after))
}

/// Waits for the state, or for one that is final. Panics unless it comes in time and is the one.
pub(crate) async fn expect_state(env: &Env, conn: &BoxConn, expected: ConnState) {
    let limit = match expected {
        ConnState::Disconnected => env.config().disconnected_after,
        ConnState::Connected | ConnState::Failed | ConnState::Closed => env.config().failed_after,
    };
    let mut state = conn.state();
    let reached = state.wait_for(|state| *state == expected || state.is_final());
    let what = format!("the state {expected:?}");
    let state = *by(limit, &what, reached).await.expect("a state");
    assert_eq!(state, expected);
}

/// Waits for what has to happen before a lost peer is given up, or with it.
#[track_caller]
pub(crate) fn by_failure<F: Future>(
    env: &Env,
    what: &str,
    future: F,
) -> impl Future<Output = F::Output> + use<F> {
    by(env.config().failed_after, what, future)
}

/// Waits for what has to happen within the limit, with time to spare for a slow link.
#[track_caller]
fn by<F: Future>(
    limit: Duration,
    what: &str,
    future: F,
) -> impl Future<Output = F::Output> + use<F> {
    in_time(what.to_owned(), limit + Duration::from_secs(5), future)
}
