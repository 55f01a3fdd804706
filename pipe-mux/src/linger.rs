use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use crate::shared::Shared;
use crate::stream_core::StreamCore;

/// Has the driver look at a stream that it brings to its end, when something comes that is thrown away. It
/// lies in the stream, so that it does not keep it.
struct LingerWaker {
    stream: Weak<StreamCore>,
    conn: Weak<Shared>,
}

impl Wake for LingerWaker {
    fn wake(self: Arc<Self>) {
        if let Some(stream) = self.stream.upgrade()
            && let Some(conn) = self.conn.upgrade()
        {
            conn.linger(&stream);
        }
    }
}

/// Returns the waker with which the driver looks at a stream.
pub(crate) fn linger_waker(stream: &Arc<StreamCore>, conn: &Arc<Shared>) -> Waker {
    let waker = LingerWaker {
        stream: Arc::downgrade(stream),
        conn: Arc::downgrade(conn),
    };
    Arc::new(waker).into()
}
