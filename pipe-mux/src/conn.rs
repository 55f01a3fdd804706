use std::sync::Arc;

use pipe_core::backend::{ConnRef, session_conn};

use crate::conn_inner::ConnInner;
use crate::stream::MuxStream;

session_conn! {
    /// A connection over one byte stream.
    pub struct MuxConn of ConnInner {
        stream: MuxStream,
    }
}

impl MuxConn {
    pub(crate) fn new(inner: Arc<ConnInner>) -> Self {
        Self(ConnRef::new(inner))
    }

    /// Returns the object under the connection, if it is a `T`: a `TcpStream` under `tcp://` and `tls://`, a `UnixStream`
    /// under `unix://`, a `WsCarrier` under `ws://` and `wss://`. Use it to read and set options; reading, writing or
    /// shutting a socket down breaks the connection.
    pub fn inner<T: 'static>(&self) -> Option<&T> {
        self.0.conn().inner_io.as_ref()?.downcast_ref()
    }
}
