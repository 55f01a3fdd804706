use std::time::Duration;

use http::{Method, StatusCode};
use pipe_core::{Conn, ConnState, Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout, timeout_at};
use url::Url;

use super::client::{Ask, Client, Connected, Reply};
use super::fragment::Fragment;
use super::wire::{FRAGMENT, SDP};
use crate::candidates::add_candidates;
use crate::conn::WebRtcConn;
use crate::signaling::{Signal, Signaling};

/// Maximum number of signals of this side that wait for a request. Beyond, the negotiation waits.
const SIGNALS: usize = 64;

/// Time for which an offer waits for the candidates of this side. Those that take longer follow in a patch.
const GATHER: Duration = Duration::from_millis(100);

/// Maximum number of redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// Pauses before a request that has failed is made again: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Number of attempts to send candidates, and the time limit of each.
const ATTEMPTS: u32 = 3;
const TRICKLE: Duration = Duration::from_secs(2);

/// Time limit of the answer to an offer that was given up, and of the request that deletes its resource.
const FAREWELL: Duration = Duration::from_secs(2);

/// The signalling of the side that posts its offer. A task makes the requests, and deletes the resource at the end.
pub(crate) struct Dialing {
    signals: mpsc::Sender<Signal>,
    received: mpsc::Receiver<Result<Signal>>,
}

/// How long the resource is needed: as long as a connection, or, where this is dropped, no longer.
pub(crate) struct Lifetime(oneshot::Sender<watch::Receiver<ConnState>>);

/// The task.
struct Requests {
    client: Client,
    /// Time limit of a request.
    limit: Duration,
    signals: mpsc::Receiver<Signal>,
    to_negotiation: mpsc::Sender<Result<Signal>>,
    conn: oneshot::Receiver<watch::Receiver<ConnState>>,
}

/// What the listener has made of the offer.
struct Session {
    url: Url,
    /// The tag of the session of ICE; none where the listener takes no patches.
    tag: Option<String>,
    /// What this side says of ICE.
    own: Fragment,
    /// The listener's answer.
    answer: String,
}

impl Lifetime {
    /// Keeps the resource as long as this connection.
    pub(crate) fn follow(self, conn: &WebRtcConn) {
        // A task that has gone keeps nothing.
        let _ = self.0.send(conn.state());
    }
}

impl Dialing {
    /// Begins with the first request over this connection.
    pub(crate) fn start(client: Client, over: Connected, limit: Duration) -> (Lifetime, Self) {
        let (signals, to_send) = mpsc::channel(SIGNALS);
        let (to_negotiation, received) = mpsc::channel(SIGNALS);
        let (lifetime, conn) = oneshot::channel();
        let requests = Requests {
            client,
            limit,
            signals: to_send,
            to_negotiation,
            conn,
        };
        tokio::spawn(requests.run(over));
        (Lifetime(lifetime), Self { signals, received })
    }
}

impl Signaling for Dialing {
    async fn send(&mut self, signal: Signal) -> Result<()> {
        // The reason why it is over is received.
        let _ = self.signals.send(signal).await;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        self.received.recv().await.transpose()
    }
}

impl Requests {
    async fn run(mut self, over: Connected) {
        let posted = self.post(over).await;
        let mut session = match posted {
            Ok(Some(session)) => session,
            Ok(None) => return,
            Err(error) => {
                // The negotiation may have gone.
                let _ = self.to_negotiation.send(Err(error)).await;
                return;
            }
        };
        self.follow(&mut session).await;
        let Self {
            client,
            conn,
            to_negotiation,
            ..
        } = self;
        drop(to_negotiation);
        if let Ok(mut state) = conn.await {
            let is_over =
                |state: &ConnState| matches!(state, ConnState::Failed | ConnState::Closed);
            // A state that goes unwatched is that of a connection that has gone.
            let _ = state.wait_for(is_over).await;
        }
        delete(&client, &session.url).await;
    }

    /// Posts the offer, once it has the candidates that are found at once. `None` if it is given up.
    async fn post(&mut self, over: Connected) -> Result<Option<Session>> {
        let Some(Signal::Offer(offer)) = self.signals.recv().await else {
            return Ok(None);
        };
        let Some((candidates, is_complete)) = self.gather().await else {
            return Ok(None);
        };
        let candidates = candidates.iter().map(String::as_str);
        let offer = add_candidates(&offer.sdp, candidates, is_complete);
        let own = Fragment::parse(&offer)?;
        let posting = self.post_to(over, &offer);
        let given_up = async {
            self.to_negotiation.closed().await;
            sleep(FAREWELL).await;
        };
        let (url, reply) = tokio::select! {
            posted = posting => posted?,
            () = given_up => return Ok(None),
        };
        if reply.status != StatusCode::CREATED {
            return Err(self.client.refused(&reply));
        }
        let url = self.client.location(&url, &reply)?;
        let answer = match self.answer(&reply) {
            Ok(answer) => answer.to_owned(),
            Err(error) => {
                // The negotiation may have gone.
                let _ = self.to_negotiation.send(Err(error)).await;
                delete(&self.client, &url).await;
                return Ok(None);
            }
        };
        let session = Session {
            url,
            tag: reply.header(http::header::ETAG).map(str::to_owned),
            own,
            answer,
        };
        self.hand(Signal::answer(session.answer.clone())).await;
        Ok(Some(session))
    }

