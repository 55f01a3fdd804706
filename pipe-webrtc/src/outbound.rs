use std::fmt::Write;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use pipe_core::backend::SessionConn;
use pipe_core::backend::proto::Frame;
use pipe_core::backend::proto::codec::text::{ControlLine, PROTOCOL, StreamLine};
use pipe_core::{CloseReason, Result};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::engine::{Channel, ChannelOptions, Peer};
use crate::outbox::Job;
use crate::shared::{Shared, wake};
use crate::stream_core::{Output, StreamRef};

/// Maximum number of bytes of a plain channel in flight. More wait, and are checked again each
/// [`TICK`], since no event reports it.
const RAW_OUTSTANDING: usize = 256 * 1024;
const TICK: Duration = Duration::from_millis(2);

/// Maximum length of messages on the channel of a stream, and on another one, that the peer has not
/// acknowledged, in bytes and the cost of messages.
const STREAM_WORDS: u64 = 32 * 1024;
const FIXED_WORDS: u64 = 64 * 1024;

/// The channels that every connection has from the start.
#[derive(Clone)]
pub(crate) struct Fixed {
    pub(crate) control: Channel,
    /// Absent where the wire is raw and has none.
    pub(crate) ping: Option<Channel>,
    pub(crate) echo: Option<Channel>,
}

/// Sends the messages of the handles, the streams and the driver of a connection.
pub(crate) struct Outbound {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) fixed: Fixed,
    /// Destination of opened channels, which are watched there.
    pub(crate) opened: mpsc::UnboundedSender<Channel>,
}

impl Outbound {
    /// Runs until the connection has ended.
    pub(crate) async fn run(self) -> Self {
        loop {
            let job = tokio::select! {
                biased;
                _ = self.shared.status.ended() => return self,
                () = self.peer.acknowledged(), if self.shared.outbox.has_waiting() => {
                    self.shared.outbox.unblock();
                    continue;
                }
                () = sleep(TICK), if self.shared.outbox.has_waiting() => {
                    self.shared.outbox.unblock();
                    continue;
                }
                job = poll_fn(|cx| self.shared.outbox.poll_next(cx)) => job,
            };
            if let Err(error) = self.perform(job).await {
                self.shared.end(&CloseReason::Failed(error));
            }
        }
    }

