use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pipe_core::{Error, ErrorKind, Result};
use rustc_hash::FxBuildHasher;

use super::frame::{ACK, Header, PING, SYN, broken};
use super::output::Output;
use super::stream::{Remote, YamuxStream};
use crate::muxer::MuxerHandle;

/// How many streams that this side opened may go without the peer's answer. Implementations that hold
/// a queue of streams to be accepted reset what is beyond it; the first one held 256.
const MAX_UNANSWERED: usize = 256;

/// A yamux connection: what its streams and its session share.
///
/// Locks are taken in the order stream, table, output, and none is held while a task is woken.
pub(crate) struct Core {
    pub(super) output: Output,
    /// How many bytes of a stream the peer may send ahead of its reader.
    pub(super) window: u32,
    /// Whether the drop of a stream that has not ended tells the peer.
    pub(super) resets: bool,
    max_streams: usize,
    table: Mutex<Table>,
    /// A stream can be opened now where one could not before.
    room: AtomicBool,
}

struct Table {
    streams: HashMap<u32, Entry, FxBuildHasher>,
    /// The number of the next stream of this side; none when they are used up.
    next: Option<u32>,
    /// How many streams of this side wait for the peer's answer.
    unanswered: usize,
    /// A stream was refused for them.
    refused: bool,
}

struct Entry {
    remote: Arc<Remote>,
    answered: bool,
}

/// Opens streams of a yamux connection.
#[derive(Clone)]
pub(crate) struct YamuxHandle(pub(super) Arc<Core>);

impl Core {
    pub(super) fn new(
        output: Output,
        client: bool,
        window: u32,
        resets: bool,
        max_streams: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            output,
            window,
            resets,
            max_streams,
            table: Mutex::new(Table {
                streams: HashMap::default(),
                next: Some(if client { 1 } else { 2 }),
                unanswered: 0,
                refused: false,
            }),
            room: AtomicBool::new(false),
        })
    }

    /// A stream of the peer. None if there are too many.
    pub(super) fn accept(self: &Arc<Self>, id: u32) -> Result<Option<YamuxStream>> {
        let mut table = self.table.lock();
        if table.streams.len() >= self.max_streams {
            return Ok(None);
        }
        if table.streams.contains_key(&id) {
            return Err(broken(&format!("stream {id} was opened twice")));
        }
        let remote = Remote::new(id, self.window);
        let entry = Entry {
            remote: remote.clone(),
            answered: true,
        };
        table.streams.insert(id, entry);
        drop(table);
        Ok(Some(YamuxStream::new(remote, self.clone(), ACK)))
    }

    /// The stream of this number, if it is in use. `answer` tells that the peer has taken it.
    pub(super) fn find(&self, id: u32, answer: bool) -> Option<Arc<Remote>> {
        let mut table = self.table.lock();
        let entry = table.streams.get_mut(&id)?;
        let remote = entry.remote.clone();
        if answer && !std::mem::replace(&mut entry.answered, true) {
            self.make_room(table);
        }
        Some(remote)
    }

    /// A stream is over.
    pub(super) fn forget(&self, id: u32) {
        let mut table = self.table.lock();
        if let Some(entry) = table.streams.remove(&id)
            && !entry.answered
        {
            self.make_room(table);
        }
    }

    /// One stream fewer waits for an answer. Where another was refused for it, the session hears of it.
    fn make_room(&self, mut table: MutexGuard<'_, Table>) {
        table.unanswered -= 1;
        if std::mem::take(&mut table.refused) {
            drop(table);
            self.room.store(true, Ordering::Release);
            self.output.call_driver();
        }
    }

    /// Whether a stream can be opened now where one could not when this was last asked.
    pub(super) fn take_room(&self) -> bool {
        self.room.swap(false, Ordering::AcqRel)
    }
}

impl MuxerHandle for YamuxHandle {
    type Stream = YamuxStream;

    fn open(&self) -> Result<Option<YamuxStream>> {
        let core = &self.0;
        let mut table = core.table.lock();
        if table.unanswered >= MAX_UNANSWERED {
            table.refused = true;
            return Ok(None);
        }
        let Some(id) = table.next else {
            let why = "the connection has used up the numbers of its streams";
            return Err(Error::new(ErrorKind::LimitReached, why));
        };
        table.next = id.checked_add(2);
        let remote = Remote::new(id, core.window);
        let entry = Entry {
            remote: remote.clone(),
            answered: false,
        };
        table.streams.insert(id, entry);
        table.unanswered += 1;
        drop(table);
        Ok(Some(YamuxStream::new(remote, core.clone(), SYN)))
    }

    fn ping(&self, value: u32) {
        self.0.output.push(Header {
            kind: PING,
            flags: SYN,
            stream: 0,
            length: value,
        });
    }
}
