use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use indicatif::{DecimalBytes, ProgressBar};
use pipewerks::{BoxConn, Conn, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, interval};

use super::args::PerfArgs;
use super::protocol::{Answer, CHUNK, PROTOCOL, Request};
use super::result::{PerfResult, RoundTrips, Transfer};
use crate::channel::{Broken, Channel};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::net::{Net, farewell};

/// Number of pings without load.
const IDLE_PINGS: usize = 50;

/// Pause between two pings under load.
const PING_PAUSE: Duration = Duration::from_millis(20);

/// Number of streams that are opened and answered at once, for the rate of streams.
const STREAMS_AT_ONCE: usize = 16;

/// Measures everything, and shows it.
pub(super) async fn measure(context: &Context, args: &PerfArgs) -> Result<Exit, Failure> {
    let (net, addr) = (Net::new(&args.net)?, Net::addr(&args.addr)?);
    let began = Instant::now();
    let conn = tokio::select! {
        conn = net.dial(&addr) => conn?,
        () = context.stop.asked() => return Err(context.stopped()),
    };
    let connect = began.elapsed();
    let bar = if context.report.json {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner()
    };
    let client = Client {
        conn: &conn,
        args,
        bar: &bar,
    };
    let measured = tokio::select! {
        measured = client.run() => measured,
        () = context.stop.asked() => {
            conn.close(0, "stopped");
            return Err(context.stopped());
        }
    };
    bar.finish_and_clear();
    let mut result = measured.map_err(|error| error.failure(addr.as_str(), PROTOCOL))?;
    result.set_connect(addr.as_str(), connect, args.streams);
    context.report.result(result.table(), &result);
    farewell(&conn).await;
    Ok(Exit::Done)
}

struct Client<'a> {
    conn: &'a BoxConn,
    args: &'a PerfArgs,
    bar: &'a ProgressBar,
}

impl Client<'_> {
    async fn run(&self) -> Result<PerfResult, Broken> {
        // The protocol of the peer is checked before the measurement.
        self.answer().await?;
        let mut idle = RoundTrips::default();
        for _ in 0..IDLE_PINGS {
            idle.add(self.conn.ping().await?);
        }
        let up = self.transfer(Direction::Up).await?;
        let down = self.transfer(Direction::Down).await?;
        let streams_per_second = self.streams_per_second().await?;
        Ok(PerfResult::new(&idle, up, down, streams_per_second))
    }

    /// Opens a stream, and waits for its answer and its end.
    async fn answer(&self) -> Result<(), Broken> {
        let mut channel = Channel::open(self.conn, PROTOCOL, &Request::Answer).await?;
        channel.finish().await?;
        done(channel.receive_first().await?)?;
        Ok(())
    }

    /// Runs the configured number of streams, with pings beside them.
    async fn transfer(&self, direction: Direction) -> Result<Transfer, Broken> {
        let carried = AtomicU64::new(0);
        let began = Instant::now();
        let streams = (0..self.args.streams).map(|_| self.stream(direction, &carried));
        let streams = async { Ok::<_, Broken>((try_join_all(streams).await?, began.elapsed())) };
        let mut round_trips = RoundTrips::default();
        let beside = async {
            let mut pings = interval(PING_PAUSE);
            loop {
                pings.tick().await;
                round_trips.add(self.conn.ping().await?);
                self.show(direction, &carried, began);
            }
        };
        let (bytes, took) = tokio::select! {
            carried = streams => carried?,
            ended = beside => return Err(never_ends(ended)),
        };
        Ok(Transfer::new(bytes.iter().sum(), took, &round_trips))
    }

    /// Runs one stream of a transfer. Returns the number of bytes that have arrived.
    async fn stream(&self, direction: Direction, carried: &AtomicU64) -> Result<u64, Broken> {
        match direction {
            Direction::Up => self.upload(carried).await,
            Direction::Down => self.download(carried).await,
        }
    }

    async fn upload(&self, carried: &AtomicU64) -> Result<u64, Broken> {
        let channel = Channel::open(self.conn, PROTOCOL, &Request::Sink).await?;
        let (mut stream, _) = channel.into_stream();
        let end = Instant::now() + self.args.time;
        let zeros = vec![0; CHUNK];
        while Instant::now() < end {
            stream.write_all(&zeros).await?;
            carried.fetch_add(CHUNK as u64, Ordering::Relaxed);
        }
        stream.shutdown().await?;
        done(Channel::new(stream).receive().await?)
    }

    async fn download(&self, carried: &AtomicU64) -> Result<u64, Broken> {
        let millis = self.args.time.as_millis().try_into().unwrap_or(u64::MAX);
        let request = Request::Source { millis };
        let mut channel = Channel::open(self.conn, PROTOCOL, &request).await?;
        channel.finish().await?;
        let (mut stream, _) = channel.into_stream();
        let mut buffer = vec![0; CHUNK];
        let mut bytes = 0;
        loop {
            let read = stream.read(&mut buffer).await? as u64;
            if read == 0 {
                return Ok(bytes);
            }
            bytes += read;
            carried.fetch_add(read, Ordering::Relaxed);
        }
    }

    /// Returns how many streams are opened, answered and ended in a second.
    async fn streams_per_second(&self) -> Result<f64, Broken> {
        self.bar.set_message("streams");
        let time = self.args.time.min(Duration::from_secs(2));
        let began = Instant::now();
        let turns = (0..STREAMS_AT_ONCE).map(|_| async {
            let mut streams = 0_u32;
            while began.elapsed() < time {
                self.answer().await?;
                streams += 1;
            }
            Ok::<_, Broken>(streams)
        });
        let streams: u32 = try_join_all(turns).await?.iter().sum();
        Ok(f64::from(streams) / began.elapsed().as_secs_f64())
    }

    fn show(&self, direction: Direction, carried: &AtomicU64, began: Instant) {
        let rate = carried.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        let name = match direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        self.bar
            .set_message(format!("{name} {}/s", DecimalBytes(rate as u64)));
        self.bar.tick();
    }
}

#[derive(Clone, Copy)]
enum Direction {
    /// From here to the peer.
    Up,
    Down,
}

fn done(answer: Answer) -> Result<u64, Broken> {
    match answer {
        Answer::Done { bytes } => Ok(bytes),
        Answer::Refused { why } => Err(Broken::Protocol(why)),
    }
}

/// Returns the error of an operation that ends with one only.
fn never_ends(ended: Result<std::convert::Infallible, Error>) -> Broken {
    match ended {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}
