use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::rt::TokioIo;
use pipewerks::{BoxConn, Conn, Error, Result};
use tower_service::Service;

use crate::HttpStream;

/// Opens a stream of one connection for each connection of HTTP that a client wants. Where to, was
/// decided by the dial: the host in a URI is only told to the server.
#[derive(Clone, Debug)]
pub struct Connector(BoxConn);

impl Connector {
    /// A connector over this connection.
    pub fn new(conn: BoxConn) -> Self {
        Self(conn)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<HttpStream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        // An open that has to wait for one of many streams waits in the call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let conn = self.0.clone();
        Box::pin(async move {
            let stream = conn.open_stream().await?;
            Ok(TokioIo::new(HttpStream::new(stream, conn.remote_addr())))
        })
    }
}
