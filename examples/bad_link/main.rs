//! A prototype on a bad link: what a program goes through when its network is slow, lossy or gone.
//!
//! ```text
//! cargo run --example bad_link
//! ```
//!
//! It all happens in process, over a `Link` that the program holds in its hand, within a few seconds. The
//! tests run the same in no time at all, since the link counts on tokio's clock, which they stop.
//!
//! 1. The link gets worse step by step: everything takes longer, and nothing is lost.
//! 2. It is cut and healed in time: the connection is `Disconnected` for a while, streams wait, and go on
//!    as if nothing had been.
//! 3. The same, for a program that had rather know: its streams end, and it opens new ones.
//! 4. It is cut for good: the connection is `Failed`, and everything ends with that error. Once the link is
//!    back, the program dials again.

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{bail, ensure};
use pipewerks::inproc::{InprocConn, InprocTransport, Link, LinkProfile};
use pipewerks::{
    Config, Conn, ConnState, Error, ErrorKind, Listener, OnDisconnect, Stream, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let started = Instant::now();
    it_gets_worse().await?;
    it_is_cut_and_healed().await?;
    it_is_cut_and_streams_are_told().await?;
    it_is_cut_for_good().await?;
    println!("all of it in {:.1?}", started.elapsed());
    Ok(())
}

/// Impatient, so that nobody has to wait for the demonstration.
fn config() -> Config {
    Config::default()
        .with_keep_alive(Duration::from_millis(100))
        .with_disconnected_after(Duration::from_millis(500))
        .with_failed_after(Duration::from_millis(1500))
}

async fn it_gets_worse() -> anyhow::Result<()> {
    println!("1. the link gets worse");
    let mut game = Game::start(config()).await?;
    for (name, profile) in [
        ("an ideal link", LinkProfile::ideal()),
        ("wifi", LinkProfile::wifi()),
        ("a mobile network", LinkProfile::mobile()),
        (
            "every fifth packet lost",
            LinkProfile::mobile().with_loss(0.2),
        ),
    ] {
        game.link.set_profile(profile);
        let round_trip = game.conn.ping().await?;
        let start = Instant::now();
        let file: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        ensure!(game.echo(&file).await? == file, "bytes were changed");
        let took = start.elapsed();
        println!("   {name}: a ping takes {round_trip:.1?}, 200 kB there and back {took:.1?}");
    }
    game.end().await
}

async fn it_is_cut_and_healed() -> anyhow::Result<()> {
    println!("2. the link is cut, and healed in time");
    let game = Game::start(config()).await?;
    let mut stream = game.conn.open_stream().await?;
    play(&mut stream, 0..10).await?;

    let link = game.link.clone();
    let mut state = game.conn.state();
    let outage = async {
        link.cut();
        state
            .wait_for(|state| *state == ConnState::Disconnected)
            .await?;
        link.heal();
        state
            .wait_for(|state| *state == ConnState::Connected)
            .await?;
        anyhow::Ok(())
    };
    // The next move is made while the link is down: it waits for the link, and is not lost.
    let start = Instant::now();
    let (outage, played) = tokio::join!(outage, play(&mut stream, 10..20));
    outage?;
    played?;
    let waited = start.elapsed();
    println!("   every move arrived once and in order; one of them took {waited:.1?}");
    stream.shutdown().await?;
    ensure!(
        stream.read(&mut [0; 1]).await? == 0,
        "more moves than were made"
    );
    drop(stream);
    game.end().await
}

async fn it_is_cut_and_streams_are_told() -> anyhow::Result<()> {
    println!("3. the link is cut, and streams do not wait");
    let game = Game::start(config().with_on_disconnect(OnDisconnect::FailStreams)).await?;
    let mut stream = game.conn.open_stream().await?;
    play(&mut stream, 0..10).await?;

    game.link.cut();
    let error = failure(play(&mut stream, 10..20).await)?;
    println!("   a stream says: {error}");
    ensure!(error.kind() == ErrorKind::Disconnected, "{error:?}");

    game.link.heal();
    // The connection is the same. To open a stream waits until the link is back.
    let mut stream = game.conn.open_stream().await?;
    play(&mut stream, 10..20).await?;
    println!("   the connection lives, and carries new streams");
    stream.shutdown().await?;
    ensure!(
        stream.read(&mut [0; 1]).await? == 0,
        "more moves than were made"
    );
    drop(stream);
    game.end().await
}

