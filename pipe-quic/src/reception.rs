use std::sync::Arc;

use pipe_core::backend::{Accept, Progress};
use pipe_core::{Error, ErrorKind, Result};
use quinn::Incoming;
use tokio::task::consume_budget;

use crate::conn::QuicConn;
use crate::desk::Desk;
use crate::door::Door;

/// A desk at its socket.
pub(crate) struct Reception {
    pub(crate) desk: Arc<Desk>,
    pub(crate) door: Arc<Door>,
}

impl Accept for Reception {
    type Raw = Incoming;
    type Conn = QuicConn;

    async fn accept(&self) -> Result<Incoming> {
        loop {
            // Where much comes, others have their turns as well.
            consume_budget().await;
            let Some(incoming) = self.door.endpoint.accept().await else {
                let why = "the endpoint of the listener has stopped";
                return Err(Error::new(ErrorKind::Failed, why));
            };
            if self.desk.is_busy() && incoming.may_retry() && !incoming.remote_address_validated() {
                // The client has to prove its address; no state is kept of it meanwhile. An error
                // means that it has done so.
                let _ = incoming.retry();
                continue;
            }
            if self.desk.is_full_for(incoming.remote_address()) {
                // It comes again with its next probe, and nothing is kept of it meanwhile.
                incoming.ignore();
                continue;
            }
            return Ok(incoming);
        }
    }

    fn incoming(&self, incoming: &Incoming) -> pipe_core::Incoming {
        pipe_core::Incoming::from_socket(incoming.remote_address())
    }

    async fn handshake(
        self: Arc<Self>,
        incoming: Incoming,
        progress: Progress,
    ) -> Result<QuicConn> {
        // Its first packet has come.
        progress.begin().await;
        let endpoint = self.door.endpoint.clone();
        self.desk.receive(incoming, endpoint, &progress).await
    }

    fn refuse(&self, incoming: Incoming) {
        incoming.refuse();
    }

    fn close(&self) {
        self.door.leave(&self.desk);
    }
}
