use std::time::Duration;

use pipewerks::{BoxConn, BoxStream, Conn, Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Answer, CHUNK, MAX_MILLIS, PROTOCOL, PerfArgs, Request};
use crate::arrivals::Arrivals;
use crate::channel::{Broken, Channel};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Is measured, until the program is asked to stop.
pub(super) async fn serve(context: &Context, args: &PerfArgs) -> Result<Exit, Failure> {
    let listener = context.listen(&args.net, &args.addr).await?;
    let mut arrivals = Arrivals::new(listener);
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            arrival = arrivals.next() => {
                let (conn, stream) = arrival?;
                running.spawn(answer(context.clone(), conn, stream));
            }
            Some(_) = running.join_next() => {}
            () = context.stop.asked() => break,
        }
    }
    arrivals.stop_listening();
    let rest = async { while running.join_next().await.is_some() {} };
    if context.stop.grace(rest).await.is_none() {
        return Err(context.stopped());
    }
    arrivals.farewell().await;
    Ok(Exit::Done)
}

async fn answer(context: Context, conn: BoxConn, stream: BoxStream) {
    let remote = conn.remote_addr();
    match try_answer(stream).await {
        Err(Broken::Protocol(why)) => {
            let told = format!("refused a request of {remote}: {why}");
            context.report.warn(told);
        }
        Err(Broken::Stream(error)) => tracing::info!(%remote, %error, "a stream broke"),
        Ok(()) => {}
    }
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
