//! A peer on an earlier build of this project, which does what it is told: the tests `interop::earlier` say what.
//!
//! ```text
//! earlier-peer listen|dial ADDR MAX_STREAMS STREAM_WINDOW CONNECTION_WINDOW
//! ```
//!
//! It reads lines `ID VERB ARGUMENTS…` from its standard input, and answers each, in any order, with
//! `ID ok WORDS…` or `ID error TEXT` on its standard output. The answer to 0 is the address that it listens at, or
//! that it is connected to. It ends with its input.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use pipewerks::prelude::*;
use pipewerks::quic::QuicTransport;
use pipewerks::tcp::TcpTransport;
use pipewerks::tls::TlsTransport;
use pipewerks::unix::UnixTransport;
use pipewerks::webrtc::{WebRtcSettings, WebRtcTransport};
use pipewerks::{
    Addr, BoxConn, BoxListener, BoxRecvStream, BoxSendStream, BoxStream, CloseReason, Config,
    Error, Registry,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

/// The words of an answer, or why there is none.
type Answer = Result<String, String>;

/// The halves of a stream: one may be read while the other is written.
struct Halves {
    send: AsyncMutex<BoxSendStream>,
    recv: AsyncMutex<BoxRecvStream>,
}

struct Peer {
    listener: Option<BoxListener>,
    conn: OnceCell<BoxConn>,
    streams: Mutex<HashMap<u64, Arc<Halves>>>,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let peer = match start(&arguments).await {
        Ok((peer, addr)) => {
            println!("0 ok {addr}");
            Arc::new(peer)
        }
        Err(error) => return println!("0 error {error}"),
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let peer = peer.clone();
        tokio::spawn(async move {
            let mut words = line.split(' ');
            let id = words.next().unwrap_or_default();
            let verb = words.next().unwrap_or_default();
            let arguments: Vec<_> = words.collect();
            match peer.answer(verb, &arguments).await {
                Ok(words) => println!("{id} ok {words}"),
                Err(error) => println!("{id} error {error}"),
            }
        });
    }
}

/// Listens or dials as the arguments say: the peer, and its address.
async fn start(arguments: &[String]) -> Result<(Peer, Addr), String> {
    let [role, addr, limits @ ..] = arguments else {
        return Err("no role and address".into());
    };
    let limits: Vec<u32> = limits
        .iter()
        .filter_map(|limit| limit.parse().ok())
        .collect();
    let [max_streams, stream_window, connection_window] = limits[..] else {
        return Err("no three limits".into());
    };
    let config = Config::default()
        .with_max_streams(max_streams)
        .with_stream_window(stream_window)
        .with_connection_window(connection_window.into());
    let registry = registry(&config).map_err(words)?;
    let addr: Addr = addr.parse().map_err(words)?;
    let mut peer = Peer {
        listener: None,
        conn: OnceCell::new(),
        streams: Mutex::default(),
    };
    if role == "listen" {
        let listener = registry.listen(&addr).await.map_err(words)?;
        let addr = listener.local_addr();
        peer.listener = Some(listener);
        Ok((peer, addr))
    } else {
        let conn = registry.dial(&addr).await.map_err(words)?;
        let addr = conn.remote_addr();
        peer.conn = OnceCell::new_with(Some(conn));
        Ok((peer, addr))
    }
}

/// Every transport over the network, on loopback.
fn registry(config: &Config) -> pipewerks::Result<Registry> {
    let tcp = TcpTransport::new().with_config(config.clone())?;
    let loopback = WebRtcSettings::default().with_bind_addrs(vec![Ipv4Addr::LOCALHOST.into()]);
    let webrtc = WebRtcTransport::new(Registry::new().with(tcp.clone()))
        .with_settings(loopback)?
        .with_config(config.clone())?;
    Ok(Registry::new()
        .with(tcp)
        .with(TlsTransport::new().with_config(config.clone())?)
        .with(UnixTransport::new().with_config(config.clone())?)
        .with(QuicTransport::new().with_config(config.clone())?)
        .with(webrtc))
}

impl Peer {
    async fn answer(&self, verb: &str, arguments: &[&str]) -> Answer {
        let number = |at: usize| {
            let argument = arguments.get(at).ok_or_else(|| format!("{verb} what?"))?;
            argument.parse::<u64>().map_err(|error| error.to_string())
        };
        let code =
            |at| number(at).and_then(|code| u32::try_from(code).map_err(|error| error.to_string()));
        match verb {
            "open" => {
                let stream = self.conn().await?.open_stream().await.map_err(words)?;
                Ok(self.keep(stream))
            }
            "accept" => {
                let stream = self.conn().await?.accept_stream().await.map_err(words)?;
                Ok(self.keep(stream))
            }
            "write" => {
                let bytes = random_bytes(number(1)? as usize);
                let halves = self.stream(number(0)?)?;
                let written = halves.send.lock().await.write_all(&bytes).await;
                written.map_err(io_words)?;
                Ok(hash(&bytes))
            }
            "finish" => {
                let halves = self.stream(number(0)?)?;
                let finished = halves.send.lock().await.shutdown().await;
                finished.map_err(io_words)?;
                Ok(String::new())
            }
            "read" => {
                let halves = self.stream(number(0)?)?;
                Ok(read(&mut *halves.recv.lock().await, number(1)?).await)
            }
            "echo" => self.echo(number(0)?).await,
            "stopped" => {
                let halves = self.stream(number(0)?)?;
                let stopped = halves.send.lock().await.stopped().await;
                stopped.map(|code| format!("{code:?}")).map_err(words)
            }
            "reset" => {
                let halves = self.stream(number(0)?)?;
                halves.send.lock().await.reset(code(1)?);
                Ok(String::new())
            }
            "stop" => {
                let halves = self.stream(number(0)?)?;
                halves.recv.lock().await.stop(code(1)?);
                Ok(String::new())
            }
            "drop" => {
                let id = number(0)?;
                let dropped = self
                    .streams
                    .lock()
                    .map_err(|error| error.to_string())?
                    .remove(&id);
                dropped
                    .map(|_| String::new())
                    .ok_or_else(|| format!("there is no stream {id}"))
            }
            "ping" => {
                let time = self.conn().await?.ping().await.map_err(words)?;
                Ok(time.as_nanos().to_string())
            }
            "drain" => {
                self.conn().await?.drain().await.map_err(words)?;
                Ok(String::new())
            }
            "close" => {
                let reason = arguments.get(1..).unwrap_or_default().join(" ");
                self.conn().await?.close(code(0)?, &reason);
                Ok(String::new())
            }
            "closed" => Ok(match self.conn().await?.closed().await {
                CloseReason::Local { code, reason } => format!("local {code} {reason}"),
                CloseReason::Remote { code, reason } => format!("remote {code} {reason}"),
                CloseReason::Failed(error) => format!("failed {}", words(error)),
            }),
            _ => Err(format!("there is no verb {verb}")),
        }
    }

    /// The connection: the dialed one, or the first that comes.
    async fn conn(&self) -> Result<&BoxConn, String> {
        let accept = || async {
            let listener = self.listener.as_ref().ok_or("it does not listen")?;
            listener.accept().await.map_err(words)
        };
        self.conn.get_or_try_init(accept).await
    }

    /// Sends back what comes on a stream, until it ends: how many bytes.
    async fn echo(&self, id: u64) -> Answer {
        let halves = self.stream(id)?;
        let (mut send, mut recv) = (halves.send.lock().await, halves.recv.lock().await);
        let echoed = tokio::io::copy(&mut *recv, &mut *send)
            .await
            .map_err(io_words)?;
        send.shutdown().await.map_err(io_words)?;
        Ok(echoed.to_string())
    }

    fn keep(&self, stream: BoxStream) -> String {
        let id = stream.id();
        let (send, recv) = stream.into_split();
        let halves = Halves {
            send: AsyncMutex::new(send),
            recv: AsyncMutex::new(recv),
        };
        if let Ok(mut streams) = self.streams.lock() {
            streams.insert(id, Arc::new(halves));
        }
        id.to_string()
    }

    fn stream(&self, id: u64) -> Result<Arc<Halves>, String> {
        let streams = self.streams.lock().map_err(|error| error.to_string())?;
        let halves = streams.get(&id).cloned();
        halves.ok_or_else(|| format!("there is no stream {id}"))
    }
}

/// Reads so many bytes at most: how many, the hash of them, and how it ended.
async fn read(from: &mut BoxRecvStream, limit: u64) -> String {
    let mut bytes = Vec::new();
    let ending = match from.take(limit).read_to_end(&mut bytes).await {
        Ok(count) if (count as u64) < limit => "end".to_owned(),
        Ok(_) => "more".to_owned(),
        Err(error) => io_words(error),
    };
    format!("{} {} {ending}", bytes.len(), hash(&bytes))
}

/// Bytes that are not those of the last call.
fn random_bytes(count: usize) -> Vec<u8> {
    use std::hash::{BuildHasher, RandomState};
    let mut state = RandomState::new().hash_one(count) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The SHA-256 of bytes, in hexadecimal digits.
fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kind and the code of an error; its text goes to the log.
fn words(error: Error) -> String {
    eprintln!("{error}");
    format!("{:?} {:?}", error.kind(), error.code())
}

/// The same of an error of a stream.
fn io_words(error: std::io::Error) -> String {
    match Error::from_io(&error) {
        Some(error) => words(error.clone()),
        None => format!("{:?} None", error.kind()),
    }
}
