use pipe_core::Stream;
use tokio::io::AsyncWriteExt;

use crate::payload::expect_end;
use crate::waits::Named;

/// How both ends of a stream come to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// Both shut down and see the other's end.
    Clean,
    /// The opener drops it, then the acceptor.
    OpenerLeaves,
    /// The acceptor drops it, then the opener.
    AcceptorLeaves,
}

/// Each of them.
pub(crate) const ENDINGS: [Ending; 3] =
    [Ending::Clean, Ending::OpenerLeaves, Ending::AcceptorLeaves];

/// Ends a stream at both ends.
pub(crate) async fn end<S: Stream>(ending: Ending, mut opened: S, mut accepted: S) {
    match ending {
        Ending::Clean => {
            opened.shutdown().expect_ok("the opener's shutdown").await;
            accepted
                .shutdown()
                .expect_ok("the acceptor's shutdown")
                .await;
            tokio::join!(expect_end(&mut opened), expect_end(&mut accepted));
        }
        Ending::OpenerLeaves => {
            drop(opened);
            drop(accepted);
        }
        Ending::AcceptorLeaves => {
            drop(accepted);
            drop(opened);
        }
    }
}
