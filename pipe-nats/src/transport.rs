use async_nats::ConnectOptions;
use pipe_core::backend::{Admission, dial_within};
use pipe_core::{Addr, Admit, Config, Error, ErrorKind, Incoming, Result, Transport};
use pipe_mux::{Mux, MuxConn, MuxListener};
use pipe_net::listen_error;
use pipe_tls::TlsOptions;

use crate::addr::{NatsAddr, SCHEME};
use crate::broker::Brokers;
use crate::carrier::open;
use crate::dialing::find;
use crate::door::{Door, Welcome};
use crate::greeting::Request;
use crate::source::{Reach, Source};
use crate::subject::fresh_name;
use crate::taken::Addresses;

/// The queue group of listeners that name none.
const GROUP: &str = "pipewerks";

/// The transport of `nats://host:port/subject`: connections through a NATS server, which both sides connect to.
///
/// # Addresses
///
/// - `nats://broker.example.org/jobs.eu`: a server, at port 4222 where there is none, and a subject.
/// - `?servers=b.example.org,c.example.org:4223` names other servers of the cluster, for when the first one cannot be
///   reached. Those that the server itself tells of are used as well.
/// - `?tls=on` requires TLS, see [`with_tls`](Self::with_tls). A server that requires it gets it in any case.
///
/// An address has no user and no password; see [`with_token`](Self::with_token) and its neighbours.
///
/// # Listeners share a subject
///
/// All listeners on a subject are one queue group: the broker gives each request to one of them. A listener that has no room
/// for a request answers so, and the dialer asks again, until its dial takes too long: so it finds one that has room. A listener
/// that is closed leaves the group, and the others get what it had not taken.
///
/// They are listeners of several transports, as a rule in several processes: the second one of the same transport, or of its
/// clones, on one address is [`AddrInUse`](ErrorKind::AddrInUse).
///
/// # Connections
///
/// The bytes of a connection are messages between two subjects that only its two ends know. Messages that are lost are sent
/// again, so a connection outlives its broker: each side connects to the same or to another server, and goes on.
/// [`Config::failed_after`] says how long that may take.
///
/// The transport has one client for all connections through the same servers, as long as there are any.
///
/// # Trust
///
/// The broker reads and can change all that goes through it, and so can the clients that it lets subscribe to the inboxes of
/// others (`_INBOX.>`, or the prefix of the options). There is no
/// [`peer_identity`](pipe_core::Conn::peer_identity): the broker decides which clients may use a subject. Over
/// `webrtc+nats://` it carries the fingerprints of the certificates, and nothing of the streams.
#[derive(Clone, Debug)]
pub struct NatsTransport {
    config: Config,
    admission: Admission,
    reach: Reach,
    group: String,
    listeners: Addresses,
}

impl Default for NatsTransport {
    fn default() -> Self {
        Self {
            config: Config::default(),
            admission: Admission::default(),
            reach: Reach::new(),
            group: GROUP.to_owned(),
            listeners: Addresses::default(),
        }
    }
}

impl NatsTransport {
    /// Creates a transport with the default configuration, and without credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(mut self, config: Config) -> Result<Self> {
        config.validate()?;
        self.reach.outlast(config.failed_after);
        self.config = config;
        Ok(self)
    }

    /// Sets a function that decides for each request to the listeners, before the handshake, whether to accept it. It must
    /// not block. Nothing is known of the peers: [`Incoming`] is that of an unknown one.
    #[must_use]
    pub fn with_admission(
        mut self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        self.admission = Admission::new(admit);
        self
    }

    /// Sets the name of the queue group that the listeners join, `pipewerks` by default. A broker gives each request to one
    /// listener of every group, and the dialer takes the first that answers.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for a name that is no ASCII without white space.
    pub fn with_queue_group(self, name: &str) -> Result<Self> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            let why = format!("{name:?} cannot name a queue group");
            return Err(Error::new(ErrorKind::ConfigInvalid, why));
        }
        let group = name.to_owned();
        Ok(Self { group, ..self })
    }

    /// Shows this token to the servers.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with_options(|options| options.token(token.to_owned()))
    }

    /// Shows this user and password to the servers.
    #[must_use]
    pub fn with_user_and_password(self, user: &str, password: &str) -> Self {
        self.with_options(|options| options.user_and_password(user.to_owned(), password.to_owned()))
    }

    /// Proves to the servers to have the key with this seed (`SU…`).
    #[must_use]
    pub fn with_nkey(self, seed: &str) -> Self {
        self.with_options(|options| options.nkey(seed.to_owned()))
    }

    /// Uses the credentials in this text, which is that of a `.creds` file: a token of the server's operator, and a key.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) for a text without them.
    pub fn with_credentials(mut self, text: &str) -> Result<Self> {
        let options = self.reach.options.credentials(text);
        self.reach.options = options.map_err(|error| {
            let why = format!("the text has no credentials of NATS: {error}");
            Error::with_source(ErrorKind::ConfigInvalid, why, error)
        })?;
        Ok(self.apart())
    }

    /// Sets the certificates that this side trusts, and its own, for servers that speak TLS. The system's roots are trusted by
    /// default.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsOptions) -> Self {
        self.reach.tls = tls;
        self.apart()
    }

    /// Connects to servers with these options. The event callback, the capacity of subscriptions, the pauses and the number of
    /// the attempts to connect again, and the configuration of TLS are the transport's.
    #[cfg(feature = "native")]
    #[must_use]
    pub fn with_connect_options(mut self, options: ConnectOptions) -> Self {
        self.reach.options = options;
        self.apart()
    }

    fn with_options(mut self, change: impl FnOnce(ConnectOptions) -> ConnectOptions) -> Self {
        self.reach.options = change(self.reach.options);
        self.apart()
    }

    /// Shares no clients with the transport that this one was cloned from.
    fn apart(mut self) -> Self {
        self.reach.brokers = Brokers::default();
        self.listeners = Addresses::default();
        self
    }
}

impl Transport for NatsTransport {
    type Conn = MuxConn;
    type Listener = MuxListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<MuxConn> {
        let to = NatsAddr::of(addr)?;
        let connect = async {
            let broker = self.reach.broker(&to.servers).await?;
            let name = fresh_name()?;
            let local = to.peer(&name)?;
            let request = Request { name };
            let (reader, writer) = open(find(broker, addr, &to.subject, &request).await?);
            let mux = Mux::builder().config(self.config.clone());
            let mux = mux.addrs(local, addr.clone());
            mux.client_split(reader, writer).await
        };
        dial_within(addr, self.config.handshake_timeout, connect).await
    }

    async fn listen(&self, addr: &Addr) -> Result<MuxListener> {
        let on = NatsAddr::of(addr)?;
        let Some(taken) = self.listeners.take(&on) else {
            let why = "this transport has a listener there already";
            return Err(listen_error(addr, ErrorKind::AddrInUse, why, None));
        };
        let source = Source {
            reach: self.reach.clone(),
            on: on.clone(),
            group: self.group.clone(),
        };
        let join = source.subscribe();
        let joined = dial_within(addr, self.config.handshake_timeout, join).await;
        let (broker, requests) = joined.map_err(|error| {
            let why = format!("cannot listen on {addr}: {error}");
            Error::with_source(error.kind(), why, error)
        })?;
        let door = Door::open(broker, source, taken, requests, self.config.max_handshakes);
        let welcome = Welcome {
            config: self.config.clone(),
            on,
            local: addr.clone(),
        };
        let (config, admission) = (&self.config, self.admission.clone());
        Ok(MuxListener::new(
            door,
            welcome,
            addr.clone(),
            config,
            admission,
        ))
    }
}
