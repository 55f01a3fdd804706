use std::future::pending;

use data_encoding::BASE64URL_NOPAD;
use pipe_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::{MAX_SIGNAL_LEN, Signal, Signaling};
use crate::WebRtcConn;
use crate::candidates::add_candidates;

/// Prefix of every blob.
const PREFIX: &str = "pipe-webrtc-1.";

/// An offer to be carried to the peer by hand; see
/// [`WebRtcTransport::offer_by_hand`](crate::WebRtcTransport::offer_by_hand).
#[derive(Debug)]
pub struct Offered {
    pub(crate) signals: Vec<Signal>,
    pub(crate) text: String,
    pub(crate) reply: Reply,
    pub(crate) conn: ConnTask,
}

/// An answer to be carried to the peer by hand; see
/// [`WebRtcTransport::answer_by_hand`](crate::WebRtcTransport::answer_by_hand).
#[derive(Debug)]
pub struct Answered {
    pub(crate) text: String,
    pub(crate) conn: ConnTask,
}

/// The task that makes the connection; dropping it gives it up.
#[derive(Debug)]
pub(crate) struct ConnTask(pub(crate) tokio::task::JoinHandle<Result<WebRtcConn>>);

impl Offered {
    /// Returns the offer: one line of letters, digits, dots, dashes and underscores.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the offer as a plain session description with all candidates, for a listener of another make or for one that
    /// is signalled over HTTP (`webrtc+http://`).
    pub fn sdp(&self) -> String {
        describe(&self.signals)
    }

    /// Takes the peer's answer and makes the connection: the text of [`Answered`], or a plain session description.
    ///
    /// # Errors
    ///
    /// [`Protocol`](ErrorKind::Protocol) for a text that is no answer, and those of
    /// [`Transport::dial`](pipe_core::Transport::dial).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn accept(self, answer: &str) -> Result<WebRtcConn> {
        let signals = match plain(answer)? {
            Some(sdp) => vec![Signal::answer(sdp), Signal::EndOfCandidates],
            None => parse(answer)?,
        };
        // A negotiation that is over reports so below.
        let _ = self.reply.0.send(signals);
        self.conn.join().await
    }
}

impl Answered {
    /// Returns the answer: one line of letters, digits, dots, dashes and underscores.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits until the peer has taken the answer and the connection is made.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::dial`](pipe_core::Transport::dial).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection up.
    pub async fn connected(self) -> Result<WebRtcConn> {
        self.conn.join().await
    }
}

impl ConnTask {
    pub(crate) async fn join(mut self) -> Result<WebRtcConn> {
        match (&mut self.0).await {
            Ok(made) => made,
            Err(_) => Err(Error::new(ErrorKind::Failed, "the negotiation was aborted")),
        }
    }
}

impl Drop for ConnTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Signalling by hand: sent messages are collected into one text, and received ones come from one.
pub(crate) struct Hand {
    gathered: Vec<Signal>,
    text: Option<oneshot::Sender<Vec<Signal>>>,
    reply: Option<oneshot::Receiver<Vec<Signal>>>,
    received: std::vec::IntoIter<Signal>,
}

/// Destination of the peer's text.
#[derive(Debug)]
pub(crate) struct Reply(oneshot::Sender<Vec<Signal>>);

/// Returns the signalling, the signals that it collects, and the destination of the reply. An answerer
/// has the peer's text from the start.
pub(crate) fn hand(offer: Option<&str>) -> Result<(Hand, oneshot::Receiver<Vec<Signal>>, Reply)> {
    let received = offer.map(parse).transpose()?.unwrap_or_default();
    let (text, gathered) = oneshot::channel();
    let (reply, replied) = oneshot::channel();
    let hand = Hand {
        gathered: Vec::new(),
        text: Some(text),
        reply: Some(replied),
        received: received.into_iter(),
    };
    Ok((hand, gathered, Reply(reply)))
}

