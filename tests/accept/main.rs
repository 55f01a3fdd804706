//! Listeners under a crowd of peers that connect and say nothing more: an honest peer from the same address
//! still gets in, and soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pipewerks::quic::QuicTransport;
use pipewerks::tcp::TcpTransport;
use pipewerks::tls::TlsTransport;
use pipewerks::unix::UnixTransport;
use pipewerks::webrtc::WebRtcTransport;
use pipewerks::{Addr, Admit, Config, Conn, ErrorKind, Listener, Transport};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// How many strangers there are.
const CROWD: u64 = 400;

/// How many honest dials are measured.
const DIALS: usize = 100;

/// More than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What an honest dial may take: where 400 strangers contend for 16 places, one that is overtaken at once has to
/// wait until it is the oldest of them.
const DIAL_LIMIT: Duration = Duration::from_secs(30);

/// What a dial may take that nothing holds up: less than a silent connection is waited for.
const PROMPT: Duration = Duration::from_millis(2500);

/// One crowd at a time: they want many file descriptors, and a core.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

/// Strangers, each of which connects again as soon as it is put out.
struct Crowd {
    entered: Arc<AtomicU64>,
    left: Arc<AtomicBool>,
    leave: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// `stay` connects, counts that with its argument, and ends when it is put out.
    fn gather<F>(stay: impl Fn(Arc<AtomicU64>) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let entered = Arc::new(AtomicU64::new(0));
        let (leave, left) = oneshot::channel::<()>();
        let is_over = Arc::new(AtomicBool::new(false));
        let (count, over) = (entered.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let strangers = tokio::task::LocalSet::new();
            for _ in 0..CROWD {
                let (stay, count) = (stay.clone(), count.clone());
                strangers.spawn_local(async move {
                    loop {
                        stay(count.clone()).await;
                        tokio::task::yield_now().await;
                    }
                });
            }
            strangers.block_on(&runtime, async {
                let _ = left.await;
            });
            drop(strangers);
            runtime.shutdown_background();
            over.store(true, Ordering::Relaxed);
        });
        Self {
            entered,
            left: is_over,
            leave: Some(leave),
            thread: Some(thread),
        }
    }

    fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// Waits until as many have come as there are.
    async fn is_there(&self) {
        let there = async {
            while self.entered() < CROWD {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, there).await.expect("the crowd comes");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.leave.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic in the crowd");
        }
        assert!(self.left.load(Ordering::Relaxed));
    }
}

async fn silent_tcp(addr: &Addr, entered: Arc<AtomicU64>) {
    let at = (
        addr.host().expect("a host").to_owned(),
        addr.port().expect("a port"),
    );
    let Ok(mut socket) = TcpStream::connect(at).await else {
        return sleep(Duration::from_millis(1)).await;
    };
    entered.fetch_add(1, Ordering::Relaxed);
    let mut buf = [0; 1024];
    while let Ok(1..) = socket.read(&mut buf).await {}
}

async fn silent_unix(addr: &Addr, entered: Arc<AtomicU64>) {
    let Ok(mut socket) = UnixStream::connect(addr.path()).await else {
        return sleep(Duration::from_millis(1)).await;
    };
    entered.fetch_add(1, Ordering::Relaxed);
    let mut buf = [0; 1024];
    while let Ok(1..) = socket.read(&mut buf).await {}
}

