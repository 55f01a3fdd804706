use std::sync::Arc;

use tokio::net::TcpStream;

use pipe_net::HttpRequest;

/// The socket and the request under a connection: what [`MuxConn::inner`](pipe_mux::MuxConn::inner) returns.
///
/// ```
/// # fn show(conn: &pipe_ws::MuxConn) {
/// use pipe_ws::{HttpRequest, WsCarrier};
///
/// let request = conn.inner::<WsCarrier>().and_then(WsCarrier::request);
/// println!("the peer asked for {:?}", request.map(HttpRequest::path));
/// # }
/// ```
#[derive(Debug)]
pub struct WsCarrier {
    pub(crate) socket: Option<Arc<TcpStream>>,
    pub(crate) request: Option<HttpRequest>,
}

impl WsCarrier {
    /// Returns the TCP socket, to read and set its options. Reading, writing or shutting it down breaks the
    /// connection. `None` where another server accepted it.
    pub fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_deref()
    }

    /// Returns the request with which the peer dialed. `None` at the dialer.
    pub fn request(&self) -> Option<&HttpRequest> {
        self.request.as_ref()
    }
}
