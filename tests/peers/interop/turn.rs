//! coturn as the STUN and TURN server of two of our peers.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::webrtc::signaling::Signal;
use pipewerks::webrtc::{
    IceServer, MemorySignaling, Roots, Signaling, TcpDialer, TlsOptions, WebRtcConn,
    WebRtcSettings, WebRtcTransport,
};
use pipewerks::{ErrorKind, Registry, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::interop::Scenario;
use crate::interop::tools::{self, hash};

/// Who may use the server.
const NAME: &str = "somebody";
pub(crate) const SECRET: &str = "something";

/// How much a stream carries in each direction, in bytes.
const LEN: usize = 2_000_000;

pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, Scenario<Server>); 12] = [
        ("relay_only", |server| Box::pin(relay_only(server))),
        ("relays_beside_a_shared_port", |server| {
            Box::pin(relays_beside_a_shared_port(server))
        }),
        ("relay_only_over_tcp", |server| {
            Box::pin(relay_only(server.over(Over::Tcp)))
        }),
        ("relay_only_over_tls", |server| {
            Box::pin(relay_only(server.over(Over::Tls)))
        }),
        ("relay_only_by_a_dialer", |server| {
            Box::pin(relay_only(server.over(Over::Dialer)))
        }),
        ("wrong_credentials_over_tls", |server| {
            Box::pin(wrong_credentials(server.over(Over::Tls)))
        }),
        ("a_wrong_certificate", |server| {
            Box::pin(a_wrong_certificate(server.over(Over::Tls)))
        }),
        ("one_side_relayed", |server| {
            Box::pin(one_side_relayed(server))
        }),
        ("wrong_credentials", |server| {
            Box::pin(wrong_credentials(server))
        }),
        ("wrong_credentials_leave_other_paths", |server| {
            Box::pin(wrong_credentials_leave_other_paths(server))
        }),
        ("a_restart_uses_the_servers_named_then", |server| {
            Box::pin(a_restart_uses_the_servers_named_then(server))
        }),
        ("server_reflexive", |server| {
            Box::pin(server_reflexive(server))
        }),
    ];
    let ips: [(&str, IpAddr); 2] = [
        ("ipv4", Ipv4Addr::LOCALHOST.into()),
        ("ipv6", Ipv6Addr::LOCALHOST.into()),
    ];
    let mut trials = Vec::new();
    let program = || tools::program("turnserver");
    for (family, ip) in ips {
        for (name, scenario) in scenarios {
            let name = format!("coturn::{family}::{name}");
            trials.push(crate::interop::trial(
                &name,
                program,
                move |program| async move {
                    let relay = ip.to_string();
                    scenario(Server::start(program, ip, &[&*relay], "keep").await).await;
                },
            ));
        }
    }
    for (name, over) in [("udp", Over::Udp), ("tcp", Over::Tcp)] {
        trials.push(crate::interop::trial(
            &format!("coturn::a_referral_is_followed_over_{name}"),
            program,
            move |program| a_referral(program, over),
        ));
    }
    // Servers that are asked over IPv6, and give relays of IPv4 if they have any, as they are to where no family is
    // asked for (RFC 8656, section 7.2).
    let default: [(&str, &[&str], Scenario<Server>); 2] = [
        ("a_relay_of_ipv4", &["127.0.0.1", "::1"], |server| {
            Box::pin(relay_only(server))
        }),
        ("no_relay_of_ipv4", &["::1"], |server| {
            Box::pin(relay_only(server))
        }),
    ];
    for (name, relays, scenario) in default {
        trials.push(crate::interop::trial(
            &format!("coturn::ipv6::{name}"),
            program,
            move |program| async move {
                let ip = Ipv6Addr::LOCALHOST.into();
                scenario(Server::start(program, ip, relays, "ipv4").await).await;
            },
        ));
    }
    trials
}

/// What a server is spoken to over.
#[derive(Clone, Copy)]
pub(crate) enum Over {
    Udp,
    Tcp,
    Tls,
    /// TCP, by a function that alone knows the server's name.
    Dialer,
}

