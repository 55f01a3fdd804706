//! The server: one room behind any number of listeners.

use std::io;
use std::sync::Arc;

use futures::future::try_join_all;
use futures::{SinkExt, StreamExt};
use pipewerks::{Addr, BoxConn, BoxListener, BoxSendStream, Conn, Error, Listener, Result, Stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

use crate::room::{Room, code};

/// How long a line may be, in bytes.
pub(crate) const LINE: usize = 4 * 1024;

/// Listens on all of these, or on none.
pub(crate) async fn listen(addrs: &[Addr]) -> Result<Vec<BoxListener>> {
    try_join_all(addrs.iter().map(pipewerks::listen)).await
}

/// Serves the room until one of the listeners fails. Dropping the future sends everybody away.
pub(crate) async fn serve(listeners: Vec<BoxListener>, room: Room) -> Result<()> {
    let serving = listeners.iter().map(|listener| accept(listener, &room));
    try_join_all(serving).await?;
    Ok(())
}

async fn accept(listener: &BoxListener, room: &Room) -> Result<()> {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                guests.spawn(host(accepted?, room.clone()));
            }
            Some(_) = guests.join_next() => {}
        }
    }
}

/// Looks after one guest.
async fn host(conn: BoxConn, room: Room) {
    match attend(&conn, &room).await {
        // What was said last is on its way: the guest has ended its direction, and gets to read the end.
        Ok(()) => drop(conn.drain().await),
        Err(Farewell { code, reason }) => conn.close(code, &reason),
    }
}

/// Why a guest is sent away.
struct Farewell {
    code: u32,
    reason: String,
}

async fn attend(conn: &BoxConn, room: &Room) -> Result<(), Farewell> {
    let (send, recv) = conn.accept_stream().await?.into_split();
    let mut said = FramedRead::new(recv, LinesCodec::new_with_max_length(LINE));
    let Some(name) = said.next().await.transpose()? else {
        return Ok(());
    };
    let (seat, queue) = room.join(&name, conn).map_err(|reason| Farewell {
        code: code::NAME_REFUSED,
        reason,
    })?;
    let listening = async move {
        while let Some(text) = said.next().await.transpose()? {
            seat.say(&text);
        }
        // Leaving ends the queue, and that the other half.
        drop(seat);
        Ok(())
    };
    tokio::try_join!(listening, pass_on(queue, send)).map(drop)
}

/// Passes on what there is to hear until there is no more, and then the end.
async fn pass_on(mut queue: mpsc::Receiver<Arc<str>>, send: BoxSendStream) -> Result<(), Farewell> {
    let mut lines = FramedWrite::new(send, LinesCodec::new());
    while let Some(line) = queue.recv().await {
        lines.send(line).await?;
    }
    Ok(SinkExt::<Arc<str>>::close(&mut lines).await?)
}

impl From<Error> for Farewell {
    fn from(error: Error) -> Self {
        // The guest has gone, and hears no more of this.
        let code = error.code().unwrap_or(0);
        let reason = error.to_string();
        Self { code, reason }
    }
}

impl From<LinesCodecError> for Farewell {
    fn from(error: LinesCodecError) -> Self {
        match error {
            LinesCodecError::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
                Error::from(error).into()
            }
            error => Self {
                code: code::NOT_TEXT,
                reason: error.to_string(),
            },
        }
    }
}
