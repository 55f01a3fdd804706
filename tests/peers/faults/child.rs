use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use pipewerks::quic::QuicTransport;
use pipewerks::tcp::TcpTransport;
use pipewerks::unix::UnixTransport;
use pipewerks::webrtc::WebRtcTransport;
use pipewerks::ws::WsTransport;
use pipewerks::{
    BoxConn, BoxListener, BoxStream, BoxTransport, CloseReason, Config, Conn, Error, Listener,
    Registry, Result, Transport,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::faults::peer::{Role, Side, Task};

/// The first byte of a stream to a peer that serves.
pub(crate) const FLOOD: u8 = b'f';
pub(crate) const SILENCE: u8 = b's';

const CHUNK: usize = 64 * 1024;

/// How long to wait between chunks: the processor is needed for other things too.
const PACE: Duration = Duration::from_millis(2);

/// How often to look where the peer is: nothing tells that it has moved.
const LOOK: Duration = Duration::from_millis(20);

/// Does the task of this process, until the input ends.
pub(crate) fn run(task: &Task) -> ExitCode {
    let finish = watch::Sender::new(false);
    let told = finish.subscribe();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.is_ok_and(|line| line == "finish") {
                finish.send_replace(true);
            }
        }
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let done = runtime.block_on(async {
        let (conn, _listener) = connect(task).await?;
        match task.role {
            Role::Serve => serve(conn).await,
            Role::Flow => flow(conn, told).await?,
        }
        Ok::<(), Error>(())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("a peer failed: {error:?}");
            ExitCode::FAILURE
        }
    }
}

/// A configuration by which a silent peer is disconnected after a second: little for the test, and more
/// than a busy machine is silent by itself.
pub(crate) fn impatient(failed_after: Duration) -> Config {
    Config::default()
        .with_keep_alive(Duration::from_millis(300))
        .with_disconnected_after(Duration::from_secs(1))
        .with_failed_after(failed_after)
}

/// The transports by their schemes, with this configuration.
pub(crate) fn transport(config: &Config) -> BoxTransport {
    let tcp = TcpTransport::new().with_config(config.clone());
    let ws = WsTransport::new().with_config(config.clone());
    let unix = UnixTransport::new().with_config(config.clone());
    let quic = QuicTransport::new().with_config(config.clone());
    let webrtc = WebRtcTransport::new(TcpTransport::new()).with_config(config.clone());
    BoxTransport::new(
        Registry::new()
            .with(quic.expect("a valid configuration"))
            .with(tcp.expect("a valid configuration"))
            .with(ws.expect("a valid configuration"))
            .with(unix.expect("a valid configuration"))
            .with(webrtc.expect("a valid configuration")),
    )
}

/// The connection, and the listener that it came by.
async fn connect(task: &Task) -> Result<(BoxConn, Option<BoxListener>)> {
    let transport = transport(&impatient(task.failed_after));
    match task.side {
        Side::Dial => Ok((transport.dial(&task.addr).await?, None)),
        Side::Listen => {
            let listener = transport.listen(&task.addr).await?;
            println!("listening {}", listener.local_addr());
            let conn = listener.accept().await?;
            Ok((conn, Some(listener)))
        }
    }
}

async fn serve(conn: BoxConn) {
    while let Ok(mut stream) = conn.accept_stream().await {
        tokio::spawn(async move {
            match stream.read_u8().await {
                Ok(FLOOD) => {
                    let chunk = vec![0; CHUNK];
                    while stream.write_all(&chunk).await.is_ok() {}
                }
                // Neither read nor written, but held.
                Ok(SILENCE) => std::future::pending::<()>().await,
                _ => {}
            }
            drop(stream);
        });
    }
}

/// Sends and receives on a stream in each direction, waits on another for what does not come, and tells
/// everything that happens as lines.
async fn flow(conn: BoxConn, finish: watch::Receiver<bool>) -> Result<()> {
    let mut state = conn.state();
    tokio::spawn(async move {
        while state.changed().await.is_ok() {
            println!("state {}", *state.borrow_and_update());
        }
    });
    let watched = conn.clone();
    tokio::spawn(async move {
        let mut addr = watched.remote_addr();
        loop {
            sleep(LOOK).await;
            let now = watched.remote_addr();
            if now != addr {
                println!("peer {now}");
                addr = now;
            }
        }
    });
    let outgoing = conn.open_stream().await?;
    let mut quiet = conn.open_stream().await?;
    let incoming = conn.accept_stream().await?;
    let _held = conn.accept_stream().await?;
    let wait = async {
        if let Err(error) = quiet.read_u8().await {
            tell_error("quiet", &error);
        }
    };
    let closed = async {
        match conn.closed().await {
            CloseReason::Failed(_) => println!("closed Failed"),
            reason => println!("closed {reason}"),
        }
    };
    tokio::join!(send(outgoing, finish), receive(incoming), wait, closed);
    // It ends with its input.
    std::future::pending().await
}

async fn send(mut stream: BoxStream, finish: watch::Receiver<bool>) {
    let mut random = fastrand::Rng::new();
    let (mut hash, mut count) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK];
    while !*finish.borrow() {
        random.fill(&mut chunk);
        if let Err(error) = stream.write_all(&chunk).await {
            return tell_error("write", &error);
        }
        hash.update(&chunk);
        count += chunk.len();
        sleep(PACE).await;
    }
    match stream.shutdown().await {
        Ok(()) => println!("sent {count} {:x}", hash.finalize()),
        Err(error) => tell_error("write", &error),
    }
}

async fn receive(mut stream: BoxStream) {
    const MUCH: usize = 1 << 20;
    let (mut hash, mut count, mut told) = (Sha256::new(), 0, 0);
    let mut buf = vec![0; CHUNK];
    loop {
        match stream.read(&mut buf).await {
            Ok(0) => return println!("received {count} {:x}", hash.finalize()),
            Ok(read) => {
                hash.update(&buf[..read]);
                if (count..count + read).contains(&MUCH) {
                    println!("moving");
                }
                count += read;
                if count / MUCH > told {
                    told = count / MUCH;
                    println!("moved {told} MiB");
                }
            }
            Err(error) => return tell_error("read", &error),
        }
    }
}

fn tell_error(what: &str, error: &std::io::Error) {
    match Error::from_io(error) {
        Some(error) => println!("{what} {:?}", error.kind()),
        None => println!("{what} {error}"),
    }
}