/// A running server, on loopback as a rule.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    /// Where it speaks TLS.
    tls_addr: SocketAddr,
    /// Who vouches for its certificate.
    roots: Roots,
    over: Over,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts a server at this address, which has relays at these, and gives those of this family where
    /// none is asked for: `keep` is the one that it is asked over.
    pub(crate) async fn start(program: PathBuf, ip: IpAddr, relays: &[&str], family: &str) -> Self {
        Self::start_with(program, ip, relays, family, &[]).await
    }

    /// The same with more arguments for the program.
    async fn start_with(
        program: PathBuf,
        ip: IpAddr,
        relays: &[&str],
        family: &str,
        more: &[String],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::env::var_os("PIPE_PEER_LOG").is_some();
        let free = UdpSocket::bind((ip, 0)).expect("a socket");
        let addr = free.local_addr().expect("its address");
        let stream = TcpListener::bind((ip, 0)).expect("a socket");
        let tls_addr = stream.local_addr().expect("its address");
        drop((free, stream));
        let names = ["127.0.0.1".to_owned(), "::1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let pem = made.cert.pem();
        std::fs::write(&cert, &pem).expect("a file");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        let process = Command::new(program)
            .args(["-n", "--no-cli", "--no-dtls"])
            .arg("--cert")
            .arg(cert)
            .arg("--pkey")
            .arg(key)
            .arg(format!("--tls-listening-port={}", tls_addr.port()))
            .args([
                "--allow-loopback-peers",
                "--log-file",
                "stdout",
                "--simple-log",
            ])
            .args(["-L", &ip.to_string(), "-p", &addr.port().to_string()])
            .args(relays.iter().flat_map(|relay| ["-E", relay]))
            .arg(format!("--allocation-default-address-family={family}"))
            .args([
                "--lt-cred-mech",
                "-r",
                "example.org",
                "-u",
                &format!("{NAME}:{SECRET}"),
            ])
            .args(more)
            .arg("--pidfile")
            .arg(folder.path().join("pid"))
            .arg("--userdb")
            .arg(folder.path().join("db"))
            .stdin(Stdio::null())
            .stdout(if log { Stdio::inherit() } else { Stdio::null() })
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("turnserver starts");
        until_it_answers(ip, addr).await;
        Self {
            addr,
            tls_addr,
            roots: Roots::from_pem(pem.as_bytes()).expect("roots"),
            over: Over::Udp,
            _process: process,
            _folder: folder,
        }
    }

    pub(crate) fn over(mut self, over: Over) -> Self {
        self.over = over;
        self
    }

    /// Its URL.
    fn url(&self) -> String {
        match self.over {
            Over::Udp => format!("turn:{}", self.addr),
            Over::Tcp => format!("turn:{}?transport=tcp", self.addr),
            Over::Tls => format!("turns:{}?transport=tcp", self.tls_addr),
            Over::Dialer => format!("turn:name.invalid:{}?transport=tcp", self.addr.port()),
        }
    }

    pub(crate) fn stun(&self) -> IceServer {
        IceServer::stun(&self.addr.to_string())
    }

    pub(crate) fn turn(&self, secret: &str) -> IceServer {
        IceServer::turn(&self.url(), NAME, secret)
    }

    /// The settings of a side that is on the server's loopback address.
    fn on_loopback(&self) -> WebRtcSettings {
        let settings = WebRtcSettings::default()
            .with_bind_addrs(vec![self.addr.ip()])
            .with_turn_tls(TlsOptions::new().with_roots(self.roots.clone()));
        if !matches!(self.over, Over::Dialer) {
            return settings;
        }
        let addr = self.addr;
        settings.with_turn_dialer(TcpDialer::new().with_dialer(move |to| async move {
            assert_eq!(to.host, "name.invalid");
            TcpStream::connect(addr).await
        }))
    }

    /// The settings of a side that is reached through this server only.
    fn relayed(&self, secret: &str) -> WebRtcSettings {
        self.on_loopback()
            .with_ice_servers([self.turn(secret)])
            .with_relay_only(true)
    }
}

/// Sends requests for a binding (RFC 8489, section 5) from an address until one is answered.
pub(crate) async fn until_it_answers(from: IpAddr, addr: SocketAddr) {
    let socket = tokio::net::UdpSocket::bind((from, 0));
    let socket = socket.await.expect("a socket");
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    let mut answer = [0; 1500];
    loop {
        // Where nobody listens yet, this socket hears of it.
        let _ = socket.send_to(&request, addr).await;
        let heard = socket.recv_from(&mut answer);
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(100), heard).await {
            return;
        }
    }
}

/// Signalling that notes what it receives.
pub(crate) struct Noted {
    pub(crate) inner: MemorySignaling,
    pub(crate) received: watch::Sender<Vec<Signal>>,
}

impl Signaling for Noted {
    fn send(&mut self, signal: Signal) -> impl Future<Output = Result<()>> + Send {
        self.inner.send(signal)
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        let signal = self.inner.receive().await?;
        self.received.send_modify(|all| all.extend(signal.clone()));
        Ok(signal)
    }
}

