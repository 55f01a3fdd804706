//! Frames of yamux in one direction.

/// The length of a header.
const HEADER: usize = 12;

const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;

/// The control channel of `pipe/1`.
const CONTROL: u32 = 1;

/// Finds the frames in a stream of bytes.
#[derive(Default)]
pub(crate) struct Frames {
    header: Vec<u8>,
    body: usize,
}

impl Frames {
    /// Follows bytes, and gives the streams of the data frames that begin in them.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) -> Vec<u32> {
        let mut streams = Vec::new();
        while !bytes.is_empty() {
            let skipped = self.body.min(bytes.len());
            self.body -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            let Ok([_, kind, _, _, s0, s1, s2, s3, l0, l1, l2, l3]) =
                <[u8; HEADER]>::try_from(&self.header[..])
            else {
                continue;
            };
            self.header.clear();
            let stream = u32::from_be_bytes([s0, s1, s2, s3]);
            if kind == DATA {
                self.body = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
                if stream != CONTROL {
                    streams.push(stream);
                }
            }
        }
        streams
    }

    /// Returns whether no frame has begun.
    pub(crate) fn is_between(&self) -> bool {
        self.header.is_empty() && self.body == 0
    }
}

/// A window update that grants nothing.
pub(crate) fn empty_credit(stream: u32) -> Vec<u8> {
    let mut frame = vec![0, WINDOW_UPDATE, 0, 0];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&0_u32.to_be_bytes());
    frame
}
