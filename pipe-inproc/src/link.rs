use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::conn_core::ConnCore;
use crate::lane::Lane;
use crate::profile::LinkProfile;
use crate::pump;
use crate::side::Side;

/// The link that connections run over, to be slowed, cut and healed while they live.
///
/// Clones stand for the same link. A transport [built with one](crate::InprocTransport::with_link)
/// runs all that it dials over it; without one, every connection has its own, which
/// [`InprocConn::link`](crate::InprocConn::link) gives.
///
/// Each connection has the whole bandwidth to itself, and a random sequence of its own that follows
/// from the seed.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?.block_on(async {
/// use pipe_core::{Conn, ConnState, Listener, Transport};
/// use pipe_inproc::{InprocTransport, Link, LinkProfile};
///
/// let link = Link::new(LinkProfile::wifi());
/// let transport = InprocTransport::new().with_link(link.clone());
/// let listener = transport.listen(&"inproc://".parse()?).await?;
/// let conn = transport.dial(&listener.local_addr()).await?;
///
/// link.cut();
/// conn.state().wait_for(|state| *state == ConnState::Disconnected).await?;
/// link.heal();
/// conn.state().wait_for(|state| *state == ConnState::Connected).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    condition: watch::Sender<Condition>,
    attached: Mutex<Attached>,
}

/// The condition of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition {
    pub(crate) profile: LinkProfile,
    pub(crate) up: bool,
}

#[derive(Default)]
struct Attached {
    conns: Vec<Weak<ConnCore>>,
    /// Number of connections so far.
    count: u64,
}

impl Link {
    /// Creates a link of this profile, not cut.
    pub fn new(profile: LinkProfile) -> Self {
        let condition = Condition {
            profile: profile.sane(),
            up: true,
        };
        Self(Arc::new(Inner {
            condition: watch::Sender::new(condition),
            attached: Mutex::new(Attached::default()),
        }))
    }

    /// Returns the profile now.
    pub fn profile(&self) -> LinkProfile {
        self.0.condition.borrow().profile
    }

    /// Sets the profile of the link. Items in flight arrive as scheduled; values out of their
    /// ranges are clamped.
    pub fn set_profile(&self, profile: LinkProfile) {
        self.change(|condition| condition.profile = profile.sane());
    }

    /// Cuts the link: from now on nothing arrives in either direction. Nothing is lost; data that
    /// is sent waits within the windows.
    pub fn cut(&self) {
        self.change(|condition| condition.up = false);
    }

    /// Heals the link: delayed data arrives after the latency of the link.
    pub fn heal(&self) {
        self.change(|condition| condition.up = true);
    }

    /// Returns whether the link is cut.
    pub fn is_cut(&self) -> bool {
        !self.0.condition.borrow().up
    }

    /// Makes the listening side of every connection vanish without a close, as if its process had
    /// been killed: its handles report `Failed`, and no more packets arrive at the dialing side.
    pub fn crash_listeners(&self) {
        self.crash(Side::Listener);
    }

    /// Lets the dialing side of every connection vanish; see
    /// [`crash_listeners`](Self::crash_listeners).
    pub fn crash_dialers(&self) {
        self.crash(Side::Dialer);
    }

    /// Makes a connection over this link. `make` receives the link's condition and the connection's
    /// number on it.
    pub(crate) fn attach(
        &self,
        make: impl FnOnce(Condition, u64) -> Arc<ConnCore>,
    ) -> Arc<ConnCore> {
        let mut attached = self.0.attached.lock();
        let number = attached.count;
        attached.count += 1;
        let condition = *self.0.condition.borrow();
        let conn = make(condition, number);
        if attached.conns.len() == attached.conns.capacity() {
            attached.conns.retain(|conn| conn.strong_count() > 0);
        }
        attached.conns.push(Arc::downgrade(&conn));
        pump::ensure(&conn);
        conn
    }

    /// Takes the time of a question and its answer over the link, and waits while it is cut.
    pub(crate) async fn round_trip(&self) {
        if self.profile().is_ideal() && !self.is_cut() {
            return;
        }
        let mut condition = self.0.condition.subscribe();
        for _ in 0..2 {
            // The sender lives in this link, so waiting does not fail.
            let now = condition
                .wait_for(|condition| condition.up)
                .await
                .map(|c| *c);
            let Ok(Condition { profile, .. }) = now else {
                return;
            };
            let start = Instant::now();
            let mut lane = Lane::new(profile.seed ^ self.0.attached.lock().count, start);
            lane.push(&profile, start, 64, ());
            sleep_until(lane.next_arrival().unwrap_or(start)).await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Condition)) {
        // Held to the end, so that all connections see changes in one order.
        let attached = self.0.attached.lock();
        self.0.condition.send_modify(change);
        let Condition { profile, up } = *self.0.condition.borrow();
        for conn in attached.live() {
            conn.link_changed(profile, up);
            pump::ensure(&conn);
        }
    }

    fn crash(&self, side: Side) {
        let conns = self.0.attached.lock().live();
        for conn in conns {
            conn.kill(side);
            pump::ensure(&conn);
        }
    }
}

impl Attached {
    fn live(&self) -> Vec<Arc<ConnCore>> {
        self.conns.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Default for Link {
    /// Creates an ideal link.
    fn default() -> Self {
        Self::new(LinkProfile::ideal())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Condition { profile, up } = *self.0.condition.borrow();
        f.debug_struct("Link")
            .field("profile", &profile)
            .field("up", &up)
            .finish_non_exhaustive()
    }
}