/// Dials honestly while the crowd is there, and prints how long that takes.
async fn honest_dials<T: Transport>(
    name: &str,
    honest: &T,
    listener: T::Listener,
    crowd: impl FnOnce(Addr) -> Crowd,
) {
    let addr = listener.local_addr();
    let serving = tokio::spawn(async move {
        let mut conns = Vec::new();
        while let Ok(conn) = listener.accept().await {
            conns.push(conn);
        }
    });
    let crowd = crowd(addr.clone());
    crowd.is_there().await;
    let (before, started) = (crowd.entered(), Instant::now());
    let mut took = Vec::new();
    let mut again = 0;
    for number in 0..DIALS {
        let began = Instant::now();
        let dial = async {
            loop {
                // Where strangers take part in handshakes as honest peers do, a machine that is too busy for
                // its own part may be taken for one of them.
                if let Ok(conn) = honest.dial(&addr).await
                    && conn.ping().await.is_ok()
                {
                    break conn;
                }
                again += 1;
            }
        };
        let conn = timeout(DIAL_LIMIT, dial).await;
        let conn = conn.unwrap_or_else(|_| panic!("{name}: dial {number} takes too long"));
        took.push(began.elapsed());
        conn.close(0, "");
    }
    took.sort_unstable();
    println!(
        "{name}: honest dial and ping: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}, {again} dialed again; {:.0} strangers/s",
        took[DIALS / 2],
        took[DIALS * 9 / 10],
        took[DIALS * 99 / 100 - 1],
        took[DIALS - 1],
        (crowd.entered() - before) as f64 / started.elapsed().as_secs_f64(),
    );
    drop(crowd);
    serving.abort();
}

