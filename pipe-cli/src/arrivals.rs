use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use pipewerks::{BoxConn, BoxStream, Conn, ErrorKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::door::{Admitted, Door};
use crate::failure::{Failure, explain};
use crate::net::farewell;

/// The streams of all connections that are served, as they come.
pub(crate) struct Arrivals {
    arrivals: mpsc::Receiver<Result<(BoxConn, BoxStream), Failure>>,
    conns: Arc<Mutex<Vec<BoxConn>>>,
    /// Holds the listener, and ends with this.
    accepting: JoinSet<()>,
}

impl Arrivals {
    pub(crate) fn new(mut door: Door) -> Self {
        // One at a time: further streams wait in the backlogs of their connection.
        let (arrived, arrivals) = mpsc::channel(1);
        let conns: Arc<Mutex<Vec<BoxConn>>> = Arc::default();
        let list = conns.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut accepting = JoinSet::new();
            loop {
                match door.next().await {
                    Ok(admitted) => {
                        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                        list.retain(|conn| !conn.state().borrow().is_final());
                        list.push(admitted.conn.clone());
                        accepting.spawn(accept(admitted, arrived.clone()));
                    }
                    Err(failure) => {
                        let _ = arrived.send(Err(failure)).await;
                        return;
                    }
                }
                while accepting.try_join_next().is_some() {}
            }
        });
        Self {
            arrivals,
            conns,
            accepting,
        }
    }

    /// Returns the next stream, and its connection. Safe to drop.
    pub(crate) async fn next(&mut self) -> Result<(BoxConn, BoxStream), Failure> {
        let over = || Err(Failure::failed("the listener is gone"));
        self.arrivals.recv().await.unwrap_or_else(over)
    }

    /// Frees the address, and takes no more streams of the connections that there are.
    pub(crate) fn stop_listening(&mut self) {
        self.accepting.abort_all();
    }

    /// Ends every connection in good order.
    pub(crate) async fn farewell(&self) {
        let conns = std::mem::take(&mut *self.conns.lock().unwrap_or_else(PoisonError::into_inner));
        join_all(conns.iter().map(farewell)).await;
    }
}

/// Passes the streams of one connection on. The connection counts until it is over.
async fn accept(admitted: Admitted, arrived: mpsc::Sender<Result<(BoxConn, BoxStream), Failure>>) {
    let Admitted {
        conn,
        place: _place,
    } = admitted;
    loop {
        match conn.accept_stream().await {
            Ok(stream) => {
                if arrived.send(Ok((conn.clone(), stream))).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if error.kind() != ErrorKind::Closed {
                    tracing::info!(remote = %conn.remote_addr(), error = explain(&error), "a connection ended");
                }
                return;
            }
        }
    }
}
