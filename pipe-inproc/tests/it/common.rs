//! What the tests of this crate share.

use pipe_core::{Config, Conn, Listener, Transport};
use pipe_inproc::{InprocConn, InprocStream, InprocTransport, Link, Namespace};

/// The two ends of a connection over `link`.
pub(crate) async fn connect(config: Config, link: &Link) -> (InprocConn, InprocConn) {
    let transport = InprocTransport::new()
        .with_namespace(Namespace::new())
        .with_link(link.clone())
        .with_config(config)
        .unwrap();
    let listener = transport
        .listen(&"inproc://".parse().unwrap())
        .await
        .unwrap();
    let dialed = transport.dial(&listener.local_addr()).await.unwrap();
    (dialed, listener.accept().await.unwrap())
}

/// The two ends of a stream that `from` opens.
pub(crate) async fn stream(from: &InprocConn, to: &InprocConn) -> (InprocStream, InprocStream) {
    let opened = from.open_stream().await.unwrap();
    (opened, to.accept_stream().await.unwrap())
}
