use std::fmt;
use std::sync::{Arc, OnceLock};

use pipe_core::backend::Admission;
use pipe_core::{
    Addr, Admit, Config, Conn, Error, ErrorKind, Incoming, Listener, Result, Transport,
};
use tokio::time::{Instant, timeout_at};
use url::Host;

use crate::conn::WebRtcConn;
use crate::engine::{Certificate, Faults};
use crate::establish::Plan;
use crate::listener::WebRtcListener;
use crate::settings::{WebRtcSettings, default_config};
use crate::signaling::{
    Answered, ConnTask, Hand, Offered, Reply, Signaling, StreamSignaling, hand,
};
use crate::wire::Wire;

/// What stands before the scheme of the signalling.
const PREFIX: &str = "webrtc+";

/// The transport of `webrtc+<signalling address>`: streams over WebRTC, which finds a direct path
/// between peers behind NATs, and reaches browsers.
///
/// The two sides find each other over another transport: `webrtc+tcp://host:port` signals over the
/// transport of `tcp://`, one stream a connection. A path after the port is a name that both sides
/// have to agree on. Who the peer is rests on that transport: the fingerprint of the peer's
/// certificate comes over it.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_inproc::InprocTransport;
/// use pipe_webrtc::WebRtcTransport;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let transport = WebRtcTransport::new(InprocTransport::new());
/// let listener = transport.listen(&"webrtc+inproc://greeter".parse()?).await?;
/// let addr = listener.local_addr();
/// let (client, server) = tokio::try_join!(transport.dial(&addr), listener.accept())?;
///
/// let mut stream = client.open_stream().await?;
/// stream.write_all(b"hello").await?;
/// stream.shutdown().await?;
///
/// let mut text = String::new();
/// server.accept_stream().await?.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WebRtcTransport<T> {
    signaling: Arc<T>,
    schemes: Vec<&'static str>,
    config: Config,
    settings: Arc<WebRtcSettings>,
    /// The certificate of this transport, where the settings have none.
    certificate: Arc<OnceLock<Certificate>>,
    faults: Option<Faults>,
    wire: Wire,
    admission: Admission,
}

impl<T: Transport> WebRtcTransport<T> {
    /// Signals over this transport, for every scheme that it serves.
    pub fn new(signaling: T) -> Self {
        let schemes = signaling.schemes().iter().copied().map(scheme_over);
        Self {
            schemes: schemes.collect(),
            signaling: Arc::new(signaling),
            config: default_config(),
            settings: Arc::default(),
            certificate: Arc::default(),
            faults: None,
            wire: Wire::Pipe,
            admission: Admission::default(),
        }
    }

