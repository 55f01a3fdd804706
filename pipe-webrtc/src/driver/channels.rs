use std::sync::Arc;

use futures::stream::{StreamExt, unfold};
use pipe_core::Result;
use tokio::time::Instant;

use super::{Driver, HELLO_AGAIN};
use crate::engine::{Channel, ChannelEvent, Vitals};
use crate::error::protocol;
use crate::shared::{PING_LEN, Shared};
use crate::wire::{ControlMessage, Hello, PROTOCOL};

/// How many plain channels a peer may have open.
const MAX_RAW: usize = 4096;

/// The length of what is echoed, at most, in bytes.
const MAX_ECHO: usize = 1024;

/// How many turns of the engine in which no more than [`FEW`] messages come say that nothing came before
/// the close of a channel that was not passed on.
const QUIET_TURNS: usize = 2;

/// How much of streams may come before the hello, in bytes and the cost of messages.
const MAX_EARLY: usize = 1024 * 1024;
const EVENT_COST: usize = 256;

/// Fewer messages than fill the engine's queue for a channel, which would keep others back.
const FEW: u64 = 256;

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Control,
    Ping,
    Echo,
    /// It carries streams that this side opens.
    Ours,
    /// It carries streams that the peer opens.
    Theirs,
}

impl Driver {
    /// Watches a channel from now on.
    pub(super) fn watch(&mut self, channel: Channel, kind: Kind) {
        let watched = Watched {
            channel,
            carries: matches!(kind, Kind::Ours | Kind::Theirs),
            shared: self.shared.clone(),
            control: self.fixed.control.clone(),
            vitals: self.peer.vitals().clone(),
            order: Order::default(),
        };
        let events = unfold(Some(watched), move |watched| async move {
            let mut watched = watched?;
            let event = watched.next().await;
            let channel = watched.channel.clone();
            let is_last = matches!(event, ChannelEvent::Closed | ChannelEvent::Gone);
            Some(((kind, channel, event), (!is_last).then_some(watched)))
        });
        self.channels.push(events.boxed());
    }

    pub(super) async fn on_new_channel(&mut self, channel: Channel) -> Result<()> {
        if self.ready.is_some() && self.shared.offerer && !self.shared.wire.is_raw() {
            // The answerer says hello first, and waits for that of this side.
            return Err(protocol("a channel before its hello"));
        }
        // A channel that is gone again has nothing to tell.
        let Ok(info) = channel.info().await else {
            return Ok(());
        };
        if info.label == self.shared.label() {
            // The engine takes a channel of this side for the peer's if its opening is answered before
            // the engine has noted who opened it. To drop the second handle would cut off the first.
            self.strays.push(channel);
            return Ok(());
        }
        channel.set_quiet().await;
        if self.shared.wire.is_raw() {
            self.theirs += 1;
            if self.theirs > MAX_RAW {
                return Err(protocol(format_args!("more than {MAX_RAW} channels")));
            }
            if !self.shared.raw_incoming(&channel, info) {
                let limit = self.shared.config.max_streams;
                tracing::debug!(limit, "a channel beyond the limit is closed");
                channel.close().await;
            }
            self.watch(channel, Kind::Theirs);
            return Ok(());
        }
        if info.protocol != PROTOCOL || !info.ordered {
            tracing::debug!(?info, "a channel of another protocol is closed");
            channel.close().await;
            return Ok(());
        }
        self.theirs += 1;
        let limit = 2 * self.shared.config.max_streams as usize + 16;
        if self.theirs > limit {
            return Err(protocol(format_args!("more than {limit} channels")));
        }
        self.watch(channel, Kind::Theirs);
        Ok(())
    }

    /// Takes what has happened on a channel. What belongs to streams waits for the peer's hello, which another
    /// channel carries.
    pub(super) async fn on_event(
        &mut self,
        kind: Kind,
        channel: Channel,
        event: ChannelEvent,
    ) -> Result<()> {
        if kind == Kind::Theirs && self.ready.is_some() {
            return self.early.push(channel, event);
        }
        self.on_channel(kind, &channel, event).await?;
        if self.ready.is_none() && !self.early.events.is_empty() {
            for (channel, event) in std::mem::take(&mut self.early).events {
                self.on_channel(Kind::Theirs, &channel, event).await?;
            }
        }
        Ok(())
    }

