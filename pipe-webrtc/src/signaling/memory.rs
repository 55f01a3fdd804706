use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::{Signal, Signaling};

/// Maximum number of queued messages. Beyond, the sender waits.
const CAPACITY: usize = 64;

/// Signalling within a process.
#[derive(Debug)]
pub struct MemorySignaling {
    sender: mpsc::Sender<Signal>,
    receiver: mpsc::Receiver<Signal>,
}

impl MemorySignaling {
    /// Creates the two ends of a channel.
    pub fn pair() -> (Self, Self) {
        let (to_there, from_here) = mpsc::channel(CAPACITY);
        let (to_here, from_there) = mpsc::channel(CAPACITY);
        let end = |sender, receiver| Self { sender, receiver };
        (end(to_there, from_there), end(to_here, from_here))
    }
}

impl Signaling for MemorySignaling {
    async fn send(&mut self, signal: Signal) -> Result<()> {
        self.sender
            .send(signal)
            .await
            .map_err(|_| Error::new(ErrorKind::Failed, "the other end of the signalling is gone"))
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        Ok(self.receiver.recv().await)
    }
}
