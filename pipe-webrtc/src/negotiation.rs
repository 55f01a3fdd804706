use std::sync::Arc;
use std::time::Duration;

use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::candidates::{CandidateLimit, first_mid};
use crate::command::Command;
use crate::engine::{Candidate, Peer};
use crate::error::{handshake, protocol};
use crate::events::ConnEvent;
use crate::shared::Shared;
use crate::signaling::{Refusal, Signal, Signaling};

/// Maximum number of candidates of a description that are reported as events.
const MAX_TOLD: usize = 256;

/// Time for which the last error waits until the peer has read it.
const LINGER: Duration = Duration::from_secs(1);

/// Exchanges descriptions and candidates with the peer: the dialer offers and the listener answers.
///
/// It goes on after the connection is made, so that ICE can be restarted, until the signalling ends.
pub(crate) struct Negotiation<S> {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    signaling: S,
    commands: mpsc::Receiver<Command>,
    /// The name to dial, or to be dialed by.
    name: Option<String>,
    /// A description of the peer has been applied, so that its candidates can be.
    described: bool,
    /// Candidates that came before.
    early: Vec<Candidate>,
    limit: CandidateLimit,
    /// The name of the section that candidates of this side belong to.
    mid: Option<String>,
    /// An offer of this side waits for its answer.
    offering: bool,
    /// Whether a restart was requested while another one was in progress.
    again: bool,
    restarted: Vec<oneshot::Sender<Result<()>>>,
    /// An offer, or a request for one, that came too soon, and the time of its turn. Nothing is
    /// read meanwhile.
    paced: Option<(Instant, Signal)>,
    /// The peer has given the negotiation up.
    refused: bool,
}

