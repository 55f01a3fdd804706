use futures::task::AtomicWaker;
use parking_lot::Mutex;
use pipe_core::StreamSlot;

/// What a connection knows of a stream. Its bytes go between its halves and quinn.
#[derive(Debug)]
pub(crate) struct StreamCore {
    pub(crate) id: u64,
    /// Whether this side opened it.
    pub(crate) ours: bool,
    pub(crate) state: Mutex<CoreState>,
    /// Who waits in a half, to be woken when the connection ends or a disconnect ends the stream.
    pub(crate) reader: AtomicWaker,
    pub(crate) writer: AtomicWaker,
}

#[derive(Debug)]
pub(crate) struct CoreState {
    /// This side's application is done with the direction: shut down, reset, stopped or dropped.
    pub(crate) send_over: bool,
    /// The same of the other direction: read to its end, reset, stopped or dropped.
    pub(crate) recv_over: bool,
    /// The peer's application is done with it. Never told of streams of the peer.
    pub(crate) peer_done: bool,
    /// Both directions were found to be over.
    pub(crate) done: bool,
    /// Held as long as a stream that this side opened is in use at either side.
    pub(crate) slot: Option<StreamSlot>,
    /// What was written and the peer has not read; only where the peer counts its connection window.
    pub(crate) used: u32,
    /// The peer needs no more room for this stream: what comes, it throws away.
    pub(crate) free: bool,
}

impl StreamCore {
    pub(crate) fn new(id: u64, slot: Option<StreamSlot>) -> Self {
        Self {
            id,
            ours: slot.is_some(),
            state: Mutex::new(CoreState {
                send_over: false,
                recv_over: false,
                peer_done: false,
                done: false,
                slot,
                used: 0,
                free: false,
            }),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }
}

impl CoreState {
    /// Notes that this side is done with directions. Returns whether it is with both.
    pub(crate) fn note(&mut self, send: bool, recv: bool) -> bool {
        self.send_over |= send;
        self.recv_over |= recv;
        self.send_over && self.recv_over
    }

    /// The peer has read so many more bytes. Returns how many were counted.
    pub(crate) fn credit(&mut self, bytes: u32) -> u32 {
        let freed = bytes.min(self.used);
        self.used -= freed;
        freed
    }

    /// What is in use will not be read. Returns how much it was.
    pub(crate) fn free(&mut self) -> u32 {
        self.free = true;
        std::mem::take(&mut self.used)
    }
}
