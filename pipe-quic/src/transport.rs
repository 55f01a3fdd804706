use std::future::ready;
use std::sync::{Arc, Weak};

use pipe_core::backend::{Admission, dial_within};
use pipe_core::{Addr, Admit, Config, Incoming, Result, Transport};
use pipe_net::bind;
use pipe_tls::TlsOptions;

use crate::addr::{QuicAddr, SCHEME};
use crate::conn::QuicConn;
use crate::desk::Desk;
use crate::dial::Dial;
use crate::door::Door;
use crate::listener::QuicListener;
use crate::profile::Profile;
use crate::sessions::Sessions;
use crate::settings::Settings;

/// The transport of `quic://host:port`.
///
/// Names are resolved when dialing, and the addresses of a name are raced (RFC 8305). Port 0 listens
/// on a free port. The listener proves who it is, and the dialer trusts it
///
/// - if the address has the hash of its certificate (`?cert-sha256=…`, 64 hex digits): that one
///   certificate, whatever its names and dates, since the hash says which one is meant;
/// - else if one of the roots in its [`TlsOptions`] (by default those of the system) vouches for the
///   certificate and it is for the host, or for the name in `?server-name=…`.
///
/// [`local_addr`](pipe_core::Listener::local_addr) of a listener always has the hash, and so can be
/// dialed as it is. A listener without an identity makes one on the spot.
///
/// With `?wire=raw&alpn=…` it speaks plain QUIC streams to peers of other makes, see
/// [the crate](crate#plain-quic).
///
/// With `?zero-rtt=true` it sends and takes data before the handshake is over, see
/// [`with_zero_rtt`](Self::with_zero_rtt) for what that risks.
///
/// Each dial has a UDP socket of its own; [`QuicListener::transport`] makes dials that share the
/// listener's.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_quic::QuicTransport;
///
/// let transport = QuicTransport::new();
/// let listener = transport.listen(&"quic://127.0.0.1:0".parse()?).await?;
/// let addr = listener.local_addr(); // quic://127.0.0.1:40123?cert-sha256=…
/// let conn = transport.dial(&addr).await?;
/// assert_eq!(conn.remote_addr(), addr);
/// # Ok::<(), pipe_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct QuicTransport {
    settings: Settings,
    /// Whose socket dials go through, if it is not their own.
    door: Option<Weak<Door>>,
}

