use std::sync::Arc;

use pipe_core::Result;
use pipe_core::backend::{ConnRef, session_conn};

use crate::conn_inner::ConnInner;
use crate::early_data::EarlyData;
use crate::stream::QuicStream;

session_conn! {
    /// A connection over QUIC.
    pub struct QuicConn of ConnInner {
        stream: QuicStream,
    }
}

impl QuicConn {
    pub(crate) fn new(inner: Arc<ConnInner>) -> Self {
        Self(ConnRef::new(inner))
    }

    /// Returns quinn's connection, to look at: its path, its statistics, keying material. Opening
    /// or accepting its streams breaks the connection. See the feature `native`.
    #[cfg(feature = "native")]
    pub fn quinn(&self) -> &quinn::Connection {
        &self.inner().quinn
    }

    /// Returns quinn's endpoint under the connection: to see its socket's address, or to move to another socket
    /// ([`rebind`](quinn::Endpoint::rebind)), which connections survive. None once the connection is over. See the
    /// feature `native`.
    ///
    /// It is that of other dials, too, or of the listener, and all of them move; with
    /// [`with_socket_per_dial`](crate::QuicTransport::with_socket_per_dial) it is the connection's own. After a move,
    /// later dials have another endpoint.
    #[cfg(feature = "native")]
    pub fn endpoint(&self) -> Option<quinn::Endpoint> {
        self.inner().ends.endpoint.lock().clone()
    }

    /// Returns whether the connection was used before its handshake was over, and whether that is
    /// over by now.
    pub fn early_data(&self) -> EarlyData {
        self.inner().early()
    }

    /// Waits until the handshake is over at this side: from then on
    /// [`early_data`](Self::early_data) is not [`Pending`](EarlyData::Pending). Returns at once
    /// where early data was not used.
    ///
    /// A listener calls it before it performs an action for a stream that must not be repeated.
    /// Safe to cancel.
    ///
    /// # Errors
    ///
    /// The error that the connection ended with before: [`Refused`](pipe_core::ErrorKind::Refused) when the
    /// listener has not accepted the early data.
    pub async fn confirmed(&self) -> Result<()> {
        let conn = self.inner();
        loop {
            let news = conn.idle.notified();
            if conn.early() != EarlyData::Pending {
                return Ok(());
            }
            conn.status.check()?;
            news.await;
        }
    }

    fn inner(&self) -> &ConnInner {
        self.0.conn()
    }
}
