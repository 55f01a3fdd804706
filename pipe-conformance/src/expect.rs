//! Checks of errors.

use std::fmt::Debug;
use std::io;

use pipe_core::{Addr, Error, ErrorKind, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;

use crate::env::Env;
use crate::fixture::Capability;

/// Panics unless it is an error of this kind, and returns it.
pub(crate) fn expect_kind<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    match result {
        Ok(_) => panic!("expected an error of kind {kind:?}, but it went well"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "the error is {error:?}");
            error
        }
    }
}

/// Panics unless the read or write failed with a pipewerks error of this kind and code, and returns
/// it.
pub(crate) fn expect_io<T: Debug>(
    result: io::Result<T>,
    kind: ErrorKind,
    code: Option<u32>,
) -> Error {
    match result {
        Ok(value) => panic!("expected an error of kind {kind:?}, but got Ok({value:?})"),
        Err(error) => {
            let error = inner(&error);
            assert_eq!(
                (error.kind(), error.code()),
                (kind, code),
                "the error is {error:?}"
            );
            error
        }
    }
}

/// The pipewerks error inside the error of a read or write. Panics if there is none.
pub(crate) fn inner(error: &io::Error) -> Error {
    match Error::from_io(error) {
        Some(inner) => inner.clone(),
        None => panic!("the io::Error carries no pipewerks error: {error:?}"),
    }
}

/// Reads, and discards what comes, until there is an error. Panics if the stream ends cleanly.
pub(crate) async fn read_error(reader: &mut (impl AsyncRead + Unpin)) -> Error {
    let mut buf = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buf).await {
            Ok(0) => panic!("reading gave a clean end where an error was due"),
            Ok(_) => {}
            Err(error) => return inner(&error),
        }
    }
}

/// Writes until there is an error.
pub(crate) async fn write_error(writer: &mut (impl AsyncWrite + Unpin)) -> Error {
    let buf = vec![0; 1024];
    loop {
        match writer.write(&buf).await {
            // Leaves the transport time to learn of what the peer did.
            Ok(_) => yield_now().await,
            Err(error) => return inner(&error),
        }
    }
}

/// Dials until the dial is refused, since a listener that was closed may take a moment to be gone.
/// Panics at another error.
pub(crate) async fn expect_refused<T: Transport>(env: &Env<T>, addr: &Addr) {
    loop {
        match env.transport().dial(addr).await {
            Ok(_) => yield_now().await,
            Err(error) => return expect_refusal(env, &error),
        }
    }
}

/// Panics unless this is what a dial gives where nobody listens.
pub(crate) fn expect_refusal<T: Transport>(env: &Env<T>, error: &Error) {
    let silent_wire = !env.has(Capability::RefusedDials);
    let refused = match error.kind() {
        ErrorKind::Refused => true,
        ErrorKind::TimedOut | ErrorKind::Unreachable => silent_wire,
        _ => false,
    };
    assert!(refused, "nobody listens, but the dial gave {error:?}");
}
