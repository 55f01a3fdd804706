use std::sync::Arc;

use crate::engine::{Channel, ChannelEvent, CratePeer, Vitals};
use crate::shared::Shared;

/// Number of turns of the engine with at most [`FEW`] messages after which none is left from before
/// the close of a channel.
const QUIET_TURNS: usize = 2;

/// Fewer messages than fill the engine's queue for a channel, which would keep others back.
const FEW: u64 = 256;

/// Puts the close of a channel behind the messages that were sent before it: the engine reports a
/// close first, and messages in its later turns.
pub(super) struct Order {
    control: Channel,
    vitals: Arc<Vitals>,
    turns: Turns,
}

#[derive(Debug, Default)]
struct Turns {
    is_closed: bool,
    /// Number of consecutive turns of the engine without messages left.
    quiet: usize,
}

impl Turns {
    /// Takes an event of a channel that carries streams. Gives it back unless it is the close, which waits.
    fn take(&mut self, event: ChannelEvent) -> Option<ChannelEvent> {
        if matches!(event, ChannelEvent::Closed) {
            self.is_closed = true;
            return None;
        }
        self.quiet = 0;
        Some(event)
    }

    /// Notes that the engine has had a turn without an event of this channel. Returns whether the
    /// close is next.
    fn turned(&mut self, is_quiet: bool) -> bool {
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        self.is_closed && self.quiet >= QUIET_TURNS
    }
}

impl Order {
    /// Creates the order of a channel; `control` is one to make the engine turn with.
    pub(super) fn new(peer: &CratePeer, control: Channel) -> Self {
        Self {
            control,
            vitals: peer.vitals().clone(),
            turns: Turns::default(),
        }
    }

    /// Waits for the next event of the channel. That of a close comes after all messages that were sent
    /// before it.
    pub(super) async fn next(&mut self, channel: &Channel, shared: &Shared) -> ChannelEvent {
        if !self.turns.is_closed {
            let event = channel.next().await;
            if let Some(event) = self.turns.take(event) {
                return event;
            }
        }
        loop {
            let (turn, before) = (self.vitals.turns(), shared.messages_taken());
            let turned = async {
                // The engine turns when it is given something, even if that changes nothing.
                self.control.set_quiet().await;
                self.vitals.turn_after(turn).await;
            };
            tokio::select! {
                biased;
                event = channel.next() => match self.turns.take(event) {
                    None => continue,
                    Some(event) => return event,
                },
                () = turned => {}
            }
            // A channel that is full keeps the engine from passing on messages of others.
            let was_full = shared.until_flowing().await;
            let few = shared.messages_taken() - before < FEW;
            if self.turns.turned(few && !was_full) {
                return ChannelEvent::Closed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Returns the events of a channel whose engine reports these, one a turn; none in some turns.
    fn told(turns: impl IntoIterator<Item = Option<ChannelEvent>>) -> Vec<&'static str> {
        let mut order = Turns::default();
        let mut told = Vec::new();
        for event in turns {
            let given = match event {
                Some(event) => order.take(event),
                None => order.turned(true).then_some(ChannelEvent::Closed),
            };
            match given {
                Some(ChannelEvent::Closed) => {
                    told.push("closed");
                    break;
                }
                Some(_) => told.push("message"),
                None => {}
            }
        }
        told
    }

    fn message() -> Option<ChannelEvent> {
        Some(ChannelEvent::Bytes(BytesMut::new()))
    }

    #[test]
    fn a_close_comes_after_the_messages_that_the_engine_tells_of_later() {
        let close = || Some(ChannelEvent::Closed);
        assert_eq!(
            told([close(), message(), None, message(), None, None]),
            ["message", "message", "closed"]
        );
        assert_eq!(
            told([message(), close(), None, message(), None, None, message()]),
            ["message", "message", "closed"]
        );
        // Turns without a close have no effect.
        assert_eq!(told([None, None, None, message()]), ["message"]);
    }

    #[test]
    fn a_turn_in_which_others_are_held_up_is_not_quiet() {
        let mut order = Turns::default();
        assert!(order.take(ChannelEvent::Closed).is_none());
        assert!(!order.turned(true) && !order.turned(false) && !order.turned(true));
        assert!(order.turned(true));
    }
}