    async fn on_channel(
        &mut self,
        kind: Kind,
        channel: &Channel,
        event: ChannelEvent,
    ) -> Result<()> {
        match (kind, event) {
            (Kind::Control, ChannelEvent::Open) if self.shared.wire.is_raw() => {
                // A plain peer says nothing of itself.
                return self.on_hello(Hello::plain()).await;
            }
            (Kind::Control, ChannelEvent::Open) => {
                self.open = true;
                self.alarm.as_mut().reset(Instant::now() + HELLO_AGAIN);
                if !self.shared.offerer {
                    self.shared.say(&self.shared.hello());
                }
            }
            (Kind::Control, ChannelEvent::Text(text)) => {
                if let Some(message) = ControlMessage::parse(&text)? {
                    self.on_control(message).await?;
                }
            }
            (
                Kind::Control | Kind::Ping | Kind::Echo,
                ChannelEvent::Closed | ChannelEvent::Gone,
            ) => return self.ended_by_peer(),
            (Kind::Ping, ChannelEvent::Bytes(bytes)) => self.shared.on_echo(&bytes)?,
            (Kind::Echo, ChannelEvent::Bytes(bytes)) if bytes.len() <= MAX_ECHO => {
                self.shared.outbox.push_echo(bytes)?;
            }
            (Kind::Echo, ChannelEvent::Bytes(bytes)) => {
                let length = bytes.len();
                return Err(protocol(format_args!(
                    "a ping of {length} bytes, where {PING_LEN} are usual"
                )));
            }
            (Kind::Ours | Kind::Theirs, ChannelEvent::Text(text)) if self.shared.wire.is_raw() => {
                self.shared.on_message(channel, text, true);
            }
            (Kind::Ours | Kind::Theirs, ChannelEvent::Bytes(bytes))
                if self.shared.wire.is_raw() =>
            {
                self.shared.on_message(channel, bytes, false);
            }
            (Kind::Ours | Kind::Theirs, ChannelEvent::Text(text)) => {
                self.shared.on_text(channel, kind == Kind::Ours, &text)?;
            }
            (Kind::Ours | Kind::Theirs, ChannelEvent::Bytes(bytes)) => {
                self.shared.on_bytes(channel, bytes)?;
            }
            (Kind::Ours | Kind::Theirs, ChannelEvent::Closed) => {
                if kind == Kind::Theirs {
                    self.theirs -= 1;
                }
                self.shared.on_closed(channel);
            }
            // The connection ends by itself, and that is no clean end of a plain channel.
            (Kind::Ours | Kind::Theirs, ChannelEvent::Gone) => {}
            (_, ChannelEvent::Open) => {}
            (Kind::Control, ChannelEvent::Bytes(_))
            | (Kind::Ping | Kind::Echo, ChannelEvent::Text(_)) => {
                return Err(protocol(format_args!(
                    "a message of the wrong kind on the {kind:?} channel"
                )));
            }
        }
        Ok(())
    }
}

/// What has happened on channels of the peer before its hello.
#[derive(Default)]
pub(super) struct Early {
    events: Vec<(Channel, ChannelEvent)>,
    cost: usize,
}

impl Early {
    fn push(&mut self, channel: Channel, event: ChannelEvent) -> Result<()> {
        let bytes = match &event {
            ChannelEvent::Text(bytes) | ChannelEvent::Bytes(bytes) => bytes.len(),
            ChannelEvent::Open | ChannelEvent::Closed | ChannelEvent::Gone => 0,
        };
        self.cost += bytes + EVENT_COST;
        if self.cost > MAX_EARLY {
            return Err(protocol(format_args!(
                "messages of streams for {MAX_EARLY} bytes before its hello"
            )));
        }
        self.events.push((channel, event));
        Ok(())
    }
}

/// A channel whose events are taken.
struct Watched {
    channel: Channel,
    /// It carries streams.
    carries: bool,
    shared: Arc<Shared>,
    control: Channel,
    vitals: Arc<Vitals>,
    order: Order,
}

/// Puts the close of a channel behind the messages that were sent before it: the engine tells of a close
/// first, and of messages in its later turns.
#[derive(Debug, Default)]
struct Order {
    is_closed: bool,
    /// How many turns of the engine in a row have said that nothing is left.
    quiet: usize,
}

impl Order {
    /// Takes an event of a channel that carries streams. Gives it back unless it is the close, which waits.
    fn take(&mut self, event: ChannelEvent) -> Option<ChannelEvent> {
        if matches!(event, ChannelEvent::Closed) {
            self.is_closed = true;
            return None;
        }
        self.quiet = 0;
        Some(event)
    }

    /// The engine has had a turn without an event of this channel. Returns whether the close is next.
    fn turned(&mut self, is_quiet: bool) -> bool {
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        self.is_closed && self.quiet >= QUIET_TURNS
    }
}

impl Watched {
    /// The next event. That of a close comes after all messages that were sent before it.
    async fn next(&mut self) -> ChannelEvent {
        if self.carries && self.shared.wire.is_raw() {
            // What a plain peer sends is held back in the engine only.
            self.shared.until_room(self.channel.key()).await;
        }
        if !self.order.is_closed {
            let event = self.channel.next().await;
            if !self.carries {
                return event;
            }
            if let Some(event) = self.order.take(event) {
                return event;
            }
        }
        loop {
            let (turn, before) = (self.vitals.turns(), self.shared.messages_taken());
            let turned = async {
                // The engine turns when it is given something, even if that changes nothing.
                self.control.set_quiet().await;
                self.vitals.turn_after(turn).await;
            };
            tokio::select! {
                biased;
                event = self.channel.next() => match self.order.take(event) {
                    None => continue,
                    Some(event) => return event,
                },
                () = turned => {}
            }
            // A channel that is full keeps the engine from passing on what came on others.
            let was_full = self.shared.until_flowing().await;
            let few = self.shared.messages_taken() - before < FEW;
            if self.order.turned(few && !was_full) {
                return ChannelEvent::Closed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// What comes of a channel whose engine tells of these things, one a turn; nothing in some turns.
    fn told(turns: impl IntoIterator<Item = Option<ChannelEvent>>) -> Vec<&'static str> {
        let mut order = Order::default();
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
        // Turns without a close say nothing.
        assert_eq!(told([None, None, None, message()]), ["message"]);
    }

    #[test]
    fn a_turn_in_which_others_are_held_up_is_not_quiet() {
        let mut order = Order::default();
        assert!(order.take(ChannelEvent::Closed).is_none());
        assert!(!order.turned(true) && !order.turned(false) && !order.turned(true));
        assert!(order.turned(true));
    }
}