fn settings() -> [(&'static str, Config); 2] {
    [
        ("default settings", Config::default()),
        (
            "16 handshakes",
            Config::default()
                .with_max_handshakes(16)
                .with_accept_backlog(16),
        ),
    ]
}

async fn listen<T: Transport>(transport: &T, addr: &str) -> T::Listener {
    let addr = addr.parse().expect("an address");
    transport.listen(&addr).await.expect("a listener")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_keep_no_peer_out_of_tcp() {
    let _alone = alone().await;
    for (name, config) in settings() {
        let transport = TcpTransport::new().with_config(config).expect("a config");
        let listener = listen(&transport, "tcp://127.0.0.1:0").await;
        honest_dials(&format!("tcp, {name}"), &transport, listener, |addr| {
            Crowd::gather(move |entered| {
                let addr = addr.clone();
                async move { silent_tcp(&addr, entered).await }
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_keep_no_peer_out_of_tls() {
    let _alone = alone().await;
    for (name, config) in settings() {
        let transport = TlsTransport::new().with_config(config).expect("a config");
        let listener = listen(&transport, "tls://127.0.0.1:0").await;
        honest_dials(&format!("tls, {name}"), &transport, listener, |addr| {
            Crowd::gather(move |entered| {
                let addr = addr.clone();
                async move { silent_tcp(&addr, entered).await }
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_keep_no_peer_out_of_unix() {
    let _alone = alone().await;
    for (name, config) in settings() {
        let transport = UnixTransport::new().with_config(config).expect("a config");
        let folder = tempfile::tempdir().expect("a folder");
        let addr = format!("unix://{}", folder.path().join("s").display());
        let listener = listen(&transport, &addr).await;
        honest_dials(&format!("unix, {name}"), &transport, listener, |addr| {
            Crowd::gather(move |entered| {
                let addr = addr.clone();
                async move { silent_unix(&addr, entered).await }
            })
        })
        .await;
    }
}

/// They go through the handshake of QUIC, and do not say hello.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_a_hello_keep_no_peer_out_of_quic() {
    let _alone = alone().await;
    for (name, config) in settings() {
        let transport = QuicTransport::new().with_config(config).expect("a config");
        let listener = listen(&transport, "quic://127.0.0.1:0").await;
        honest_dials(&format!("quic, {name}"), &transport, listener, |addr| {
            let addr = addr.with_param("wire", "raw").with_param("alpn", "pipe/1");
            Crowd::gather(move |entered| {
                let addr = addr.clone();
                async move {
                    // A transport has one session with the peer's: none here says hello.
                    if let Ok(conn) = QuicTransport::new().dial(&addr).await {
                        entered.fetch_add(1, Ordering::Relaxed);
                        conn.closed().await;
                    }
                }
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_keep_no_peer_out_of_webrtc() {
    let _alone = alone().await;
    for (name, config) in settings() {
        let signaling = TcpTransport::new().with_config(config.clone());
        let transport = WebRtcTransport::new(signaling.expect("a config"));
        let transport = transport.with_config(config).expect("a config");
        let listener = listen(&transport, "webrtc+tcp://127.0.0.1:0").await;
        let name = format!("webrtc+tcp, {name}");
        honest_dials(&name, &transport, listener, |addr| {
            Crowd::gather(move |entered| {
                let addr = addr.clone();
                async move { silent_tcp(&addr, entered).await }
            })
        })
        .await;
    }
}

/// They connect for the signalling, as pipewerks does, and offer nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signalling_without_an_offer_keeps_no_peer_out_of_webrtc() {
    let _alone = alone().await;
    for (name, config) in settings() {
        let signaling = TcpTransport::new().with_config(config.clone());
        let transport = WebRtcTransport::new(signaling.expect("a config"));
        let transport = transport.with_config(config).expect("a config");
        let listener = listen(&transport, "webrtc+tcp://127.0.0.1:0").await;
        let name = format!("webrtc+tcp without offers, {name}");
        honest_dials(&name, &transport, listener, |addr| {
            let addr: Addr = addr
                .as_str()
                .trim_start_matches("webrtc+")
                .parse()
                .expect("an address");
            Crowd::gather(move |entered| {
                let addr = addr.clone();
                async move {
                    if let Ok(conn) = TcpTransport::new().dial(&addr).await {
                        entered.fetch_add(1, Ordering::Relaxed);
                        conn.closed().await;
                    }
                }
            })
        })
        .await;
    }
}

/// A listener with a backlog of one, which a stranger cannot take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_stranger_does_not_delay_a_dial_where_one_connection_may_wait() {
    let _alone = alone().await;
    let config = Config::default().with_accept_backlog(1);
    let tcp = TcpTransport::new()
        .with_config(config.clone())
        .expect("a config");
    let listener = listen(&tcp, "tcp://127.0.0.1:0").await;
    let addr = listener.local_addr();
    let at = format!("127.0.0.1:{}", addr.port().expect("a port"));
    let _mute = TcpStream::connect(at).await.expect("a socket");
    let dialed = timeout(PROMPT, tcp.dial(&addr)).await;
    dialed.expect("no delay").expect("a connection");

    let quic = QuicTransport::new().with_config(config).expect("a config");
    let listener = listen(&quic, "quic://127.0.0.1:0").await;
    let addr = listener.local_addr();
    let mute_addr = addr
        .clone()
        .with_param("wire", "raw")
        .with_param("alpn", "pipe/1");
    let _mute = quic.dial(&mute_addr).await.expect("a mute connection");
    let dialed = timeout(PROMPT, quic.dial(&addr)).await;
    dialed.expect("no delay").expect("a connection");
}

/// Admits no one whose port is this transport's; the rest of what it gets is tested by pipe-core.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_admitted_gets_no_connection() {
    async fn refused<T: Transport>(transport: T, addr: &str) {
        let listener = listen(&transport, addr).await;
        let error = match timeout(LIMIT, transport.dial(&listener.local_addr())).await {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => panic!("{addr}: it was admitted"),
            Err(_) => panic!("{addr}: it waits"),
        };
        assert_ne!(error.kind(), ErrorKind::TimedOut, "{addr}: {error}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = format!("unix://{}", folder.path().join("s").display());
    let loopback = |incoming: &pipewerks::Incoming| match incoming.remote() {
        Some(remote) if remote.ip().is_loopback() => Admit::Refuse,
        _ => Admit::Accept,
    };
    refused(
        TcpTransport::new().with_admission(loopback),
        "tcp://[::1]:0",
    )
    .await;
    refused(
        TlsTransport::new().with_admission(loopback),
        "tls://127.0.0.1:0",
    )
    .await;
    refused(
        QuicTransport::new().with_admission(loopback),
        "quic://127.0.0.1:0",
    )
    .await;
    let webrtc = WebRtcTransport::new(TcpTransport::new()).with_admission(loopback);
    refused(webrtc, "webrtc+tcp://127.0.0.1:0").await;
    let known = |incoming: &pipewerks::Incoming| match incoming.identity() {
        Some(_) => Admit::Refuse,
        None => Admit::Accept,
    };
    refused(UnixTransport::new().with_admission(known), &path).await;
}