impl Signaling for Hand {
    async fn send(&mut self, signal: Signal) -> Result<()> {
        let last = signal == Signal::EndOfCandidates;
        if self.text.is_some() {
            self.gathered.push(signal);
        }
        if last && let Some(text) = self.text.take() {
            // The task that waits for the text may have gone.
            let _ = text.send(std::mem::take(&mut self.gathered));
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<Option<Signal>> {
        loop {
            if let Some(signal) = self.received.next() {
                return Ok(Some(signal));
            }
            if let Some(reply) = &mut self.reply {
                let reply = reply.await;
                self.reply = None;
                // An answerer gets no reply: the text that it was made with is all.
                self.received = reply.unwrap_or_default().into_iter();
                continue;
            }
            if self.text.is_none() {
                // Nothing can be carried any more.
                return Ok(None);
            }
            // Collected messages are sent first, and then this is polled again.
            return pending().await;
        }
    }
}

/// Returns the text that stands for these signals.
pub(crate) fn write(signals: &[Signal]) -> Result<String> {
    let json = serde_json::to_string(signals)
        .map_err(|error| Error::new(ErrorKind::Io, format!("writing signals: {error}")))?;
    Ok(format!(
        "{PREFIX}{}",
        BASE64URL_NOPAD.encode(json.as_bytes())
    ))
}

/// Returns the description among these signals, with the candidates.
fn describe(signals: &[Signal]) -> String {
    let (mut description, mut candidates) = ("", Vec::new());
    for signal in signals {
        match signal {
            Signal::Offer(own) => description = &own.sdp,
            Signal::Candidate(found) => candidates.push(found.candidate.as_str()),
            _ => {}
        }
    }
    add_candidates(description, candidates, true)
}

/// Returns a text that is a plain session description, which begins with its version (RFC 8866, section 5.1).
fn plain(text: &str) -> Result<Option<String>> {
    let text = text.trim_start();
    if !text.starts_with("v=0") {
        return Ok(None);
    }
    if text.len() > MAX_SIGNAL_LEN {
        let why = format!("a description of more than {MAX_SIGNAL_LEN} bytes");
        return Err(Error::new(ErrorKind::Protocol, why));
    }
    Ok(Some(text.to_owned()))
}

fn parse(text: &str) -> Result<Vec<Signal>> {
    let bad = |why: &str| {
        Error::new(
            ErrorKind::Protocol,
            format!("this is no text of a WebRTC negotiation: {why}"),
        )
    };
    let text: String = text.split_whitespace().collect();
    let data = text
        .strip_prefix(PREFIX)
        .ok_or_else(|| bad("it does not begin with pipe-webrtc-1."))?;
    if data.len() > MAX_SIGNAL_LEN {
        return Err(bad("it is too long"));
    }
    let json = BASE64URL_NOPAD
        .decode(data.as_bytes())
        .map_err(|error| bad(&error.to_string()))?;
    serde_json::from_slice(&json).map_err(|error| bad(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_was_written_even_when_it_was_wrapped() {
        let signals = vec![
            Signal::offer("v=0\r\n".into(), None),
            Signal::EndOfCandidates,
        ];
        let text = write(&signals).unwrap();
        // `[{"type":"offer","version":1,"sdp":"v=0\r\n"},{"type":"end-of-candidates"}]` in base64url.
        let golden = "pipe-webrtc-1.W3sidHlwZSI6Im9mZmVyIiwidmVyc2lvbiI6MSwic2RwIjoidj0wXHJcbiJ9LHsidHlwZSI6ImVuZC1vZi1jYW5kaWRhdGVzIn1d";
        assert_eq!(text, golden);
        assert_eq!(parse(&text).unwrap(), signals);
        let wrapped = format!("  {}\n {}\n", &text[..30], &text[30..]);
        assert_eq!(parse(&wrapped).unwrap(), signals);
    }

    #[test]
    fn any_other_text_is_refused() {
        let long = format!("{PREFIX}{}", "A".repeat(MAX_SIGNAL_LEN + 4));
        for text in ["", "hello", "pipe-webrtc-1.", "pipe-webrtc-1.!!", &long] {
            assert_eq!(parse(text).unwrap_err().kind(), ErrorKind::Protocol);
        }
    }
}
