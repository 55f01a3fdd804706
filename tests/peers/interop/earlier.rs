//! An earlier build of this project, as dialer and as listener on every transport: the wire is still the same.
//!
//! `ci/install-peers` says which build, and `earlier/main.rs` is its program.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use libtest_mimic::Trial;
use pipewerks::prelude::*;
use pipewerks::quic::QuicTransport;
use pipewerks::tcp::TcpTransport;
use pipewerks::tls::TlsTransport;
use pipewerks::unix::UnixTransport;
use pipewerks::webrtc::{WebRtcSettings, WebRtcTransport};
use pipewerks::{Addr, BoxConn, BoxStream, CloseReason, Config, Error, Registry};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::interop::bytes::{ALL, Got, read, write};
use crate::interop::peer::Peer;
use crate::interop::tools::{self, Missing};
use crate::interop::{Place, Scenario, in_roles};

const KIB: usize = 1024;

/// Where each transport listens.
const ADDRS: [&str; 5] = [
    "tcp://127.0.0.1:0",
    "tls://127.0.0.1:0",
    "unix:///@",
    "quic://127.0.0.1:0",
    "webrtc+tcp://127.0.0.1:0",
];

/// What the peer does to connect.
#[derive(Clone, Copy, Debug)]
enum Role {
    Dials,
    Listens,
}

/// What a side allows the other.
#[derive(Clone, Copy)]
struct Limits {
    max_streams: u32,
    stream_window: u32,
    connection_window: u32,
}

/// Those of the default configuration.
const WIDE: Limits = Limits {
    max_streams: 256,
    stream_window: 256 * 1024,
    connection_window: 128 * 1024 * 1024,
};

/// A peer that is not connected yet.
struct Setting {
    addr: &'static str,
    role: Role,
    command: Command,
}

/// A connection between this side and the peer.
struct Stage {
    peer: Peer,
    conn: BoxConn,
}

/// Every scenario on every transport in both roles.
pub(crate) fn trials() -> Vec<Trial> {
    macro_rules! scenarios {
        ($($name:ident),* $(,)?) => {
            [$((stringify!($name), |setting| Box::pin($name(setting)))),*]
        };
    }
    let scenarios: [(&str, Scenario<Setting>); 13] = scenarios![
        streams_of_both_sides_carry_bytes_both_ways_at_once,
        a_side_that_has_ended_its_direction_reads_on,
        a_reset_ends_one_direction_with_its_code,
        a_stop_ends_the_other_direction_with_its_code,
        a_dropped_stream_is_reset_and_stopped_with_0,
        an_unread_stream_waits_at_its_window_and_holds_up_no_other,
        streams_that_are_over_make_room_for_others,
        both_sides_ping,
        our_drain_lets_streams_run_out,
        its_drain_lets_streams_run_out,
        our_close_has_its_code_and_reason_there,
        its_close_has_its_code_and_reason_here,
        the_last_handle_closes_with_0,
    ];
    let mut trials = Vec::new();
    for addr in ADDRS {
        let (scheme, _) = addr.split_once("://").expect("a scheme");
        let what = format!("earlier::{scheme}");
        let roles = [Role::Dials, Role::Listens];
        let run = move |role, command, scenario: Scenario<Setting>| {
            scenario(Setting {
                addr,
                role,
                command,
            })
        };
        trials.extend(in_roles(
            &what,
            Place::Machine,
            program,
            roles,
            &scenarios,
            run,
        ));
    }
    trials
}

fn program() -> Result<Command, Missing> {
    let folder = tools::installed("earlier")?;
    Ok(Command::new(folder.join("earlier-peer")))
}

