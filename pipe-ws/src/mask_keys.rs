use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// Number of keys that are drawn at once.
const BATCH: usize = 64;

/// Keys for the frames of a client, which no one can predict (RFC 6455, section 5.3).
#[derive(Debug)]
pub(crate) struct MaskKeys {
    keys: [u8; 4 * BATCH],
    used: usize,
}

impl MaskKeys {
    pub(crate) fn new() -> Self {
        Self {
            keys: [0; 4 * BATCH],
            used: BATCH,
        }
    }

    /// Returns a fresh key.
    pub(crate) fn next(&mut self) -> io::Result<[u8; 4]> {
        if self.used == BATCH {
            random(&mut self.keys)?;
            self.used = 0;
        }
        let at = 4 * self.used;
        self.used += 1;
        let mut key = [0; 4];
        key.copy_from_slice(&self.keys[at..at + 4]);
        Ok(key)
    }
}

/// Fills a buffer with random bytes of the system.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| io::Error::other("the system has no random numbers"))
}
