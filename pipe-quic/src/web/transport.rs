use std::net::UdpSocket;
use std::sync::Arc;

use pipe_core::backend::Admission;
use pipe_core::{Addr, Admit, Config, Incoming, Result, Transport};
use pipe_net::{HttpHeaders, HttpRequest, HttpVerdict, Origins};
use pipe_tls::TlsOptions;

use crate::addr::{QuicAddr, WEB_SCHEME};
use crate::conn::QuicConn;
use crate::listener::QuicListener;
use crate::profile::Profile;
use crate::settings::Settings;
use crate::transport::{dial, listen, listen_on};
use crate::web::dialing::WebDial;
use crate::web::gate::Gate;

/// The transport of `wt://host:port/path`: WebTransport, which browsers speak, over HTTP/3.
///
/// A connection is a session of its own on a QUIC connection of its own, and its streams are QUIC's, as those of
/// `quic://` are. It costs a dial one round trip more than `quic://`, and a stream 3 bytes.
///
/// # Addresses
///
/// The port is 443 where there is none. A listener serves its path and all paths below it, so `wt://0.0.0.0:443` serves
/// every path; requests for others are answered with 404. Certificates are as over `quic://`:
/// [`local_addr`](pipe_core::Listener::local_addr) of a listener has the hash of its certificate, so that it can be dialed
/// as it is.
///
/// Both ends name the subprotocol `pipe.1`; a browser that cannot offer one is let in without. With `?wire=raw` the
/// streams are plain ones of WebTransport, without a subprotocol or with the one in `?subprotocol=…`, see
/// [the crate](crate#plain-quic) for what cannot be said then. Codes of streams and of the close are those of the
/// application, and a close has its reason.
///
/// # Browsers
///
/// Pages may dial a listener from its own host; [`with_allowed_origins`](Self::with_allowed_origins) names others. What is
/// no browser names no origin, and is let in.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_quic::WtTransport;
///
/// let transport = WtTransport::new();
/// let listener = transport.listen(&"wt://127.0.0.1:0/pipe".parse()?).await?;
/// let addr = listener.local_addr(); // wt://127.0.0.1:40123/pipe?cert-sha256=…
/// let conn = transport.dial(&addr).await?;
/// assert_eq!(conn.remote_addr(), addr);
/// # Ok::<(), pipe_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct WtTransport {
    settings: Settings,
    headers: HttpHeaders,
    gate: Gate,
}

impl WtTransport {
    /// Creates a transport with the default configuration, options and profile.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this configuration. A stream's window is of 1 KiB at least.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(mut self, config: Config) -> Result<Self> {
        config.validate()?;
        self.settings.config = config;
        self.settings.part();
        Ok(self)
    }

    /// Sets the identity of this side, and the certificates that it trusts.
    #[must_use]
    pub fn with_tls(mut self, options: TlsOptions) -> Self {
        self.settings.tls = options;
        self.settings.part();
        self
    }

    /// Sets a function that decides for each client of the listeners, before the handshake, whether to accept it. It must
    /// not block. Rejected clients are refused.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        self.settings.admission = Admission::new(admit);
        self
    }

    /// Sets the kind of paths.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.settings.profile = profile;
        self.settings.part();
        self
    }

    /// Adds a header to the request of every dial.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) for a name or a value that no header can have, and for a header
    /// that the handshake itself sets.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<Self> {
        self.headers.add(name, value)?;
        Ok(self)
    }

    /// Adds `Authorization: Bearer …` to the request of every dial (RFC 6750).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](pipe_core::ErrorKind::ConfigInvalid) for a token that is not printable ASCII.
    pub fn with_bearer_token(self, token: &str) -> Result<Self> {
        self.with_header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the origins (`https://example.org`) whose pages may dial the listeners, instead of those of the listener's own
    /// host.
    #[must_use]
    pub fn with_allowed_origins<T: Into<String>>(
        mut self,
        origins: impl IntoIterator<Item = T>,
    ) -> Self {
        let origins = origins.into_iter().map(Into::into).collect();
        self.gate.origins = Origins::Listed(origins);
        self
    }

    /// Allows the pages of every origin to dial the listeners.
    #[must_use]
    pub fn with_any_origin(mut self) -> Self {
        self.gate.origins = Origins::Any;
        self
    }

    /// Sets a function that decides about every request to the listeners whose path and origin are allowed. It must not
    /// block.
    #[must_use]
    pub fn with_request_check(
        mut self,
        check: impl Fn(&HttpRequest) -> HttpVerdict + Send + Sync + 'static,
    ) -> Self {
        self.gate.check = Some(Arc::new(check));
        self
    }

    /// Listens on a UDP socket that is bound already. The address gives the path, the options and the names of a certificate
    /// that is made on the spot; all else, and the errors, are those of
    /// [`QuicTransport::listen_on`](crate::QuicTransport::listen_on).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn listen_on(&self, socket: UdpSocket, addr: &Addr) -> Result<QuicListener> {
        let on = QuicAddr::of_web(addr)?;
        listen_on(&self.settings, addr, on, self.gate.clone(), socket)
    }
}

impl Transport for WtTransport {
    type Conn = QuicConn;
    type Listener = QuicListener;

    fn schemes(&self) -> &[&'static str] {
        &[WEB_SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<QuicConn> {
        let to = QuicAddr::of_web(addr)?;
        let web = to.web.as_ref();
        let web = web.map(|target| WebDial::new(addr, target, &self.headers));
        let web = web.transpose()?;
        dial(&self.settings, None, addr, to, web.as_ref()).await
    }

    async fn listen(&self, addr: &Addr) -> Result<QuicListener> {
        let on = QuicAddr::of_web(addr)?;
        listen(&self.settings, addr, on, self.gate.clone()).await
    }
}

impl std::fmt::Debug for WtTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WtTransport")
            .field("config", &self.settings.config)
            .field("tls", &self.settings.tls)
            .field("profile", &self.settings.profile)
            .field("headers", &self.headers)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
