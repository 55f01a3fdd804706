use std::process::Stdio;

use pipewerks::{BoxConn, BoxStream, Conn, RecvStream, SendStream, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::group::Group;
use crate::failure::Failure;
use crate::pump::{CHUNK, Ended, PumpError, from_stream, unwanted};

/// The code of a reset when the command was ended by a signal.
const BY_SIGNAL: u32 = 255;

/// Joins a stream to a command of the shell, which gets the peer's address in `PIPE_REMOTE_ADDR`.
///
/// The end of the peer's direction is the end of the command's input. The end of its output is
/// passed on when the command has succeeded; otherwise the peer's stream is reset with its exit
/// status, so that the peer does not take the output for complete. A command whose peer has gone is
/// ended, with all the processes that it has started.
pub(crate) async fn run(
    command: &str,
    addr: &str,
    conn: &BoxConn,
    stream: BoxStream,
) -> Result<(), Failure> {
    let (mut send, mut recv) = stream.into_split();
    let mut child = shell(command)
        .env("PIPE_REMOTE_ADDR", addr)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::local("the shell cannot be run", &error))?;
    let group = child.id().map(Group::led_by);
    let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Failure::failed(
            "the shell has no standard input and output",
        ));
    };
    let lost = |error: PumpError| match error {
        PumpError::Local(error) => Failure::local(command, &error),
        PumpError::Stream(error) => Failure::on_conn(addr, &error),
    };
    let inward = async {
        let ended = from_stream(&mut recv, &mut input).await;
        // A pipe ends when it is dropped.
        drop(input);
        if let Ok(Ended::Unwanted(_)) = ended {
            recv.stop(0);
        }
        ended.map_err(lost)
    };
    let outward = async {
        let (mut buffer, mut wanted) = (vec![0; CHUNK], true);
        loop {
            let read = tokio::select! {
                read = output.read(&mut buffer) => read.map_err(PumpError::Local)?,
                code = unwanted(&mut send) => {
                    code.map_err(PumpError::Stream)?;
                    wanted = false;
                    break;
                }
            };
            if read == 0 {
                break;
            }
            let written = send.write_all(&buffer[..read]).await;
            match written.map_err(pipewerks::Error::from) {
                Ok(()) => {}
                Err(error) if error.kind() == pipewerks::ErrorKind::Stopped => {
                    wanted = false;
                    break;
                }
                Err(error) => return Err(PumpError::Stream(error)),
            }
        }
        // Without a reader, the command has to find out itself.
        drop(output);
        let status = child.wait().await.map_err(PumpError::Local)?;
        if !wanted {
            // Whatever it makes of that, it was not cut short by its own doing.
            return Ok(None);
        }
        if status.success() {
            let shut = send.shutdown().await;
            shut.map_err(|error| PumpError::Stream(error.into()))?;
            return Ok(None);
        }
        let code = status.code().map_or(BY_SIGNAL, i32::unsigned_abs);
        send.reset(code);
        Ok(Some(status))
    };
    let gone = conn.closed();
    // The command decides when it is over: its unread input is discarded then.
    tokio::pin!(inward, outward, gone);
    let mut heard = false;
    let status = loop {
        tokio::select! {
            biased;
            status = &mut outward => break status.map_err(lost)?,
            ended = &mut inward, if !heard => {
                ended?;
                heard = true;
            }
            reason = &mut gone => {
                return Err(Failure::failed(format!("{addr}: the peer has gone: {reason}")));
            }
        }
    };
    if let Some(group) = group {
        group.over();
    }
    match status {
        None => Ok(()),
        Some(status) => Err(Failure::failed(format!("{command}: {status}"))),
    }
}

fn shell(command: &str) -> Command {
    let (shell, option) = if cfg!(windows) {
        ("cmd", "/C")
    } else {
        ("sh", "-c")
    };
    let mut built = Command::new(shell);
    built.arg(option).arg(command);
    // Processes that a shell starts for `a | b` are ended with it.
    #[cfg(unix)]
    built.process_group(0);
    built
}
