use std::future::poll_fn;
use std::sync::Arc;

use pipe_core::{CloseReason, Result};
use tokio::sync::mpsc;

use crate::engine::{Channel, ChannelOptions, Peer};
use crate::outbox::Job;
use crate::shared::{Shared, wake};
use crate::stream_core::{Output, StreamCore};
use crate::wire::PROTOCOL;

/// The largest message that is sent, in bytes, where the peer takes it.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// The channels that every connection has from the start.
#[derive(Clone)]
pub(crate) struct Fixed {
    pub(crate) control: Channel,
    pub(crate) ping: Channel,
    pub(crate) echo: Channel,
}

/// Sends what the handles, the streams and the driver of a connection have to say.
pub(crate) struct Outbound {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) fixed: Fixed,
    /// Where channels that were opened are watched from.
    pub(crate) opened: mpsc::UnboundedSender<Channel>,
}

impl Outbound {
    /// Runs until the connection has ended.
    pub(crate) async fn run(self) -> Self {
        loop {
            let job = tokio::select! {
                biased;
                _ = self.shared.status.ended() => return self,
                job = poll_fn(|cx| self.shared.outbox.poll_next(cx)) => job,
            };
            if let Err(error) = self.perform(job).await {
                self.shared.end(&CloseReason::Failed(error));
            }
        }
    }

    /// Sends what is in the outbox, as far as the peer lets it out.
    pub(crate) async fn flush(&self) -> Result<()> {
        while let Some(job) = self.shared.outbox.try_next() {
            if !matches!(job, Job::OpenChannel) {
                self.perform(job).await?;
            }
        }
        Ok(())
    }

    async fn perform(&self, job: Job) -> Result<()> {
        match job {
            Job::Text(text) => self.fixed.control.send_text(&text).await,
            Job::Ping(bytes) => self.fixed.ping.send(bytes).await,
            Job::Echo(bytes) => self.fixed.echo.send(bytes).await,
            Job::OpenChannel => self.open_channel().await,
            Job::Stream(stream, room) => {
                if let Err(error) = self.send(&stream, room).await {
                    // The channel is gone, which its owner is told of by its event too.
                    tracing::debug!(%error, stream = stream.id, "a channel takes no more");
                    stream.state.lock().waits = false;
                    self.shared.on_closed(&stream.channel);
                }
                Ok(())
            }
        }
    }

    async fn open_channel(&self) -> Result<()> {
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

    /// Sends what a stream has to say, and one message of its bytes.
    async fn send(&self, stream: &Arc<StreamCore>, room: usize) -> Result<()> {
        let shared = &self.shared;
        let most = shared.max_message();
        loop {
            let output = {
                let mut state = stream.state.lock();
                let output = state.next_output(stream.id, most, room, shared.worth_telling());
                state.waits = output.is_some();
                output
            };
            match output {
                None => {
                    shared.settle(stream);
                    return Ok(());
                }
                Some(Output::Blocked) => {
                    shared.outbox.push_blocked(stream.clone());
                    return Ok(());
                }
                Some(Output::Text(message)) => {
                    stream.channel.send_text(&message.to_string()).await?;
                    shared.note_message_sent();
                }
                Some(Output::Bytes(bytes)) => {
                    shared.outbox.note_sent(bytes.len());
                    stream.channel.send(bytes).await?;
                    shared.note_message_sent();
                    let writer = stream.state.lock().writer_with_room();
                    shared.outbox.push_stream(stream.clone());
                    wake(writer);
                    return Ok(());
                }
            }
        }
    }
}
