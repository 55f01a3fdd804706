use std::future::Future;
use std::net::SocketAddr;

use pipe_core::backend::{self, furthest};
use pipe_core::{Error, ErrorKind, Result};

/// Tries the addresses of a host in their order, and returns what the first attempt that succeeds has made. It is the
/// [race](backend::race) of `pipe_core`.
///
/// # Errors
///
/// When all attempts fail, the error of the one that came [furthest](backend::furthest).
///
/// # Cancel safety
///
/// Dropping the future drops the attempts.
pub async fn race<T, F: Future<Output = Result<T>>>(
    addrs: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T> {
    let won = backend::race(addrs.iter().copied(), attempt).await;
    won.map_err(|failed| {
        let none = || Error::new(ErrorKind::Unreachable, "there is no address to try");
        furthest(&failed).cloned().unwrap_or_else(none)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_error_is_that_of_the_address_that_came_furthest() {
        let kinds = [ErrorKind::TimedOut, ErrorKind::Refused];
        let addrs = [0, 1].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let attempt = async |addr: SocketAddr| {
            Result::<()>::Err(Error::new(kinds[usize::from(addr.port())], "failed"))
        };
        let error = race(&addrs, attempt).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let error = race(&[], attempt).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert_eq!(error.to_string(), "there is no address to try");
    }
}
