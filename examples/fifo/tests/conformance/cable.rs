use std::path::PathBuf;

use pipe_conformance::Cable;
use pipe_core::{Addr, Result};
use pipe_fifo::{FifoListener, FifoStream};
use tokio::task::JoinSet;

// ANCHOR: lay
/// Listens beside the listener at this address, and connects each dialer to it through the cable. It ends with the
/// runtime of the case.
pub(crate) async fn lay(to: Addr, cable: Cable) -> Result<Addr> {
    let target = PathBuf::from(to.path());
    let path = format!("{}.cable", to.path());
    let listener = FifoListener::bind(path.as_ref())?;
    tokio::spawn(async move {
        let mut running = JoinSet::new();
        while let Ok(near) = listener.accept().await {
            if let Ok(far) = FifoStream::connect(&target).await {
                cable.connect(&mut running, near, far);
            }
        }
    });
    format!("fifo://{path}").parse()
}
// ANCHOR_END: lay
