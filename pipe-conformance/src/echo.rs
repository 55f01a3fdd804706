use pipe_core::Transport;

use crate::env::{Env, StreamOf};
use crate::payload::{expect_bytes, send};

/// Sends a few bytes to and fro.
pub(crate) async fn expect_echo<T: Transport>(
    env: &Env<T>,
    here: &mut StreamOf<T>,
    there: &mut StreamOf<T>,
) {
    let data = env.payload_of(99, 100);
    send(here, &data).await;
    expect_bytes(there, &data).await;
    send(there, &data).await;
    expect_bytes(here, &data).await;
}
