use std::time::Duration;

use libtest_mimic::Trial;
use pipewerks::{
    Addr, BoxConn, BoxStream, CloseReason, Config, Conn, ConnState, Error, ErrorKind, Listener,
    Transport,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::faults::child::{FLOOD, SILENCE, impatient, transport};
use crate::faults::peer::{Peer, Role, Side, Task};

/// How soon the end of a killed process is known where its system says so at once, long before the
/// silence would tell.
const SOON: Duration = Duration::from_secs(10);

/// Where to listen. The system chooses the port, or the name.
const ADDRS: [(&str, &str); 4] = [
    ("tcp", "tcp://127.0.0.1:0"),
    ("ws", "ws://127.0.0.1:0"),
    ("unix", "unix:///@"),
    ("quic", "quic://127.0.0.1:0"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, addr) in ADDRS {
        let when = if is_told(name) { "at_once" } else { "in_time" };
        for (side, dies) in [(Side::Listen, "listener"), (Side::Dial, "dialer")] {
            trials.push(Trial::test(
                format!("faults::{name}/a_killed_{dies}_fails_everything_{when}"),
                move || {
                    run(kill(addr.parse()?, side));
                    Ok(())
                },
            ));
        }
        trials.push(Trial::test(
            format!("faults::{name}/a_stopped_peer_is_disconnected_then_back_without_a_loss"),
            move || {
                run(stop_and_continue(addr.parse()?));
                Ok(())
            },
        ));
        trials.push(Trial::test(
            format!("faults::{name}/a_peer_that_stays_stopped_is_given_up"),
            move || {
                run(stop(addr.parse()?));
                Ok(())
            },
        ));
    }
    trials.push(Trial::test(
        "faults::unix/the_address_of_a_killed_listener_is_free",
        || {
            run(listen_again());
            Ok(())
        },
    ));
    trials
}

/// Whether the system says that the process at the other end is gone. Over datagrams it is silence.
fn is_told(scheme: &str) -> bool {
    scheme != "quic" && !scheme.starts_with("webrtc")
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(test);
}

/// A process that serves, and a connection to it. `side` is that of the process.
async fn connect(addr: Addr, side: Side, config: &Config) -> (Peer, BoxConn) {
    let transport = transport(config);
    let task = |addr| Task {
        role: Role::Serve,
        side,
        addr,
        // It is this side that is tested.
        failed_after: Duration::from_secs(120),
    };
    match side {
        Side::Listen => {
            let mut peer = Peer::start(&task(addr), None);
            let addr: Addr = peer.hears("listening ").await.parse().expect("an address");
            (peer, transport.dial(&addr).await.expect("a dial"))
        }
        Side::Dial => {
            let listener = transport.listen(&addr).await.expect("a listener");
            let peer = Peer::start(&task(listener.local_addr()), None);
            let accepted = timeout(3 * SOON, listener.accept()).await;
            let conn = accepted.expect("a dial in time").expect("a connection");
            (peer, conn)
        }
    }
}

/// A stream on which the peer does this.
async fn stream(conn: &BoxConn, what: u8) -> BoxStream {
    let mut stream = conn.open_stream().await.expect("a stream");
    stream.write_all(&[what]).await.expect("its first byte");
    stream
}

/// Kills the process of this side; in time, everything has failed.
pub(crate) async fn kill(addr: Addr, side: Side) {
    let is_told = is_told(addr.scheme());
    let config = match is_told {
        true => Config::default(),
        false => impatient(Duration::from_secs(4)),
    };
    let (peer, conn) = connect(addr, side, &config).await;
    let flood = stream(&conn, FLOOD).await;
    let mut unanswered = stream(&conn, SILENCE).await;
    let unread = stream(&conn, SILENCE).await;
    let (moved, mut moving) = watch::channel((0, 0));

    let harm = async {
        let window = config.stream_window as usize;
        // A transfer is under way, and a write waits for the window.
        let ready = moving.wait_for(|(read, written)| *read > 8 << 20 && *written + 1 >= window);
        if timeout(3 * SOON, ready).await.is_err() {
            panic!("(read, written) stays at {:?}", *moving.borrow());
        }
        let killed = Instant::now();
        peer.kill().await;
        killed
    };
    let read = async {
        let mut flood = flood;
        let mut buf = vec![0; 64 * 1024];
        loop {
            match flood.read(&mut buf).await {
                Ok(0) => panic!("a killed peer's stream has a clean end"),
                Ok(count) => moved.send_modify(|(read, _)| *read += count),
                Err(error) => return error,
            }
        }
    };
    let blocked_read = async { unanswered.read_u8().await.expect_err("a silent stream") };
    let blocked_write = async {
        let mut unread = unread;
        let chunk = vec![0; 64 * 1024];
        loop {
            match unread.write(&chunk).await {
                Ok(count) => moved.send_modify(|(_, written)| *written += count),
                Err(error) => return error,
            }
        }
    };
    let accept = async { conn.accept_stream().await.expect_err("no stream") };
    let all = async {
        tokio::join!(
            harm,
            read,
            blocked_read,
            blocked_write,
            accept,
            conn.closed()
        )
    };
    let all = timeout(5 * SOON, all).await.expect("an end in time");
    let (killed, read, blocked_read, blocked_write, accept, closed) = all;
    let took = killed.elapsed();

    for error in [&read, &blocked_read, &blocked_write] {
        let error = Error::from_io(error).expect("an error of pipewerks");
        assert_eq!(error.kind(), ErrorKind::Failed, "{error:?}");
    }
    assert_eq!(accept.kind(), ErrorKind::Failed, "{accept:?}");
    assert!(matches!(closed, CloseReason::Failed(_)), "{closed:?}");
    assert_eq!(*conn.state().borrow(), ConnState::Failed);
    let later = conn.open_stream().await.expect_err("a dead connection");
    assert_eq!(later.kind(), ErrorKind::Failed, "{later:?}");
    let at_least = match is_told {
        true => Duration::ZERO,
        false => config.failed_after / 2,
    };
    assert!(
        (at_least..at_least + SOON).contains(&took),
        "it took {took:?}"
    );
}

/// A killed process leaves its socket file behind, which the next listener replaces.
async fn listen_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let addr = format!("unix://{}", path.display());
    let addr: Addr = addr.parse().expect("an address");
    let config = Config::default();
    let (peer, _conn) = connect(addr.clone(), Side::Listen, &config).await;
    peer.kill().await;
    assert!(path.exists());

    let transport = transport(&config);
    let refused = transport.dial(&addr).await.expect_err("a dead listener");
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused:?}");
    let listener = transport.listen(&addr).await.expect("a listener");
    let both = async { tokio::join!(transport.dial(&addr), listener.accept()) };
    let (dialed, accepted) = timeout(3 * SOON, both).await.expect("a dial in time");
    dialed.expect("a dial").ping().await.expect("a ping");
    accepted.expect("a connection");
    drop(listener);
    assert!(!path.exists());
}

