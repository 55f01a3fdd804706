//! Checks of errors.

use std::fmt::Debug;
use std::io;
use std::panic::Location;

use pipe_core::{Addr, Error, ErrorKind, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::yield_now;

use crate::env::Env;
use crate::fixture::Capability;
use crate::waits::Wait;

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
#[track_caller]
pub(crate) fn read_error<R: AsyncRead + Unpin>(reader: &mut R) -> impl Future<Output = Error> {
    let place = Location::caller();
    async move {
        let _wait = Wait::begin("the error of a read", place);
        let mut buf = vec![0; 16 * 1024];
        loop {
            match reader.read(&mut buf).await {
                Ok(0) => panic!("reading gave a clean end where an error was due, at {place}"),
                Ok(_) => {}
                Err(error) => return inner(&error),
            }
        }
    }
}

/// Writes until there is an error.
#[track_caller]
pub(crate) fn write_error<W: AsyncWrite + Unpin>(writer: &mut W) -> impl Future<Output = Error> {
    let place = Location::caller();
    async move {
        let _wait = Wait::begin("the error of a write", place);
        let buf = vec![0; 1024];
        loop {
            match writer.write(&buf).await {
                // Leaves the transport time to learn of what the peer did.
                Ok(_) => yield_now().await,
                Err(error) => return inner(&error),
            }
        }
    }
}

/// Dials until the dial is refused, since a listener that was closed may take a moment to be gone.
/// Panics at another error.
#[track_caller]
pub(crate) fn expect_refused<T: Transport>(env: &Env<T>, addr: &Addr) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        let _wait = Wait::begin("a dial to be refused", place);
        loop {
            match env.transport().dial(addr).await {
                Ok(_) => yield_now().await,
                Err(error) => return expect_refusal(env, &error),
            }
        }
    }
}

/// Panics unless this is the result of a dial without a listener.
pub(crate) fn expect_refusal<T: Transport>(env: &Env<T>, error: &Error) {
    let silent_wire = !env.has(Capability::RefusedDials);
    let refused = match error.kind() {
        ErrorKind::Refused => true,
        ErrorKind::TimedOut | ErrorKind::Unreachable => silent_wire,
        _ => false,
    };
    assert!(refused, "there is no listener, but the dial gave {error:?}");
}
