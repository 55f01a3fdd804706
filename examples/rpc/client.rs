//! [`Client`]: calls that can be made from any number of tasks at once.

use std::fmt;
use std::io;
use std::time::Duration;

use pipewerks::{BoxConn, BoxStream, Conn, Error, Stream};
use tokio::time::timeout;

use crate::frame;
use crate::message::{Answer, Call, Fault, Request};

/// The code that a stream is stopped with when its answer is not wanted any more.
pub(crate) const CANCELLED: u32 = 2;

/// The code that a stream is stopped with when its answer is too late.
pub(crate) const TOO_LATE: u32 = 3;

/// Calls a server. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Client(BoxConn);

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server says why.
    Fault(Fault),
    /// The answer did not come in time.
    Deadline(Duration),
    /// The stream or its connection broke.
    Broken(Error),
}

impl Client {
    pub(crate) fn new(conn: BoxConn) -> Self {
        Self(conn)
    }

    /// Makes a call.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call: the server gives the work up.
    pub(crate) async fn call(
        &self,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        let call = Call {
            request,
            deadline_ms: deadline.as_millis().try_into().unwrap_or(u64::MAX),
        };
        let mut stream = None;
        let answered = timeout(deadline, async {
            let opened = self.0.open_stream().await?;
            // From here on, a drop stops the stream.
            let stream = stream.insert(Cancel(opened));
            frame::write(&mut stream.0, &call).await?;
            frame::read::<Result<Answer, Fault>>(&mut stream.0).await
        })
        .await;
        match answered {
            Ok(answer) => answer?.map_err(CallError::Fault),
            Err(_) => {
                if let Some(stream) = &mut stream {
                    stream.0.stop(TOO_LATE);
                }
                Err(CallError::Deadline(deadline))
            }
        }
    }
}

/// A stream that is given up by its drop, with a code that tells why. A drop without it would say code 0.
struct Cancel(BoxStream);

impl Drop for Cancel {
    fn drop(&mut self) {
        // Neither has an effect on a direction that has ended.
        self.0.reset(CANCELLED);
        self.0.stop(CANCELLED);
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "the server refuses: {fault}"),
            Self::Deadline(deadline) => write!(f, "no answer within {deadline:?}"),
            Self::Broken(error) => write!(f, "the call broke: {error}"),
        }
    }
}

impl std::error::Error for CallError {}