/// Every transport over the network, on loopback.
fn registry(limits: Limits) -> pipewerks::Result<Registry> {
    let config = Config::default()
        .with_max_streams(limits.max_streams)
        .with_stream_window(limits.stream_window)
        .with_connection_window(limits.connection_window.into());
    let tcp = TcpTransport::new().with_config(config.clone())?;
    let loopback = WebRtcSettings::default().with_bind_addrs(vec![Ipv4Addr::LOCALHOST.into()]);
    let webrtc = WebRtcTransport::new(Registry::new().with(tcp.clone()))
        .with_settings(loopback)?
        .with_config(config.clone())?;
    Ok(Registry::new()
        .with(tcp)
        .with(TlsTransport::new().with_config(config.clone())?)
        .with(UnixTransport::new().with_config(config.clone())?)
        .with(QuicTransport::new().with_config(config)?)
        .with(webrtc))
}

impl Setting {
    /// Connects the two sides: what this side allows, and what the peer does.
    async fn connect(mut self, ours: Limits, its: Limits) -> Stage {
        let registry = registry(ours).expect("a registry");
        let addr: Addr = self.addr.parse().expect("an address");
        let limits = [its.max_streams, its.stream_window, its.connection_window];
        let limits = limits.map(|limit| limit.to_string());
        let (peer, conn) = match self.role {
            Role::Listens => {
                let command = self.command.args(["listen", self.addr]).args(limits);
                let peer = Peer::start(command).await;
                let addr: Addr = peer.addr().parse().expect("the peer's address");
                let conn = registry.dial(&addr).await;
                (peer, conn)
            }
            Role::Dials => {
                let listener = registry.listen(&addr).await.expect("a listener");
                let addr = listener.local_addr().to_string();
                let command = self.command.args(["dial", &addr]).args(limits);
                tokio::join!(Peer::start(command), listener.accept())
            }
        };
        let conn = conn.expect("a connection");
        Stage { peer, conn }
    }
}

impl Stage {
    /// A stream that this side opens.
    async fn open(&self) -> BoxStream {
        let stream = self.conn.open_stream().await.expect("a stream");
        assert_eq!(self.peer.word("accept").await, stream.id().to_string());
        stream
    }

    /// A stream that the peer opens.
    async fn accept(&self) -> BoxStream {
        let id = self.peer.word("open").await;
        let stream = self.conn.accept_stream().await.expect("a stream");
        assert_eq!(id, stream.id().to_string());
        stream
    }

    /// A stream of each side.
    async fn streams(&self) -> [BoxStream; 2] {
        [self.open().await, self.accept().await]
    }

    /// Sends so many bytes and ends this side's direction: the peer gets them, and the end.
    async fn send_all(&self, stream: &mut BoxStream, count: usize) {
        let id = stream.id();
        let send = async {
            let sent = write(stream, count).await;
            stream.shutdown().await.expect("a shutdown");
            sent
        };
        let (sent, got) = tokio::join!(send, self.peer.reads(id, ALL));
        assert_eq!(got, Got::whole(count, sent));
    }

    /// Has the peer send so many bytes and end its direction: this side gets them, and the end.
    async fn receive_all(&self, stream: &mut BoxStream, count: usize) {
        let id = stream.id();
        let send = async {
            let sent = self.peer.writes(id, count).await;
            self.peer.finishes(id).await;
            sent
        };
        let (sent, got) = tokio::join!(send, read(stream, ALL));
        assert_eq!(got, Got::whole(count, sent));
    }

    /// Waits for what must not come, while a ping goes each way.
    async fn waits<F: Future + Unpin>(&self, what: F) -> F {
        let pings = pin!(async { tokio::join!(self.conn.ping(), self.peer.tell("ping")) });
        match select(what, pings).await {
            Either::Right(((pong, _), what)) => {
                pong.expect("a ping");
                what
            }
            Either::Left(_) => panic!("it did not wait"),
        }
    }

    /// Lets bytes run both ways on streams, one after the other, and ends them.
    async fn carry(&self, streams: [BoxStream; 2]) {
        for mut stream in streams {
            self.send_all(&mut stream, 300 * KIB).await;
            self.receive_all(&mut stream, 300 * KIB).await;
        }
    }

    /// Has the peer let a stream go.
    async fn peer_drops(&self, stream: u64) {
        self.peer.tell(&format!("drop {stream}")).await;
    }

