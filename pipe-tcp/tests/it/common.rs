//! Certificates for tests, and listeners that serve.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipe_core::{Addr, Conn, Error, Listener, Result, Transport};
use pipe_tcp::MuxListener;
use pipe_tcp::tls::{Identity, Roots, TlsOptions, TlsTransport};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// An issuer of certificates.
pub(crate) struct Issuer(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Pem {
    pub(crate) cert: String,
    pub(crate) key: String,
}

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
    pub(crate) fn issue(&self, name: &str, years: (i32, i32)) -> Pem {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        Pem {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for `localhost`.
    pub(crate) fn localhost(&self) -> Identity {
        self.issue("localhost", (2000, 2900)).identity()
    }
}

impl Pem {
    pub(crate) fn identity(&self) -> Identity {
        Identity::from_pem(self.cert.as_bytes(), self.key.as_bytes()).unwrap()
    }
}

pub(crate) fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub(crate) fn tls(options: TlsOptions) -> TlsTransport {
    TlsTransport::new().with_tls(options)
}

/// A listener on a free port of `localhost`, with the address to dial by that name, without a hash.
pub(crate) async fn listen(options: TlsOptions) -> (MuxListener, Addr) {
    let listener = tls(options)
        .listen(&addr("tls://localhost:0"))
        .await
        .unwrap();
    let port = listener.local_addr().port().unwrap();
    (listener, addr(&format!("tls://localhost:{port}")))
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

/// Dials and passes a few bytes there and back. Returns both ends.
pub(crate) async fn expect_service<T: Transport>(
    transport: &T,
    listener: &MuxListener,
    addr: &Addr,
) -> (T::Conn, pipe_tcp::MuxConn) {
    let both = async { tokio::try_join!(transport.dial(addr), listener.accept()) };
    let (here, there) = soon(both).await.unwrap();
    soon(echo(&here, &there)).await.unwrap();
    (here, there)
}

async fn echo(here: &impl Conn, there: &impl Conn) -> Result<()> {
    let mut stream = here.open_stream().await?;
    stream.write_all(b"hello").await?;
    stream.shutdown().await?;
    let mut text = String::new();
    there
        .accept_stream()
        .await?
        .read_to_string(&mut text)
        .await?;
    assert_eq!(text, "hello");
    Ok(())
}
