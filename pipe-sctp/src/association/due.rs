//! What waits to be sent.

use crate::wire::put_tlv;
use std::collections::VecDeque;

/// Most HEARTBEATs that wait to be answered.
const MAX_HEARTBEATS: usize = 4;
/// Most bytes of causes that wait to be reported.
const MAX_ERRORS: usize = 512;

/// What is to be sent beside data, SACKs and resets.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Whether the association ended.
    pub(super) ended: bool,
    pub(super) init: bool,
    pub(super) cookie_echo: bool,
    pub(super) cookie_ack: bool,
    pub(super) shutdown: bool,
    pub(super) shutdown_ack: bool,
    /// Whether the association is to be shut down once it is established.
    pub(super) shutdown_asked: bool,
    pub(super) check_resets: bool,
    pub(super) heartbeat: bool,
    pub(super) heartbeats: VecDeque<Vec<u8>>,
    pub(super) errors: Vec<u8>,
    /// Whole packets.
    pub(super) replies: VecDeque<Vec<u8>>,
}

impl Due {
    /// Adds the answer to a HEARTBEAT with `info`.
    pub(super) fn answer_heartbeat(&mut self, info: &[u8]) {
        if self.heartbeats.len() < MAX_HEARTBEATS {
            self.heartbeats.push_back(info.to_vec());
        }
    }

    /// Adds an error cause to be reported.
    pub(super) fn report(&mut self, code: u16, value: &[u8]) {
        if self.errors.len() + value.len() + 8 <= MAX_ERRORS {
            put_tlv(&mut self.errors, code, value);
        }
    }
}
