//! What a negotiation tells its connection.

#[derive(Debug)]
#[allow(dead_code)]
pub(crate) enum ConnEvent {
    LocalCandidate(String),
    RemoteCandidate(String),
    IceRestarted,
}

pub(crate) struct Shared {
    pub(crate) offerer: bool,
    pub(crate) remote_addr: &'static str,
}

impl Shared {
    pub(crate) fn new(offerer: bool) -> Self {
        Self {
            offerer,
            remote_addr: "webrtc+tcp://192.0.2.1:1",
        }
    }

    pub(crate) fn tell(&self, _: ConnEvent) {}
}
