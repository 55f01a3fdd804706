use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimpl::{Config, Dtls, DtlsCertificate, Output, SecurityError, UnexpectedMessageError};
use pipe_core::{Error, ErrorKind, Result};

use self::provider::provider;
use super::alert::Alert;
use super::fingerprint::{Fingerprint, is_announced};
use crate::engine::Certificate;
use crate::error::lost;

/// Time until the first flight is sent again, which doubles, and how often: for more than a minute.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const RETRIES: usize = 8;

/// Time limit of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(120);

/// Maximum number of queued records in each direction.
const QUEUE: usize = 64;

static CONFIG: LazyLock<std::result::Result<Arc<Config>, dimpl::Error>> = LazyLock::new(|| {
    let config = Config::builder()
        .with_crypto_provider(provider())
        .flight_start_rto(FIRST_RETRY)
        .flight_retries(RETRIES)
        .handshake_timeout(HANDSHAKE)
        .max_queue_rx(QUEUE)
        .max_queue_tx(QUEUE)
        // ICE has proved the address of the peer.
        .use_server_cookie(false);
    config.build().map(Arc::new)
});

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What comes out of an association.
pub(super) enum Event<'a> {
    /// A datagram for the peer.
    Datagram(&'a [u8]),
    Connected,
    /// A packet of the peer.
    Packet(&'a [u8]),
    /// The peer has ended it.
    Closed,
}

/// The DTLS association of a connection.
pub(super) struct Association {
    inner: Dtls,
    /// Of the certificate that the peer has to have.
    fingerprints: Vec<Fingerprint>,
    certificate: Option<Bytes>,
    is_client: bool,
    is_connected: bool,
    /// Whether the handshake has begun.
    is_started: bool,
    deadline: Option<Instant>,
}

impl Association {
    /// Creates the side of a client or a server. Nothing is sent before [`start`](Self::start).
    pub(super) fn new(
        certificate: &Certificate,
        is_client: bool,
        fingerprints: Vec<Fingerprint>,
        now: Instant,
    ) -> Result<Self> {
        let config = CONFIG.clone().map_err(|error| {
            let why = format!("DTLS has no cryptography: {error}");
            Error::with_source(ErrorKind::Io, why, error)
        })?;
        let certificate = DtlsCertificate {
            certificate: certificate.der().to_vec(),
            private_key: certificate.key().to_vec(),
        };
        let mut inner = Dtls::new_auto(config, certificate, now);
        inner.set_active(is_client);
        let mut association = Self {
            inner,
            fingerprints,
            certificate: None,
            is_client,
            is_connected: false,
            is_started: false,
            deadline: None,
        };
        if !is_client {
            association.start(now)?;
        }
        Ok(association)
    }

    /// Begins the handshake.
    pub(super) fn start(&mut self, now: Instant) -> Result<()> {
        if std::mem::replace(&mut self.is_started, true) {
            return Ok(());
        }
        self.inner
            .handle_timeout(now)
            .map_err(|error| self.failed(error))
    }

    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    pub(super) fn is_client(&self) -> bool {
        self.is_client
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Returns the peer's certificate, in DER.
    pub(super) fn certificate(&self) -> Option<&Bytes> {
        self.certificate.as_ref()
    }

    /// Tells the association the time.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<()> {
        if !self.is_started {
            return Ok(());
        }
        self.inner
            .handle_timeout(now)
            .map_err(|error| self.failed(error))
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout).
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.is_started)
    }

    /// Takes a datagram of the peer. [`poll`](Self::poll) follows.
    ///
    /// # Errors
    ///
    /// The handshake or the association has failed. In the handshake an alert in the clear that ends it is an
    /// error too (RFC 8446, section 6): the library takes no notice of `close_notify` there, and of none at all
    /// before the answer to the first hello.
    pub(super) fn handle_datagram(&mut self, datagram: &[u8]) -> Result<()> {
        if !self.is_connected
            && let Some(alert) = Alert::in_the_clear(datagram)
        {
            if alert.is_last() {
                return Err(self.ended_by(alert));
            }
            tracing::debug!(%alert, "a warning in the handshake of DTLS");
            return Ok(());
        }
        match self.inner.handle_packet(datagram) {
            // It has come before the answer to the hello, which is sent once more.
            Err(dimpl::Error::UnexpectedMessage(
                UnexpectedMessageError::UnrecognizedAutoServerResponse,
            )) => {
                tracing::debug!("a datagram of DTLS that comes too early is dropped");
                Ok(())
            }
            handled => handled.map_err(|error| self.failed(error)),
        }
    }

    /// Encrypts a packet. [`poll`](Self::poll) follows.
    pub(super) fn send(&mut self, packet: &[u8]) -> Result<()> {
        match self.inner.send_application_data(packet) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Says goodbye. [`poll`](Self::poll) follows.
    pub(super) fn close(&mut self) {
        if let Err(error) = self.inner.close() {
            tracing::debug!(%error, "DTLS is not closed in order");
        }
    }

    /// Passes on all that has come out.
    ///
    /// # Errors
    ///
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) if the peer's certificate has another fingerprint
    /// than it has announced.
    pub(super) fn poll(&mut self, mut take: impl FnMut(Event<'_>) -> Result<()>) -> Result<()> {
        if !self.is_started {
            return Ok(());
        }
        BUFFER.with(|buffer| {
            // Nothing in `take` polls another association.
            let mut buffer = buffer.borrow_mut();
            if buffer.is_empty() {
                buffer.resize(2048, 0);
            }
            loop {
                match self.inner.poll_output(&mut buffer) {
                    Output::Packet(datagram) => take(Event::Datagram(datagram))?,
                    Output::BufferTooSmall { needed } => {
                        let len = buffer.len();
                        buffer.resize(needed.max(len + 1), 0);
                    }
                    Output::Timeout(at) => {
                        self.deadline = Some(at);
                        return Ok(());
                    }
                    Output::PeerCert(der) => {
                        if !is_announced(&self.fingerprints, der) {
                            let why = "the peer's certificate does not have the fingerprint that was announced";
                            return Err(Error::new(ErrorKind::Unauthenticated, why));
                        }
                        self.certificate = Some(Bytes::copy_from_slice(der));
                    }
                    Output::Connected => {
                        if self.certificate.is_none() {
                            let why = "the peer has shown no certificate";
                            return Err(Error::new(ErrorKind::Unauthenticated, why));
                        }
                        self.is_connected = true;
                        take(Event::Connected)?;
                    }
                    Output::ApplicationData(packet) => take(Event::Packet(packet))?,
                    Output::CloseNotify => take(Event::Closed)?,
                    // Keys for media are not asked for.
                    _ => {}
                }
            }
        })
    }

    /// Returns the error for an alert of the peer.
    fn ended_by(&self, alert: Alert) -> Error {
        if self.is_connected {
            return lost(format_args!("the peer has ended DTLS with {alert}"));
        }
        let kind = match alert.is_about_certificate() {
            true => ErrorKind::Unauthenticated,
            false => ErrorKind::Handshake,
        };
        let why = format!("the peer has ended the handshake of DTLS with {alert}");
        Error::new(kind, why)
    }

    fn failed(&self, error: dimpl::Error) -> Error {
        if let dimpl::Error::SecurityError(SecurityError::FatalAlert { description }) = error {
            return self.ended_by(Alert::fatal(description));
        }
        if self.is_connected {
            let why = format!("the connection is lost: DTLS has failed: {error}");
            return Error::with_source(ErrorKind::Failed, why, error);
        }
        let about = match error {
            dimpl::Error::CertificateError(_) => {
                " (certificates have to be of ECDSA on P-256 or P-384)"
            }
            _ => "",
        };
        let why = format!("the handshake of DTLS has failed: {error}{about}");
        Error::with_source(ErrorKind::Handshake, why, error)
    }
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association")
            .field("is_client", &self.is_client)
            .field("is_connected", &self.is_connected)
            .finish_non_exhaustive()
    }
}

mod provider;
#[cfg(test)]
mod tests;
