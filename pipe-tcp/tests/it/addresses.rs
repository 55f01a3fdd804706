//! One address has one spelling, at both ends of a connection.

use std::time::Duration;

use pipe_core::{Addr, Conn, Listener, Transport};
use pipe_tcp::TcpTransport;
use pipe_tcp::tls::TlsTransport;
use tokio::time::timeout;

/// Dials a listener on both families over IPv4.
async fn over_ipv4<T: Transport>(transport: T, scheme: &str) {
    let on: Addr = format!("{scheme}://[::]:0").parse().unwrap();
    let listener = transport.listen(&on).await.unwrap();
    let at = listener.local_addr();
    let mut to: Addr = format!("{scheme}://127.0.0.1:{}", at.port().unwrap())
        .parse()
        .unwrap();
    if let Some(pin) = at.param("cert-sha256") {
        to = to.with_param("cert-sha256", &pin);
    }
    let both = async { tokio::try_join!(transport.dial(&to), listener.accept()) };
    let (here, there) = timeout(Duration::from_secs(30), both)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(here.remote_addr(), to);
    assert_eq!(there.remote_addr(), here.local_addr());
    assert_eq!(there.remote_addr().host(), Some("127.0.0.1"));
}

#[tokio::test]
async fn an_ipv4_client_of_a_listener_on_both_families_has_one_address() {
    over_ipv4(TcpTransport::new(), "tcp").await;
    over_ipv4(TlsTransport::new(), "tls").await;
}