    /// Sends the outbox, as far as the peer's window allows.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.shared.outbox.unblock();
        while let Some(job) = self.shared.outbox.try_next() {
            if !matches!(job, Job::OpenChannel) {
                self.perform(job).await?;
            }
        }
        Ok(())
    }

    async fn perform(&self, job: Job) -> Result<()> {
        self.peer.keep_pace().await;
        match job {
            Job::Text(text) => {
                if self.fixed.control.takes_words(FIXED_WORDS).await {
                    return self.fixed.control.send_text(&text).await;
                }
                self.shared.outbox.hold_text(text);
                Ok(())
            }
            Job::Got(bytes) => {
                if !self.fixed.control.takes_words(FIXED_WORDS).await {
                    self.shared.outbox.hold_got(bytes);
                    return Ok(());
                }
                say_got(&self.shared, &self.fixed.control, bytes).await
            }
            Job::Ping(bytes) => match &self.fixed.ping {
                Some(ping) => ping.send(bytes).await,
                None => Ok(()),
            },
            Job::Echo(bytes) => match &self.fixed.echo {
                Some(echo) if echo.takes_words(FIXED_WORDS).await => echo.send_word(bytes).await,
                Some(_) => {
                    self.shared.outbox.hold_echo(bytes);
                    Ok(())
                }
                None => Ok(()),
            },
            Job::OpenChannel => self.open_channel().await,
            Job::Stream(stream, room) => {
                if let Err(error) = self.send(&stream, room).await {
                    // The channel is gone, which its event reports to its owner too.
                    tracing::debug!(%error, stream = stream.id, "a channel takes no more");
                    stream.lock().waits = false;
                    self.shared.on_closed(&stream.unlocked.channel);
                    self.shared.on_lost(&stream);
                }
                Ok(())
            }
        }
    }

    async fn open_channel(&self) -> Result<()> {
        if self.shared.wire.is_raw() {
            if !self.reserve_ids().await {
                self.shared.outbox.hold_channel();
                return Ok(());
            }
            let Some(open) = self.shared.next_raw_open() else {
                return Ok(());
            };
            let options = ChannelOptions {
                protocol: open.info.protocol.clone(),
                negotiated: None,
                ordered: open.info.ordered,
            };
            let channel = self.peer.open_channel(&open.info.label, options).await?;
            // The stream is registered before a message arrives on its channel.
            self.shared.raw_opened(open, channel.clone());
            let _ = self.opened.send(channel);
            return Ok(());
        }
        let options = ChannelOptions {
            protocol: PROTOCOL.to_owned(),
            negotiated: None,
            ordered: true,
        };
        let channel = self.peer.open_channel(self.shared.label(), options).await?;
        // A driver that is gone needs no channels.
        let _ = self.opened.send(channel.clone());
        self.shared.channel_opened(channel);
        Ok(())
    }

    /// Reserves the ids of plain channels that were closed, for as long as the peer has not closed them too.
    /// Returns whether another channel can be opened now.
    async fn reserve_ids(&self) -> bool {
        let Some(ids) = self.peer.before_open() else {
            return false;
        };
        for id in ids {
            // A negotiated channel is not announced to the peer. It ends with the peer's reset.
            let options = ChannelOptions {
                protocol: String::new(),
                negotiated: Some(id),
                ordered: true,
            };
            match self.peer.open_channel("", options).await {
                Ok(channel) => drop(self.opened.send(channel)),
                Err(error) => tracing::debug!(%error, id, "an id is not reserved"),
            }
        }
        true
    }

    /// Sends the pending messages of a stream, and one message of its bytes.
    async fn send(&self, stream: &StreamRef, room: usize) -> Result<()> {
        let shared = &self.shared;
        let most = shared.max_message();
        if !shared.wire.is_raw() && !stream.unlocked.channel.takes_words(STREAM_WORDS).await {
            // Messages queued meanwhile are merged.
            shared.outbox.push_back(stream.clone(), true);
            return Ok(());
        }
        // Texts sent together go in one message, a line each.
        let mut text = String::new();
        loop {
            let output = {
                let mut state = stream.lock();
                let output = state.next_output(most, room);
                state.waits = output.is_some();
                output
            };
            if let Some(Output::Frame(frame, freed)) = output {
                shared.peer_windows().give_back(freed.into());
                if !text.is_empty() {
                    text.push('\n');
                }
                // A String takes all that is written to it.
                let _ = write!(text, "{}", StreamLine(stream.id, frame));
                continue;
            }
            if !text.is_empty() {
                stream.unlocked.channel.send_text(&text).await?;
                shared.note_message_sent();
                text.clear();
            }
            match output {
                Some(Output::Bytes(bytes)) => {
                    shared.outbox.note_sent(bytes.len());
                    stream.unlocked.channel.send(bytes).await?;
                    shared.note_message_sent();
                    let (writer, more) = {
                        let mut state = stream.lock();
                        // Often only the end is left to be sent.
                        (state.writer_with_room(), state.has_bytes())
                    };
                    wake(writer);
                    if !more {
                        continue;
                    }
                    shared.outbox.push_stream(stream.clone());
                }
                Some(Output::Message(bytes, text)) => {
                    let channel = &stream.unlocked.channel;
                    if text {
                        channel.send_text(&String::from_utf8_lossy(&bytes)).await?;
                    } else {
                        channel.send(bytes).await?;
                    }
                    let full = channel.outstanding().await > RAW_OUTSTANDING;
                    let writer = stream.lock().writer_with_room();
                    wake(writer);
                    shared.outbox.push_back(stream.clone(), full);
                }
                Some(Output::Close { at_once }) => {
                    if !at_once && stream.unlocked.channel.outstanding().await > 0 {
                        shared.outbox.push_back(stream.clone(), true);
                        return Ok(());
                    }
                    self.peer.note_close();
                    stream.unlocked.channel.close().await;
                    let writer = {
                        let mut state = stream.lock();
                        state.waits = false;
                        state.end_raw()
                    };
                    wake(writer);
                    shared.update(stream);
                }
                Some(_) => shared.outbox.push_blocked(stream.clone()),
                None => shared.update(stream),
            }
            return Ok(());
        }
    }
}

/// Acknowledges so many arrived bytes to the peer, as many as one line holds.
pub(crate) async fn say_got(shared: &Shared, control: &Channel, bytes: u64) -> Result<()> {
    let told = u32::try_from(bytes).unwrap_or(u32::MAX);
    if bytes > u64::from(told) {
        shared.outbox.push_got(bytes - u64::from(told));
    }
    let frame = Frame::Received(told.into());
    control.send_text(&ControlLine(&frame).to_string()).await
}
