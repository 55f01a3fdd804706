//! [`Guest`]: one side of the conversation.

use std::time::Duration;

use anyhow::Context;
use futures::{SinkExt, StreamExt};
use pipewerks::{Addr, BoxConn, BoxRecvStream, BoxSendStream, CloseReason, Conn, Stream};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

/// How long a guest whose stream broke waits to hear why.
const PATIENCE: Duration = Duration::from_secs(5);

/// A guest of a room.
pub(crate) struct Guest {
    conn: BoxConn,
    says: FramedWrite<BoxSendStream, LinesCodec>,
    hears: FramedRead<BoxRecvStream, LinesCodec>,
}

impl Guest {
    /// Comes in.
    pub(crate) async fn join(addr: &Addr, name: &str) -> anyhow::Result<Self> {
        let conn = pipewerks::dial(addr).await?;
        let (send, recv) = conn.open_stream().await?.into_split();
        let mut guest = Self {
            conn,
            says: FramedWrite::new(send, LinesCodec::new()),
            hears: FramedRead::new(recv, LinesCodec::new()),
        };
        guest.say(name).await?;
        Ok(guest)
    }

    /// Says a line to the others.
    pub(crate) async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let said = self.says.send(line).await;
        self.told(said).await
    }

    /// What comes next: a line, or the end of it all. Safe to drop.
    pub(crate) async fn hear(&mut self) -> anyhow::Result<Option<String>> {
        let heard = self.hears.next().await.transpose();
        self.told(heard).await
    }

    /// Says good-bye, and hears what was said before that arrived.
    pub(crate) async fn leave(mut self) -> anyhow::Result<()> {
        SinkExt::<&str>::close(&mut self.says).await?;
        while self.hear().await?.is_some() {}
        self.conn
            .drain()
            .await
            .or_else(|error| match error.close_reason() {
                // The server was first.
                Some(CloseReason::Remote { code: 0, .. }) => Ok(()),
                _ => Err(error.into()),
            })
    }

    /// Why the connection is over.
    pub(crate) async fn closed(&self) -> CloseReason {
        self.conn.closed().await
    }

    /// Says more of an error than that the stream broke: whoever is sent away is told why.
    async fn told<T>(&self, result: Result<T, LinesCodecError>) -> anyhow::Result<T> {
        match result {
            Err(LinesCodecError::Io(_)) => {
                // The reason may come a moment later than the end of the stream.
                match timeout(PATIENCE, self.conn.closed()).await {
                    Ok(reason) => result.with_context(|| format!("connection {reason}")),
                    Err(_) => Ok(result?),
                }
            }
            result => Ok(result?),
        }
    }
}
