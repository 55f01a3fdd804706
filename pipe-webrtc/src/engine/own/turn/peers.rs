use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Maximum number of permissions: addresses of a peer.
const MAX_PERMISSIONS: usize = 100;

/// Maximum number of channels at a time.
const MAX_CHANNELS: usize = 32;

/// The numbers of channels (RFC 8656, section 12). None is used twice, since a server keeps one for
/// its peer longer than it is bound.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;

/// Time after which a permission is asked for again, and a channel; they end after 300 s and 600 s (RFC 8656,
/// sections 9 and 12).
const PERMISSION: Duration = Duration::from_secs(240);
const CHANNEL: Duration = Duration::from_secs(540);

/// Time without packets to a peer after which it is let go.
const UNUSED: Duration = Duration::from_secs(300);

/// Maximum number of packets that wait for a permission, and their bytes.
const MAX_WAITING: usize = 16;
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// The addresses that an allocation reaches.
#[derive(Debug, Default)]
pub(super) struct Peers {
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    /// The number of the next channel.
    next: u16,
    waiting: VecDeque<(SocketAddr, Bytes)>,
    waiting_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked,
    Granted { again: Instant },
    Refused,
}

#[derive(Debug)]
struct Permission {
    ip: IpAddr,
    state: State,
    used: Instant,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    state: State,
}

/// How a packet goes to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Channel(u16),
    /// Within an indication. `bind` is whether a channel may be asked for.
    Indication {
        bind: bool,
    },
    /// It waits for a permission. `ask` is whether that has to be asked for.
    Waits {
        ask: bool,
    },
    /// The server or the limits do not admit the peer.
    Closed,
}

impl Peers {
    /// Notes a packet to a peer, and returns how it goes.
    pub(super) fn way(&mut self, now: Instant, peer: SocketAddr) -> Way {
        let Some(permission) = self.permissions.iter_mut().find(|one| one.ip == peer.ip()) else {
            return match self.permissions.len() < MAX_PERMISSIONS {
                true => Way::Waits { ask: true },
                false => Way::Closed,
            };
        };
        permission.used = now;
        match permission.state {
            State::Asked => return Way::Waits { ask: false },
            State::Refused => return Way::Closed,
            State::Granted { .. } => {}
        }
        match self.channels.iter().find(|one| one.peer == peer) {
            Some(channel) => match channel.state {
                State::Granted { .. } => Way::Channel(channel.number),
                State::Asked | State::Refused => Way::Indication { bind: false },
            },
            None => Way::Indication {
                bind: self.channels.len() < MAX_CHANNELS
                    && self.next <= CHANNELS.end() - CHANNELS.start(),
            },
        }
    }

    /// Notes that a permission is asked for. Returns whether it is to be: there may be one, or no room.
    pub(super) fn ask(&mut self, now: Instant, ip: IpAddr) -> bool {
        let is_known = self.permissions.iter().any(|one| one.ip == ip);
        if is_known || self.permissions.len() == MAX_PERMISSIONS {
            return false;
        }
        self.permissions.push(Permission {
            ip,
            state: State::Asked,
            used: now,
        });
        true
    }

    /// Keeps a packet until there is a permission. Without room it is lost.
    pub(super) fn wait(&mut self, peer: SocketAddr, data: &[u8]) {
        let bytes = self.waiting_bytes + data.len();
        if self.waiting.len() < MAX_WAITING && bytes <= MAX_WAITING_BYTES {
            self.waiting_bytes = bytes;
            self.waiting.push_back((peer, Bytes::copy_from_slice(data)));
        }
    }

    /// Notes the server's answer about a permission. Returns the packets that have waited for it.
    pub(super) fn permitted(
        &mut self,
        now: Instant,
        ip: IpAddr,
        is_granted: bool,
    ) -> Vec<(SocketAddr, Bytes)> {
        if let Some(permission) = self.permissions.iter_mut().find(|one| one.ip == ip) {
            permission.state = match is_granted {
                true => State::Granted {
                    again: now + PERMISSION,
                },
                false => State::Refused,
            };
        }
        let mut ready = Vec::new();
        let waiting = std::mem::take(&mut self.waiting);
        for (peer, data) in waiting {
            if peer.ip() == ip {
                self.waiting_bytes -= data.len();
                ready.push((peer, data));
            } else {
                self.waiting.push_back((peer, data));
            }
        }
        if !is_granted {
            ready.clear();
        }
        ready
    }

    /// Returns the number of a new channel to a peer.
    pub(super) fn open_channel(&mut self, peer: SocketAddr) -> u16 {
        let number = CHANNELS.start() + self.next;
        self.next += 1;
        self.channels.push(Channel {
            number,
            peer,
            state: State::Asked,
        });
        number
    }

    /// Notes the server's answer about a channel. A binding is a permission too (RFC 8656, section 12).
    pub(super) fn bound(&mut self, now: Instant, number: u16, is_granted: bool) {
        let Some(channel) = self.channels.iter_mut().find(|one| one.number == number) else {
            return;
        };
        channel.state = match is_granted {
            true => State::Granted {
                again: now + CHANNEL,
            },
            false => State::Refused,
        };
    }

    /// Returns the peer of a channel.
    pub(super) fn channel(&self, number: u16) -> Option<SocketAddr> {
        let channel = self.channels.iter().find(|one| one.number == number)?;
        (channel.state != State::Refused).then_some(channel.peer)
    }

    /// Returns whether the server was asked to let packets of this address through.
    pub(super) fn is_permitted(&self, ip: IpAddr) -> bool {
        let permission = self.permissions.iter().find(|one| one.ip == ip);
        permission.is_some_and(|one| one.state != State::Refused)
    }

    /// Returns the permissions and channels that are to be asked for again, and lets go of those to which no
    /// packet went of late.
    pub(super) fn renew(&mut self, now: Instant) -> (Vec<IpAddr>, Vec<(u16, SocketAddr)>) {
        let (mut ips, mut channels) = (Vec::new(), Vec::new());
        let is_due = |state: State| matches!(state, State::Granted { again } if again <= now);
        self.permissions.retain_mut(|one| {
            if !is_due(one.state) {
                return true;
            }
            if now.saturating_duration_since(one.used) >= UNUSED {
                return false;
            }
            ips.push(one.ip);
            // It holds until the answer.
            one.state = State::Granted {
                again: now + PERMISSION,
            };
            true
        });
        let permissions = &self.permissions;
        self.channels.retain_mut(|one| {
            if !is_due(one.state) {
                return true;
            }
            if !permissions.iter().any(|of| of.ip == one.peer.ip()) {
                return false;
            }
            channels.push((one.number, one.peer));
            one.state = State::Granted {
                again: now + CHANNEL,
            };
            true
        });
        (ips, channels)
    }

    /// Returns the time of the next [`renew`](Self::renew).
    pub(super) fn due(&self) -> Option<Instant> {
        let permissions = self.permissions.iter().map(|one| one.state);
        let channels = self.channels.iter().map(|one| one.state);
        let again = |state| match state {
            State::Granted { again } => Some(again),
            State::Asked | State::Refused => None,
        };
        permissions.chain(channels).filter_map(again).min()
    }
}