async fn it_is_cut_for_good() -> anyhow::Result<()> {
    println!("4. the link is cut for good");
    let mut game = Game::start(config()).await?;
    let mut stream = game.conn.open_stream().await?;
    play(&mut stream, 0..10).await?;

    game.link.cut();
    let error = failure(play(&mut stream, 10..20).await)?;
    println!("   a stream says: {error}");
    ensure!(error.kind() == ErrorKind::Failed, "{error:?}");
    let Err(error) = game.conn.open_stream().await else {
        bail!("a failed connection opened a stream");
    };
    ensure!(error.kind() == ErrorKind::Failed, "{error:?}");
    let states = game.states.await?;
    ensure!(states.last() == Some(&ConnState::Failed), "{states:?}");

    game.link.heal();
    game.conn = game.transport.dial(&game.addr).await?;
    game.states = watch(&game.conn);
    let mut stream = game.conn.open_stream().await?;
    play(&mut stream, 10..20).await?;
    println!("   a new dial, and the game goes on");
    drop(stream);
    game.end().await
}

/// A server, a client, and the link between them.
struct Game {
    link: Link,
    transport: InprocTransport,
    addr: pipewerks::Addr,
    conn: InprocConn,
    states: JoinHandle<Vec<ConnState>>,
    _server: JoinSet<()>,
}

impl Game {
    async fn start(config: Config) -> anyhow::Result<Self> {
        let link = Link::new(LinkProfile::wifi());
        let transport = InprocTransport::new()
            .with_config(config)?
            .with_link(link.clone());
        let listener = transport.listen(&"inproc://".parse()?).await?;
        let addr = listener.local_addr();
        let mut server = JoinSet::new();
        server.spawn(serve(listener));
        let conn = transport.dial(&addr).await?;
        let states = watch(&conn);
        Ok(Self {
            link,
            transport,
            addr,
            conn,
            states,
            _server: server,
        })
    }

    /// Has the server send bytes back.
    async fn echo(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (mut send, mut recv) = self.conn.open_stream().await?.into_split();
        let sending = async {
            send.write_all(bytes).await?;
            send.shutdown().await
        };
        let mut back = Vec::new();
        tokio::try_join!(sending, recv.read_to_end(&mut back))?;
        Ok(back)
    }

    /// Ends in good order, which takes a link.
    async fn end(self) -> anyhow::Result<()> {
        self.conn.drain().await?;
        let states = self.states.await?;
        ensure!(states.last() == Some(&ConnState::Closed), "{states:?}");
        Ok(())
    }
}

/// Sends everything back, on every stream of every connection.
async fn serve<L: Listener>(listener: L) {
    let mut conns = JoinSet::new();
    while let Ok(conn) = listener.accept().await {
        conns.spawn(async move {
            let mut streams = JoinSet::new();
            while let Ok(stream) = conn.accept_stream().await {
                streams.spawn(async move {
                    let (mut send, mut recv) = stream.into_split();
                    // An error is the end of the game: the client has gone, or the link.
                    if tokio::io::copy(&mut recv, &mut send).await.is_ok() {
                        let _ = send.shutdown().await;
                    }
                });
            }
            while streams.join_next().await.is_some() {}
        });
    }
}

/// Makes moves, one after the other, each of which the server confirms.
async fn play<S: Stream>(stream: &mut S, moves: std::ops::Range<u32>) -> anyhow::Result<()> {
    for number in moves {
        stream.write_u32(number).await?;
        stream.flush().await?;
        let confirmed = stream.read_u32().await?;
        ensure!(
            confirmed == number,
            "{confirmed} was confirmed for {number}"
        );
    }
    Ok(())
}

/// Prints the states of a connection as they change, and gives them all at its end.
fn watch(conn: &InprocConn) -> JoinHandle<Vec<ConnState>> {
    let mut state = conn.state();
    let started = Instant::now();
    tokio::spawn(async move {
        let mut states = Vec::new();
        loop {
            let now = *state.borrow_and_update();
            println!("   {:>5} ms: {now}", started.elapsed().as_millis());
            states.push(now);
            if now.is_final() || state.changed().await.is_err() {
                return states;
            }
        }
    })
}

/// The error that a stream ended with, which there has to be.
fn failure(played: anyhow::Result<()>) -> anyhow::Result<Error> {
    match played {
        Ok(()) => bail!("moves were confirmed over a link that is cut"),
        Err(error) => Ok(error.downcast::<std::io::Error>()?.into()),
    }
}