    /// Returns the answer to the offer.
    fn answer<'a>(&self, reply: &'a Reply) -> Result<&'a str> {
        if !reply.is_of_type(SDP) {
            let addr = &self.client.addr;
            let why = format!("could not connect to {addr}: the answer is not of the type {SDP}");
            return Err(Error::new(ErrorKind::Handshake, why));
        }
        reply.body()
    }

    /// Posts the offer, and follows redirects. Returns where it went.
    async fn post_to(&self, over: Connected, offer: &str) -> Result<(Url, Reply)> {
        let mut url = self.client.to.url().clone();
        let mut over = Some(over);
        for _ in 0..=MAX_REDIRECTS {
            let over = match over.take() {
                Some(over) => over,
                None => self.client.connect().await?,
            };
            let ask = Ask {
                method: Method::POST,
                url: &url,
                content: Some(SDP),
                if_match: None,
                body: offer.to_owned(),
            };
            let reply = self.client.ask(over, ask).await?;
            if !matches!(
                reply.status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            ) {
                return Ok((url, reply));
            }
            url = self.client.location(&url, &reply)?;
        }
        let addr = &self.client.addr;
        let why = format!("could not connect to {addr}: more than {MAX_REDIRECTS} redirects");
        Err(Error::new(ErrorKind::Handshake, why))
    }

    /// Takes the candidates that are found at once. Returns whether they are all. `None` once the negotiation is over.
    async fn gather(&mut self) -> Option<(Vec<String>, bool)> {
        let mut candidates = Vec::new();
        let until = tokio::time::Instant::now() + GATHER;
        loop {
            match timeout_at(until, self.signals.recv()).await {
                Ok(Some(Signal::Candidate(found))) => candidates.push(found.candidate),
                Ok(Some(Signal::EndOfCandidates)) => return Some((candidates, true)),
                Ok(Some(Signal::Refused(_)) | None) => return None,
                Ok(Some(_)) => {}
                Err(_) => return Some((candidates, false)),
            }
        }
    }

    /// Makes a request of what the negotiation sends, until that is over.
    async fn follow(&mut self, session: &mut Session) {
        // What was not sent, and the signal that waited meanwhile.
        let mut candidates = Vec::new();
        let mut is_complete = false;
        let mut waiting = None;
        loop {
            let mut next = match waiting.take() {
                Some(signal) => Some(signal),
                None => self.signals.recv().await,
            };
            if next.is_none() {
                return;
            }
            let mut offer = None;
            while let Some(signal) = next {
                match signal {
                    Signal::Candidate(found) => candidates.push(found.candidate),
                    Signal::EndOfCandidates => is_complete = true,
                    Signal::Offer(restart) => {
                        offer = Some(restart.sdp);
                        // Those before are of the old session.
                        candidates.clear();
                        is_complete = false;
                    }
                    Signal::Refused(_) => return,
                    _ => {}
                }
                next = self.signals.try_recv().ok();
            }
            if let Some(offer) = offer {
                if !is_complete {
                    let Some((found, all)) = self.gather().await else {
                        return;
                    };
                    candidates.extend(found);
                    is_complete = all;
                }
                let found = std::mem::take(&mut candidates);
                let is_complete = std::mem::take(&mut is_complete);
                match self.restart(session, &offer, found, is_complete).await {
                    Some(answer) => self.hand(Signal::answer(answer)).await,
                    None => return,
                }
            } else if !candidates.is_empty() || is_complete {
                let found = session.own.with_candidates(candidates.clone(), is_complete);
                waiting = self.trickle(session, &found).await;
                if waiting.is_none() {
                    candidates.clear();
                    is_complete = false;
                }
            }
        }
    }

    /// Sends candidates (RFC 9725, section 4.3.2). Without them a path may be found all the same.
    ///
    /// Returns the signal that came between two attempts, before which the candidates were not taken.
    async fn trickle(&mut self, session: &Session, found: &Fragment) -> Option<Signal> {
        let Some(tag) = &session.tag else {
            tracing::debug!("the listener takes no candidates after the offer");
            return None;
        };
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            match self.patch(session, tag, found, TRICKLE).await {
                Ok(reply) if reply.status.is_success() => return None,
                Ok(reply) if !is_passing(reply.status) => {
                    let error = self.client.refused(&reply);
                    tracing::debug!(%error, "the listener does not take candidates");
                    return None;
                }
                Ok(reply) => {
                    tracing::debug!(status = %reply.status, attempt, "candidates are not taken");
                }
                Err(error) => tracing::debug!(%error, attempt, "candidates are not sent"),
            }
            if attempt == ATTEMPTS {
                break;
            }
            tokio::select! {
                () = sleep(pause) => {}
                // None once the negotiation is over.
                signal = self.signals.recv() => return signal,
            }
            pause *= 2;
        }
        None
    }

    /// Restarts ICE (RFC 9725, section 4.3.3), as often as it takes to reach the listener. Returns its answer, which is
    /// the last one where it does not restart. `None` once the negotiation or the session is over.
    async fn restart(
        &mut self,
        session: &mut Session,
        offer: &str,
        candidates: Vec<String>,
        is_complete: bool,
    ) -> Option<String> {
        let candidates = candidates.iter().map(String::as_str);
        let own = Fragment::parse(&add_candidates(offer, candidates, is_complete)).ok()?;
        let mut pause = PAUSE;
        loop {
            match self.patch(session, "*", &own, self.limit).await {
                Ok(reply) if reply.status == StatusCode::OK && reply.is_of_type(FRAGMENT) => {
                    let Ok(theirs) = reply.body().and_then(Fragment::parse) else {
                        tracing::debug!("the listener's answer to a restart is no fragment");
                        return Some(session.answer.clone());
                    };
                    session.own = own;
                    session.answer = theirs.apply(&session.answer);
                    let tag = reply.header(http::header::ETAG).map(str::to_owned);
                    session.tag = tag.or_else(|| session.tag.take());
                    return Some(session.answer.clone());
                }
                Ok(reply) if matches!(reply.status.as_u16(), 404 | 410) => return None,
                Ok(reply) if !is_passing(reply.status) => {
                    let error = self.client.refused(&reply);
                    tracing::debug!(%error, "the listener does not restart ICE");
                    return Some(session.answer.clone());
                }
                Ok(reply) => tracing::debug!(status = %reply.status, "ICE is not restarted yet"),
                Err(error) => tracing::debug!(%error, "the listener is not reached for a restart"),
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.to_negotiation.closed() => return None,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn patch(
        &self,
        session: &Session,
        tag: &str,
        fragment: &Fragment,
        limit: Duration,
    ) -> Result<Reply> {
        let ask = Ask {
            method: Method::PATCH,
            url: &session.url,
            content: Some(FRAGMENT),
            if_match: Some(tag),
            body: fragment.to_string(),
        };
        let client = &self.client;
        let patching = timeout(limit, async {
            let reply = client.ask(client.connect().await?, ask).await?;
            reply.body()?;
            Ok(reply)
        });
        tokio::select! {
            patched = patching => patched.unwrap_or_else(|_| {
                let why = format!("a patch was not answered within {limit:?}");
                Err(Error::new(ErrorKind::TimedOut, why))
            }),
            () = self.to_negotiation.closed() => {
                Err(Error::new(ErrorKind::Closed, "the negotiation is over"))
            }
        }
    }

    async fn hand(&self, signal: Signal) {
        // The negotiation may have gone.
        let _ = self.to_negotiation.send(Ok(signal)).await;
    }
}

/// Deletes a resource, if the listener is reached.
async fn delete(client: &Client, url: &Url) {
    let ask = Ask {
        method: Method::DELETE,
        url,
        content: None,
        if_match: None,
        body: String::new(),
    };
    let deleting = async { client.ask(client.connect().await?, ask).await };
    match timeout(FAREWELL, deleting).await {
        Ok(Ok(reply)) => tracing::debug!(status = %reply.status, "the resource is deleted"),
        Ok(Err(error)) => tracing::debug!(%error, "the resource is not deleted"),
        Err(_) => tracing::debug!("deleting the resource takes too long"),
    }
}

/// Returns whether a request that is answered like this may succeed later.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_room_and_errors_of_the_server_pass() {
        let passing = |code: &u16| is_passing(StatusCode::from_u16(*code).unwrap());
        let codes = [200, 204, 301, 400, 404, 409, 412, 429, 500, 501, 503];
        let passing: Vec<u16> = codes.into_iter().filter(passing).collect();
        assert_eq!(passing, [429, 500, 503]);
    }
}
