use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
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

    /// The stream of this number, if it is in use. `answer` tells that the peer has taken it. Returns
    /// whether a stream can be opened now where one could not before, as well.
    pub(super) fn find(&self, id: u32, answer: bool) -> (Option<Arc<Remote>>, bool) {
        let mut table = self.table.lock();
        let Some(entry) = table.streams.get_mut(&id) else {
            return (None, false);
        };
        let remote = entry.remote.clone();
        let news = answer && !std::mem::replace(&mut entry.answered, true);
        (Some(remote), news && table.answer())
    }

    /// A stream is over. Returns whether one can be opened now where one could not before.
    pub(super) fn forget(&self, id: u32) -> bool {
        let mut table = self.table.lock();
        match table.streams.remove(&id) {
            Some(entry) if !entry.answered => table.answer(),
            _ => false,
        }
    }
}

impl Table {
    fn answer(&mut self) -> bool {
        self.unanswered -= 1;
        std::mem::take(&mut self.refused)
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
