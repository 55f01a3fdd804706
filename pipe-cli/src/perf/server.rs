use std::time::Duration;

use pipewerks::{BoxConn, BoxStream, Conn, Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::args::PerfArgs;
use super::protocol::{Answer, CHUNK, MAX_MILLIS, PROTOCOL, Request};
use crate::channel::{Broken, Channel};
use crate::context::Context;
use crate::door::GuardArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::serve::{self, Guard, Served};

/// Maximum number of streams served at once.
const MAX_STREAMS: usize = 1024;

/// Serves measurements, until the program is stopped.
pub(super) async fn serve(context: &Context, args: &PerfArgs) -> Result<Exit, Failure> {
    let guard = Guard {
        args: &GuardArgs::default(),
        secret: false,
        at_once: MAX_STREAMS,
    };
    serve::serve(context, &args.net, &args.addr, guard, answer).await
}

async fn answer(conn: BoxConn, stream: BoxStream) -> Served {
    let remote = conn.remote_addr();
    match try_answer(stream).await {
        Err(Broken::Protocol(why)) => {
            let told = format!("refused a request of {remote}: {why}");
            return Err(Failure::failed(told));
        }
        Err(Broken::Stream(error)) => tracing::info!(%remote, %error, "a stream broke"),
        Ok(()) => {}
    }
    Ok(())
}

async fn try_answer(stream: BoxStream) -> Result<(), Broken> {
    let (mut channel, request) = Channel::accept::<Request>(stream, PROTOCOL).await?;
    match request {
        Request::Answer => channel.send(&Answer::Done { bytes: 0 }).await?,
        Request::Sink => {
            let (mut stream, early) = channel.into_stream();
            let mut bytes = early.len() as u64;
            let mut buffer = vec![0; CHUNK];
            loop {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    read => bytes += read as u64,
                }
            }
            channel = Channel::new(stream);
            channel.send(&Answer::Done { bytes }).await?;
        }
        Request::Source { millis } => {
            let (mut stream, _) = channel.into_stream();
            let end = Instant::now() + Duration::from_millis(millis.min(MAX_MILLIS));
            let zeros = vec![0; CHUNK];
            while Instant::now() < end {
                match stream.write_all(&zeros).await.map_err(Error::from) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::Stopped => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            stream.shutdown().await?;
            return Ok(());
        }
    }
    channel.finish().await
}
