//! The handshake of a dialer.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use futures::StreamExt;
use pipe_core::{Addr, Error, ErrorKind, Result};
use tokio::time::{Instant, sleep_until};

use crate::broker::{Broker, Use, gone};
use crate::carrier::Inboxes;
use crate::greeting::{Answer, Request};
use crate::subject::is_inbox;

/// Time after which a request that is not answered is sent again: a broker or a listener may have died with it.
const REPEAT: Duration = Duration::from_secs(1);

/// Pause before another look at a client that is not connected.
const UNTIL_CONNECTED: Duration = Duration::from_millis(100);

/// Pauses before the next request, after a broker has found no listener. While a cluster loses a server, it finds none at
/// times where there are some, and a listener may be about to connect again.
const ABSENCES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// First and longest pause before the next request, after a listener without room has answered.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Finds a listener on this subject. Returns the inboxes of a connection to it.
pub(crate) async fn find(
    broker: Arc<Broker>,
    addr: &Addr,
    subject: &str,
    request: &Request,
) -> Result<Inboxes> {
    let inbox = broker.fresh_inbox()?;
    let mut watch = broker.watch();
    let (mut asking, mut hearing) = (broker.watch(), broker.watch());
    let mut own = broker.subscribe(inbox.clone()).await?;
    let mut pause = FIRST_PAUSE;
    let mut absences = ABSENCES.iter();
    let refused = |kind, why: &str| Error::new(kind, format!("could not connect to {addr}: {why}"));
    loop {
        let mut again = Instant::now() + REPEAT;
        if broker.is_connected() {
            let asked = broker.publish_with_reply(subject.into(), inbox.clone(), request.encode());
            asked.await?;
        } else {
            // It would be kept, and sent for a dial that may have been given up.
            again = Instant::now() + UNTIL_CONNECTED;
        }
        loop {
            tokio::select! {
                biased;
                answer = next(&mut own) => match answer? {
                    Found::Listener(peer) => return Ok(Inboxes { broker, own, peer }),
                    Found::NoListener => {
                        let Some(next) = absences.next() else {
                            return Err(refused(ErrorKind::Refused, "there is no listener"));
                        };
                        again = Instant::now() + *next;
                    }
                    Found::Refused => {
                        return Err(refused(ErrorKind::Refused, "the listener does not want it"));
                    }
                    Found::Busy => {
                        again = Instant::now() + pause;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    Found::Nothing => {}
                },
                reconnected = watch.reconnected() => {
                    reconnected?;
                    break;
                }
                error = asking.forbidden(Use::Publish, subject) => return Err(error),
                error = hearing.forbidden(Use::Subscription, &inbox) => return Err(error),
                () = sleep_until(again) => break,
            }
        }
    }
}

enum Found {
    /// One with this inbox.
    Listener(String),
    NoListener,
    Busy,
    Refused,
    /// A message that is no answer.
    Nothing,
}

async fn next(own: &mut Subscriber) -> Result<Found> {
    let message = own.next().await.ok_or_else(gone)?;
    Ok(found(&message))
}

fn found(message: &Message) -> Found {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Found::NoListener;
    }
    match (Answer::decode(&message.payload), message.reply.as_deref()) {
        (Some(Answer::Welcome), Some(peer)) if is_inbox(peer) => Found::Listener(peer.to_owned()),
        (Some(Answer::Busy), _) => Found::Busy,
        (Some(Answer::Refused), _) => Found::Refused,
        _ => Found::Nothing,
    }
}
