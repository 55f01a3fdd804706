use std::time::Duration;

use tokio::time::Instant;

use crate::event::Event;
use crate::lane::Lane;
use crate::profile::LinkProfile;
use crate::side::{PerSide, Side};
use crate::sync::{AtomicBool, Mutex, Notified, Notify, Ordering};

/// The link state between the two sides of a connection.
///
/// While it is *direct*, events take effect at once, in the task of the sender. Otherwise they are
/// in flight in a lane, and the pump delivers them.
pub(crate) struct Wire {
    direct: AtomicBool,
    state: Mutex<State>,
    /// Notified of every change that concerns the pump.
    changed: Notify,
}

struct State {
    profile: LinkProfile,
    up: bool,
    /// The side that vanished.
    dead: Option<Side>,
    /// Lanes, by the sender.
    lanes: PerSide<Lane<Event>>,
}

impl State {
    fn can_be_direct(&self) -> bool {
        self.up
            && self.dead.is_none()
            && self.profile.is_ideal()
            && self.lanes.iter().all(Lane::is_empty)
    }
}

impl Wire {
    pub(crate) fn new(profile: LinkProfile, up: bool, number: u64) -> Self {
        let now = Instant::now();
        let lanes = PerSide::new(|side| Lane::new(lane_seed(&profile, number, side), now));
        let state = State {
            profile,
            up,
            dead: None,
            lanes,
        };
        Self {
            direct: AtomicBool::new(state.can_be_direct()),
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// Returns whether events take effect at once. It can turn false at any time, but true only
    /// when nothing is in flight, so that events of one task never overtake each other.
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Acquire)
    }

    /// Sends an event off, or gives it back for being applied at once.
    pub(crate) fn send(&self, from: Side, event: Event) -> Option<Event> {
        if self.is_direct() {
            return Some(event);
        }
        let mut state = self.state.lock();
        if self.is_direct() {
            return Some(event);
        }
        if state.dead != Some(from.other()) {
            let State { profile, lanes, .. } = &mut *state;
            lanes[from].push(profile, Instant::now(), event.size(), event);
            drop(state);
            self.changed.notify_one();
        }
        None
    }

    /// Returns the round trip of the link, without the time that events wait for others.
    pub(crate) fn round_trip(&self) -> Duration {
        self.state.lock().profile.round_trip()
    }

    /// Returns the next event that has arrived, and where.
    pub(crate) fn arrived(&self, now: Instant) -> Option<(Side, Event)> {
        let mut state = self.state.lock();
        if !state.up {
            return None;
        }
        Side::BOTH
            .into_iter()
            .find_map(|from| Some((from.other(), state.lanes[from].pop(now)?)))
    }

    /// Returns when the next event arrives, if one is in flight and the link is up.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        let state = self.state.lock();
        if !state.up {
            return None;
        }
        state.lanes.iter().filter_map(Lane::next_arrival).min()
    }

    /// Turns direct if nothing stands in the way. Returns whether it is direct.
    pub(crate) fn try_direct(&self) -> bool {
        let state = self.state.lock();
        let direct = state.can_be_direct();
        self.direct.store(direct, Ordering::Release);
        direct
    }

    /// Follows a change of the link. Turning direct is left to the pump, if it runs.
    pub(crate) fn reshape(&self, profile: LinkProfile, up: bool, number: u64) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if up && !state.up {
            for lane in state.lanes.iter_mut() {
                lane.hold_until(now + profile.latency);
            }
        }
        if profile != state.profile {
            for side in Side::BOTH {
                state.lanes[side].reshape(lane_seed(&profile, number, side), now);
            }
        }
        state.profile = profile;
        state.up = up;
        if !state.can_be_direct() {
            self.direct.store(false, Ordering::Release);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Makes a side vanish: events in flight to it are lost, now and later.
    pub(crate) fn kill(&self, side: Side) {
        let mut state = self.state.lock();
        state.dead = Some(side);
        state.lanes[side.other()].clear();
        self.direct.store(false, Ordering::Release);
        drop(state);
        self.changed.notify_one();
    }

    /// Makes the pump look.
    pub(crate) fn nudge(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

/// Each lane of each connection of a link has a random sequence of its own.
fn lane_seed(profile: &LinkProfile, number: u64, side: Side) -> u64 {
    profile.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (2 * number + side as u64)
}
