use clap::Args;
use pipewerks::Addr;
use pipewerks::tcp::{HostPort, Proxy, ProxyProtocol, TcpDialer};

/// The options about proxies.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    /// Dialing over TCP (tcp, tls, ws, wss, webrtc+http, TURN over TCP and TLS), connect through this proxy: http://HOST:PORT or socks5://HOST:PORT, with
    /// USER:PASSWORD@ before the host where it wants them, or none [default: the one that ALL_PROXY, HTTPS_PROXY (tls, wss, webrtc+https)
    /// or http_proxy (ws, webrtc+http) names, but for the hosts in NO_PROXY and this machine]
    #[arg(long, value_name = "URL", env = "PIPE_PROXY", hide_env_values = true)]
    proxy: Option<String>,
    /// Listening on tcp, tls, ws, wss or webrtc+http, accept connections of proxies in these networks only, each with a header of the PROXY
    /// protocol, which says who the peer is: IP addresses or networks as in 10.0.0.0/8, separated by commas, or all
    #[arg(long, value_name = "FROM", value_delimiter = ',')]
    proxy_protocol: Vec<String>,
}

impl ProxyArgs {
    /// Returns how to connect over TCP. A proxy that was asked for is for this machine, too.
    pub(crate) fn dialer(&self) -> pipewerks::Result<TcpDialer> {
        match self.proxy.as_deref() {
            // An empty variable is none.
            None | Some("") => Ok(TcpDialer::from_env()),
            Some("none") => Ok(TcpDialer::new()),
            // clap would show the password beside an error of its own.
            Some(proxy) => Ok(TcpDialer::new().with_proxy(Proxy::parse(proxy)?)),
        }
    }

    /// Returns who has to send the PROXY protocol, if it is asked for.
    pub(crate) fn protocol(&self) -> pipewerks::Result<Option<ProxyProtocol>> {
        match &self.proxy_protocol[..] {
            [] => Ok(None),
            [all] if all == "all" => Ok(Some(ProxyProtocol::required_from_all())),
            from => ProxyProtocol::required_from(from).map(Some),
        }
    }
}

/// Returns the host and the port that are dialed over the sockets of `under`, where the address has them.
pub(crate) fn target(addr: &Addr, under: &str) -> Option<HostPort> {
    let default = match under {
        "ws" | "http" => Some(80),
        "wss" | "wt" | "https" => Some(443),
        "nats" => Some(4222),
        _ => None,
    };
    let (host, port) = (addr.host()?, addr.port().or(default)?);
    Some(HostPort::new(host, port))
}