/// Connects an offerer and an answerer with these settings. What the answerer hears is noted.
pub(crate) async fn connect(
    offerer: WebRtcSettings,
    answerer: WebRtcSettings,
) -> (
    Result<WebRtcConn>,
    Result<WebRtcConn>,
    watch::Receiver<Vec<Signal>>,
) {
    let [offerer, answerer] = [offerer, answerer].map(|settings| {
        let transport = WebRtcTransport::new(Registry::new());
        transport.with_settings(settings).expect("settings")
    });
    let (here, inner) = MemorySignaling::pair();
    let (received, heard) = watch::channel(Vec::new());
    let there = Noted { inner, received };
    let (here, there) = tokio::join!(offerer.offer_over(here), answerer.answer_over(there));
    (here, there, heard)
}

/// The type of a candidate (RFC 8839, section 5.1).
pub(crate) fn kind(candidate: &str) -> &str {
    candidate.split(' ').nth(7).expect("a type")
}

/// The address and port of a candidate.
pub(crate) fn place(candidate: &str) -> [&str; 2] {
    let mut parts = candidate.split(' ').skip(4);
    [(); 2].map(|()| parts.next().expect("an address and a port"))
}

/// The types of the two ends of the path that a connection takes, if it has one.
pub(crate) async fn path(conn: &WebRtcConn) -> [String; 2] {
    match conn.selected_candidate_pair().await {
        Some(pair) => [&pair.local, &pair.remote].map(|candidate| kind(candidate).to_owned()),
        None => [String::new(), String::new()],
    }
}

/// Sends bytes in both directions of a stream at once.
pub(crate) async fn exchange(here: &WebRtcConn, there: &WebRtcConn) {
    let (opened, accepted) = tokio::join!(here.open_stream(), there.accept_stream());
    let ends = [opened, accepted].map(|stream| {
        let (receive, send) = tokio::io::split(stream.expect("a stream"));
        let mut bytes = vec![0; LEN];
        fastrand::fill(&mut bytes);
        (receive, send, bytes)
    });
    let expected = ends.each_ref().map(|(_, _, bytes)| hash(bytes));
    let [left, right] = ends.map(|(mut receive, mut send, bytes)| async move {
        let write = async {
            send.write_all(&bytes).await.expect("a write");
            send.shutdown().await.expect("a shutdown");
        };
        let mut all = Vec::new();
        let ((), read) = tokio::join!(write, receive.read_to_end(&mut all));
        read.expect("the end");
        hash(&all)
    });
    let (left, right) = tokio::join!(left, right);
    assert_eq!([right, left], expected);
}

/// Both sides are reached through the server, and all bytes arrive.
async fn relay_only(server: Server) {
    let settings = server.relayed(SECRET);
    let (here, there, heard) = connect(settings.clone(), settings).await;
    let (here, there) = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    for conn in [&here, &there] {
        assert_eq!(path(conn).await, ["relay", "relay"]);
        assert!(conn.ping().await.expect("a ping") > Duration::ZERO);
    }
    exchange(&here, &there).await;
    for signal in &*heard.borrow() {
        if let Signal::Candidate(candidate) = signal {
            assert_eq!(kind(&candidate.candidate), "relay");
            let text = &candidate.candidate;
            let nowhere = ["raddr 0.0.0.0 rport 9", "raddr :: rport 9"];
            assert!(nowhere.iter().any(|one| text.contains(one)), "{text}");
        }
    }
}

/// Connections that share a UDP port have a relay each, though they are of one machine.
async fn relays_beside_a_shared_port(server: Server) {
    let [offerer, answerer] = [
        server.relayed(SECRET),
        server.relayed(SECRET).with_udp_port(0),
    ]
    .map(|settings| {
        let transport = WebRtcTransport::new(Registry::new());
        transport.with_settings(settings).expect("settings")
    });
    let mut conns = Vec::new();
    for _ in 0..3 {
        let (here, there) = MemorySignaling::pair();
        let both =
            async { tokio::try_join!(offerer.offer_over(here), answerer.answer_over(there)) };
        conns.push(both.await.expect("a connection"));
    }
    for (here, there) in &conns {
        for conn in [here, there] {
            assert_eq!(path(conn).await, ["relay", "relay"]);
        }
        exchange(here, there).await;
    }
}

/// A side that knows no server talks to one that is behind it.
async fn one_side_relayed(server: Server) {
    let (here, there, _) = connect(server.relayed(SECRET), server.on_loopback()).await;
    let (here, there) = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    let pairs = (
        here.selected_candidate_pair(),
        there.selected_candidate_pair(),
    );
    let (near, far) = tokio::join!(pairs.0, pairs.1);
    let (near, far) = (near.expect("a path"), far.expect("a path"));
    assert_eq!(kind(&near.local), "relay");
    // Where a check has come before the candidate, the other side knows the relay as one that a peer has shown.
    let known = kind(&far.remote);
    assert!(["relay", "prflx"].contains(&known), "{known}");
    assert_eq!(place(&far.remote), place(&near.local));
    exchange(&here, &there).await;
}

