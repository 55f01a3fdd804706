use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::dial_within;
use pipe_core::{Addr, Error, ErrorKind, Result};
use tokio::net::{TcpSocket, TcpStream};

use crate::host_port::HostPort;
use crate::no_proxy::NoProxy;
use crate::proxy::Proxy;
use crate::proxy_env::ProxyEnv;
use crate::{connect_error, race, resolve};

/// How a transport connects over TCP: directly, through a proxy, or by a function of the application; and from which address
/// and interface of this host.
///
/// By default it connects directly to the first of a host's addresses that answers, and lets the system choose the rest. It
/// never looks into the environment unless [`from_env`](Self::from_env) was called.
///
/// Through a proxy, and by a function, a name is not resolved here, and
/// [`remote_addr`](pipe_core::Conn::remote_addr) of a connection has the host that was dialed, not the proxy's.
///
/// ```
/// use pipe_net::{NoProxy, Proxy, TcpDialer};
///
/// let dialer = TcpDialer::new()
///     .with_proxy(Proxy::parse("socks5://user:password@proxy.example:1080")?)
///     .with_no_proxy(NoProxy::parse("intranet.example, 10.0.0.0/8"));
/// # Ok::<(), pipe_core::Error>(())
/// ```
///
/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TcpDialer(Arc<Inner>);

#[derive(Clone, Debug, Default)]
struct Inner {
    way: Way,
    except: NoProxy,
    /// An address of IPv4, and one of IPv6.
    local: [Option<SocketAddr>; 2],
    interface: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default)]
enum Way {
    #[default]
    Direct,
    Proxy(Proxy),
    Env(Arc<ProxyEnv>),
    Own(Own),
}

/// A function of the application.
#[derive(Clone)]
struct Own(Arc<dyn Fn(HostPort) -> Dialing + Send + Sync>);

type Dialing = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// What a [`TcpDialer`] has connected.
#[derive(Debug)]
#[non_exhaustive]
pub struct Dialed {
    /// The byte stream to the peer.
    pub socket: TcpStream,
    /// Where the peer is: the address that has answered, or through a proxy what was dialed.
    pub remote: HostPort,
}