    /// Speaks this on connections whose address does not say: those over a signalling channel of one's
    /// own, and by hand.
    #[must_use]
    pub fn with_wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Uses this configuration instead of the [default one](default_config).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(self, config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, ..self })
    }

    /// Uses these settings.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_settings(self, settings: WebRtcSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            settings: Arc::new(settings),
            ..self
        })
    }

    /// Asks this function for each peer that has come for the signalling of its listeners, before the
    /// negotiation, whether to take it in. It gets the peer's address, or its credentials, and must not
    /// block.
    #[must_use]
    pub fn with_admission(
        self,
        admit: impl Fn(&Incoming) -> Admit + Send + Sync + 'static,
    ) -> Self {
        Self {
            admission: Admission::new(admit),
            ..self
        }
    }

    /// Harms the packets of its connections, for tests.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self {
            faults: Some(faults),
            ..self
        }
    }

    /// Makes a connection over a signalling channel of one's own, as the side that offers.
    ///
    /// # Errors
    ///
    /// As in [`Transport::dial`], and those of the channel.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt and leaves nothing behind.
    pub async fn offer_over(&self, signaling: impl Signaling) -> Result<WebRtcConn> {
        let plan = self.plan(true, self.unnamed(), opaque_addrs()?)?;
        plan.establish(signaling).await
    }

    /// Makes a connection over a signalling channel of one's own, as the side that answers.
    ///
    /// # Errors
    ///
    /// As in [`offer_over`](Self::offer_over).
    ///
    /// # Cancel safety
    ///
    /// As in [`offer_over`](Self::offer_over).
    pub async fn answer_over(&self, signaling: impl Signaling) -> Result<WebRtcConn> {
        let plan = self.plan(false, self.unnamed(), opaque_addrs()?)?;
        plan.establish(signaling).await
    }

    /// Begins a connection whose signalling a person carries: the text of the result goes to the peer,
    /// and the peer's answer comes back. ICE cannot be restarted on it.
    ///
    /// # Errors
    ///
    /// Those of finding the ways to reach this side.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn offer_by_hand(&self) -> Result<Offered> {
        let (signaling, text, reply) = hand(None)?;
        let conn = self.by_hand(true, signaling)?;
        let (text, conn) = gathered(text, conn).await?;
        Ok(Offered { text, reply, conn })
    }

    /// Takes the peer's offer, carried by a person, and makes the answer to carry back.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) for a text that is no offer;
    /// [`Handshake`](ErrorKind::Handshake) for one that cannot be answered.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn answer_by_hand(&self, offer: &str) -> Result<Answered> {
        let (signaling, text, _reply): (Hand, _, Reply) = hand(Some(offer))?;
        let conn = self.by_hand(false, signaling)?;
        let (text, conn) = gathered(text, conn).await?;
        Ok(Answered { text, conn })
    }

    fn unnamed(&self) -> Target {
        Target {
            name: None,
            wire: self.wire,
            local: true,
        }
    }

    fn by_hand(&self, offerer: bool, signaling: Hand) -> Result<ConnTask> {
        let mut plan = self.plan(offerer, self.unnamed(), opaque_addrs()?)?;
        plan.limit = None;
        Ok(ConnTask(tokio::spawn(plan.establish(signaling))))
    }

    pub(crate) fn plan(
        &self,
        offerer: bool,
        Target { name, wire, local }: Target,
        (local_addr, remote_addr): (Addr, Addr),
    ) -> Result<Plan> {
        let mut settings = self.settings.clone();
        if settings.certificate.is_none() {
            Arc::make_mut(&mut settings).certificate = Some(self.own_certificate()?);
        }
        Ok(Plan {
            config: self.config.clone(),
            settings,
            faults: self.faults.clone(),
            wire,
            offerer,
            name,
            local,
            limit: Some(self.config.handshake_timeout),
            local_addr,
            remote_addr,
            identity: None,
        })
    }

    fn own_certificate(&self) -> Result<Certificate> {
        if let Some(certificate) = self.certificate.get() {
            return Ok(certificate.clone());
        }
        let made = Certificate::generate()?;
        // Two at once may have made one each; the first stays.
        Ok(self.certificate.get_or_init(|| made).clone())
    }

    pub(crate) fn admission(&self) -> Admission {
        self.admission.clone()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The address of the signalling, and what an address says beside it.
    fn signaling_addr(&self, addr: &Addr) -> Result<(Addr, Target)> {
        if !self.schemes.contains(&addr.scheme()) {
            let why = format!(
                "{addr} is not of a scheme that this transport serves: {}",
                self.schemes.join(", ")
            );
            return Err(Error::new(ErrorKind::AddrUnsupported, why));
        }
        let text = addr.as_str().strip_prefix(PREFIX).unwrap_or(addr.as_str());
        let mut url = Addr::parse(text)?.as_url().clone();
        url.set_query(None);
        let mut raw = self.wire.is_raw();
        let mut ping = !matches!(self.wire, Wire::Raw { ping: false });
        for (name, value) in addr.params() {
            let own = matches!(name.as_str(), "wire" | "ping");
            if own && addr.params().filter(|(other, _)| *other == name).count() > 1 {
                return Err(addr.invalid(format!("the option {name:?} is given twice")));
            }
            match (name.as_str(), value.as_str()) {
                ("wire", "raw") => raw = true,
                ("wire", "pipe") => raw = false,
                ("ping", "on") => ping = true,
                ("ping", "off") => ping = false,
                _ if own => return Err(addr.invalid(format!("{name}={value} is unknown"))),
                // The rest is for the signalling.
                _ => drop(url.query_pairs_mut().append_pair(&name, &value)),
            }
        }
        if !raw && addr.param("ping").as_deref() == Some("off") {
            return Err(addr.invalid("ping=off needs wire=raw, since the other wire pings"));
        }
        let mut inner = Addr::parse(url.as_str())?;
        let mut target = Target {
            name: None,
            wire: if raw { Wire::Raw { ping } } else { Wire::Pipe },
            local: is_local(&inner),
        };
        // Only where a host and port say all can what follows be a name.
        if inner.port().is_some() && inner.path().len() > 1 {
            target.name = Some(inner.path()[1..].to_owned());
            url.set_path("");
            inner = Addr::parse(url.as_str())?;
        }
        Ok((inner, target))
    }
}

impl<T: Transport> Transport for WebRtcTransport<T> {
    type Conn = WebRtcConn;
    type Listener = WebRtcListener;

    fn schemes(&self) -> &[&'static str] {
        &self.schemes
    }