    /// Ends the connection in good order, as it can when every stream is over.
    async fn drained(&self) {
        self.conn.drain().await.expect("a drain");
        assert_eq!(self.peer.tell("closed").await.join(" "), "remote 0");
    }

    /// How the connection has ended at this side.
    async fn closed(&self) -> String {
        match self.conn.closed().await {
            CloseReason::Local { code, reason } => format!("local {code} {reason}"),
            CloseReason::Remote { code, reason } => format!("remote {code} {reason}"),
            CloseReason::Failed(error) => panic!("it has failed: {error}"),
        }
    }
}

/// The kind and the code of what this side could not do.
fn words<T>(result: Result<T, impl Into<Error>>) -> String {
    let error = result.err().expect("an error").into();
    format!("{:?} {:?}", error.kind(), error.code())
}

async fn streams_of_both_sides_carry_bytes_both_ways_at_once(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.extend(stage.streams().await);
    }
    let stage = &stage;
    join_all(streams.into_iter().map(|stream| async move {
        let count = 300 * KIB;
        let id = stream.id();
        let (mut send, mut recv) = stream.into_split();
        let ours = async {
            let sent = write(&mut send, count).await;
            send.shutdown().await.expect("a shutdown");
            sent
        };
        let its = async {
            let sent = stage.peer.writes(id, count).await;
            stage.peer.finishes(id).await;
            sent
        };
        let (sent, its_got, got, its_sent) =
            tokio::join!(ours, stage.peer.reads(id, ALL), read(&mut recv, ALL), its);
        assert_eq!(its_got, Got::whole(count, sent));
        assert_eq!(got, Got::whole(count, its_sent));
    }))
    .await;
    stage.drained().await;
}

async fn a_side_that_has_ended_its_direction_reads_on(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    for mut stream in stage.streams().await {
        stage.send_all(&mut stream, 20 * KIB).await;
        stage.receive_all(&mut stream, 30 * KIB).await;
    }
    for mut stream in stage.streams().await {
        stage.receive_all(&mut stream, 20 * KIB).await;
        stage.send_all(&mut stream, 30 * KIB).await;
    }
    // No byte at all is an end as well.
    for mut stream in stage.streams().await {
        stage.send_all(&mut stream, 0).await;
        stage.receive_all(&mut stream, 0).await;
    }
    stage.drained().await;
}

async fn a_reset_ends_one_direction_with_its_code(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    for mut stream in stage.streams().await {
        write(&mut stream, 10 * KIB).await;
        stream.reset(u32::MAX);
        let got = stage.peer.reads(stream.id(), ALL).await;
        assert_eq!(got.ending, "Reset Some(4294967295)");
        stage.receive_all(&mut stream, 10 * KIB).await;
    }
    for mut stream in stage.streams().await {
        let id = stream.id();
        stage.peer.writes(id, 10 * KIB).await;
        stage.peer.tell(&format!("reset {id} 7")).await;
        assert_eq!(read(&mut stream, ALL).await.ending, "Reset Some(7)");
        stage.send_all(&mut stream, 10 * KIB).await;
    }
    stage.drained().await;
}

async fn a_stop_ends_the_other_direction_with_its_code(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    for mut stream in stage.streams().await {
        let id = stream.id();
        stream.stop(u32::MAX);
        let stopped = stage.peer.word(&format!("stopped {id}")).await;
        assert_eq!(stopped, "Some(4294967295)");
        let written = stage.peer.ask(&format!("write {id} 1")).await;
        assert_eq!(written, Err("Stopped Some(4294967295)".into()));
        stage.send_all(&mut stream, 10 * KIB).await;
        stage.peer_drops(id).await;
    }
    for stream in stage.streams().await {
        let id = stream.id();
        let (mut send, mut recv) = stream.into_split();
        stage.peer.tell(&format!("stop {id} 7")).await;
        assert_eq!(send.stopped().await.expect("a code"), Some(7));
        assert_eq!(words(send.write_all(b"late").await), "Stopped Some(7)");
        let sent = stage.peer.writes(id, 10 * KIB).await;
        stage.peer.finishes(id).await;
        assert_eq!(read(&mut recv, ALL).await, Got::whole(10 * KIB, sent));
    }
    stage.drained().await;
}

