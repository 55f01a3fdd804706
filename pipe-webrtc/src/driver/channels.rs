use futures::stream::{StreamExt, unfold};
use pipe_core::Result;
use pipe_core::backend::proto::codec::text::{PROTOCOL, decode_control};
use pipe_core::backend::proto::{Hello, PING_LEN};
use tokio::time::Instant;

use super::kind::Kind;
#[cfg(feature = "webrtc")]
use super::order::Order;
use super::watched::Watched;
use super::{Driver, HELLO_AGAIN};
#[cfg(feature = "webrtc")]
use crate::engine::Peer;
use crate::engine::{Channel, ChannelEvent};
use crate::error::protocol;

/// Maximum number of plain channels that a peer may have open.
const MAX_RAW: usize = 4096;

/// Maximum length of an echo, in bytes.
const MAX_ECHO: usize = 1024;

impl Driver {
    /// Watches a channel from now on.
    pub(super) fn watch(&mut self, channel: Channel, kind: Kind) {
        let watched = Watched {
            channel,
            carries: matches!(kind, Kind::Ours | Kind::Theirs),
            shared: self.shared.clone(),
            #[cfg(feature = "webrtc")]
            order: match &*self.peer {
                Peer::Crate(peer) => Some(Order::new(peer, self.fixed.control.clone())),
                Peer::Own(_) => None,
            },
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
            // The answerer sends its hello first, and waits for that of this side.
            return Err(protocol("a channel before its hello"));
        }
        // A channel that is gone again has no more events.
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
            if !self.shared.raw_incoming(&channel, info)? {
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

    /// Processes an event of a channel. Events of streams wait for the peer's hello, which another
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
                // A plain peer sends no hello.
                return self.on_hello(Hello::UNLIMITED).await;
            }
            (Kind::Control, ChannelEvent::Open) => {
                self.open = true;
                self.alarm.as_mut().reset(Instant::now() + HELLO_AGAIN);
                if !self.shared.offerer {
                    if let Some(progress) = &self.progress {
                        // The hello completes the connection at the peer.
                        progress.promised();
                    }
                    self.shared.say(&self.shared.hello());
                }
            }
            (Kind::Control, ChannelEvent::Text(text)) => {
                if let Some(frame) = decode_control(&text)? {
                    self.on_control(frame).await?;
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
