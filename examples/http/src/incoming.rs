use std::future::pending;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use futures::Stream;
use pipewerks::{Addr, BoxConn, BoxListener, Conn, Listener, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::HttpStream;

/// The streams of all connections of a listener, as they come.
///
/// It is what [`axum::serve()`] takes for a listener, and a [`futures::Stream`] for others. The streams that
/// the server has not taken yet wait at the connections, within the backlog that each has.
#[derive(Debug)]
pub struct Incoming {
    streams: mpsc::Receiver<HttpStream>,
    local: Addr,
}

impl Incoming {
    /// Accepts until `stop` is cancelled. The address is free then, no connection takes new streams, and
    /// those that are open run to their ends: the handle waits for that. Without it, what the server said
    /// last could be lost with its connection.
    ///
    /// The handle gives the error of a listener that failed, which cancels `stop` too. Dropping it ends
    /// everything at once.
    pub fn new(
        listener: BoxListener,
        stop: CancellationToken,
    ) -> (Self, AbortOnDropHandle<Result<()>>) {
        // One at a time: others wait where they are limited already.
        let (taken, streams) = mpsc::channel(1);
        let local = listener.local_addr();
        let accepting = tokio::spawn(accept(listener, taken, stop));
        (Self { streams, local }, AbortOnDropHandle::new(accepting))
    }
}

async fn accept(
    listener: BoxListener,
    streams: mpsc::Sender<HttpStream>,
    stop: CancellationToken,
) -> Result<()> {
    let mut conns = JoinSet::new();
    let ended = loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(conn) => conns.spawn(accept_streams(conn, streams.clone(), stop.clone())),
                Err(error) => break Err(error),
            },
            Some(_) = conns.join_next() => continue,
            () = stop.cancelled() => break Ok(()),
        };
    };
    stop.cancel();
    drop(listener);
    drop(streams);
    while conns.join_next().await.is_some() {}
    ended
}

/// Passes the streams of a connection on, and ends it in good order when it is time.
async fn accept_streams(conn: BoxConn, streams: mpsc::Sender<HttpStream>, stop: CancellationToken) {
    let remote = conn.remote_addr();
    let accepting = async {
        while let Ok(stream) = conn.accept_stream().await {
            let stream = HttpStream::new(stream, remote.clone());
            if streams.send(stream).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
    drop(streams);
    // A stream that was opened just before the client heard of the end is refused by its drop.
    let refusing = async { while conn.accept_stream().await.is_ok() {} };
    // An error says that the client has gone already, or is lost: there is nobody to wait for.
    let _ = tokio::join!(conn.drain(), refusing);
}

impl axum::serve::Listener for Incoming {
    type Io = HttpStream;
    type Addr = Addr;

    async fn accept(&mut self) -> (HttpStream, Addr) {
        match self.streams.recv().await {
            Some(stream) => {
                let remote = stream.remote_addr().clone();
                (stream, remote)
            }
            // The server has been told to stop, by the token.
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Addr> {
        Ok(self.local.clone())
    }
}

impl Stream for Incoming {
    type Item = io::Result<HttpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.streams.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

/// The client of a request, for handlers that ask for it with [`axum::extract::ConnectInfo`].
#[derive(Clone, Debug)]
pub struct Peer(pub Addr);

impl Connected<IncomingStream<'_, Incoming>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        Self(stream.remote_addr().clone())
    }
}
