//! Packets that a hostile peer might send: those of an established association, changed where it hurts.
//!
//! Tags and checksums are right, so that each change reaches the code behind them.

use bytes::Bytes;
use fastrand::Rng;

const HEADER: usize = 12;
const DATA: u8 = 0;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;
const I_DATA: u8 = 64;
const I_FORWARD_TSN: u8 = 194;

/// Types of chunks, some of them unknown.
const TYPES: [u8; 24] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 64, 128, 130, 132, 192, 193, 194, 255,
];

/// Types of parameters (RFC 9260, 6525, 3758, 8260, 9653).
const PARAMETERS: [u16; 17] = [
    1, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 0x8001, 0x8008, 0xc000,
];

/// Returns the CRC32C of a packet whose checksum field is zero, as it stands in the header.
pub fn checksum(packet: &[u8]) -> [u8; 4] {
    static TABLES: [[u32; 256]; 8] = tables();
    let mut crc = !0u32;
    let mut words = packet.chunks_exact(8);
    for word in &mut words {
        let [first, rest @ ..] = &TABLES;
        let mut next = first[usize::from(word[7])];
        let low = crc.to_le_bytes();
        for (at, table) in rest.iter().rev().enumerate() {
            let byte = word[at] ^ low.get(at).copied().unwrap_or(0);
            next ^= table[usize::from(byte)];
        }
        crc = next;
    }
    for byte in words.remainder() {
        crc = TABLES[0][((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    }
    (!crc).to_le_bytes()
}

/// The effect of a byte on the checksum of what follows it by so many bytes as the number of the table.
const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][index] = crc;
        index += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            tables[table][index] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            index += 1;
        }
        table += 1;
    }
    tables
}

