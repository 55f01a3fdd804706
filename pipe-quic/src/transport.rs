use std::future::ready;
use std::io;
use std::net::UdpSocket;
use std::sync::{Arc, Weak};

use pipe_core::backend::{Admission, dial_within};
use pipe_core::{Addr, Admit, Config, ErrorKind, Incoming, Result, Transport};
use pipe_net::{bind, listen_error};
use pipe_tls::TlsOptions;

use crate::addr::{QuicAddr, SCHEME};
use crate::conn::QuicConn;
use crate::desk::Desk;
use crate::dial::Dial;
use crate::door::Door;
use crate::listener::QuicListener;
use crate::profile::Profile;
use crate::settings::Settings;
use crate::web::{Gate, WebDial};

/// The transport of `quic://host:port`.
///
/// Names are resolved when dialing, and the addresses of a name are raced (RFC 8305). Port 0
/// listens on a free port. The listener proves its identity, and the dialer trusts it
///
/// - if the address has the hash of its certificate (`?cert-sha256=…`, 64 hex digits): that one
///   certificate, whatever its names and dates, since the hash says which one is meant;
/// - else if one of the roots in its [`TlsOptions`] (by default those of the system) vouches for the
///   certificate and it is for the host, or for the name in `?server-name=…`.
///
/// [`local_addr`](pipe_core::Listener::local_addr) of a listener always has the hash, and so can be
/// dialed as it is. A listener without an identity makes one on the spot.
///
/// With `?wire=raw&alpn=…` it speaks plain QUIC streams to other implementations, see [the
/// crate](crate#plain-quic).
///
/// With `?zero-rtt=true` it sends and takes data before the handshake is over, see
/// [`with_zero_rtt`](Self::with_zero_rtt) for what that risks.
///
/// The dials of a transport and of its clones with the same settings share a UDP socket, see
/// [`with_socket_per_dial`](Self::with_socket_per_dial); [`QuicListener::transport`] makes dials that share the
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
    /// Whose socket dials go through, if it is a listener's.
    door: Option<Weak<Door>>,
}

impl QuicTransport {
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

    /// Sets a function that decides for each client of the listeners, before the handshake, whether
    /// to accept it. It must not block. Rejected clients are refused.
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

    /// Enables or disables data before the handshake is over (early data, 0-RTT: RFC 9001, section
    /// 4.6). Disabled by default. `?zero-rtt=true` or `?zero-rtt=false` in an address overrides it.
    /// Only between two ends of pipewerks: with `?wire=raw` no early data is sent or accepted.
    ///
    /// # What it does
    ///
    /// A dialer keeps the sessions of the 64 addresses that it dialed last, in memory, shared by
    /// the clones of the transport that have the same settings. The next dial to such an address
    /// returns at once, with a usable connection: written bytes go with the first datagrams, a
    /// round trip earlier. A listener keeps 1,024 sessions, for up to a day and as long as it
    /// lives, each good for one connection; it returns from `accept` with the first datagrams as
    /// well.
    ///
    /// A resumed session belongs to the certificate of the original handshake. The dialer verifies
    /// that certificate again (its names, its dates, the roots, the hash in the address) before it
    /// resumes the session, and [`peer_identity`](pipe_core::Conn::peer_identity) returns it. A
    /// listener that asks clients for certificates accepts no early data, and listening with this
    /// enabled is an error.
    ///
    /// # When the listener accepts none
    ///
    /// A listener may reject early data: it may have been restarted, or have dropped the session.
    /// Then it has read none of the early data, and the dialer's connection fails as a whole with
    /// [`Refused`](pipe_core::ErrorKind::Refused), since the application may not have kept all that
    /// it wrote; the session is removed, and the next dial is an ordinary one. Early data is never
    /// sent again automatically.
    ///
    /// A dial that resumes a session does not wait for an answer of the listener. Without a
    /// listener, the connection fails with `Refused` if the network reports that, or else as one
    /// that was lost: [`Disconnected`](pipe_core::ErrorKind::Disconnected), then
    /// [`Failed`](pipe_core::ErrorKind::Failed).
    ///
    /// # The risk
    ///
    /// An attacker who recorded the first datagrams can replay them, without being able to read or
    /// change them. Only early data can be replayed, never data sent after the handshake. A
    /// listener accepts each session once, so a replay of data that a listener has read fails. But
    /// an attacker who withholds the datagrams from the listener can deliver them later, within a
    /// minute (rustls accepts a ticket as fresh for so long), when the dialer has given up and sent
    /// the same over another connection: "pay 5" is then read twice. Therefore
    ///
    /// - enable it only for applications whose first requests can be repeated safely;
    /// - or let the listener wait for [`QuicConn::confirmed`] before it performs an action that
    ///   cannot: the handshake completes only with the original dialer, not with a replay;
    /// - or let the dialer wait for it before it sends such a request.
    ///
    /// Early data also has no forward secrecy: an attacker with access to the listener's or the
    /// dialer's memory within the life of a session can read the early data sent with it (RFC 8446,
    /// section 2.3).
    #[must_use]
    pub fn with_zero_rtt(mut self, on: bool) -> Self {
        self.settings.zero_rtt = on;
        self
    }

