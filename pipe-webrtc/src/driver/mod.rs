mod channels;
mod clock;
mod closing;
mod control;
mod early;
mod ice;
mod kind;
#[cfg(feature = "webrtc")]
mod order;
mod signs;
mod watched;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use pipe_core::backend::Progress;
use pipe_core::{CloseReason, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::command::Command;
use crate::engine::{CandidatePair, Channel, ChannelEvent, Peer, PeerEvent, PeerEvents};
use crate::error::lost;
use crate::events::ConnEvent;
use crate::outbound::{Fixed, Outbound};
use crate::shared::Shared;
use early::Early;
use kind::Kind;
use signs::Signs;

/// Time limit for the peer's answer to a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time limit for the peer to end the transport after it has closed.
const LINGER: Duration = Duration::from_secs(1);

/// Time in which a peer of plain channels takes the last messages that its SCTP has acknowledged: behind an ABORT,
/// libdatachannel (with usrsctp) drops those that it has not read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Maximum number of events of channels handled before other work.
const BATCH: usize = 64;

/// Time after which an unanswered hello is sent again. The engine loses messages that come together
/// with the end of SCTP's handshake, which is why the offerer does not send first: the answerer
/// opens the association, and is the last to learn that it is established.
const HELLO_AGAIN: Duration = Duration::from_millis(200);

/// Time for which a stream waits for one that was opened before it on a slower channel.
const HOLD: Duration = Duration::from_millis(50);

/// Period of the checks for packets from a silent peer.
const LOOK_OUT: Duration = Duration::from_millis(50);

/// Processes the peer's events, runs the timers, and ends the connection in good order.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    fixed: Fixed,
    events: PeerEvents,
    negotiation: JoinHandle<Result<()>>,
    /// Whether the negotiation is over.
    negotiated: bool,
    /// Notified how the connection was made.
    ready: Option<oneshot::Sender<Result<()>>>,
    /// Where the listener follows the handshake.
    progress: Option<Progress>,
    channels: SelectAll<BoxStream<'static, (Kind, Channel, ChannelEvent)>>,
    opened: mpsc::UnboundedReceiver<Channel>,
    /// The sender, once it has stopped.
    outbound: Option<oneshot::Receiver<Outbound>>,
    /// Number of channels that the peer has opened.
    theirs: usize,
    /// ICE has given up; until when a new path may be found.
    ice_failed: Option<Instant>,
    /// Time of the next restart, while there is no path.
    restart_at: Option<Instant>,
    /// Time until which streams wait for those that were opened before them.
    held_until: Option<Instant>,
    /// Time limit of the search for candidates of this side, unless that is over.
    gathering: Option<Instant>,
    /// Whether this side can be reached through TURN servers only.
    relay_only: bool,
    /// Whether this side has sent a candidate.
    reachable: bool,
    /// Time until which the peer may still send the reason, once it has ended the transport before
    /// the connection was made.
    broken: Option<Instant>,
    /// Second handles of channels of this side; one each at most.
    strays: Vec<Channel>,
    early: Early,
    /// The control channel is open.
    open: bool,
    signs: Signs,
    alarm: Pin<Box<Sleep>>,
    /// Time limit of ICE's search for the first path, and its deadline.
    ice_patience: Duration,
    unreachable_at: Option<Instant>,
    ice_is_up: bool,
    /// The path that was reported last.
    pair: Option<CandidatePair>,
    /// A close by the peer that waits for the data sent before it.
    closing: Option<Closing>,
}

struct Closing {
    code: u32,
    messages: u64,
    reason: String,
    deadline: Instant,
}

