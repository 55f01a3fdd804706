use std::io::ErrorKind;

use futures::future::{join_all, select_all, try_join_all};
use pipewerks::ErrorKind::Stopped;
use pipewerks::{BoxRecvStream, BoxSendStream, BoxStream, Error, RecvStream, SendStream, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::pump::{CHUNK, Ended, PumpError, from_stream, unwanted};
use crate::standard::{Input, Output};
use crate::stop::Stop;

/// The code of a stream whose input or output failed at this end.
const BROKEN: u32 = 1;

/// Joins streams to standard input and output.
///
/// Each stream gets all of the input, and then its end. The output of one stream is written as it
/// is; that of several is mixed line by line (a line of more than 64 KiB in parts). It ends when
/// the input and all streams have ended.
///
/// On a request to stop, it treats the input as ended, and gives the peers some time for their
/// answers.
pub(crate) async fn join(
    context: &Context,
    addr: &str,
    input: &mut Input,
    streams: Vec<BoxStream>,
) -> Result<Exit, Failure> {
    let (mut sends, mut recvs): (Vec<_>, Vec<_>) =
        streams.into_iter().map(Stream::into_split).unzip();
    let failure = |error: PumpError| match error {
        PumpError::Local(error) => Failure::local("standard input or output", &error),
        PumpError::Stream(error) => Failure::on_conn(addr, &error),
    };
    let both = async {
        let joined = tokio::try_join!(
            send_all(&context.stop, input, &mut sends),
            receive_all(&mut recvs)
        );
        match joined {
            // The reader has gone, as after `| head`: that is no error.
            Err(PumpError::Local(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error @ PumpError::Local(_)) => {
                // The peer must not take either direction for complete.
                for send in &mut sends {
                    send.reset(BROKEN);
                }
                for recv in &mut recvs {
                    recv.stop(BROKEN);
                }
                Err(failure(error))
            }
            joined => joined.map(|_| ()).map_err(failure),
        }
    };
    match context.stop.grace(both).await {
        Some(Ok(_)) if !context.stop.is_asked() => Ok(Exit::Done),
        Some(Err(failure)) => Err(failure),
        _ => Err(context.stopped()),
    }
}

/// Sends standard input to each stream that was not stopped.
async fn send_all(
    stop: &Stop,
    input: &mut Input,
    sends: &mut Vec<BoxSendStream>,
) -> Result<(), PumpError> {
    while !sends.is_empty() {
        let read = {
            let gone = select_all(sends.iter_mut().map(|send| Box::pin(unwanted(send))));
            tokio::select! {
                biased;
                read = input.read() => Ok(read.map_err(PumpError::Local)?),
                (code, place, _) = gone => Err((code, place)),
                () = stop.asked() => Ok(Vec::new()),
            }
        };
        match read {
            Ok(read) if read.is_empty() => {
                for shut in join_all(sends.iter_mut().map(AsyncWriteExt::shutdown)).await {
                    unless_unwanted(shut)?;
                }
                return Ok(());
            }
            Ok(read) => {
                let writes = sends.iter_mut().map(|send| send.write_all(&read));
                let mut wanted = Vec::new();
                for written in join_all(writes).await {
                    wanted.push(unless_unwanted(written)?);
                }
                let mut wanted = wanted.into_iter();
                sends.retain(|_| wanted.next().unwrap_or_default());
            }
            Err((code, place)) => {
                let code = code.map_err(PumpError::Stream)?;
                unless_unwanted(Err(Error::stopped(code).into()))?;
                sends.remove(place);
            }
        }
    }
    Ok(())
}

/// Returns whether a write went through; not when the peer has stopped the stream. A peer that
/// cannot continue is an error.
fn unless_unwanted(written: std::io::Result<()>) -> Result<bool, PumpError> {
    match written.map_err(Error::from) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == Stopped && error.code() != Some(BROKEN) => Ok(false),
        Err(error) => Err(PumpError::Stream(error)),
    }
}

/// Writes the bytes of the streams to standard output.
async fn receive_all(recvs: &mut [BoxRecvStream]) -> Result<(), PumpError> {
    let mut output = Output::default();
    if let [recv] = recvs {
        return match from_stream(recv, &mut output).await? {
            Ended::Clean => Ok(()),
            Ended::Unwanted(_) => Err(PumpError::Local(ErrorKind::BrokenPipe.into())),
        };
    }
    let output = Mutex::new(output);
    try_join_all(recvs.iter_mut().map(|recv| lines(recv, &output))).await?;
    Ok(())
}

async fn lines(recv: &mut BoxRecvStream, output: &Mutex<Output>) -> Result<(), PumpError> {
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
