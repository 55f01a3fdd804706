//! Certificates for tests, and connections that serve.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipe_core::{Addr, Config, Conn, Error, Listener, Result, Transport};
use pipe_quic::{Identity, QuicConn, QuicListener, QuicTransport, Roots, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// An issuer of certificates.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("root {}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_pem(self.0.pem().as_bytes()).unwrap()
    }

    /// A certificate for a name, valid in these years.
    pub(crate) fn issue(&self, name: &str, years: (i32, i32)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Identity::from_pem(cert.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }
}

pub(crate) fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub(crate) fn with(config: Config) -> QuicTransport {
    QuicTransport::new().with_config(config).unwrap()
}

pub(crate) fn tls(options: TlsOptions) -> QuicTransport {
    QuicTransport::new().with_tls(options)
}

/// A listener on a free port.
pub(crate) async fn listen(transport: &QuicTransport) -> QuicListener {
    transport.listen(&addr("quic://127.0.0.1:0")).await.unwrap()
}

/// Waits for something that comes at once, or after a while on a loaded machine.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what)
        .await
        .expect("it took too long")
}

/// The error of a dial.
pub(crate) async fn refused(transport: &impl Transport, addr: &Addr) -> Error {
    match soon(transport.dial(addr)).await {
        Ok(_) => panic!("the dial to {addr} went well"),
        Err(error) => error,
    }
}

/// A connection: the dialer's end, and the listener's.
pub(crate) async fn connect(
    transport: &impl Transport<Conn = QuicConn>,
    listener: &QuicListener,
    addr: &Addr,
) -> (QuicConn, QuicConn) {
    let both = async { tokio::try_join!(transport.dial(addr), listener.accept()) };
    soon(both).await.unwrap()
}

/// Dials and passes a few bytes there and back. Returns both ends.
pub(crate) async fn expect_service(
    transport: &impl Transport<Conn = QuicConn>,
    listener: &QuicListener,
    addr: &Addr,
) -> (QuicConn, QuicConn) {
    let (here, there) = connect(transport, listener, addr).await;
    soon(echo(&here, &there)).await.unwrap();
    (here, there)
}

pub(crate) async fn echo(here: &QuicConn, there: &QuicConn) -> Result<()> {
    let mut near = here.open_stream().await?;
    near.write_all(b"hello").await?;
    near.shutdown().await?;
    let mut far = there.accept_stream().await?;
    let mut text = String::new();
    far.read_to_string(&mut text).await?;
    assert_eq!(text, "hello");
    far.write_all(b"welcome").await?;
    far.shutdown().await?;
    text.clear();
    near.read_to_string(&mut text).await?;
    assert_eq!(text, "welcome");
    Ok(())
}
