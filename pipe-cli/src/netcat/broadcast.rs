use std::io::ErrorKind;

use futures::future::{join_all, select_all, try_join_all};
use pipewerks::{BoxRecvStream, BoxSendStream, BoxStream, Error, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pump::{CHUNK, Ended, PumpError, from_stream, unwanted};
use crate::stop::Stop;

/// Joins streams to standard input and output.
///
/// Each stream gets all of the input, and then its end. What comes out of one stream is written as it is;
/// several are mixed line by line (a line of more than 64 KiB in parts). It ends when the input and all
/// streams have ended.
///
/// Asked to stop, it takes the input for ended, and gives the peers some time to answer what they have.
pub(crate) async fn join(
    context: &Context,
    addr: &str,
    streams: Vec<BoxStream>,
) -> Result<Exit, Failure> {
    let (mut sends, recvs): (Vec<_>, Vec<_>) = streams.into_iter().map(Stream::into_split).unzip();
    let failure = |error: PumpError| match error {
        PumpError::Local(error) => Failure::local("standard input or output", &error),
        PumpError::Stream(error) => Failure::on_conn(addr, &error),
    };
    let both = async {
        match tokio::try_join!(send_all(&context.stop, &mut sends), receive_all(recvs)) {
            // Nobody reads on, as after `| head`: that is no error.
            Err(PumpError::Local(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            joined => joined.map(|_| ()).map_err(failure),
        }
    };
    match context.stop.grace(both).await {
        Some(Ok(_)) if !context.stop.is_asked() => Ok(Exit::Done),
        Some(Err(failure)) => Err(failure),
        _ => Err(context.stopped()),
    }
}

/// Gives standard input to each stream that wants it.
async fn send_all(stop: &Stop, sends: &mut Vec<BoxSendStream>) -> Result<(), PumpError> {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    while !sends.is_empty() {
        let read = {
            let gone = select_all(sends.iter_mut().map(|send| Box::pin(unwanted(send))));
            tokio::select! {
                biased;
                read = input.read(&mut buffer) => Ok(read.map_err(PumpError::Local)?),
                (code, place, _) = gone => Err((code, place)),
                () = stop.asked() => Ok(0),
            }
        };
        match read {
            Ok(0) => {
                for shut in join_all(sends.iter_mut().map(AsyncWriteExt::shutdown)).await {
                    unless_unwanted(shut)?;
                }
                return Ok(());
            }
            Ok(read) => {
                let writes = sends.iter_mut().map(|send| send.write_all(&buffer[..read]));
                let mut wanted = Vec::new();
                for written in join_all(writes).await {
                    wanted.push(unless_unwanted(written)?);
                }
                let mut wanted = wanted.into_iter();
                sends.retain(|_| wanted.next().unwrap_or_default());
            }
            Err((code, place)) => {
                code.map_err(PumpError::Stream)?;
                sends.remove(place);
            }
        }
    }
    Ok(())
}

/// Whether a write went through; not when the peer wants no more.
fn unless_unwanted(written: std::io::Result<()>) -> Result<bool, PumpError> {
    match written.map_err(Error::from) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == pipewerks::ErrorKind::Stopped => Ok(false),
        Err(error) => Err(PumpError::Stream(error)),
    }
}

/// Writes what comes to standard output.
async fn receive_all(mut recvs: Vec<BoxRecvStream>) -> Result<(), PumpError> {
    let mut output = tokio::io::stdout();
    if let [recv] = recvs.as_mut_slice() {
        return match from_stream(recv, &mut output).await? {
            Ended::Clean => Ok(()),
            Ended::Unwanted(_) => Err(PumpError::Local(ErrorKind::BrokenPipe.into())),
        };
    }
    let output = Mutex::new(output);
    try_join_all(recvs.into_iter().map(|recv| lines(recv, &output))).await?;
    Ok(())
}

async fn lines(recv: BoxRecvStream, output: &Mutex<tokio::io::Stdout>) -> Result<(), PumpError> {
    let mut recv = BufReader::new(recv);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut recv)
            .take(CHUNK as u64)
            .read_until(b'\n', &mut line)
            .await;
        if read.map_err(|error| PumpError::Stream(error.into()))? == 0 {
            return Ok(());
        }
        let mut output = output.lock().await;
        let written = async {
            output.write_all(&line).await?;
            output.flush().await
        };
        written.await.map_err(PumpError::Local)?;
    }
}