async fn a_dropped_stream_is_reset_and_stopped_with_0(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    for mut stream in stage.streams().await {
        let id = stream.id();
        write(&mut stream, KIB).await;
        drop(stream);
        assert_eq!(stage.peer.reads(id, ALL).await.ending, "Reset Some(0)");
        let stopped = stage.peer.word(&format!("stopped {id}")).await;
        assert_eq!(stopped, "Some(0)");
        stage.peer_drops(id).await;
    }
    for stream in stage.streams().await {
        let id = stream.id();
        let (mut send, mut recv) = stream.into_split();
        stage.peer.writes(id, KIB).await;
        stage.peer_drops(id).await;
        assert_eq!(read(&mut recv, ALL).await.ending, "Reset Some(0)");
        assert_eq!(send.stopped().await.expect("a code"), Some(0));
    }
    stage.drained().await;
}

async fn an_unread_stream_waits_at_its_window_and_holds_up_no_other(setting: Setting) {
    // Over QUIC, the earlier build loses the room of a write for which credit comes before it has counted the write: now
    // and then, on a busy machine. Many such losses fit into the larger window, and none is left of the smaller one.
    let connection_window = if setting.addr.starts_with("quic") {
        1024 * 1024
    } else {
        64 * 1024
    };
    let ours = Limits {
        stream_window: 16 * 1024,
        connection_window,
        ..WIDE
    };
    let its = Limits {
        stream_window: 24 * 1024,
        connection_window: 80 * 1024,
        ..WIDE
    };
    let stage = setting.connect(ours, its).await;
    let count = 300 * KIB;
    let mut sending = stage.open().await;
    let mut receiving = stage.accept().await;
    let (sends, receives) = (sending.id(), receiving.id());
    let sent = pin!(async {
        let sent = write(&mut sending, count).await;
        sending.shutdown().await.expect("a shutdown");
        sent
    });
    let its_sent = pin!(async {
        let sent = stage.peer.writes(receives, count).await;
        stage.peer.finishes(receives).await;
        sent
    });
    let others = async {
        let others = [stage.streams().await, stage.streams().await];
        join_all(others.map(|streams| stage.carry(streams))).await;
    };
    let others = pin!(others);
    let Either::Right((Either::Right((_, its_sent)), sent)) =
        select(sent, select(its_sent, others)).await
    else {
        panic!("{count} bytes were sent and not read");
    };
    let (sent, its_sent, its_got, got) = tokio::join!(
        sent,
        its_sent,
        stage.peer.reads(sends, ALL),
        read(&mut receiving, ALL)
    );
    assert_eq!(its_got, Got::whole(count, sent));
    assert_eq!(got, Got::whole(count, its_sent));
}

async fn streams_that_are_over_make_room_for_others(setting: Setting) {
    let two = Limits {
        max_streams: 2,
        ..WIDE
    };
    let stage = setting.connect(two, two).await;
    for _ in 0..50 {
        for mut stream in stage.streams().await {
            stage.send_all(&mut stream, KIB).await;
            stage.receive_all(&mut stream, KIB).await;
            stage.peer_drops(stream.id()).await;
        }
    }
    // At the limit of each side.
    let mut held = Vec::new();
    for _ in 0..2 {
        held.extend(stage.streams().await);
    }
    let (open, its_open) = (stage.conn.open_stream(), stage.peer.word("open"));
    let (open, its_open) = (pin!(open), pin!(its_open));
    let open = stage.waits(open).await;
    let its_open = stage.waits(its_open).await;
    let end = async {
        for mut stream in held {
            stage.send_all(&mut stream, KIB).await;
            stage.receive_all(&mut stream, KIB).await;
            stage.peer_drops(stream.id()).await;
        }
    };
    let (opened, its_opened, ()) = tokio::join!(open, its_open, end);
    let opened = opened.expect("a stream");
    assert_eq!(stage.peer.word("accept").await, opened.id().to_string());
    let accepted = stage.conn.accept_stream().await.expect("a stream");
    assert_eq!(its_opened, accepted.id().to_string());
}

