use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, SelectAll, StreamExt, unfold};
use pipe_core::{
    CloseReason, ConnState, Error, ErrorKind, Liveness, LivenessEvent, PeerIdentity, Result,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::engine::{Channel, ChannelEvent, IceState, Peer, PeerEvent};
use crate::error::{handshake, lost, protocol};
use crate::negotiation::Command;
use crate::outbound::{Fixed, MAX_MESSAGE, Outbound, Pace};
use crate::shared::{PING_LEN, Shared};
use crate::wire::{ControlMessage, Hello, PROTOCOL};

/// How long the peer may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the side that was closed waits for the other to end the transport.
const LINGER: Duration = Duration::from_secs(1);

/// How many events of channels are handled before the others get their turn.
const BATCH: usize = 64;

/// How many plain channels a peer may have open.
const MAX_RAW: usize = 4096;

/// The length of what is echoed, at most, in bytes.
const MAX_ECHO: usize = 1024;

/// After what time a hello is said again that was not answered. The engine loses what comes together
/// with the end of SCTP's handshake, which is why the offerer does not speak first: the answerer opens
/// the association, and is the last to know that it stands.
const HELLO_AGAIN: Duration = Duration::from_millis(200);

/// How long a stream waits for one that was opened before it, and whose channel is slower.
const HOLD: Duration = Duration::from_millis(50);

/// How late the alarm may be on a busy machine.
const LATE: Duration = Duration::from_secs(1);

/// How often to look for signs of life from a peer that is silent.
const LOOK_OUT: Duration = Duration::from_millis(50);

/// Takes what comes from the peer, keeps the clock, and ends the connection in good order.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    fixed: Fixed,
    events: mpsc::Receiver<PeerEvent>,
    negotiation: JoinHandle<Result<()>>,
    /// The negotiation is over, so that it is not asked again.
    negotiated: bool,
    /// Told how the connection was made.
    ready: Option<oneshot::Sender<Result<()>>>,
    channels: SelectAll<BoxStream<'static, (Kind, Channel, ChannelEvent)>>,
    opened: mpsc::UnboundedReceiver<Channel>,
    outbound: Option<JoinHandle<Outbound>>,
    /// How many channels the peer has opened.
    theirs: usize,
    /// ICE has given up; until when a new path may be found.
    ice_failed: Option<Instant>,
    /// When to look for a new path, while there is none.
    restart_at: Option<Instant>,
    /// Until when streams wait for those that were opened before them.
    held_until: Option<Instant>,
    /// How long to look for candidates of this side, unless that is over.
    gathering: Option<Instant>,
    /// The peer has ended the transport before the connection was made; how long it may say why.
    broken: Option<Instant>,
    /// Second handles of channels of this side; one each at most.
    strays: Vec<Channel>,
    /// The control channel is open.
    open: bool,
    clock: Liveness,
    heard: u64,
    alarm: Pin<Box<Sleep>>,
    /// When the alarm is to go off at the latest.
    expected: Instant,
    ice_is_up: bool,
    clock_is_up: bool,
    /// A close by the peer that waits for what was sent before it.
    closing: Option<Closing>,
}

struct Closing {
    code: u32,
    messages: u64,
    reason: String,
    deadline: Instant,
}

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Control,
    Ping,
    Echo,
    /// It carries streams that this side opens.
    Ours,
    /// It carries streams that the peer opens.
    Theirs,
}

pub(crate) struct NewDriver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) fixed: Fixed,
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    pub(crate) negotiation: JoinHandle<Result<()>>,
    pub(crate) ready: oneshot::Sender<Result<()>>,
    /// How long to look for candidates.
    pub(crate) gather_timeout: Duration,
}

