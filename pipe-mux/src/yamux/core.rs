use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use pipe_core::{Error, ErrorKind, Result};

use super::frame::broken;
use super::limits::Limits;
use super::output::Output;
use super::remote::Remote;
use super::unread::Unread;

/// How many streams that this side opened may go without the peer's answer. Implementations that hold
/// a queue of streams to be accepted reset what is beyond it; the first one held 256.
const MAX_UNANSWERED: usize = 256;

/// How many numbers that the peer has left out may come late, where it need not open its streams in order.
const MAX_LATE: usize = 256;

/// A yamux connection: what its streams and its session share.
///
/// Locks are taken in the order stream, table, output, and none is held while a task is woken.
pub(crate) struct Core {
    pub(super) output: Output,
    pub(super) limits: Limits,
    /// Unread bytes of all streams that are counted.
    pub(super) unread: Unread,
    /// Whether the drop of a stream that has not ended tells the peer.
    pub(super) resets: bool,
    table: Mutex<Table>,
    /// A stream can be opened now where one could not before.
    room: AtomicBool,
}

struct Table {
    /// With a keyed hash, as the peer chooses numbers.
    streams: HashMap<u32, Entry>,
    /// The highest number of a stream of the peer.
    highest: u32,
    /// Numbers below it that the peer has not used and still may.
    late: BTreeSet<u32>,
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

impl Core {
    pub(super) fn new(output: Output, client: bool, limits: Limits, resets: bool) -> Arc<Self> {
        Arc::new(Self {
            output,
            limits,
            unread: Unread::new(limits.conn_unread),
            resets,
            table: Mutex::new(Table {
                streams: HashMap::default(),
                highest: 0,
                late: BTreeSet::new(),
                next: Some(if client { 1 } else { 2 }),
                unanswered: 0,
                refused: false,
            }),
            room: AtomicBool::new(false),
        })
    }

    /// Takes in a stream of the peer. Returns `None` if there are too many.
    pub(super) fn accept(&self, id: u32) -> Result<Option<Arc<Remote>>> {
        let mut table = self.table.lock();
        if table.streams.len() >= self.limits.max_streams {
            return Ok(None);
        }
        table.use_number(id, self.limits.control.is_some())?;
        let remote = Remote::new(id, &self.limits);
        let entry = Entry {
            remote: remote.clone(),
            answered: true,
        };
        table.streams.insert(id, entry);
        drop(table);
        Ok(Some(remote))
    }

    /// Gives a number to a stream of this side. Returns `None` while too many wait for the peer's answer.
    pub(super) fn open(&self) -> Result<Option<Arc<Remote>>> {
        let mut table = self.table.lock();
        if table.unanswered >= MAX_UNANSWERED {
            table.refused = true;
            return Ok(None);
        }
        let Some(id) = table.next else {
            let why = "the connection has used up the numbers of its streams";
            return Err(Error::new(ErrorKind::LimitReached, why));
        };
        table.next = id.checked_add(2);
        let remote = Remote::new(id, &self.limits);
        let entry = Entry {
            remote: remote.clone(),
            answered: false,
        };
        table.streams.insert(id, entry);
        table.unanswered += 1;
        Ok(Some(remote))
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

impl Table {
    /// Notes the number of a stream that the peer opens. No number comes twice.
    fn use_number(&mut self, id: u32, in_order: bool) -> Result<()> {
        if id > self.highest {
            if !in_order {
                let skipped = (self.highest + 1..id)
                    .rev()
                    .filter(|late| late % 2 == id % 2);
                self.late.extend(skipped.take(MAX_LATE));
                // The nearest ones are those that are most likely under way.
                while self.late.len() > MAX_LATE {
                    self.late.pop_first();
                }
            }
            self.highest = id;
            return Ok(());
        }
        if self.late.remove(&id) {
            return Ok(());
        }
        Err(broken(&format!(
            "stream {id} was opened after stream {}: numbers rise",
            self.highest
        )))
    }
}