/// Stops the process (SIGSTOP), or lets it go on (SIGCONT): its sockets live, and it says nothing.
pub(crate) fn signal(peer: &Peer, signal: Signal) {
    let id = i32::try_from(peer.id()).expect("a process id");
    let pid = Pid::from_raw(id).expect("a process id");
    kill_process(pid, signal).expect("a signal that arrives");
}

async fn reaches(conn: &BoxConn, wanted: ConnState) {
    let mut state = conn.state();
    let reached = state.wait_for(|state| *state == wanted || state.is_final());
    let reached = timeout(3 * SOON, reached).await.expect("a state in time");
    assert_eq!(*reached.expect("a state"), wanted);
}

pub(crate) async fn stop_and_continue(addr: Addr) {
    let config = impatient(Duration::from_secs(60));
    let (peer, conn) = connect(addr, Side::Listen, &config).await;
    let mut flood = stream(&conn, FLOOD).await;
    let mut buf = vec![0; 1 << 20];
    flood.read_exact(&mut buf).await.expect("a flood");

    signal(&peer, Signal::STOP);
    reaches(&conn, ConnState::Disconnected).await;
    signal(&peer, Signal::CONT);
    reaches(&conn, ConnState::Connected).await;
    for _ in 0..16 {
        let read = timeout(SOON, flood.read_exact(&mut buf)).await;
        read.expect("the flood goes on in time").expect("no loss");
    }
    conn.ping().await.expect("a ping");
}

pub(crate) async fn stop(addr: Addr) {
    let config = impatient(Duration::from_secs(4));
    let (peer, conn) = connect(addr, Side::Listen, &config).await;
    let mut unanswered = stream(&conn, SILENCE).await;
    conn.ping().await.expect("a ping");

    signal(&peer, Signal::STOP);
    let stopped = Instant::now();
    reaches(&conn, ConnState::Disconnected).await;
    let read = timeout(3 * SOON, unanswered.read_u8()).await;
    let error = read.expect("an end in time").expect_err("a silent stream");
    let took = stopped.elapsed();
    let error = Error::from_io(&error).expect("an error of pipewerks");
    assert_eq!(error.kind(), ErrorKind::Failed, "{error:?}");
    assert_eq!(*conn.state().borrow(), ConnState::Failed);
    assert!(took > config.failed_after / 2, "given up after {took:?}");
    assert!(took < config.failed_after + SOON, "given up after {took:?}");
}
