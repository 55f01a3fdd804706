use std::collections::HashMap;
use std::sync::Arc;

use super::vitals::Vitals;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

/// The outgoing SSN reset request and the response to one (RFC 6525, sections 4.1 and 4.4).
const RESET_REQUEST: u16 = 13;
const RESET_RESPONSE: u16 = 16;
/// The result "in progress" (RFC 6525, section 4.4).
const IN_PROGRESS: u32 = 6;

/// The payload protocol of DCEP and its message that opens a channel (RFC 8832, sections 5.1 and 8.1).
const DCEP: u32 = 50;
const CHANNEL_OPEN: u8 = 3;

/// The common header (RFC 9260, section 3.1).
const PACKET_HEADER: usize = 12;
/// Type, flags and length of a chunk, type and length of a parameter, code and length of a cause.
const HEADER: usize = 4;

/// Maximum number of TSNs skipped by a FORWARD-TSN that neither arrived nor were acknowledged. A
/// SACK cannot report TSNs further ahead either: its gap blocks have 16 bits (RFC 9260, section
/// 3.3.4).
pub(super) const MAX_SKIPPED: u32 = 65_536;
/// Maximum number of packets that a SACK may report above its cumulative acknowledgement.
const MAX_REPORTED: u32 = 65_536;
/// Maximum number of stream resets of the peer that wait for their data, and of streams that they
/// name.
pub(super) const MAX_RESETS: usize = 1024;
const MAX_RESET_STREAMS: usize = 65_536;

/// Refuses SCTP packets of an authenticated peer that would harm the engine.
///
/// The engine trusts lengths inside of chunks, walks to the number of a FORWARD-TSN one by one, and
/// keeps every stream reset that it cannot perform yet. The filter reads the headers of both
/// directions and never the contents of a chunk.
#[derive(Debug, Default)]
pub(super) struct SctpFilter {
    /// Notified of the resets of streams.
    vitals: Arc<Vitals>,
    /// The initiate tag and the initial TSN of the peer. Its INIT and its INIT-ACK carry the same (RFC
    /// 9260, section 5.2.1).
    initiated: Option<(u32, u32)>,
    /// The last TSN of the peer that this side has acknowledged with all before it.
    acknowledged: u32,
    /// Number of DATA chunks since that rose.
    arrived: u32,
    /// The stream resets of the peer that were not answered for good, by their number, and the streams that
    /// each names.
    resets: HashMap<u32, Vec<u16>>,
}

/// Why a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

impl SctpFilter {
    /// Makes the filter of one association.
    pub(super) fn new(vitals: Arc<Vitals>) -> Self {
        Self {
            vitals,
            ..Self::default()
        }
    }