impl QuicTransport {
    /// With the default configuration, options and profile.
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
        self.settings.sessions = Sessions::default();
        Ok(self)
    }

    /// Says who this side is and whom it trusts.
    #[must_use]
    pub fn with_tls(mut self, options: TlsOptions) -> Self {
        self.settings.tls = options;
        self.settings.sessions = Sessions::default();
        self
    }

    /// Asks this function for each client of its listeners, before the handshake, whether to take it in.
    /// It must not block. Those that are refused are told so.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        self.settings.admission = Admission::new(admit);
        self
    }

    /// Says what the paths are like.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.settings.profile = profile;
        self.settings.sessions = Sessions::default();
        self
    }

    /// Sends and takes data before the handshake is over (early data, 0-RTT: RFC 9001, section 4.6), or
    /// not, which is the default. `?zero-rtt=true` or `?zero-rtt=false` in an address goes before it. Only
    /// between two ends of pipewerks: with `?wire=raw` nothing is sent or taken early.
    ///
    /// # What it does
    ///
    /// A dialer keeps what it needs to resume the session of a connection: for the 64 addresses that it
    /// has dialed last, in memory, shared by the clones of the transport that have the same settings. The
    /// next dial to such an address returns at once, with a connection that can be used: what is
    /// written goes with the first datagrams, a round trip earlier. A listener remembers 1,024 sessions,
    /// for up to a day and as long as it lives, each good for one connection; it returns from `accept`
    /// with the first datagrams as well.
    ///
    /// The listener is who it was: the session is of the certificate that it has shown, which is judged
    /// again (its names, its dates, the roots, the hash in the address) before the session is resumed, and
    /// is what [`peer_identity`](pipe_core::Conn::peer_identity) gives. A listener that asks clients for
    /// certificates takes no early data, and with this on it is an error to listen.
    ///
    /// # When the listener takes none
    ///
    /// It need not: it may have been started again, or have forgotten the session. Then it has read
    /// nothing of what was sent, and the dialer's connection fails as a whole with
    /// [`Refused`](pipe_core::ErrorKind::Refused), since parts of what was sent may be forgotten by whoever wrote them;
    /// the session is forgotten, and the next dial is an ordinary one. Nothing is sent again behind the
    /// back of the application.
    ///
    /// A dial that resumes a session does not wait to see whether anybody is there. Where nobody
    /// is, the connection fails with `Refused` if the network says so, or else as one that was lost:
    /// [`Disconnected`](pipe_core::ErrorKind::Disconnected), then [`Failed`](pipe_core::ErrorKind::Failed).
    ///
    /// # The risk
    ///
    /// Whoever has recorded the first datagrams can send them again, without being able to read or change
    /// them. Early data is all that can be repeated so, never what was sent after the handshake. A listener
    /// takes each session once, so that a copy of what it has read is worth nothing, to it as to
    /// any other. But an attacker who keeps the datagrams from the listener can deliver them later, within
    /// a minute (rustls takes a ticket as fresh for so long), when the dialer has given up and sent the
    /// same over another connection: "pay 5" is then read twice. So
    ///
    /// - switch it on only for applications whose first requests may be done twice;
    /// - or let the listener wait for [`QuicConn::confirmed`] before it does what must not be: the
    ///   handshake ends only with the one who began it, not with a copy;
    /// - or let the dialer wait for it before it sends such a request.
    ///
    /// Early data also has no forward secrecy: who steals the listener's or the dialer's memory within the
    /// life of a session can read what was sent early with it (RFC 8446, section 2.3).
    #[must_use]
    pub fn with_zero_rtt(mut self, on: bool) -> Self {
        self.settings.zero_rtt = on;
        self
    }
}

impl Transport for QuicTransport {
    type Conn = QuicConn;
    type Listener = QuicListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<QuicConn> {
        let to = QuicAddr::of(addr)?;
        let name = to.params.server_name(addr, &to.at.host)?;
        let limit = self.settings.config.handshake_timeout;
        let dial = Dial {
            settings: &self.settings,
            door: self.door.as_ref(),
            addr,
            to: &to,
            name: &name,
        };
        dial_within(addr, limit, dial.run()).await
    }

    async fn listen(&self, addr: &Addr) -> Result<QuicListener> {
        let on = QuicAddr::of(addr)?;
        let settings = &self.settings;
        let identity = on
            .params
            .listener_identity(addr, &on.at.host, &settings.tls)?;
        let server = settings.server_config(&on, &identity)?;
        let at = on.at.clone();
        let desk = Desk::new(
            &settings.config,
            on,
            identity.sha256(),
            server,
            settings.tls.asks_clients(),
        );
        let open = |socket| ready(Door::open(socket, settings.profile, &desk));
        let door = bind(addr, &at, open).await?;
        Ok(QuicListener::new(desk, door, settings))
    }
}

impl QuicListener {
    /// A transport with the same settings whose dials go out through this listener's UDP socket: its
    /// port is their source, as some firewalls and ways through address translation need it.
    ///
    /// They end with [`Closed`](pipe_core::ErrorKind::Closed) once the listener is closed. Only addresses of the
    /// socket's family can be reached.
    pub fn transport(&self) -> QuicTransport {
        QuicTransport {
            settings: self.settings().clone(),
            door: Some(Arc::downgrade(self.door())),
        }
    }
}

impl std::fmt::Debug for QuicTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicTransport")
            .field("config", &self.settings.config)
            .field("tls", &self.settings.tls)
            .field("profile", &self.settings.profile)
            .field("zero_rtt", &self.settings.zero_rtt)
            .finish_non_exhaustive()
    }
}
