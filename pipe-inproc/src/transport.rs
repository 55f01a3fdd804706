use std::sync::Arc;

use pipe_core::backend::dial_within;
use pipe_core::{Addr, Config, Error, ErrorKind, Result, Transport};
use tokio::runtime::Handle;

use crate::conn::InprocConn;
use crate::desk::Desk;
use crate::link::Link;
use crate::listener::InprocListener;
use crate::name::{Name, SCHEME};
use crate::namespace::Namespace;
use crate::side::{PerSide, Side};

/// The transport of `inproc://name`: connections within this process.
///
/// - `inproc://name` listens on and dials a name; `inproc://` alone listens on a fresh one. A name
///   may have a path (`inproc://app/control`).
/// - `?link=wifi` on a dialed address gives that connection a link of that
///   [preset](crate::LinkProfile::PRESETS).
///
/// Everything needs a tokio runtime around it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use pipe_core::{Conn, Listener, Transport};
/// use pipe_inproc::InprocTransport;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let transport = InprocTransport::new();
/// let listener = transport.listen(&"inproc://".parse()?).await?;
/// let client = transport.dial(&listener.local_addr()).await?;
/// let server = listener.accept().await?;
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
#[derive(Clone, Debug)]
pub struct InprocTransport {
    namespace: Namespace,
    config: Config,
    link: Option<Link>,
}

impl InprocTransport {
    /// Creates a transport in the namespace of the process, with the default configuration, over
    /// ideal links.
    pub fn new() -> Self {
        Self {
            namespace: Namespace::of_process(),
            config: Config::default(),
            link: None,
        }
    }

    /// Sets the configuration of dialed and accepted connections. Where the two ends of a
    /// connection differ, a receiver's windows apply to its sender, and the smaller stream limit
    /// counts.
    ///
    /// # Errors
    ///
    /// [`ConfigInvalid`](ErrorKind::ConfigInvalid) when a setting is out of its range.
    pub fn with_config(self, config: Config) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, ..self })
    }

    /// Uses this namespace.
    #[must_use]
    pub fn with_namespace(self, namespace: Namespace) -> Self {
        Self { namespace, ..self }
    }

    /// Runs all that is dialed over this link.
    #[must_use]
    pub fn with_link(self, link: Link) -> Self {
        Self {
            link: Some(link),
            ..self
        }
    }

    /// Waits for room in the listener's backlog, after the time that the link takes to get there.
    async fn connect(&self, addr: &Addr, name: &Name, link: &Link) -> Result<InprocConn> {
        let refused = || {
            Error::new(
                ErrorKind::Refused,
                format!("there is no listener on {addr} in this process"),
            )
        };
        link.round_trip().await;
        let desk = self.namespace.find(&name.text).ok_or_else(refused)?;
        let place = desk.place().await.ok_or_else(refused)?;
        let (dialer, listener) = self.pair(&desk, link)?;
        if desk.hand_in(listener, place) {
            Ok(dialer)
        } else {
            Err(refused())
        }
    }

    fn pair(&self, desk: &Arc<Desk>, link: &Link) -> Result<(InprocConn, InprocConn)> {
        let dialer = Addr::opaque(SCHEME)?;
        let addrs = PerSide::new(|side| match side {
            Side::Dialer => dialer.clone(),
            Side::Listener => desk.addr.clone(),
        });
        let configs = PerSide::new(|side| match side {
            Side::Dialer => self.config.clone(),
            Side::Listener => desk.config.clone(),
        });
        Ok(InprocConn::pair(link, addrs, configs, runtime()?))
    }
}

impl Default for InprocTransport {
    /// Returns [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for InprocTransport {
    type Conn = InprocConn;
    type Listener = InprocListener;

    fn schemes(&self) -> &[&'static str] {
        &[SCHEME]
    }

    async fn dial(&self, addr: &Addr) -> Result<InprocConn> {
        let name = Name::of(addr)?;
        if name.text.is_empty() {
            let why = format!("invalid address {addr}: it has no name to dial");
            return Err(Error::new(ErrorKind::AddrInvalid, why));
        }
        runtime()?;
        let link = match (name.link, &self.link) {
            (Some(profile), _) => Link::new(profile),
            (None, Some(link)) => link.clone(),
            (None, None) => Link::default(),
        };
        let limit = self.config.handshake_timeout;
        dial_within(addr, limit, self.connect(addr, &name, &link)).await
    }

    async fn listen(&self, addr: &Addr) -> Result<InprocListener> {
        let name = Name::of(addr)?;
        if name.link.is_some() {
            let why = format!("invalid address {addr}: a link is chosen by the side that dials");
            return Err(Error::new(ErrorKind::AddrInvalid, why));
        }
        let bind = |addr: Addr, name: Name| {
            InprocListener::bind(addr, name.text, self.namespace.clone(), self.config.clone())
        };
        if !name.text.is_empty() {
            return bind(addr.clone(), name);
        }
        loop {
            let fresh = Addr::opaque(SCHEME)?;
            let name = Name::of(&fresh)?;
            match bind(fresh, name) {
                // Another listener has taken a name that was not given yet.
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                bound => return bound,
            }
        }
    }
}

fn runtime() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        let why = "an in-process connection needs a tokio runtime around it";
        Error::with_source(ErrorKind::Unsupported, why, error)
    })
}