/// Remembers what a direction needs to be forged: tag, ports, and the numbers in use.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    header: [u8; 8],
    /// The newest TSN that was sent in this direction.
    pub tsn: u32,
    /// The newest TSN that was acknowledged in this direction, of the other one's data.
    pub acked: u32,
    /// The newest TSN of the other direction.
    pub peer_tsn: u32,
    /// The request number of the last reconfiguration in this direction.
    pub request: u32,
    recent: Vec<Bytes>,
    /// How many of the forged chunks, out of 8, are of a kind that ends an association when it is wrong. With 0 few
    /// are wrong in a way that does, so that others reach an association in every state.
    ferocity: u8,
    interleaved: bool,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Observer {
    /// An observer whose forgeries end associations: few with 0, most with 8.
    pub fn with_ferocity(ferocity: u8) -> Observer {
        Observer {
            ferocity,
            ..Observer::default()
        }
    }

    /// Records a packet of an endpoint that behaves.
    pub fn observe(&mut self, packet: &Bytes) {
        let Some(header) = packet.get(..8) else {
            return;
        };
        // An INIT has no tag.
        if header[4..8] != [0; 4] {
            self.header.copy_from_slice(header);
        }
        for chunk in chunks(packet) {
            self.interleaved |= chunk[0] == I_DATA;
            match (chunk[0], u32_at(chunk, 4)) {
                (DATA | I_DATA, Some(tsn))
                    if tsn.wrapping_sub(self.tsn) < 1 << 31 || self.tsn == 0 =>
                {
                    self.tsn = tsn;
                }
                (SACK, Some(tsn)) => self.acked = tsn,
                (RECONFIG, _) => self.request = u32_at(chunk, 8).unwrap_or(self.request),
                (1 | 2, _) => self.request = u32_at(chunk, 16).unwrap_or(0),
                _ => {}
            }
        }
        if self.recent.len() < 64 {
            self.recent.push(packet.clone());
        } else {
            let at = self.tsn as usize % 64;
            self.recent[at] = packet.clone();
        }
    }

    /// Puts the header of this direction before `chunks`.
    pub fn packet(&self, chunks: &[u8]) -> Bytes {
        let mut packet = Vec::with_capacity(HEADER + chunks.len());
        packet.extend_from_slice(&self.header);
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(chunks);
        let checksum = checksum(&packet);
        packet[8..12].copy_from_slice(&checksum);
        packet.into()
    }

    /// Returns a packet like those observed, with a few changes.
    pub fn forge(&self, rng: &mut Rng) -> Bytes {
        let mut all: Vec<Vec<u8>> = Vec::new();
        if !self.recent.is_empty() {
            for _ in 0..rng.usize(1..3) {
                all.extend(
                    chunks(&self.recent[rng.usize(..self.recent.len())]).map(<[u8]>::to_vec),
                );
            }
        }
        for _ in 0..rng.usize(0..3) {
            all.push(self.made_up(rng));
        }
        if all.is_empty() {
            all.push(self.made_up(rng));
        }
        for _ in 0..rng.usize(0..4) {
            let at = rng.usize(..all.len());
            match rng.u8(..10) {
                0 => all.swap_remove(at).clear(),
                1 => all.push(all[at].clone()),
                2 => all.rotate_left(at),
                _ => self.change(&mut all[at], rng),
            }
            if all.is_empty() {
                break;
            }
        }
        let mut body = Vec::new();
        for chunk in &all {
            body.extend_from_slice(chunk);
            while body.len() % 4 != 0 {
                body.push(0);
            }
        }
        body.truncate(9_000);
        if rng.u8(..if self.is_tame() { 200 } else { 8 }) == 0 {
            body.truncate(rng.usize(..=body.len()));
        }
        let packet = self.packet(&body);
        // Now and then a wrong tag, as that of an attacker beside the path.
        if rng.u8(..50) == 0 && packet.len() >= HEADER {
            let mut bytes = packet.to_vec();
            bytes[4..8].copy_from_slice(&rng.u32(..).to_be_bytes());
            bytes[8..12].fill(0);
            let sum = checksum(&bytes);
            bytes[8..12].copy_from_slice(&sum);
            return bytes.into();
        }
        packet
    }

    fn is_tame(&self) -> bool {
        self.ferocity == 0
    }

    /// A number near those in use, or at an edge.
    fn number(&self, rng: &mut Rng) -> u32 {
        let base = [self.tsn, self.acked, self.request, 0][rng.usize(..4)];
        match rng.u8(..8) {
            0 => base.wrapping_add(1 << 31),
            1 => base.wrapping_add((1 << 31) - 1),
            2 => rng.u32(..),
            3 => base.wrapping_add(rng.u32(..100_000)),
            _ => base.wrapping_add(rng.u32(..40)).wrapping_sub(20),
        }
    }

    /// A chunk with plausible fields.
    fn made_up(&self, rng: &mut Rng) -> Vec<u8> {
        let mut kind = TYPES[rng.usize(..TYPES.len())];
        let gentle = rng.u8(..8) >= self.ferocity;
        if gentle {
            kind = match (kind, self.interleaved) {
                (DATA | 6 | 7, true) => I_DATA,
                (I_DATA | 6 | 7, false) => DATA,
                (FORWARD_TSN | 8, true) => I_FORWARD_TSN,
                (I_FORWARD_TSN | 8, false) => FORWARD_TSN,
                (2 | 14, _) => RECONFIG,
                // Nothing is known of what may be acknowledged.
                (SACK, _) if self.acked == 0 => HEARTBEAT,
                (kind, _) => kind,
            };
        }
        let mut chunk = vec![kind, rng.u8(..), 0, 0];
        let u16 = |rng: &mut Rng| [0u16, 1, 2, 3, 255, 0x7fff, 0xffff, rng.u16(..)][rng.usize(..8)];
        match kind {
            DATA | I_DATA => {
                chunk[1] = rng.u8(..16);
                if self.is_tame() && rng.u8(..32) != 0 {
                    // A whole message: fragments that do not match end the association.
                    chunk[1] |= 3;
                }
                chunk.extend(self.number(rng).to_be_bytes());
                chunk.extend(rng.u16(..8).to_be_bytes());
                chunk.extend(u16(rng).to_be_bytes());
                chunk.extend(rng.u32(..8).to_be_bytes());
                if kind == I_DATA {
                    chunk.extend(rng.u32(..8).to_be_bytes());
                }
                chunk.resize(chunk.len() + rng.usize(..1_200), 7);
            }
            SACK => {
                // More than was sent ends the association.
                let cumulative = if gentle {
                    self.acked.wrapping_sub(rng.u32(..3))
                } else {
                    self.number(rng)
                };
                chunk.extend(cumulative.to_be_bytes());
                chunk.extend([0, 0xffff_ffff, rng.u32(..1_000_000)][rng.usize(..3)].to_be_bytes());
                let most = self.peer_tsn.wrapping_sub(cumulative).min(600) as usize;
                let gaps = if gentle {
                    rng.usize(..=most / 4)
                } else {
                    rng.usize(..300)
                };
                let duplicates = rng.usize(..50);
                chunk.extend((gaps as u16).to_be_bytes());
                chunk.extend((duplicates as u16).to_be_bytes());
                let mut at = 0u16;
                for _ in 0..2 * gaps {
                    // Mostly in order.
                    at = if rng.u8(..20) == 0 {
                        u16(rng)
                    } else {
                        at.wrapping_add(rng.u16(..20))
                    };
                    chunk.extend(at.to_be_bytes());
                }
                for _ in 0..duplicates {
                    chunk.extend(self.number(rng).to_be_bytes());
                }
            }
            FORWARD_TSN | I_FORWARD_TSN => {
                chunk.extend(self.number(rng).to_be_bytes());
                for _ in 0..rng.usize(..300) {
                    chunk.extend(u16(rng).to_be_bytes());
                    chunk.extend(u16(rng).to_be_bytes());
                    if kind == I_FORWARD_TSN {
                        chunk.extend(self.number(rng).to_be_bytes());
                    }
                }
            }
            _ => {
                let fixed = match kind {
                    1 | 2 => 16,
                    7 => 4,
                    _ => 0,
                };
                for _ in 0..fixed / 4 {
                    chunk.extend(self.number(rng).to_be_bytes());
                }
                for _ in 0..rng.usize(..6) {
                    self.parameter(&mut chunk, rng);
                }
            }
        }
        let len = chunk.len() as u16;
        chunk[2..4].copy_from_slice(&len.to_be_bytes());
        chunk
    }

    /// Adds a parameter or an error cause.
    fn parameter(&self, chunk: &mut Vec<u8>, rng: &mut Rng) {
        let words = rng.usize(..8);
        let len = match rng.u8(..8) {
            0 => rng.u16(..),
            1 => rng.u16(..8),
            _ => 4 + 4 * words as u16 - rng.u16(..2).min(4 * words as u16),
        };
        chunk.extend(PARAMETERS[rng.usize(..PARAMETERS.len())].to_be_bytes());
        chunk.extend(len.to_be_bytes());
        for _ in 0..words {
            let word = if rng.bool() {
                self.number(rng)
            } else {
                rng.u32(..0x0008_0008)
            };
            chunk.extend(word.to_be_bytes());
        }
    }

    /// Changes a chunk in one place.
    fn change(&self, chunk: &mut Vec<u8>, rng: &mut Rng) {
        let len = chunk.len();
        let gentle = rng.u8(..8) >= self.ferocity;
        if self.is_tame() && matches!(chunk[0], DATA | I_DATA | SACK) && rng.u8(..32) != 0 {
            chunk[1] ^= 8;
            return;
        }
        match rng.u8(..9) {
            0 | 2 | 3 | 8 if gentle => {}
            0 => chunk[0] = TYPES[rng.usize(..TYPES.len())],
            1 => chunk[1] = rng.u8(..),
            2 => {
                let wrong = [
                    0,
                    3,
                    4,
                    5,
                    8,
                    12,
                    16,
                    20,
                    len as u16 + 4,
                    len as u16 - 1,
                    0xffff,
                    rng.u16(..),
                ];
                chunk[2..4].copy_from_slice(&wrong[rng.usize(..wrong.len())].to_be_bytes());
            }
            3 | 4 if len >= 8 => {
                // One of the first words most of the time.
                let words = (len / 4).min(if rng.bool() { 5 } else { usize::MAX });
                let at = 4 * rng.usize(1..words.max(2));
                chunk[at..at + 4].copy_from_slice(&self.number(rng).to_be_bytes());
            }
            5 if len >= 6 => {
                let at = 2 * rng.usize(2..len / 2);
                let value = [0, 1, 2, 0x7fff, 0x8000, 0xffff, rng.u16(..)][rng.usize(..7)];
                chunk[at..at + 2].copy_from_slice(&value.to_be_bytes());
            }
            6 => {
                chunk.truncate(rng.usize(4..=len));
                let len = chunk.len() as u16;
                chunk[2..4].copy_from_slice(&len.to_be_bytes());
            }
            7 => {
                self.parameter(chunk, rng);
                let len = chunk.len() as u16;
                chunk[2..4].copy_from_slice(&len.to_be_bytes());
            }
            _ => {
                for _ in 0..rng.u8(1..5) {
                    let bit = rng.usize(..len.min(48) * 8);
                    chunk[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
    }
}

/// The chunks of a packet, without their padding. Stops at one that is malformed.
pub fn chunks(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = packet.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?));
        let chunk = rest.get(..len).filter(|_| len >= 4)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(chunk)
    })
}