/// What the server says is in the error, which comes before the handshake's time is over.
async fn wrong_credentials(server: Server) {
    let start = Instant::now();
    let (here, there, _) = connect(server.relayed("nothing"), server.relayed(SECRET)).await;
    let took = start.elapsed();
    let error = here.expect_err("no relay");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let text = error.to_string();
    let said = format!("the TURN server {}: it refuses", server.url());
    assert!(text.contains(&said) && text.contains("401"), "{text}");
    let told = there.expect_err("no peer");
    assert_eq!(told.kind(), ErrorKind::Unreachable, "{told}");
    assert!(took < Duration::from_secs(9), "{took:?}");
}

/// A server over TLS whose certificate nobody vouches for is not used, and the error says why.
async fn a_wrong_certificate(server: Server) {
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "::1".to_owned()]);
    let pem = other.expect("a certificate").cert.pem();
    let roots = Roots::from_pem(pem.as_bytes()).expect("roots");
    let settings = server
        .relayed(SECRET)
        .with_turn_tls(TlsOptions::new().with_roots(roots));
    let (here, _there, _) = connect(settings, server.on_loopback()).await;
    let error = here.expect_err("no relay");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let said = format!("the TURN server {}: ", server.url());
    assert!(error.to_string().contains(&said), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// A server that refers to another one (RFC 8489, section 10), which gives the relays.
async fn a_referral(program: PathBuf, over: Over) {
    let ip = Ipv4Addr::LOCALHOST.into();
    let other = Server::start(program.clone(), ip, &["127.0.0.1"], "keep").await;
    let alternate = format!("--alternate-server={}", other.addr);
    // Its own relays would be at another address.
    let server = Server::start_with(program, ip, &["127.0.0.2"], "keep", &[alternate]).await;
    let server = server.over(over);
    let settings = server.relayed(SECRET);
    let (here, there, _) = connect(settings.clone(), settings).await;
    let (here, there) = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    for conn in [&here, &there] {
        let pair = conn.selected_candidate_pair().await.expect("a path");
        for candidate in [&pair.local, &pair.remote] {
            assert_eq!(
                (kind(candidate), place(candidate)[0]),
                ("relay", "127.0.0.1")
            );
        }
    }
    exchange(&here, &there).await;
}

async fn wrong_credentials_leave_other_paths(server: Server) {
    let settings = server
        .on_loopback()
        .with_ice_servers([server.turn("nothing")]);
    let (here, there, _) = connect(settings, server.on_loopback()).await;
    let (here, there) = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    assert_ne!(path(&here).await[0], "relay");
    exchange(&here, &there).await;
}

/// Servers that are named later count from the next restart on, and those in use stay so.
async fn a_restart_uses_the_servers_named_then(server: Server) {
    let settings = server.relayed(SECRET);
    let (here, there, mut heard) = connect(server.on_loopback(), settings).await;
    let (here, there) = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    let servers = vec![server.turn(SECRET)];
    let later = here.set_ice_servers(servers.clone(), true).await;
    // The engine would keep its other paths.
    assert_eq!(later.expect_err("too late").kind(), ErrorKind::Unsupported);
    here.set_ice_servers(servers.clone(), false)
        .await
        .expect("servers");
    there.set_ice_servers(servers, true).await.expect("servers");
    here.restart_ice().await.expect("a restart");
    let relayed = |signals: &Vec<Signal>| {
        signals.iter().any(|signal| match signal {
            Signal::Candidate(candidate) => kind(&candidate.candidate) == "relay",
            _ => false,
        })
    };
    heard
        .wait_for(relayed)
        .await
        .expect("a candidate of the new server");
    exchange(&here, &there).await;
    assert_eq!(path(&there).await[0], "relay");
}

/// The server tells a side what its address is. Without a NAT that is the one that it has, which the peer is told
/// once (RFC 8445, section 5.1.3).
async fn server_reflexive(server: Server) {
    let settings = server.on_loopback().with_ice_servers([server.stun()]);
    let (here, there, mut heard) = connect(settings, server.on_loopback()).await;
    let (here, there) = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    let all = heard.wait_for(|signals| signals.contains(&Signal::EndOfCandidates));
    let all = tokio::time::timeout(Duration::from_secs(4), all).await;
    let all = all.expect("an answer of the server");
    let all = all.expect("the end of candidates").clone();
    let candidates = all.iter().filter_map(|signal| match signal {
        Signal::Candidate(candidate) => Some(&*candidate.candidate),
        _ => None,
    });
    let kinds: Vec<_> = candidates.map(kind).collect();
    assert_eq!(kinds, ["host"]);
    exchange(&here, &there).await;
}