    /// Gives each dial a UDP socket of its own, with a port of its own. Disabled by default: the dials share one socket
    /// for each family of addresses, and each tokio runtime that they are made in.
    ///
    /// A socket for each dial costs about 2 MB of address space in quinn, the system's buffers, and time at the dial. It
    /// is for connections that
    ///
    /// - move to other sockets one by one: with a shared socket, [`QuicConn::endpoint`] moves all connections on it;
    /// - must not be seen to be of one dialer, by their port;
    /// - receive so much together that one socket's buffer (4 MiB, where the system allows it) and one task to
    ///   read it are not enough.
    ///
    /// It does not count for [`QuicListener::transport`], whose dials go through the listener's socket.
    #[must_use]
    pub fn with_socket_per_dial(mut self, on: bool) -> Self {
        self.settings.socket_per_dial = on;
        self
    }

    /// Listens on a UDP socket that is bound already, such as one of systemd's (`listen_fds`). The address gives the options
    /// and the names of a certificate that is made on the spot, and
    /// [`local_addr`](pipe_core::Listener::local_addr) has the socket's own IP address and port. The socket lives as long as
    /// the listener and its connections do.
    ///
    /// # Errors
    ///
    /// [`AddrUnsupported`](pipe_core::ErrorKind::AddrUnsupported) and
    /// [`AddrInvalid`](pipe_core::ErrorKind::AddrInvalid) as of [`listen`](Transport::listen);
    /// [`AddrInUse`](pipe_core::ErrorKind::AddrInUse) when there is a listener of this process, or a connection of one, at its
    /// address; [`Io`](pipe_core::ErrorKind::Io) for errors of the operating system, and those of the certificate.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn listen_on(&self, socket: UdpSocket, addr: &Addr) -> Result<QuicListener> {
        listen_on(
            &self.settings,
            addr,
            QuicAddr::of(addr)?,
            Gate::default(),
            socket,
        )
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
        dial(&self.settings, self.door.as_ref(), addr, to, None).await
    }

    async fn listen(&self, addr: &Addr) -> Result<QuicListener> {
        let on = QuicAddr::of(addr)?;
        listen(&self.settings, addr, on, Gate::default()).await
    }
}

/// Makes a connection. `web` says how its session of WebTransport is asked for, if it is one.
pub(crate) async fn dial(
    settings: &Settings,
    door: Option<&Weak<Door>>,
    addr: &Addr,
    to: QuicAddr,
    web: Option<&WebDial>,
) -> Result<QuicConn> {
    let name = to.params.server_name(addr, &to.at.host)?;
    let limit = settings.config.handshake_timeout;
    let dial = Dial {
        settings,
        door,
        addr,
        to: &Arc::new(to),
        web,
        name: &name,
    };
    dial_within(addr, limit, dial.run()).await
}

/// Listens. The gate decides about sessions of WebTransport.
pub(crate) async fn listen(
    settings: &Settings,
    addr: &Addr,
    on: QuicAddr,
    gate: Gate,
) -> Result<QuicListener> {
    let at = on.at.clone();
    let desk = desk(settings, addr, on, gate)?;
    let open = |socket| ready(Door::open(socket, settings.profile, &desk));
    let door = bind(addr, &at, open).await?;
    Ok(QuicListener::new(desk, door, settings))
}

/// Listens on a socket that is bound already. The gate decides about sessions of WebTransport.
pub(crate) fn listen_on(
    settings: &Settings,
    addr: &Addr,
    on: QuicAddr,
    gate: Gate,
    socket: UdpSocket,
) -> Result<QuicListener> {
    let desk = desk(settings, addr, on, gate)?;
    let door = Door::open_on(socket, settings.profile, &desk).map_err(|error| {
        let (kind, why) = match error.kind() {
            io::ErrorKind::AddrInUse => {
                (ErrorKind::AddrInUse, "there is a listener already".into())
            }
            _ => (
                ErrorKind::Io,
                format!("the given socket cannot be used: {error}"),
            ),
        };
        listen_error(addr, kind, why, Some(error))
    })?;
    Ok(QuicListener::new(desk, door, settings))
}

fn desk(settings: &Settings, addr: &Addr, on: QuicAddr, gate: Gate) -> Result<Arc<Desk>> {
    let identity = match on.web {
        Some(_) => on
            .params
            .listener_identity_for_browsers(addr, &on.at.host, &settings.tls),
        None => on
            .params
            .listener_identity(addr, &on.at.host, &settings.tls),
    }?;
    let servers = settings.server_configs(&on, &identity)?;
    Ok(Desk::new(
        &settings.config,
        on,
        gate,
        identity,
        servers,
        settings.tls.asks_clients(),
    ))
}

impl QuicListener {
    /// Returns a transport of `quic://` with the same settings whose dials go out through this listener's UDP
    /// socket: its port is their source, as some firewalls and ways through address translation
    /// need it.
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
            .field("socket_per_dial", &self.settings.socket_per_dial)
            .finish_non_exhaustive()
    }
}
