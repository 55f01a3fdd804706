//! The proxy: each connection becomes one to the next address, and each stream one there.

use std::future::pending;

use pipewerks::{
    Addr, CloseReason, Conn, Error, ErrorKind, Listener, RecvStream, Result, SendStream, Stream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// The code of the close when the other connection was lost, or could not be made.
pub(crate) const LOST: u32 = 0xdead;

/// How many bytes of a direction are held at most.
const CHUNK: usize = 64 * 1024;

/// Passes the connections of a listener on to `next` until the listener fails. Dropping the future closes
/// all of them.
pub(crate) async fn serve<L: Listener>(listener: L, next: Addr) -> Result<()> {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (near, next) = (accepted?, next.clone());
                running.spawn(async move {
                    match pipewerks::dial(&next).await {
                        Ok(far) => join(near, far).await,
                        Err(error) => near.close(LOST, &format!("{next}: {error}")),
                    }
                });
            }
            Some(_) = running.join_next() => {}
        }
    }
}

/// Joins two connections until both are over.
async fn join<A: Conn, B: Conn>(near: A, far: B) {
    tokio::join!(pass_streams(&near, &far), pass_streams(&far, &near));
}

/// Passes the streams that are opened at one connection on to another, and then the end of it.
async fn pass_streams<A: Conn, B: Conn>(from: &A, to: &B) {
    // No more than the peer may open.
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = from.accept_stream() => match accepted {
                Ok(stream) => {
                    streams.spawn(pass(stream, from.clone(), to.clone()));
                }
                Err(_) => break,
            },
            Some(_) = streams.join_next() => {}
        }
    }
    pass_close(&from.closed().await, to);
    // Code 0 is the end in good order: whatever is still on its way arrives. An error says that the other
    // side was first.
    let _ = to.drain().await;
    while streams.join_next().await.is_some() {}
}

/// Closes a connection as the other one was, unless that was the end in good order.
fn pass_close<C: Conn>(reason: &CloseReason, to: &C) {
    match reason {
        CloseReason::Failed(error) => to.close(LOST, &error.to_string()),
        CloseReason::Local { code: 0, .. } | CloseReason::Remote { code: 0, .. } => {}
        CloseReason::Local { code, reason } | CloseReason::Remote { code, reason } => {
            to.close(*code, reason);
        }
    }
}

/// Passes a stream on, both directions at once.
async fn pass<S: Stream, A: Conn, B: Conn>(mut stream: S, from: A, to: B) {
    let opened = match to.open_stream().await {
        Ok(opened) => opened,
        Err(error) => {
            stream.reset(error.code().unwrap_or(LOST));
            return stream.stop(error.code().unwrap_or(LOST));
        }
    };
    let (near_send, near_recv) = stream.into_split();
    let (far_send, far_recv) = opened.into_split();
    tokio::join!(
        pass_direction(near_recv, far_send, &from, &to),
        pass_direction(far_recv, near_send, &to, &from),
    );
}

/// Passes one direction on: its bytes, and then how it ends. The connections are those of the two halves.
async fn pass_direction<R, W, A, B>(mut recv: R, mut send: W, from: &A, to: &B)
where
    R: RecvStream,
    W: SendStream,
    A: Conn,
    B: Conn,
{
    match copy(&mut recv, &mut send).await {
        Ok(()) => {}
        Err(Broken::Receiving(error)) => match error.kind() {
            ErrorKind::Closed | ErrorKind::Failed => pass_close(&from.closed().await, to),
            _ => send.reset(error.code().unwrap_or(LOST)),
        },
        Err(Broken::Sending(error)) => match error.kind() {
            ErrorKind::Closed | ErrorKind::Failed => pass_close(&to.closed().await, from),
            _ => recv.stop(error.code().unwrap_or(LOST)),
        },
    }
}

/// Which half broke.
enum Broken {
    Receiving(Error),
    Sending(Error),
}

async fn copy<R: RecvStream, W: SendStream>(recv: &mut R, send: &mut W) -> Result<(), Broken> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = recv.read(&mut buffer) => read.map_err(|error| Broken::Receiving(error.into()))?,
            // A receiver that wants no more is heard while the sender is silent, too.
            error = unwanted(send) => return Err(Broken::Sending(error)),
        };
        let written = match read {
            0 => send.shutdown().await,
            read => send.write_all(&buffer[..read]).await,
        };
        written.map_err(|error| Broken::Sending(error.into()))?;
        if read == 0 {
            return Ok(());
        }
    }
}

/// Waits until the receiver wants no more, or the connection is over. A peer that cannot tell never does.
async fn unwanted<W: SendStream>(send: &mut W) -> Error {
    match send.stopped().await {
        Ok(code) => Error::stopped(code.unwrap_or(0)),
        Err(error) if error.kind() == ErrorKind::Unsupported => pending().await,
        Err(error) => error,
    }
}