impl Driver {
    pub(crate) fn new(new: NewDriver) -> Self {
        let NewDriver {
            shared,
            peer,
            fixed,
            events,
            negotiation,
            ready,
            gather_timeout,
        } = new;
        let (to_watch, opened) = mpsc::unbounded_channel();
        let outbound = Outbound {
            shared: shared.clone(),
            peer: peer.clone(),
            fixed: fixed.clone(),
            opened: to_watch,
            pace: Pace::default(),
        };
        let now = Instant::now();
        let clock = Liveness::new(&shared.config, now);
        let gathering = now + gather_timeout;
        let mut driver = Self {
            outbound: Some(tokio::spawn(outbound.run())),
            alarm: Box::pin(sleep_until(clock.deadline().min(gathering))),
            held_until: None,
            gathering: Some(gathering),
            expected: clock.deadline().min(gathering),
            clock,
            heard: 0,
            shared,
            peer,
            fixed,
            events,
            negotiation,
            negotiated: false,
            ready: Some(ready),
            channels: SelectAll::new(),
            opened,
            theirs: 0,
            ice_failed: None,
            restart_at: None,
            broken: None,
            strays: Vec::new(),
            open: false,
            ice_is_up: true,
            clock_is_up: true,
            closing: None,
        };
        driver.watch(driver.fixed.control.clone(), Kind::Control);
        if let Some(ping) = driver.fixed.ping.clone() {
            driver.watch(ping, Kind::Ping);
        }
        if let Some(echo) = driver.fixed.echo.clone() {
            driver.watch(echo, Kind::Echo);
        }
        driver
    }