async fn both_sides_ping(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    for _ in 0..5 {
        let (time, its_time) = tokio::join!(stage.conn.ping(), stage.peer.word("ping"));
        assert!(time.expect("a ping") > Duration::ZERO);
        assert_ne!(its_time, "0");
    }
}

async fn our_drain_lets_streams_run_out(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    let streams = stage.streams().await;
    let run_out = async {
        let refused = words(stage.conn.open_stream().await);
        stage.carry(streams).await;
        refused
    };
    let (drained, refused) = tokio::join!(biased; stage.conn.drain(), run_out);
    drained.expect("a drain");
    assert_eq!(refused, "Closed None");
    assert_eq!(stage.peer.tell("closed").await.join(" "), "remote 0");
    assert_eq!(stage.closed().await, "local 0 ");
    assert_eq!(stage.peer.ask("open").await, Err("Closed Some(0)".into()));
}

async fn its_drain_lets_streams_run_out(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    let streams = stage.streams().await;
    tokio::join!(stage.peer.tell("drain"), stage.carry(streams));
    assert_eq!(stage.closed().await, "remote 0 ");
    assert_eq!(stage.peer.tell("closed").await.join(" "), "local 0");
    assert_eq!(words(stage.conn.open_stream().await), "Closed Some(0)");
}

async fn our_close_has_its_code_and_reason_there(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    let [mut ours, mut its] = stage.streams().await;
    let id = ours.id();
    let pending = async {
        tokio::join!(
            stage.peer.reads(id, ALL),
            stage.peer.ask("accept"),
            stage.peer.tell("closed"),
        )
    };
    let close = async { stage.conn.close(77, "so long, and grüß Gott") };
    let ((got, accepted, closed), ()) = tokio::join!(biased; pending, close);
    assert_eq!(got.ending, "Closed Some(77)");
    assert_eq!(accepted, Err("Closed Some(77)".into()));
    assert_eq!(closed.join(" "), "remote 77 so long, and grüß Gott");
    assert_eq!(stage.closed().await, "local 77 so long, and grüß Gott");
    assert_eq!(read(&mut ours, ALL).await.ending, "Closed Some(77)");
    assert_eq!(words(its.write_all(b"late").await), "Closed Some(77)");
}

async fn its_close_has_its_code_and_reason_here(setting: Setting) {
    let stage = setting.connect(WIDE, WIDE).await;
    let [mut ours, mut its] = stage.streams().await;
    let pending = async {
        let accepted = async { words(stage.conn.accept_stream().await) };
        tokio::join!(read(&mut ours, ALL), accepted, stage.closed())
    };
    let close = stage.peer.tell("close 4294967295 so long, and grüß Gott");
    let ((got, accepted, closed), _) = tokio::join!(biased; pending, close);
    assert_eq!(got.ending, "Closed Some(4294967295)");
    assert_eq!(accepted, "Closed Some(4294967295)");
    assert_eq!(closed, "remote 4294967295 so long, and grüß Gott");
    let late = its.write_all(b"late").await;
    assert_eq!(words(late), "Closed Some(4294967295)");
    let closed = stage.peer.tell("closed").await.join(" ");
    assert_eq!(closed, "local 4294967295 so long, and grüß Gott");
    let its_got = stage.peer.reads(its.id(), ALL).await;
    assert_eq!(its_got.ending, "Closed Some(4294967295)");
}

async fn the_last_handle_closes_with_0(setting: Setting) {
    let Stage { peer, conn } = setting.connect(WIDE, WIDE).await;
    conn.ping().await.expect("a ping");
    let (closed, ()) = tokio::join!(biased; peer.tell("closed"), async { drop(conn) });
    assert_eq!(closed.join(" "), "remote 0");
}