    /// Checks a packet of the peer.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the engine must not see it.
    pub(super) fn check(&mut self, packet: &[u8]) -> Result<(), Refused> {
        let mut chunks = Chunks::of(packet)?;
        while let Some((kind, flags, value)) = chunks.next()? {
            match kind {
                DATA => {
                    require(value.len() > 12, "a DATA chunk is too short")?;
                    self.arrived = self.arrived.saturating_add(1);
                }
                INIT | INIT_ACK => self.check_init(flags, value)?,
                SACK => check_sack(value)?,
                HEARTBEAT | COOKIE_ECHO => {
                    require(!value.is_empty(), "a chunk is empty")?;
                    if kind == HEARTBEAT {
                        parameters(value, |_, _| Ok(()))?;
                    }
                }
                ABORT | ERROR => check_causes(value)?,
                RECONFIG => self.check_reconfig(value)?,
                FORWARD_TSN => self.check_forward(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Tracks a packet of this side.
    pub(super) fn note_sent(&mut self, packet: &[u8]) {
        let Ok(mut chunks) = Chunks::of(packet) else {
            return;
        };
        while let Ok(Some((kind, _, value))) = chunks.next() {
            match kind {
                DATA => {
                    if u32_at(value, 8) == Some(DCEP)
                        && let [_, _, _, _, high, low, ..] = *value
                        && value.get(12) == Some(&CHANNEL_OPEN)
                    {
                        let id = u16::from_be_bytes([high, low]);
                        self.vitals.resets().lock().note_opened(id);
                    }
                }
                SACK => {
                    let acknowledged = u32_at(value, 0).unwrap_or(self.acknowledged);
                    if acknowledged != self.acknowledged {
                        self.acknowledged = acknowledged;
                        self.arrived = 0;
                    }
                }
                RECONFIG => {
                    let _ = parameters(value, |kind, value| {
                        let answered = u32_at(value, 0).zip(u32_at(value, 4));
                        if let (RESET_RESPONSE, Some((number, result))) = (kind, answered)
                            && result != IN_PROGRESS
                            && let Some(ids) = self.resets.remove(&number)
                        {
                            self.vitals
                                .resets()
                                .lock()
                                .note_reset(&ids, self.vitals.turns());
                        }
                        if let (RESET_REQUEST, Some((number, ids))) = (kind, reset_request(value)) {
                            let pending = &self.resets;
                            self.vitals.resets().lock().note_sent(number, &ids, |id| {
                                pending.values().any(|ids| ids.contains(&id))
                            });
                        }
                        Ok(())
                    });
                }
                _ => {}
            }
        }
    }

    fn check_init(&mut self, flags: u8, value: &[u8]) -> Result<(), Refused> {
        let (Some(tag), Some(first), Some(more)) =
            (u32_at(value, 0), u32_at(value, 12), value.get(16..))
        else {
            return Err(Refused("an INIT is too short"));
        };
        require(flags == 0, "an INIT has flags")?;
        parameters(more, |_, _| Ok(()))?;
        match self.initiated {
            None => {
                self.initiated = Some((tag, first));
                self.acknowledged = first.wrapping_sub(1);
                Ok(())
            }
            Some(known) => require(known == (tag, first), "a second association"),
        }
    }

    fn check_reconfig(&mut self, value: &[u8]) -> Result<(), Refused> {
        require(value.len() >= HEADER, "a RE-CONFIG is empty")?;
        parameters(value, |kind, value| {
            if kind == RESET_RESPONSE
                && let Some((number, result)) = u32_at(value, 0).zip(u32_at(value, 4))
                && result != IN_PROGRESS
            {
                self.vitals.resets().lock().note_answered(number);
            }
            if kind != RESET_REQUEST {
                return Ok(());
            }
            let Some((number, streams)) = reset_request(value) else {
                return Err(Refused("a stream reset is too short"));
            };
            // One that is sent again takes the place of the one before.
            self.resets.remove(&number);
            let named: usize = self.resets.values().map(Vec::len).sum();
            require(
                self.resets.len() < MAX_RESETS && named + streams.len() <= MAX_RESET_STREAMS,
                "too many stream resets wait",
            )?;
            self.resets.insert(number, streams);
            Ok(())
        })
    }

    fn check_forward(&self, value: &[u8]) -> Result<(), Refused> {
        let Some(to) = u32_at(value, 0) else {
            return Err(Refused("a FORWARD-TSN is too short"));
        };
        require(value.len().is_multiple_of(4), "a FORWARD-TSN is cut off")?;
        require(self.initiated.is_some(), "a FORWARD-TSN before an INIT")?;
        let ahead = to.wrapping_sub(self.acknowledged);
        // The upper half lies behind (RFC 1982).
        let allowed = MAX_SKIPPED.saturating_add(self.arrived);
        require(
            ahead > u32::MAX / 2 || ahead <= allowed,
            "a FORWARD-TSN is too far ahead",
        )
    }
}

/// The type, the flags and the value of a chunk.
type Chunk<'a> = (u8, u8, &'a [u8]);

/// Walks over the chunks of a packet.
struct Chunks<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    fn of(packet: &'a [u8]) -> Result<Self, Refused> {
        let chunks = packet.get(PACKET_HEADER..);
        chunks.map(Self).ok_or(Refused("a packet is too short"))
    }

    fn next(&mut self) -> Result<Option<Chunk<'a>>, Refused> {
        let [kind, flags, high, low, ..] = *self.0 else {
            require(self.0.is_empty(), "the header of a chunk is cut off")?;
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = self.0.get(HEADER..length);
        let value = value.ok_or(Refused("the length of a chunk is wrong"))?;
        self.0 = after(self.0, length);
        Ok(Some((kind, flags, value)))
    }
}

/// Returns the bytes after `length` bytes and their padding, which may be missing at the end.
fn after(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(length.next_multiple_of(4)..).unwrap_or_default()
}

/// Walks over parameters, each with its type and its value.
fn parameters(
    mut bytes: &[u8],
    mut each: impl FnMut(u16, &[u8]) -> Result<(), Refused>,
) -> Result<(), Refused> {
    while let [t0, t1, l0, l1, ..] = *bytes {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let value = bytes.get(HEADER..length);
        let value = value.ok_or(Refused("the length of a parameter is wrong"))?;
        each(u16::from_be_bytes([t0, t1]), value)?;
        bytes = after(bytes, length);
    }
    Ok(())
}

/// Checks the causes of an ABORT or ERROR the way the engine walks over them, which is without padding.
fn check_causes(mut bytes: &[u8]) -> Result<(), Refused> {
    while let [_, _, l0, l1, ..] = *bytes {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        require(length >= HEADER, "the length of a cause is wrong")?;
        let rest = bytes.get(length..);
        bytes = rest.ok_or(Refused("the length of a cause is wrong"))?;
    }
    Ok(())
}

fn check_sack(value: &[u8]) -> Result<(), Refused> {
    let Some(counts) = u32_at(value, 8) else {
        return Err(Refused("a SACK is too short"));
    };
    let (gaps, duplicates) = ((counts >> 16) as usize, (counts & 0xffff) as usize);
    let blocks = value.get(12..12 + 4 * gaps);
    let Some(blocks) = blocks.filter(|_| value.len() >= 12 + 4 * (gaps + duplicates)) else {
        return Err(Refused("a SACK is cut off"));
    };
    let reported: u32 = (0..gaps)
        .filter_map(|i| u32_at(blocks, 4 * i))
        .map(|block| ((block & 0xffff) + 1).saturating_sub(block >> 16))
        .fold(0, u32::saturating_add);
    require(reported <= MAX_REPORTED, "a SACK reports a packet twice")
}

/// Returns the number of a stream reset and the streams that it names (RFC 6525, section 4.1).
fn reset_request(value: &[u8]) -> Option<(u32, Vec<u16>)> {
    let streams = value.get(12..)?.chunks_exact(2);
    let ids = streams.map(|id| u16::from_be_bytes([id[0], id[1]]));
    Some((u32_at(value, 0)?, ids.collect()))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    four.try_into().ok().map(u32::from_be_bytes)
}

fn require(holds: bool, why: &'static str) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(Refused(why)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut packet = vec![19, 136, 19, 136, 1, 2, 3, 4, 0, 0, 0, 0];
        for chunk in chunks {
            packet.extend(chunk);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut chunk = vec![kind, 0];
        chunk.extend((value.len() as u16 + 4).to_be_bytes());
        chunk.extend(value);
        chunk
    }

    fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut tlv = kind.to_be_bytes().to_vec();
        tlv.extend((value.len() as u16 + 4).to_be_bytes());
        tlv.extend(value);
        tlv.resize(tlv.len().next_multiple_of(4), 0);
        tlv
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn init(tag: u32, first: u32) -> Vec<u8> {
        let mut value = words(&[tag, 1 << 20, 0xffff_ffff, first]);
        value.extend(tlv(0xc000, &[]));
        value.extend(tlv(0x8008, &[130, 192]));
        chunk(INIT, &value)
    }

    fn data(number: u32) -> Vec<u8> {
        chunk(DATA, &[words(&[number, 0, 51]), vec![7; 5]].concat())
    }

    fn reset(number: u32, streams: usize) -> Vec<u8> {
        let mut value = words(&[number, 0, 900]);
        value.resize(12 + 2 * streams, 0);
        chunk(RECONFIG, &tlv(RESET_REQUEST, &value))
    }

    fn response(number: u32, result: u32) -> Vec<u8> {
        chunk(RECONFIG, &tlv(RESET_RESPONSE, &words(&[number, result])))
    }

    fn started(first: u32) -> SctpFilter {
        let mut filter = SctpFilter::default();
        filter.check(&packet(&[init(9, first)])).unwrap();
        filter
    }

    #[test]
    fn packets_of_an_honest_peer_pass() {
        let mut filter = started(100);
        let honest = [
            vec![chunk(COOKIE_ECHO, &[1; 32]), data(100), data(101)],
            vec![chunk(11, &[])],
            vec![chunk(
                SACK,
                &words(&[7, 1 << 20, 0x0002_0001, 0x0002_0003, 0x0005_0005, 6]),
            )],
            vec![chunk(HEARTBEAT, &tlv(1, &[1; 9]))],
            vec![chunk(ABORT, &tlv(12, b"bye"))],
            vec![chunk(ABORT, &[])],
            vec![chunk(ERROR, &tlv(6, &[1; 8]))],
            vec![reset(100, 1), response(3, 1)],
            vec![chunk(FORWARD_TSN, &words(&[150, 0x0001_0002]))],
            vec![chunk(7, &words(&[3]))],
            vec![init(9, 100)],
        ];
        for chunks in honest {
            assert_eq!(filter.check(&packet(&chunks)), Ok(()), "{chunks:?}");
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let lying = |kind: u8, length: u16| [vec![kind, 0], length.to_be_bytes().to_vec()].concat();
        let cause = |length: u16| [vec![0, 12], length.to_be_bytes().to_vec()].concat();
        let bad = [
            lying(DATA, 3),
            lying(DATA, 0),
            lying(DATA, 8),
            lying(COOKIE_ECHO, 60_000),
            vec![ABORT, 0],
            chunk(ABORT, &cause(3)),
            chunk(ABORT, &cause(0xffff)),
            chunk(ERROR, &cause(5)),
            chunk(ERROR, &[cause(4), cause(9)].concat()),
            chunk(HEARTBEAT, &cause(60)),
            chunk(HEARTBEAT, &[]),
            chunk(COOKIE_ECHO, &[]),
            chunk(DATA, &[0; 12]),
            chunk(INIT, &[0; 15]),
            chunk(INIT, &[words(&[9, 0, 0, 100]), cause(5)].concat()),
            chunk(RECONFIG, &[0; 3]),
            chunk(RECONFIG, &cause(30)),
            chunk(RECONFIG, &tlv(RESET_REQUEST, &[0; 11])),
            chunk(SACK, &words(&[7, 8])),
            chunk(SACK, &words(&[7, 8, 0x0001_0000])),
            chunk(SACK, &words(&[7, 8, 0x0000_0001])),
            chunk(SACK, &words(&[7, 8, 0x0002_0000, 0x0001_ffff, 0x0001_ffff])),
            chunk(FORWARD_TSN, &[0; 3]),
            chunk(FORWARD_TSN, &[0, 0, 0, 100, 1, 2]),
        ];
        for chunk in bad {
            assert!(
                started(100)
                    .check(&packet(std::slice::from_ref(&chunk)))
                    .is_err(),
                "{chunk:?}"
            );
            let behind = packet(&[data(100), chunk]);
            assert!(started(100).check(&behind).is_err(), "{behind:?}");
        }
        assert!(started(100).check(&[0; 11]).is_err());
    }

    #[test]
    fn numbers_are_skipped_as_far_as_was_acknowledged_or_has_arrived() {
        let forward = |to: u32| packet(&[chunk(FORWARD_TSN, &words(&[to]))]);
        let acknowledge = |number: u32| packet(&[chunk(SACK, &words(&[number, 0, 0]))]);
        assert!(SctpFilter::default().check(&forward(1)).is_err());
        for first in [1, 100, u32::MAX - 5] {
            let mut filter = started(first);
            let last = first.wrapping_sub(1).wrapping_add(MAX_SKIPPED);
            assert_eq!(filter.check(&forward(last)), Ok(()));
            assert_eq!(filter.check(&forward(first.wrapping_sub(2))), Ok(()));
            let beyond = last.wrapping_add(1);
            assert!(filter.check(&forward(beyond)).is_err());
            assert!(filter.check(&forward(first.wrapping_add(1 << 30))).is_err());
            // A number far ahead, or another INIT, does not move the limit.
            let far = first.wrapping_add(1 << 30);
            assert!(filter.check(&packet(&[init(9, far)])).is_err());
            filter.check(&packet(&[data(far)])).unwrap();
            assert_eq!(filter.check(&forward(beyond)), Ok(()));
            assert!(filter.check(&forward(far)).is_err());
            filter.note_sent(&acknowledge(last));
            assert_eq!(
                filter.check(&forward(last.wrapping_add(MAX_SKIPPED))),
                Ok(())
            );
            assert!(
                filter
                    .check(&forward(beyond.wrapping_add(MAX_SKIPPED)))
                    .is_err()
            );
        }
    }

    #[test]
    fn a_second_association_is_refused() {
        let mut filter = started(100);
        assert!(filter.check(&packet(&[init(10, 100)])).is_err());
        assert!(filter.check(&packet(&[init(9, 101)])).is_err());
        assert_eq!(filter.check(&packet(&[init(9, 100)])), Ok(()));
    }

    #[test]
    fn stream_resets_that_wait_are_bounded_until_they_are_answered() {
        let mut filter = started(100);
        for number in 0..MAX_RESETS as u32 {
            filter.check(&packet(&[reset(number, 1)])).unwrap();
        }
        let next = packet(&[reset(5000, 1)]);
        assert!(filter.check(&next).is_err());
        // One that is sent again is none more.
        assert_eq!(filter.check(&packet(&[reset(3, 1)])), Ok(()));
        filter.note_sent(&packet(&[response(3, IN_PROGRESS)]));
        assert!(filter.check(&next).is_err());
        filter.note_sent(&packet(&[response(3, 1)]));
        assert_eq!(filter.check(&next), Ok(()));

        let mut filter = started(100);
        for number in 0..8 {
            filter.check(&packet(&[reset(number, 8000)])).unwrap();
        }
        assert!(filter.check(&packet(&[reset(8, 8000)])).is_err());
    }

    proptest! {
        #[test]
        fn no_packet_panics(
            header in any::<[u8; 12]>(),
            chunks in prop::collection::vec(
                (
                    prop::sample::select(vec![0_u8, 1, 2, 3, 4, 6, 9, 10, 130, 192]),
                    prop::collection::vec(prop_oneof![Just(0_u8), Just(4), any::<u8>()], 0..60),
                    prop::option::weighted(0.2, any::<u16>()),
                ),
                0..6,
            ),
            cut in 0_usize..8,
        ) {
            let mut filter = started(100);
            let mut packet = header.to_vec();
            for (kind, value, length) in chunks {
                let mut chunk = chunk(kind, &value);
                if let Some(length) = length {
                    chunk[2..4].copy_from_slice(&length.to_be_bytes());
                }
                packet.extend(chunk);
                packet.resize(packet.len().next_multiple_of(4), 0);
            }
            packet.truncate(packet.len() - cut);
            let _ = filter.check(&packet);
            filter.note_sent(&packet);
        }

        #[test]
        fn data_in_any_order_passes(
            first in any::<u32>(),
            steps in prop::collection::vec((0_u32..60_000, 1_usize..1200), 1..100),
        ) {
            let mut filter = started(first);
            for (step, length) in steps {
                let mut value = words(&[first.wrapping_add(step), 3, 53]);
                value.resize(12 + length, 1);
                prop_assert_eq!(filter.check(&packet(&[chunk(DATA, &value)])), Ok(()));
                let ack = chunk(SACK, &words(&[first.wrapping_add(step / 2), 1 << 20, 0]));
                filter.note_sent(&packet(&[ack]));
            }
        }
    }
}
