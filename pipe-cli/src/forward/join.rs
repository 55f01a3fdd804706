use pipewerks::{BoxStream, Error, ErrorKind, RecvStream, SendStream, Stream};
use tokio::net::TcpStream;

use crate::pump::{Ended, PumpError, from_stream, into_stream};

/// The code of a stream whose connection of TCP was reset, or whose peer's was.
const RESET: u32 = 1;

/// Joins a connection of TCP to a stream, until both directions have ended.
///
/// The end of a direction is passed on by itself. Whatever else ends one, such as a reset, ends both: the
/// stream is reset, and so is the connection of TCP.
pub(crate) async fn join(tcp: TcpStream, stream: BoxStream) -> Result<(), Error> {
    // Small writes are not held back; the other end of the stream has not held them back either.
    let _ = tcp.set_nodelay(true);
    let (mut from, mut to) = tcp.into_split();
    let (mut send, mut recv) = stream.into_split();
    let joined = tokio::try_join!(
        async { clean(into_stream(&mut from, &mut send).await) },
        async { clean(from_stream(&mut recv, &mut to).await) },
    );
    if let Err(error) = joined {
        send.reset(RESET);
        recv.stop(RESET);
        if let Ok(tcp) = from.reunite(to) {
            cut(tcp);
        }
        return Err(error);
    }
    Ok(())
}

/// Ends a connection of TCP with a reset.
pub(crate) fn cut(tcp: TcpStream) {
    let _ = tcp.set_zero_linger();
    drop(tcp);
}

fn clean(ended: Result<Ended, PumpError>) -> Result<(), Error> {
    match ended {
        Ok(Ended::Clean) => Ok(()),
        Ok(Ended::Unwanted(code)) => Err(Error::stopped(code)),
        Err(PumpError::Stream(error)) => Err(error),
        Err(PumpError::Local(error)) => {
            let why = format!("TCP: {error}");
            Err(Error::with_source(ErrorKind::Io, why, error))
        }
    }
}