    async fn dial(&self, addr: &Addr) -> Result<WebRtcConn> {
        let (inner, target) = self.signaling_addr(addr)?;
        let limit = self.config.handshake_timeout;
        let deadline = Instant::now() + limit;
        let signal = async {
            let conn = self.signaling.dial(&inner).await?;
            let stream = conn.open_stream().await?;
            let unnamed = target.unnamed();
            let local = outer(&conn.local_addr(), &unnamed)?;
            let remote = outer(&conn.remote_addr(), &target)?;
            let mut plan = self.plan(true, target, (local, remote))?;
            plan.identity = conn.peer_identity();
            plan.establish(StreamSignaling::new(stream)).await
        };
        timeout_at(deadline, signal).await.unwrap_or_else(|_| {
            let why = format!("{addr} made no connection within {limit:?}");
            Err(Error::new(ErrorKind::TimedOut, why))
        })
    }

    async fn listen(&self, addr: &Addr) -> Result<WebRtcListener> {
        let (inner, target) = self.signaling_addr(addr)?;
        let signaling = self.signaling.listen(&inner).await?;
        let local = outer(&signaling.local_addr(), &target)?;
        Ok(WebRtcListener::new(self.clone(), signaling, local, target))
    }
}

/// What an address says beside that of the signalling.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The name to dial, or to be dialed by.
    pub(crate) name: Option<String>,
    pub(crate) wire: Wire,
    /// Whether the peer is on this machine.
    pub(crate) local: bool,
}

impl Target {
    pub(crate) fn unnamed(&self) -> Self {
        Self {
            name: None,
            ..self.clone()
        }
    }
}

/// The address over WebRTC whose signalling is at `inner`.
pub(crate) fn outer(inner: &Addr, target: &Target) -> Result<Addr> {
    let mut url = inner.as_url().clone();
    if let Some(name) = &target.name {
        url.set_path(&format!("/{name}"));
    }
    let mut addr = Addr::parse(&format!("{PREFIX}{url}"))?;
    if let Wire::Raw { ping } = target.wire {
        addr = addr.with_param("wire", "raw");
        if !ping {
            addr = addr.with_param("ping", "off");
        }
    }
    Ok(addr)
}

/// Whether the signalling at this address is on this machine.
pub(crate) fn is_local(inner: &Addr) -> bool {
    if inner.port().is_none() {
        // A name in this process, or a path.
        return true;
    }
    match inner.host().map(Host::parse) {
        Some(Ok(Host::Ipv4(ip))) => ip.is_loopback() || ip.is_unspecified(),
        Some(Ok(Host::Ipv6(ip))) => ip.is_loopback() || ip.is_unspecified(),
        Some(Ok(Host::Domain(name))) => name == "localhost" || name.ends_with(".localhost"),
        _ => false,
    }
}

/// Schemes are few, and those of a transport live as long as the program names them.
fn scheme_over(inner: &'static str) -> &'static str {
    use parking_lot::Mutex;
    static KNOWN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock();
    let is = |scheme: &&&'static str| scheme.strip_prefix(PREFIX) == Some(inner);
    if let Some(scheme) = known.iter().find(is) {
        return scheme;
    }
    let scheme: &'static str = format!("{PREFIX}{inner}").leak();
    known.push(scheme);
    scheme
}

/// The addresses of a connection whose signalling has none.
fn opaque_addrs() -> Result<(Addr, Addr)> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let local = Addr::parse(&format!("webrtc://~{number}"))?;
    Ok((local, Addr::parse(&format!("webrtc://~{number}-peer"))?))
}

/// Waits for what is to be carried by hand, as long as the connection can come of it.
async fn gathered(
    text: tokio::sync::oneshot::Receiver<Result<String>>,
    conn: ConnTask,
) -> Result<(String, ConnTask)> {
    match text.await {
        Ok(text) => Ok((text?, conn)),
        Err(_) => match conn.join().await {
            Err(error) => Err(error),
            Ok(_) => Err(Error::new(ErrorKind::Failed, "the negotiation has no text")),
        },
    }
}

impl<T> Clone for WebRtcTransport<T> {
    fn clone(&self) -> Self {
        Self {
            signaling: self.signaling.clone(),
            schemes: self.schemes.clone(),
            config: self.config.clone(),
            settings: self.settings.clone(),
            certificate: self.certificate.clone(),
            faults: self.faults.clone(),
            wire: self.wire,
            admission: self.admission.clone(),
        }
    }
}

impl<T> fmt::Debug for WebRtcTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtcTransport")
            .field("schemes", &self.schemes)
            .field("config", &self.config)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