impl TcpDialer {
    /// Creates one that connects directly.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates one with the proxies that the environment names, by the rules of curl:
    ///
    /// | Address | Variables, the first that is set |
    /// |---|---|
    /// | `tls://`, `wss://`, `webrtc+https://`, TURN over TLS | `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY` |
    /// | `ws://`, `webrtc+http://` | `http_proxy`, `all_proxy`, `ALL_PROXY` |
    /// | `tcp://`, TURN over TCP | `all_proxy`, `ALL_PROXY` |
    ///
    /// An empty variable is not set. `no_proxy` or `NO_PROXY` lists the hosts that are dialed directly ([`NoProxy`]).
    /// Loopback (`localhost` and all below it, 127.0.0.0/8, ::1) is always dialed directly.
    ///
    /// The variables are read now. One that names no proxy ([`Proxy::parse`]) is an error of the dials that it is for.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let (proxies, except) = ProxyEnv::read(variable);
        Self(Arc::new(Inner {
            way: Way::Env(Arc::new(proxies)),
            except,
            ..Inner::default()
        }))
    }

    /// Connects through a proxy to every host, those of this machine too, but for those in the
    /// [list](Self::with_no_proxy).
    #[must_use]
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.inner().way = Way::Proxy(proxy);
        self
    }

    /// Sets the hosts that are dialed directly although there is a proxy.
    #[must_use]
    pub fn with_no_proxy(mut self, hosts: NoProxy) -> Self {
        self.inner().except = hosts;
        self
    }

    /// Connects by a function, which takes the host, unresolved, and the port. It runs within the
    /// [time limit](pipe_core::Config::handshake_timeout) of the dial, and is dropped after that. An error that
    /// it makes of an [`Error`] stays that one; others are those of [`connect_error`].
    ///
    /// The function has the last word: there is no proxy, and the local address and the interface are its own.
    #[must_use]
    pub fn with_dialer<F, T>(mut self, dial: F) -> Self
    where
        F: Fn(HostPort) -> T + Send + Sync + 'static,
        T: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        self.inner().way = Way::Own(Own(Arc::new(move |to| Box::pin(dial(to)))));
        self
    }

    /// Connects from this address of this host, to addresses of its family only; one of each family can be set. Port 0 lets
    /// the system choose. With a proxy, it is the address that the proxy is dialed from.
    #[must_use]
    pub fn with_local_addr(mut self, addr: SocketAddr) -> Self {
        self.inner().local[usize::from(addr.is_ipv6())] = Some(addr);
        self
    }

    /// Sends and receives by this network interface only, such as `eth0`, whatever the routes are (`SO_BINDTODEVICE`). Nothing
    /// but on Linux and Android: elsewhere dials are [`Unsupported`](ErrorKind::Unsupported). With a proxy, it is the
    /// interface that the proxy is dialed by.
    #[must_use]
    pub fn with_interface(mut self, name: &str) -> Self {
        self.inner().interface = Some(name.into());
        self
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Returns the proxy for a host that is dialed by an address of this scheme.
    ///
    /// # Errors
    ///
    /// That of a variable that names no proxy, see [`from_env`](Self::from_env).
    pub fn proxy(&self, scheme: &str, to: &HostPort) -> Result<Option<&Proxy>> {
        if self.0.except.contains(to) {
            return Ok(None);
        }
        match &self.0.way {
            Way::Proxy(proxy) => Ok(Some(proxy)),
            Way::Env(env) if !is_loopback(&to.host) => env.proxy(scheme),
            Way::Env(_) | Way::Direct | Way::Own(_) => Ok(None),
        }
    }

    /// Returns the host whose addresses a dial connects to: the proxy, or else the host itself. `None` where a function of the
    /// application connects.
    ///
    /// # Errors
    ///
    /// Those of [`proxy`](Self::proxy).
    pub fn first_hop<'a>(&'a self, scheme: &str, to: &'a HostPort) -> Result<Option<&'a HostPort>> {
        if matches!(self.0.way, Way::Own(_)) {
            return Ok(None);
        }
        let proxy = self.proxy(scheme, to)?;
        Ok(Some(proxy.map_or(to, Proxy::host_port)))
    }

    /// Connects. `addr` is the address being dialed, for its scheme and for errors.
    ///
    /// # Errors
    ///
    /// - Directly, those of [`resolve`], and of [`connect_error`].
    /// - Through a proxy, the same about the proxy, and the refusals of the proxy:
    ///   [`Unauthenticated`](ErrorKind::Unauthenticated) where it wants another user or forbids the host,
    ///   [`Unreachable`](ErrorKind::Unreachable), [`Refused`](ErrorKind::Refused) and
    ///   [`TimedOut`](ErrorKind::TimedOut) as it says, [`Unsupported`](ErrorKind::Unsupported) and
    ///   [`LimitReached`](ErrorKind::LimitReached), and [`Handshake`](ErrorKind::Handshake) where it breaks the rules or
    ///   breaks off. The text names the proxy and the address.
    /// - [`AddrInUse`](ErrorKind::AddrInUse) for a local address that is in use,
    ///   [`Unreachable`](ErrorKind::Unreachable) for one that is not of this host or not of the family of the peer, and for
    ///   an interface that there is not, [`Unsupported`](ErrorKind::Unsupported) for an interface where none can be
    ///   chosen, and [`Io`](ErrorKind::Io) where the system forbids it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends all attempts.
    pub async fn connect(&self, addr: &Addr, to: &HostPort) -> Result<Dialed> {
        if let Way::Own(Own(dial)) = &self.0.way {
            let dialed = dial(to.clone()).await;
            let socket = dialed.map_err(|error| match Error::from_io(&error) {
                Some(own) => own.clone(),
                None => connect_error(format_args!("could not connect to {addr}"), error),
            })?;
            let remote = to.clone();
            return Ok(Dialed { socket, remote });
        }
        let Some(proxy) = self.proxy(addr.scheme(), to)? else {
            let found = resolve(addr, to).await?;
            let context = format!("could not connect to {addr}");
            let socket = self.direct(&found, &context).await?;
            let remote = socket.peer_addr()?.into();
            return Ok(Dialed { socket, remote });
        };
        let of = format!("the proxy {proxy} for {addr}");
        let found = resolve(&of, proxy.host_port()).await?;
        let context = format!("could not connect to {of}");
        let socket = self.direct(&found, &context).await?;
        // What it asks goes out at once.
        socket.set_nodelay(true)?;
        let asked = proxy.ask(socket, to).await;
        let socket = asked.map_err(|refusal| {
            refusal.into_error(format_args!(
                "no connection to {addr} through the proxy {proxy}"
            ))
        })?;
        let remote = to.clone();
        Ok(Dialed { socket, remote })
    }

    /// Waits for a dial no longer than `limit`. The error of one that took too long names the proxy.
    ///
    /// # Errors
    ///
    /// Those of the dial; [`TimedOut`](ErrorKind::TimedOut).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the dial.
    pub async fn within<T>(
        &self,
        limit: Duration,
        addr: &Addr,
        to: &HostPort,
        dial: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let dialed = dial_within(addr, limit, dial).await;
        dialed.map_err(|error| match self.proxy(addr.scheme(), to) {
            // The proxy's own word for it names it.
            Ok(Some(proxy))
                if error.kind() == ErrorKind::TimedOut
                    && !error.to_string().contains(&proxy.to_string()) =>
            {
                let why = format!("{error} through the proxy {proxy}");
                Error::with_source(ErrorKind::TimedOut, why, error)
            }
            _ => error,
        })
    }

    /// Connects to the first of these addresses that answers.
    async fn direct(&self, found: &[SocketAddr], context: &str) -> Result<TcpStream> {
        let reachable: Vec<_> = found
            .iter()
            .copied()
            .filter(|addr| self.0.local == [None; 2] || self.local_for(*addr).is_some())
            .collect();
        if reachable.is_empty() && !found.is_empty() {
            let family = if found[0].is_ipv4() { "IPv4" } else { "IPv6" };
            let why = format!("{context}: it has addresses of {family} only, and no local one is");
            return Err(Error::new(ErrorKind::Unreachable, why));
        }
        race(&reachable, async |addr| {
            let socket = self.socket(addr, context)?;
            let connected = match socket {
                Some(socket) => socket.connect(addr).await,
                None => TcpStream::connect(addr).await,
            };
            connected.map_err(|error| connect_error(context, error))
        })
        .await
    }

    /// Returns the local address to reach a peer from, if one is set.
    fn local_for(&self, peer: SocketAddr) -> Option<SocketAddr> {
        self.0.local[usize::from(peer.is_ipv6())]
    }

    /// Makes and binds a socket for a peer, where it has to be bound.
    fn socket(&self, peer: SocketAddr, context: &str) -> Result<Option<TcpSocket>> {
        let local = self.local_for(peer);
        if local.is_none() && self.0.interface.is_none() {
            return Ok(None);
        }
        let socket = if peer.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(name) = &self.0.interface {
            bind_to_interface(&socket, name).map_err(|error| {
                let (kind, why) = match error.kind() {
                    io::ErrorKind::Unsupported => (
                        ErrorKind::Unsupported,
                        "this system lets no interface be chosen".to_owned(),
                    ),
                    io::ErrorKind::PermissionDenied => (ErrorKind::Io, error.to_string()),
                    _ => (ErrorKind::Unreachable, error.to_string()),
                };
                let why = format!("{context} by the interface {name:?}: {why}");
                Error::with_source(kind, why, error)
            })?;
        }
        if let Some(local) = local {
            let bind = || {
                // Connections to several peers may leave from one port.
                if local.port() != 0 {
                    socket.set_reuseaddr(true)?;
                }
                socket.bind(local)
            };
            bind().map_err(|error| {
                let (kind, why) = match error.kind() {
                    io::ErrorKind::AddrInUse => (ErrorKind::AddrInUse, "it is in use".to_owned()),
                    io::ErrorKind::AddrNotAvailable => (
                        ErrorKind::Unreachable,
                        "it is no address of this host".to_owned(),
                    ),
                    _ => (ErrorKind::Io, error.to_string()),
                };
                let why = format!("{context} from {local}: {why}");
                Error::with_source(kind, why, error)
            })?;
        }
        Ok(Some(socket))
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn bind_to_interface(socket: &TcpSocket, name: &str) -> io::Result<()> {
    /// Maximum length of a name, in bytes (`IFNAMSIZ`, without the zero at the end).
    const MAX: usize = 15;
    // The kernel would cut it, take what is before a zero, and take none for any.
    if name.is_empty() || name.len() > MAX || name.contains('\0') {
        let why = "no interface has this name";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    socket.bind_device(Some(name.as_bytes()))
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn bind_to_interface(_: &TcpSocket, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns whether a host is this machine itself, as far as can be told without a resolver (RFC 6761, section 6.3).
fn is_loopback(host: &str) -> bool {
    if let Ok(ip) = host.parse::<IpAddr>() {
        let ip = ip.to_canonical();
        // An unspecified address is dialed at loopback.
        return ip.is_loopback() || ip.is_unspecified();
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own(..)")
    }
}

#[cfg(test)]
mod tests;
