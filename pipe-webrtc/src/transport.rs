use std::fmt;
use std::sync::Arc;

use pipe_core::backend::{Admission, dial_within};
use pipe_core::{
    Addr, Admit, BoxListener, Config, Conn, Error, ErrorKind, Incoming, Listener, Result, Transport,
};

use crate::addr::{Target, opaque_addrs, outer, scheme_over, signaling_addr};
use crate::conn::WebRtcConn;
use crate::engine::Faults;
use crate::listener::WebRtcListener;
use crate::settings::WebRtcSettings;
use crate::setup::Setup;
use crate::signaling::{
    Answered, ConnTask, Hand, Offered, Reply, Signal, Signaling, StreamSignaling, hand, write,
};
use crate::wire::Wire;

/// The transport of `webrtc+<signalling address>`: streams over WebRTC, which finds a direct path
/// between peers behind NATs, and reaches browsers.
///
/// The two sides find each other over another transport: `webrtc+tcp://host:port` signals over the
/// transport of `tcp://`, one stream a connection. A path after the port is a name that both sides
/// have to agree on. The identity of the peer depends on that transport, which carries the
/// fingerprint of the peer's certificate.
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
    setup: Setup,
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
            setup: Setup::default(),
            wire: Wire::Pipe,
            admission: Admission::default(),
        }
    }

    /// Sets the protocol of connections whose address names none: those over a signalling channel
    /// of the application, and by hand.
    #[must_use]
    pub fn with_wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Uses this configuration instead of the [default one](crate::default_config).
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(mut self, config: Config) -> Result<Self> {
        config.validate()?;
        self.setup.config = config;
        Ok(self)
    }

    /// Uses these settings.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_settings(mut self, settings: WebRtcSettings) -> Result<Self> {
        settings.validate()?;
        self.setup.set_settings(settings);
        Ok(self)
    }

    /// Sets a function that decides for each signalling connection of the listeners, before the
    /// negotiation, whether to accept the peer, by its address or its credentials. It must not
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
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.setup.faults = Some(faults);
        self
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
        let plan = self.setup.plan(true, self.unnamed(), opaque_addrs()?)?;
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
        let plan = self.setup.plan(false, self.unnamed(), opaque_addrs()?)?;
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
        let (signals, conn) = gathered(text, conn).await?;
        Ok(Offered {
            text: write(&signals)?,
            signals,
            reply,
            conn,
        })
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
        let (signals, conn) = gathered(text, conn).await?;
        Ok(Answered {
            text: write(&signals)?,
            conn,
        })
    }

    fn unnamed(&self) -> Target {
        Target {
            name: None,
            wire: self.wire,
            local: true,
        }
    }

    fn by_hand(&self, offerer: bool, signaling: Hand) -> Result<ConnTask> {
        let mut plan = self.setup.plan(offerer, self.unnamed(), opaque_addrs()?)?;
        plan.limit = None;
        Ok(ConnTask(tokio::spawn(plan.establish(signaling))))
    }

    /// Splits an address of this transport into that of the signalling and the rest.
    fn signaling_addr(&self, addr: &Addr) -> Result<(Addr, Target)> {
        if !self.schemes.contains(&addr.scheme()) {
            let why = format!(
                "{addr} is not of a scheme that this transport serves: {}",
                self.schemes.join(", ")
            );
            return Err(Error::new(ErrorKind::AddrUnsupported, why));
        }
        signaling_addr(addr, self.wire)
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
        let limit = self.setup.config.handshake_timeout;
        let signal = async {
            let conn = self.signaling.dial(&inner).await?;
            let stream = conn.open_stream().await?;
            let unnamed = target.unnamed();
            let local = outer(&conn.local_addr(), &unnamed)?;
            let remote = outer(&conn.remote_addr(), &target)?;
            let mut plan = self.setup.plan(true, target, (local, remote))?;
            plan.identity = conn.peer_identity();
            plan.establish(StreamSignaling::new(stream)).await
        };
        dial_within(addr, limit, signal).await
    }

    async fn listen(&self, addr: &Addr) -> Result<WebRtcListener> {
        let (inner, target) = self.signaling_addr(addr)?;
        let port = self.setup.shared_port();
        if let Some(port) = &port {
            let addrs = self.setup.settings.local_ips(target.local, None)?;
            port.open(&addrs)?;
        }
        let signaling = self.signaling.listen(&inner).await?;
        let local = outer(&signaling.local_addr(), &target)?;
        Ok(WebRtcListener::new(
            self.setup.clone(),
            self.admission.clone(),
            BoxListener::new(signaling),
            local,
            target,
            port,
        ))
    }
}

/// Waits for what is to be carried by hand, as long as the connection can still be made.
async fn gathered(
    text: tokio::sync::oneshot::Receiver<Vec<Signal>>,
    conn: ConnTask,
) -> Result<(Vec<Signal>, ConnTask)> {
    match text.await {
        Ok(signals) => Ok((signals, conn)),
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
            setup: self.setup.clone(),
            wire: self.wire,
            admission: self.admission.clone(),
        }
    }
}

impl<T> fmt::Debug for WebRtcTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebRtcTransport")
            .field("schemes", &self.schemes)
            .field("config", &self.setup.config)
            .field("settings", &self.setup.settings)
            .finish_non_exhaustive()
    }
}
