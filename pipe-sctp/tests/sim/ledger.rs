//! What was sent on each stream, and whether what arrives agrees with it.

use super::stack::Sending;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of a message that carry its serial number. Shorter messages are told by their order alone.
pub const HEADER: usize = 8;

/// The messages of one direction.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Each stream from one reset to the next. Messages arrive on the first, and are sent on the last.
    streams: BTreeMap<u16, VecDeque<Stream>>,
    serial: u32,
    /// Messages that arrived.
    pub arrived: u64,
    /// Messages that were given up, with the leave of their options.
    pub abandoned: u64,
}

#[derive(Debug, Default)]
struct Stream {
    ordered: VecDeque<Record>,
    unordered: BTreeMap<u32, Record>,
    arrived: bool,
}

impl Stream {
    /// Whether its reset may be reported together with the one before: nothing of it arrived or has to.
    fn may_be_skipped(&self) -> bool {
        let mut records = self.ordered.iter().chain(self.unordered.values());
        !self.arrived && records.all(|record| !record.reliable)
    }

    fn has(&self, id: u16, payload: &Bytes) -> bool {
        let mut records = self.ordered.iter().chain(self.unordered.values());
        records.any(|record| check(id, record, payload).is_ok())
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    serial: u32,
    len: usize,
    reliable: bool,
}

/// Returns the content of a message.
fn content(serial: u32, stream: u16, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len + HEADER);
    bytes.extend_from_slice(&serial.to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    // Every block of 256 bytes differs from its neighbours.
    let mut block = 0u32;
    while bytes.len() < len {
        let seed = serial.wrapping_mul(0x9e37_79b1).wrapping_add(block);
        bytes.extend((0..64u32).flat_map(|i| seed.wrapping_add(i << 8).to_be_bytes()));
        block += 1;
    }
    bytes.truncate(len);
    bytes.into()
}

impl Ledger {
    /// Returns a message to send, of `len` bytes. It counts once [`sent`](Self::sent) was called.
    pub fn message(&self, stream: u16, len: usize) -> Bytes {
        content(self.serial, stream, len)
    }

    /// Records that the last message of [`message`](Self::message) was taken.
    pub fn sent(&mut self, stream: u16, len: usize, sending: Sending) {
        let record = Record {
            serial: self.serial,
            len,
            reliable: sending.is_reliable(),
        };
        let told_by_order = !sending.unordered && sending.is_reliable();
        assert!(
            len >= HEADER || told_by_order,
            "a message of {len} bytes cannot be told"
        );
        self.serial += 1;
        let lives = self.streams.entry(stream).or_default();
        if lives.is_empty() {
            lives.push_back(Stream::default());
        }
        let stream = lives.back_mut().expect("at least one");
        if sending.unordered {
            stream.unordered.insert(record.serial, record);
        } else {
            stream.ordered.push_back(record);
        }
    }

    /// Checks a message that arrived.
    pub fn received(&mut self, id: u16, payload: &Bytes) -> Result<(), String> {
        let lives = self.streams.entry(id).or_default();
        while lives.len() > 1 && lives[0].may_be_skipped() && !lives[0].has(id, payload) {
            self.abandoned += lives
                .pop_front()
                .map_or(0, |life| life.ordered.len() as u64);
        }
        let Some(stream) = lives.front_mut() else {
            let len = payload.len();
            return Err(format!(
                "a message of {len} bytes on stream {id}, which was not used"
            ));
        };
        stream.arrived = true;
        self.arrived += 1;
        if payload.len() >= HEADER {
            let serial = u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
            if let Some(record) = stream.unordered.remove(&serial) {
                return check(id, &record, payload);
            }
        }
        while let Some(record) = stream.ordered.pop_front() {
            let agrees = check(id, &record, payload);
            if agrees.is_ok() || record.reliable {
                return agrees;
            }
            self.abandoned += 1;
        }
        Err(format!(
            "stream {id}: a message of {} bytes that was not expected",
            payload.len()
        ))
    }

    /// Records that the sender asked for a reset: what follows belongs to the stream's next life.
    pub fn reset_sent(&mut self, id: u16) {
        let lives = self.streams.entry(id).or_default();
        lives.resize_with(lives.len().max(1) + 1, Stream::default);
    }

    /// Checks a reset that arrived: it was asked for, and comes after all messages of before it.
    pub fn reset_received(&mut self, id: u16) -> Result<(), String> {
        let lives = self.streams.get_mut(&id).filter(|lives| lives.len() > 1);
        let Some(stream) = lives.and_then(VecDeque::pop_front) else {
            return Err(format!("a reset of stream {id} that was not asked for"));
        };
        self.settle(id, &stream)
    }

    /// Checks that everything arrived.
    pub fn finish(&mut self) -> Result<(), String> {
        for (id, lives) in std::mem::take(&mut self.streams) {
            if lives
                .iter()
                .rev()
                .skip(1)
                .any(|life| !life.may_be_skipped())
            {
                return Err(format!("a reset of stream {id} was not reported"));
            }
            for stream in lives {
                self.settle(id, &stream)?;
            }
        }
        Ok(())
    }

    /// Whether nothing that is reliable is missing.
    pub fn is_settled(&self) -> bool {
        self.missing().is_empty()
    }

    /// Whether a reset was asked for that was not reported.
    pub fn awaits_reset(&self) -> bool {
        self.streams.values().any(|lives| {
            lives
                .iter()
                .rev()
                .skip(1)
                .any(|life| !life.may_be_skipped())
        })
    }

    /// Streams and lengths of reliable messages that have not arrived.
    pub fn missing(&self) -> Vec<(u16, usize)> {
        let mut missing = Vec::new();
        for (id, lives) in &self.streams {
            for stream in lives {
                let records = stream.ordered.iter().chain(stream.unordered.values());
                missing.extend(
                    records
                        .filter(|record| record.reliable)
                        .map(|record| (*id, record.len)),
                );
            }
        }
        missing
    }

    fn settle(&mut self, id: u16, stream: &Stream) -> Result<(), String> {
        for record in stream.ordered.iter().chain(stream.unordered.values()) {
            if record.reliable {
                return Err(format!("stream {id}: {record:?} did not arrive"));
            }
            self.abandoned += 1;
        }
        Ok(())
    }
}

fn check(id: u16, record: &Record, payload: &Bytes) -> Result<(), String> {
    if payload == &content(record.serial, id, record.len) {
        return Ok(());
    }
    Err(format!(
        "stream {id}: expected {record:?}, got {} bytes {:02x?}",
        payload.len(),
        &payload[..payload.len().min(HEADER)]
    ))
}
