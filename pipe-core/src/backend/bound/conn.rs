use std::sync::Arc;

use super::conn_core::{Binding, ConnCore};
use super::stream::BoundStream;
use crate::backend::{ConnRef, session_conn};

session_conn! {
    /// A connection over a session.
    pub struct BoundConn<B: Binding> of ConnCore<B> {
        stream: BoundStream<B>,
    }
}

impl<B: Binding> BoundConn<B> {
    /// Creates the first handle of a connection.
    pub fn new(conn: Arc<ConnCore<B>>) -> Self {
        Self(ConnRef::new(conn))
    }
}