impl<S: Signaling> Negotiation<S> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        peer: Arc<Peer>,
        signaling: S,
        commands: mpsc::Receiver<Command>,
        name: Option<String>,
    ) -> Self {
        Self {
            limit: CandidateLimit::new(peer.sockets()),
            shared,
            peer,
            signaling,
            commands,
            name,
            described: false,
            early: Vec::new(),
            mid: None,
            offering: false,
            again: false,
            restarted: Vec::new(),
            paced: None,
            refused: false,
        }
    }

    /// Runs until the signalling ends. An error before the connection is made is that of the
    /// connection, and is sent to the peer.
    pub(crate) async fn run(mut self) -> Result<()> {
        let ended = self.negotiate().await;
        if let (Err(error), false) = (&ended, self.refused) {
            // A channel that is broken takes no message, which changes nothing.
            let _ = timeout(LINGER, self.refuse(error)).await;
        }
        ended
    }

    /// Sends the peer the error, and waits until it is read.
    async fn refuse(&mut self, error: &Error) -> Result<()> {
        let refusal = Refusal::of(error);
        self.signaling.send(Signal::Refused(refusal)).await?;
        // The message is lost if the channel goes before it was read.
        while self.signaling.receive().await?.is_some() {}
        Ok(())
    }

    async fn negotiate(&mut self) -> Result<()> {
        if self.shared.offerer {
            self.offer(self.name.clone()).await?;
        }
        loop {
            let due = self.paced.as_ref().map(|(due, _)| *due);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await?,
                    None => return Ok(()),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some((_, signal)) = self.paced.take() {
                        self.take(signal).await?;
                    }
                }
                signal = self.signaling.receive(), if due.is_none() => match signal? {
                    Some(signal) => self.take(signal).await?,
                    None if self.described => return Ok(()),
                    None => {
                        return Err(handshake("the peer ended the signalling"));
                    }
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Candidate(mut candidate) => {
                if candidate.mid.as_ref().is_none_or(String::is_empty) {
                    candidate.mid.clone_from(&self.mid);
                }
                self.signaling
                    .send(Signal::Candidate(candidate.into()))
                    .await
            }
            Command::EndOfCandidates => self.signaling.send(Signal::EndOfCandidates).await,
            Command::Restart(done) => {
                if !self.shared.offerer && !self.signaling.can_ask_for_restarts() {
                    if let Some(done) = done {
                        let why = "the listener cannot ask for a restart over this signalling; the dialer restarts ICE";
                        // The caller may have gone.
                        let _ = done.send(Err(Error::new(ErrorKind::Unsupported, why)));
                    }
                    return Ok(());
                }
                self.restarted.extend(done);
                if self.shared.offerer {
                    self.restart().await
                } else {
                    self.signaling.send(Signal::Restart).await
                }
            }
            Command::Refuse(error) => Err(error),
        }
    }

    async fn restart(&mut self) -> Result<()> {
        if self.offering {
            self.again = true;
            return Ok(());
        }
        tracing::debug!(peer = %self.shared.remote_addr, "ICE restarts");
        let offer = self.peer.offer_restart().await?;
        self.send_offer(offer, None).await
    }

    async fn offer(&mut self, name: Option<String>) -> Result<()> {
        let offer = self.peer.offer().await?;
        self.send_offer(offer, name).await
    }

    async fn send_offer(&mut self, offer: String, name: Option<String>) -> Result<()> {
        self.mid = first_mid(&offer).map(str::to_owned);
        self.tell_candidates(&offer, ConnEvent::LocalCandidate);
        self.offering = true;
        self.signaling.send(Signal::offer(offer, name)).await
    }

    async fn take(&mut self, signal: Signal) -> Result<()> {
        match signal {
            Signal::Offer(offer) => {
                if self.shared.offerer {
                    return Err(protocol("an offer by the listener"));
                }
                if !self.described && self.name.is_some() && self.name != offer.name {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        format!(
                            "there is no listener by the name {:?}",
                            offer.name.unwrap_or_default()
                        ),
                    ));
                }
                if let Err(due) = self.limit.admit_offer() {
                    self.paced = Some((due, Signal::Offer(offer)));
                    return Ok(());
                }
                let offer = self.limit.begin(&offer.sdp)?;
                self.peer.set_connecting(true);
                let answer = self.peer.answer(offer.clone()).await?;
                self.mid = first_mid(&answer).map(str::to_owned);
                self.described().await?;
                self.tell_candidates(&offer, ConnEvent::RemoteCandidate);
                self.tell_candidates(&answer, ConnEvent::LocalCandidate);
                self.signaling.send(Signal::answer(answer)).await?;
                self.finish_restarts(&Ok(()));
            }
            Signal::Answer(answer) => {
                if !std::mem::take(&mut self.offering) {
                    return Err(protocol("an answer without an offer"));
                }
                let answer = self.limit.begin(&answer.sdp)?;
                match self.peer.accept_answer(answer.clone()).await {
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        // The path in use stays. Candidates of the peer would be for another one.
                        tracing::debug!(%error, "ICE is not restarted");
                        self.early.clear();
                        self.again = false;
                        self.finish_restarts(&Err(error));
                        return Ok(());
                    }
                    taken => taken?,
                }
                self.described().await?;
                self.tell_candidates(&answer, ConnEvent::RemoteCandidate);
                if std::mem::take(&mut self.again) {
                    self.restart().await?;
                } else {
                    self.finish_restarts(&Ok(()));
                }
            }
            Signal::Candidate(candidate) => {
                let candidate = Candidate::from(candidate);
                if !self.limit.admit_candidate(&candidate)? {
                    return Ok(());
                }
                if self.described && !self.offering {
                    self.add(candidate).await;
                } else if self.early.len() < self.limit.most() {
                    self.early.push(candidate);
                }
            }
            Signal::Restart => {
                if !self.shared.offerer {
                    return Err(protocol("a restart request from the dialer"));
                }
                if let Err(due) = self.limit.admit_offer() {
                    self.paced = Some((due, Signal::Restart));
                    return Ok(());
                }
                self.restart().await?;
            }
            Signal::Refused(refusal) => {
                self.refused = true;
                return Err(refusal.error());
            }
            Signal::EndOfCandidates | Signal::Unknown => {}
        }
        Ok(())
    }

    /// Applies the candidates that waited for the description of the peer.
    async fn described(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.described, true) {
            self.shared.tell(ConnEvent::IceRestarted);
        }
        for candidate in std::mem::take(&mut self.early) {
            // They were counted with the description before.
            if self.limit.admit_candidate(&candidate)? {
                self.add(candidate).await;
            }
        }
        Ok(())
    }

    /// Reports the candidates within a description (RFC 8839, section 5.1): it holds those of a
    /// restart, and those that a peer has found before it sent the description.
    fn tell_candidates(&self, description: &str, event: fn(String) -> ConnEvent) {
        let lines = description.lines().filter_map(|l| l.strip_prefix("a="));
        for candidate in lines
            .filter(|line| line.starts_with("candidate:"))
            .take(MAX_TOLD)
        {
            self.shared.tell(event(candidate.to_owned()));
        }
    }

    /// A candidate that this side cannot use does no harm: others may.
    async fn add(&mut self, candidate: Candidate) {
        let text = candidate.candidate.clone();
        match self.peer.add_candidate(candidate).await {
            Ok(()) => self.shared.tell(ConnEvent::RemoteCandidate(text)),
            Err(error) => tracing::debug!(%error, "a candidate of the peer is left out"),
        }
    }

    fn finish_restarts(&mut self, how: &Result<()>) {
        for done in self.restarted.drain(..) {
            // The caller may have gone.
            let _ = done.send(how.clone());
        }
    }
}
