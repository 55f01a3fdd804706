//! The link of `pipe-inproc`: events stay in order when it turns direct, and a stream ends once.

use std::sync::Arc;

use loom::future::block_on;
use loom::thread;
use tokio::time::Instant;

use crate::event::Event;
use crate::profile::LinkProfile;
use crate::side::Side;
use crate::stream_core::{Part, StreamCore};
use crate::sync::Mutex;
use crate::wire::Wire;

pub(crate) fn models() -> Vec<(&'static str, fn())> {
    crate::list::models![
        events_keep_their_order_when_the_link_turns_direct,
        events_keep_their_order_when_the_link_is_cut_and_healed,
        of_parts_that_end_at_once_one_is_the_last,
    ]
}

/// A link between two sides, and what has arrived over it.
struct Link {
    wire: Wire,
    arrived: Mutex<Vec<u32>>,
}

impl Link {
    fn new(up: bool) -> Arc<Self> {
        Arc::new(Self {
            wire: Wire::new(LinkProfile::ideal(), up, 0),
            arrived: Mutex::default(),
        })
    }

    /// Sends two events as a task of the dialer does.
    fn send(self: &Arc<Self>) -> thread::JoinHandle<()> {
        let link = self.clone();
        thread::spawn(move || {
            for number in [1, 2] {
                if let Some(Event(number)) = link.wire.send(Side::Dialer, Event(number)) {
                    link.arrived.lock().push(number);
                }
            }
        })
    }

    /// Delivers as the pump does, until both events have arrived.
    async fn pump(&self) {
        loop {
            let changed = self.wire.changed();
            let now = Instant::now();
            while let Some((_, Event(number))) = self.wire.arrived(now) {
                self.arrived.lock().push(number);
            }
            if self.arrived.lock().len() == 2 {
                return;
            }
            if self.wire.try_direct() {
                // The sender delivers the rest by itself.
                return;
            }
            changed.await;
        }
    }

    fn assert_order(&self) {
        assert_eq!(*self.arrived.lock(), [1, 2]);
    }
}

fn events_keep_their_order_when_the_link_turns_direct() {
    let link = Link::new(false);
    let sender = link.send();
    let healer = link.clone();
    let healer = thread::spawn(move || healer.wire.reshape(LinkProfile::ideal(), true, 0));
    block_on(link.pump());
    sender.join().expect("a thread");
    healer.join().expect("a thread");
    link.assert_order();
}

fn events_keep_their_order_when_the_link_is_cut_and_healed() {
    let link = Link::new(true);
    let sender = link.send();
    let changer = link.clone();
    let changer = thread::spawn(move || {
        changer.wire.reshape(LinkProfile::ideal(), false, 0);
        changer.wire.reshape(LinkProfile::ideal(), true, 0);
    });
    changer.join().expect("a thread");
    block_on(link.pump());
    sender.join().expect("a thread");
    link.assert_order();
}

fn of_parts_that_end_at_once_one_is_the_last() {
    let stream = Arc::new(StreamCore::new(1, 0));
    assert!(!stream.mark(Part::Accepted));
    assert!(!stream.mark(Part::Direction(Side::Dialer)));
    // A half may be let go twice: at its end, and when it is dropped.
    let parts = [
        Part::Direction(Side::Listener),
        Part::SendReleased,
        Part::RecvReleased,
        Part::RecvReleased,
    ];
    let threads = parts.map(|part| {
        let stream = stream.clone();
        thread::spawn(move || stream.mark(part))
    });
    let last = threads.map(|thread| thread.join().expect("a thread"));
    assert_eq!(last.into_iter().filter(|last| *last).count(), 1);
}
