use std::collections::VecDeque;
use std::sync::Arc;

use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};

use super::fragment::Fragment;
use super::resources::{Patch, Resource};
use crate::candidates::add_candidates;
use crate::signaling::{Refusal, Signal, Signaling};

/// The answer to an offer, with all candidates, or why there is none.
pub(crate) type Answered = std::result::Result<String, Refusal>;

/// The signalling of the side that was posted an offer. It answers once it has all candidates, and takes those of the peer
/// and restarts from the patches of the resource.
pub(crate) struct Answering {
    resource: Arc<Resource>,
    patches: mpsc::Receiver<Patch>,
    received: VecDeque<Signal>,
    /// Takes the answer to the offer.
    answer: Option<oneshot::Sender<Answered>>,
    description: Option<String>,
    candidates: Vec<String>,
    is_gathered: bool,
    /// Takes the answer to a restart.
    restarted: Option<oneshot::Sender<Fragment>>,
    is_over: bool,
}

impl Answering {
    pub(crate) fn new(
        offer: String,
        answer: oneshot::Sender<Answered>,
        resource: Arc<Resource>,
        patches: mpsc::Receiver<Patch>,
    ) -> Self {
        Self {
            resource,
            patches,
            received: [Signal::offer(offer, None)].into(),
            answer: Some(answer),
            description: None,
            candidates: Vec::new(),
            is_gathered: false,
            restarted: None,
            is_over: false,
        }
    }

    /// Answers the offer, where all is here for that.
    fn answer(&mut self) -> Result<()> {
        if !self.is_gathered {
            return Ok(());
        }
        let Some(description) = self.description.take() else {
            return Ok(());
        };
        let candidates = self.candidates.iter().map(String::as_str);
        let answer = add_candidates(&description, candidates, true);
        self.reply(Ok(answer))
    }

    fn reply(&mut self, answered: Answered) -> Result<()> {
        let Some(answer) = self.answer.take() else {
            return Ok(());
        };
        answer.send(answered).map_err(|_| {
            let why = "the peer has gone before it was answered";
            Error::new(ErrorKind::Handshake, why)
        })
    }
}

impl Signaling for Answering {
    async fn send(&mut self, signal: Signal) -> Result<()> {
        match signal {
            Signal::Answer(answer) if self.answer.is_some() => {
                self.description = Some(answer.sdp);
                self.answer()
            }
            Signal::Answer(answer) => {
                let ice = Fragment::parse(&answer.sdp)?;
                if let Some(restarted) = self.restarted.take() {
                    // The peer may have gone, and restarts again.
                    let _ = restarted.send(ice);
                }
                Ok(())
            }
            Signal::Candidate(candidate) if self.answer.is_some() => {
                self.candidates.push(candidate.candidate);
                Ok(())
            }
            Signal::EndOfCandidates => {
                self.is_gathered = true;
                self.answer()
            }
            Signal::Refused(refusal) => {
                self.is_over = true;
                self.reply(Err(refusal))
            }
            // There is no way to send them.
            _ => Ok(()),
        }
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        loop {
            if self.is_over {
                return Ok(None);
            }
            if let Some(signal) = self.received.pop_front() {
                return Ok(Some(signal));
            }
            let gone = async {
                match &mut self.answer {
                    Some(answer) => answer.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.resource.deleted() => {
                    self.is_over = true;
                    return Ok(Some(Signal::Refused(Refusal {
                        cause: "failed".to_owned(),
                        reason: "its resource is deleted".to_owned(),
                    })));
                }
                () = gone => {
                    self.is_over = true;
                    return Ok(Some(Signal::Refused(Refusal {
                        cause: "failed".to_owned(),
                        reason: "the peer has gone before it was answered".to_owned(),
                    })));
                }
                patch = self.patches.recv() => match patch {
                    Some(Patch { signals, restarted }) => {
                        self.received.extend(signals);
                        self.restarted = restarted.or_else(|| self.restarted.take());
                    }
                    None => return Ok(None),
                },
            }
        }
    }

    fn can_ask_for_restarts(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::resources::Resources;
    use super::*;
    use crate::signaling::IceCandidate;

    const OFFER: &str = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

    fn candidate(text: &str) -> Signal {
        Signal::Candidate(IceCandidate {
            candidate: text.to_owned(),
            mid: None,
            line: None,
        })
    }

    fn answering() -> (
        Answering,
        oneshot::Receiver<Answered>,
        super::super::resources::Entry,
    ) {
        let resources = Arc::new(Resources::default());
        let (entry, patches) = resources.add(OFFER).unwrap();
        let (answer, answered) = oneshot::channel();
        let answering = Answering::new(OFFER.into(), answer, entry.resource.clone(), patches);
        (answering, answered, entry)
    }

    #[tokio::test]
    async fn an_answer_has_all_candidates() {
        for gathers_first in [true, false] {
            let (mut here, mut answered, _entry) = answering();
            let offer = here.receive().await.unwrap();
            assert!(matches!(offer, Some(Signal::Offer(_))), "{offer:?}");
            here.send(candidate("candidate:1")).await.unwrap();
            let last = [Signal::EndOfCandidates, Signal::answer(OFFER.into())];
            let mut last = Vec::from(last);
            if !gathers_first {
                last.reverse();
            }
            for signal in last {
                assert!(answered.try_recv().is_err());
                here.send(signal).await.unwrap();
            }
            let answer = answered.try_recv().unwrap().unwrap();
            assert!(
                answer.ends_with("a=candidate:1\r\na=end-of-candidates\r\n"),
                "{answer}"
            );
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_wait_ends_the_negotiation() {
        let (mut here, answered, _entry) = answering();
        assert!(here.receive().await.unwrap().is_some());
        drop(answered);
        let refused = here.receive().await.unwrap();
        assert!(matches!(refused, Some(Signal::Refused(_))), "{refused:?}");
        assert_eq!(here.receive().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_deleted_resource_refuses() {
        let (mut here, _answered, entry) = answering();
        assert!(here.receive().await.unwrap().is_some());
        assert!(entry.resources().delete(&entry.name));
        let refused = here.receive().await.unwrap();
        assert!(matches!(refused, Some(Signal::Refused(_))), "{refused:?}");
        assert_eq!(here.receive().await.unwrap(), None);
    }
}