    pub(crate) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            if self.ready.is_some() {
                // The peer may not see by itself that nothing comes of this.
                self.shared.command(Command::Refuse(error.clone()));
            }
            self.shared.end(&CloseReason::Failed(error.clone()));
            self.greet(Err(error));
        }
        self.finish().await;
    }

    /// Watches a channel from now on.
    fn watch(&mut self, channel: Channel, kind: Kind) {
        let carries = matches!(kind, Kind::Ours | Kind::Theirs);
        let raw = (self.shared.wire.is_raw() && carries).then(|| self.shared.clone());
        let events = unfold((Some(channel), raw), move |(channel, raw)| async move {
            let channel = channel?;
            if let Some(shared) = &raw {
                // What a plain peer sends is held back in the engine only.
                shared.until_room(channel.key()).await;
            }
            let event = channel.next().await;
            let rest = (!matches!(event, ChannelEvent::Closed)).then(|| channel.clone());
            Some(((kind, channel, event), (rest, raw)))
        });
        self.channels.push(events.boxed());
    }

    /// Serves the connection until it has ended.
    async fn serve(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let vitals = self.peer.vitals().clone();
        loop {
            tokio::select! {
                biased;
                _ = shared.status.ended() => return Ok(()),
                event = self.events.recv() => match event {
                    Some(event) => self.on_peer(event).await?,
                    None => return Err(lost("the engine has stopped")),
                },
                Some(channel) = self.opened.recv() => self.watch(channel, Kind::Ours),
                Some((kind, channel, event)) = self.channels.next() => {
                    self.on_channel(kind, &channel, event).await?;
                    for _ in 0..BATCH {
                        let Some(Some((kind, channel, event))) = self.channels.next().now_or_never()
                        else {
                            break;
                        };
                        self.on_channel(kind, &channel, event).await?;
                    }
                    self.check_closing();
                    self.check_held();
                }
                alert = vitals.refused(), if self.ready.is_some() => return Err(refused(alert)),
                ended = &mut self.negotiation, if !self.negotiated => {
                    self.negotiated = true;
                    self.on_negotiated(ended)?;
                }
                () = &mut self.alarm => self.tick()?,
            }
        }
    }

    /// The negotiation is over. Before the connection is made that is its end.
    fn on_negotiated(
        &self,
        ended: std::result::Result<Result<()>, tokio::task::JoinError>,
    ) -> Result<()> {
        match ended {
            Ok(Err(error)) if self.ready.is_some() => Err(error),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the signalling is gone; ICE cannot be restarted");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn on_peer(&mut self, event: PeerEvent) -> Result<()> {
        match event {
            PeerEvent::Candidate(candidate) => {
                tracing::trace!(?candidate, "a candidate of this side");
                self.shared.command(Command::Candidate(candidate));
            }
            PeerEvent::GatheringDone => self.end_gathering(),
            PeerEvent::Ice(state) => return self.on_ice(state),
            PeerEvent::Channel(channel) => return self.on_new_channel(channel).await,
            PeerEvent::Closed => return self.ended_by_peer(),
        }
        Ok(())
    }

    /// The transport was ended by the peer. One of pipewerks would have said why.
    fn ended_by_peer(&mut self) -> Result<()> {
        if self.ready.is_some() {
            // It may say why through the signalling.
            let deadline = Instant::now() + LINGER;
            self.broken = self.broken.or(Some(deadline));
            self.alarm.as_mut().reset(deadline);
            return Ok(());
        }
        if self.shared.wire.is_raw() {
            self.shared.end(&CloseReason::remote(0, ""));
            return Ok(());
        }
        Err(lost("the peer has ended it without a word"))
    }

    fn on_ice(&mut self, state: IceState) -> Result<()> {
        tracing::debug!(?state, peer = %self.shared.remote_addr, "ICE");
        match state {
            IceState::Connecting => {}
            IceState::Connected => {
                self.ice_is_up = true;
                self.ice_failed = None;
                if self.ready.is_none() {
                    self.peer.vitals().set_connecting(false);
                }
                self.note_state();
            }
            IceState::Disconnected => {
                self.ice_is_up = false;
                self.note_state();
            }
            IceState::Failed if self.ready.is_some() => {
                let why = "no path to the peer was found: every pair of candidates has failed";
                return Err(Error::new(ErrorKind::Unreachable, why));
            }
            IceState::Failed => {
                self.ice_is_up = false;
                if self.negotiated || self.ice_failed.is_some() {
                    return Err(lost("no path leads to the peer any more"));
                }
                // A machine that was asleep comes back to this: a new path may be found.
                let period =
                    self.shared.config.failed_after - self.shared.config.disconnected_after;
                self.ice_failed = Some(Instant::now() + period);
                self.note_state();
                self.shared.command(Command::Restart(None));
            }
        }
        Ok(())
    }

    async fn on_new_channel(&mut self, channel: Channel) -> Result<()> {
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
            self.shared.raw_incoming(&channel, info);
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
            (Kind::Control | Kind::Ping | Kind::Echo, ChannelEvent::Closed) => {
                return self.ended_by_peer();
            }
            (Kind::Ping, ChannelEvent::Bytes(bytes)) => self.shared.on_echo(&bytes),
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

    async fn on_control(&mut self, message: ControlMessage) -> Result<()> {
        if self.ready.is_some() && !matches!(message, ControlMessage::Hello(_)) {
            return Err(protocol("a message before its hello"));
        }
        match message {
            ControlMessage::Hello(hello) => return self.on_hello(hello).await,
            ControlMessage::Got(bytes) => self.shared.outbox.note_arrived(bytes)?,
            ControlMessage::Drain => self.shared.drain_by_peer()?,
            ControlMessage::Drained(streams) => self.shared.drained(streams)?,
            ControlMessage::Close {
                code,
                messages,
                reason,
            } => {
                let deadline = Instant::now() + CLOSE_TIMEOUT;
                self.alarm.as_mut().reset(deadline);
                self.closing = Some(Closing {
                    code,
                    messages,
                    reason,
                    deadline,
                });
            }
            ControlMessage::Closed => return Err(protocol("an answer to a close that was not")),
        }
        Ok(())
    }

    /// The connection is made, unless it was.
    async fn on_hello(&mut self, hello: Hello) -> Result<()> {
        if !self.shared.greet(&hello)? {
            return Ok(());
        }
        let raw = self.shared.wire.is_raw();
        if self.shared.offerer && !raw {
            self.shared.say(&self.shared.hello());
        }
        let most = self.peer.max_message().await.unwrap_or(0) as usize;
        self.shared
            .set_largest_message(if most == 0 { MAX_MESSAGE } else { most });
        let chain = self.peer.certificates().await;
        if !chain.is_empty() {
            // It is set here only.
            let _ = self
                .shared
                .identity
                .set(PeerIdentity::Certificates(chain.into()));
        }
        self.peer.vitals().set_connecting(false);
        self.clock = Liveness::new(&self.shared.config, Instant::now());
        self.expected = self.clock.deadline();
        self.alarm.as_mut().reset(self.expected);
        self.greet(Ok(()));
        Ok(())
    }

    /// A close counts when what was sent before it has come.
    fn check_closing(&mut self) {
        let all = self.shared.messages_received();
        let due =
            |closing: &mut Closing| all >= closing.messages || Instant::now() >= closing.deadline;
        if let Some(closing) = self.closing.take_if(due) {
            self.shared
                .end(&CloseReason::remote(closing.code, &closing.reason));
        }
    }

    /// Streams wait for those that were opened before them, but not for long.
    fn check_held(&mut self) {
        if !self.shared.holds_streams() {
            self.held_until = None;
        } else if self.held_until.is_none() {
            let until = Instant::now() + HOLD;
            self.held_until = Some(until);
            if self.alarm.deadline() > until {
                self.alarm.as_mut().reset(until);
            }
        }
    }

    /// Tells whoever makes the connection how that went.
    fn greet(&mut self, made: Result<()>) {
        if let Some(ready) = self.ready.take() {
            // Whoever waited may have given up; then the handle that it held closes the connection.
            let _ = ready.send(made);
        }
    }

    /// Looks at the clock.
    fn tick(&mut self) -> Result<()> {
        self.check_closing();
        let now = Instant::now();
        if self.broken.is_some_and(|deadline| now >= deadline) && self.ready.is_some() {
            return Err(handshake("the peer broke off"));
        }
        if self.ice_failed.is_some_and(|until| now >= until) {
            return Err(lost("no path leads to the peer any more"));
        }
        if now.saturating_duration_since(self.expected) > LATE {
            // This process was asleep itself, so that the silence says nothing of the peer.
            self.clock.heard(now);
        }
        let heard = self.peer.vitals().heard();
        if heard != self.heard {
            self.heard = heard;
            self.clock.heard(now);
            self.clock_is_up = true;
            self.note_state();
        }
        if self.held_until.is_some_and(|until| now >= until) {
            self.held_until = None;
            self.shared.release_streams();
        }
        if self.gathering.is_some_and(|until| now >= until) {
            self.end_gathering();
        }
        let greeted = self.ready.is_none();
        while let Some(event) = self.clock.poll(now) {
            match event {
                LivenessEvent::Ping if greeted => self.shared.ask(),
                LivenessEvent::Disconnected if greeted => {
                    self.clock_is_up = false;
                    self.note_state();
                }
                LivenessEvent::Failed if greeted => {
                    self.shared.end(&CloseReason::Failed(self.clock.error()));
                }
                _ => {}
            }
        }
        self.check_restart(now);
        let mut next = self.clock.deadline().max(now + Duration::from_millis(1));
        if !self.clock_is_up {
            next = next.min(now + LOOK_OUT);
        }
        if let Some(at) = self.restart_at {
            next = next.min(at);
        }
        if let Some(closing) = &self.closing {
            next = next.min(closing.deadline);
        }
        if !greeted {
            // The handshake has its own limit.
            next = self.broken.unwrap_or(now + HELLO_AGAIN);
            if self.open && self.broken.is_none() {
                self.shared.say(&self.shared.hello());
            }
        }
        if let Some(until) = self.held_until {
            next = next.min(until);
        }
        if let Some(until) = self.gathering {
            next = next.min(until);
        }
        if let Some(until) = self.ice_failed {
            next = next.min(until);
        }
        self.expected = next;
        self.alarm.as_mut().reset(next);
        Ok(())
    }

    /// The peer need not wait for candidates any longer. Those that are found later are sent all the
    /// same.
    fn end_gathering(&mut self) {
        self.gathering = None;
        self.shared.command(Command::EndOfCandidates);
    }

    /// Puts the state in step with what ICE and the clock say.
    fn note_state(&mut self) {
        if self.ready.is_some() {
            return;
        }
        if self.ice_is_up && self.clock_is_up {
            self.shared.status.set_connected(true);
            self.restart_at = None;
        } else {
            self.shared.disconnect();
            if self.shared.offerer && self.restart_at.is_none() {
                self.restart_at = Some(Instant::now() + self.restart_period());
            }
        }
    }

    /// How long to wait for the old path before a new one is looked for, and between two such tries.
    fn restart_period(&self) -> Duration {
        let config = &self.shared.config;
        (config.failed_after - config.disconnected_after) / 3
    }

    /// Looks for a new path if the old one has been gone for long.
    fn check_restart(&mut self, now: Instant) {
        if self.restart_at.is_some_and(|at| now >= at) {
            self.shared.command(Command::Restart(None));
            self.restart_at = Some(now + self.restart_period());
        }
    }

    /// Ends what is under the connection, as its end asks.
    async fn finish(mut self) {
        let outbound = match self.outbound.take() {
            Some(task) => timeout(LINGER, task).await.ok().and_then(Result::ok),
            None => None,
        };
        if self.shared.wire.is_raw() && self.ready.is_none() {
            let outbound = outbound.filter(|_| self.shared.status.state() == ConnState::Closed);
            if let Some(outbound) = outbound {
                // What was accepted gets out, as far as the peer takes it.
                let _ = timeout(LINGER, self.flush_raw(&outbound)).await;
            }
        } else if let (Some(outbound), None) = (outbound, &self.ready) {
            let ended = match self.shared.status.reason() {
                Some(CloseReason::Local { .. }) => {
                    timeout(CLOSE_TIMEOUT, self.close(&outbound)).await
                }
                Some(CloseReason::Remote { .. }) => {
                    timeout(LINGER, self.closed_by_peer(&outbound)).await
                }
                _ => Ok(()),
            };
            if ended.is_err() {
                tracing::debug!(peer = %self.shared.remote_addr, "the peer does not answer a close");
            }
        } else if self.shared.status.state() == ConnState::Failed && !self.negotiated {
            // What the peer is to know of a connection that was not made gets out.
            let _ = timeout(LINGER, &mut self.negotiation).await;
        }
        self.negotiation.abort();
        self.peer.close().await;
        self.shared.clear();
    }

    async fn flush_raw(&mut self, outbound: &Outbound) {
        loop {
            self.shared.outbox.unblock();
            if outbound.flush().await.is_err() || !self.shared.outbox.has_blocked_raw() {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Says that this side has closed, after all that it has sent, and waits until the peer has heard.
    async fn close(&mut self, outbound: &Outbound) {
        if outbound.flush().await.is_err() {
            return;
        }
        let messages = self.shared.messages_sent();
        let close = self
            .shared
            .status
            .reason()
            .and_then(|reason| ControlMessage::close(reason, messages));
        if let Some(close) = close {
            self.shared.say(&close);
        }
        loop {
            if outbound.flush().await.is_err() {
                return;
            }
            match self.next_last_word().await {
                Some(ControlMessage::Closed) | None => return,
                Some(ControlMessage::Close { .. }) => {
                    self.shared.say(&ControlMessage::Closed);
                    let _ = outbound.flush().await;
                    return self.until_heard().await;
                }
                Some(ControlMessage::Got(bytes)) => {
                    let _ = self.shared.outbox.note_arrived(bytes);
                }
                Some(_) => {}
            }
        }
    }

    /// Confirms the peer's close and waits until it ends the transport.
    async fn closed_by_peer(&mut self, outbound: &Outbound) {
        self.shared.say(&ControlMessage::Closed);
        if outbound.flush().await.is_err() {
            return;
        }
        while self.next_last_word().await.is_some() {}
    }

    /// Waits until the peer's side of the transport has all that was said.
    async fn until_heard(&mut self) {
        while self.fixed.control.outstanding().await > 0 {
            tokio::select! {
                word = self.next_last_word() => if word.is_none() { return },
                () = sleep(Duration::from_millis(2)) => {}
            }
        }
    }

    /// The next message of the peer about the connection; `None` when the transport has ended. What
    /// else comes is dropped.
    async fn next_last_word(&mut self) -> Option<ControlMessage> {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    None | Some(PeerEvent::Closed | PeerEvent::Ice(IceState::Failed)) => return None,
                    Some(_) => {}
                },
                event = self.channels.next() => match event {
                    None | Some((Kind::Control, _, ChannelEvent::Closed)) => return None,
                    Some((Kind::Control, _, ChannelEvent::Text(text))) => {
                        if let Ok(Some(message)) = ControlMessage::parse(&text) {
                            return Some(message);
                        }
                    }
                    Some((Kind::Ours | Kind::Theirs, _, ChannelEvent::Bytes(bytes))) => {
                        // The peer may have to send the rest before it can hear of the close.
                        self.shared.note_arrived(bytes.len());
                        if let Some(text) = self.shared.outbox.try_text() {
                            let _ = self.fixed.control.send_text(&text).await;
                        }
                    }
                    Some(_) => {}
                },
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(outbound) = &self.outbound {
            outbound.abort();
        }
        self.negotiation.abort();
    }
}

/// What the alert means that this side sent in the handshake of DTLS.
fn refused(alert: u8) -> Error {
    // Those about certificates (RFC 5246, section 7.2.2).
    if (41..=46).contains(&alert) {
        let why = "the peer's certificate does not have the fingerprint that was announced";
        return Error::new(ErrorKind::Unauthenticated, why);
    }
    let why = format!("the handshake of DTLS has failed with alert {alert}");
    Error::new(ErrorKind::Handshake, why)
}