pub(crate) struct NewDriver {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) fixed: Fixed,
    pub(crate) events: PeerEvents,
    pub(crate) negotiation: JoinHandle<Result<()>>,
    pub(crate) ready: oneshot::Sender<Result<()>>,
    pub(crate) progress: Option<Progress>,
    /// Time limit of the search for candidates.
    pub(crate) gather_timeout: Duration,
    pub(crate) relay_only: bool,
    /// Time limit of ICE's search for the first path.
    pub(crate) ice_patience: Duration,
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
            progress,
            gather_timeout,
            relay_only,
            ice_patience,
        } = new;
        let (to_watch, opened) = mpsc::unbounded_channel();
        let outbound = Outbound {
            shared: shared.clone(),
            peer: peer.clone(),
            fixed: fixed.clone(),
            opened: to_watch,
        };
        let (done, outbound_done) = oneshot::channel();
        peer.run_beside(async move {
            // A driver that is gone sends no more.
            let _ = done.send(outbound.run().await);
        });
        let signs = Self::signs(&shared, &peer);
        let gathering = Instant::now() + gather_timeout;
        let mut driver = Self {
            outbound: Some(outbound_done),
            alarm: Box::pin(sleep_until(signs.deadline().min(gathering))),
            held_until: None,
            gathering: Some(gathering),
            relay_only,
            reachable: false,
            signs,
            shared,
            peer,
            fixed,
            events,
            negotiation,
            negotiated: false,
            ready: Some(ready),
            progress,
            channels: SelectAll::new(),
            opened,
            theirs: 0,
            ice_failed: None,
            restart_at: None,
            broken: None,
            strays: Vec::new(),
            early: Early::default(),
            unreachable_at: None,
            ice_patience,
            open: false,
            ice_is_up: true,
            pair: None,
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

    /// Creates a clock for a peer that is there now.
    fn signs(shared: &Shared, peer: &Peer) -> Signs {
        let heard = peer.heard();
        Signs::new(&shared.config, shared.has_pings(), heard, Instant::now())
    }

    pub(crate) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            let unmade = self.ready.is_some();
            if unmade {
                // The peer may not see by itself that nothing comes of this.
                self.shared.command(Command::Refuse(error.clone()));
            }
            self.shared.end(&CloseReason::Failed(error.clone()));
            self.greet(Err(error));
            if unmade && !self.negotiated {
                let told = timeout(LINGER, &mut self.negotiation).await;
                self.negotiated = told.is_ok();
            }
        }
        self.finish().await;
    }

    /// Serves the connection until it has ended.
    async fn serve(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        let peer = self.peer.clone();
        let mut panicked = std::pin::pin!(peer.panicked());
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
                    self.signs.note_said(Instant::now());
                    self.on_event(kind, channel, event).await?;
                    for _ in 0..BATCH {
                        let Some(Some((kind, channel, event))) = self.channels.next().now_or_never()
                        else {
                            break;
                        };
                        self.on_event(kind, channel, event).await?;
                    }
                    self.check_closing();
                    self.check_held();
                }
                // Earlier events were taken above.
                error = peer.broken(self.ready.is_some()) => return Err(error),
                ended = &mut self.negotiation, if !self.negotiated => {
                    self.negotiated = true;
                    self.on_negotiated(ended)?;
                }
                () = &mut self.alarm => {
                    self.tick()?;
                    self.note_pair().await;
                }
                () = &mut panicked => return Err(lost("a part of it has panicked")),
            }
        }
    }

    /// Notes that the negotiation is over. Before the connection is made that is its end.
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
            Ok(Ok(())) => Ok(()),
            Err(error) => Err(lost(format_args!("its negotiation was cut off: {error}"))),
        }
    }

    async fn on_peer(&mut self, event: PeerEvent<Channel>) -> Result<()> {
        match event {
            PeerEvent::Candidate(candidate) => {
                let found = ConnEvent::LocalCandidate(candidate.candidate.clone());
                self.shared.tell(found);
                self.reachable = true;
                self.shared.command(Command::Candidate(candidate));
            }
            PeerEvent::GatheringDone => return self.end_gathering(),
            PeerEvent::Ice(state) => {
                self.on_ice(state)?;
                self.note_pair().await;
            }
            PeerEvent::Channel(channel) => return self.on_new_channel(channel).await,
            PeerEvent::Closed => {
                // Messages that came before it are taken first.
                while let Some(Some((kind, channel, event))) = self.channels.next().now_or_never() {
                    self.on_event(kind, channel, event).await?;
                }
                self.check_closing();
                if self.shared.status.reason().is_some() {
                    return Ok(());
                }
                return self.ended_by_peer();
            }
        }
        Ok(())
    }

    /// Ends the connection after the peer has ended the transport. A peer of pipewerks would have
    /// sent the reason. Plain channels that were not closed before it have no clean end.
    fn ended_by_peer(&mut self) -> Result<()> {
        if self.ready.is_some() {
            // The peer may send the reason through the signalling.
            let deadline = Instant::now() + LINGER;
            self.broken = self.broken.or(Some(deadline));
            self.alarm.as_mut().reset(deadline);
            return Ok(());
        }
        if self.shared.wire.is_raw() {
            self.shared.end(&CloseReason::remote(0, ""));
            return Ok(());
        }
        match self.peer.goodbye() {
            Some(how) => Err(lost(format_args!(
                "the peer has ended it without a word: {how}"
            ))),
            None => Err(lost("the peer has ended it without a word")),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.negotiation.abort();
        // It has ended, unless the driver was cut off: with its runtime, or by a panic.
        self.shared
            .end(&CloseReason::Failed(lost("its driver has stopped")));
    }
}

#[cfg(feature = "webrtc")]
#[cfg(test)]
mod tests {
    use pipe_core::Conn;
    use pipe_inproc::InprocTransport;

    use super::*;
    use crate::settings::{Engine, WebRtcSettings};
    use crate::signaling::MemorySignaling;
    use crate::transport::WebRtcTransport;

    #[tokio::test]
    async fn a_fatal_alert_ends_a_connection_at_once() {
        let settings = WebRtcSettings::default().with_engine(Engine::WebRtcCrate);
        let transport = WebRtcTransport::new(InprocTransport::new())
            .with_settings(settings)
            .unwrap();
        let (here, there) = MemorySignaling::pair();
        let both = async { tokio::join!(transport.offer_over(here), transport.answer_over(there)) };
        let (here, there) = timeout(Duration::from_secs(60), both).await.unwrap();
        let (here, _there) = (here.unwrap(), there.unwrap());
        let Peer::Crate(peer) = &**here.shared().peer.get().unwrap() else {
            panic!("another engine");
        };
        peer.vitals().note_alert(&[1, 90]);
        peer.vitals().note_alert(&[2, 80]);
        // Far less than silence takes to be noticed.
        let reason = timeout(Duration::from_secs(5), here.closed())
            .await
            .unwrap();
        let CloseReason::Failed(error) = reason else {
            panic!("ended as {reason:?}");
        };
        assert!(error.to_string().contains("alert 80"), "{error}");
    }
}
