use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, PublishError, ServerAddr,
    SubscribeError, Subscriber,
};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use pipe_core::{Error, ErrorKind, Result};
use tokio::runtime;
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::addr::Servers;
use crate::subject::fresh_inbox;

/// Maximum number of messages that wait in this process for a subscription. More are lost, and sent again. The segments
/// and the answers of a peer that keeps to the rules are fewer.
const MAX_WAITING: usize = 256;

/// Longest pause between two attempts to connect to a broker again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A client of a broker, which connects again when the connection is lost. A drop ends it once nothing runs over it.
pub(crate) struct Broker {
    client: Client,
    events: watch::Receiver<Events>,
    inbox_prefix: String,
}

/// What the client has reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    /// How many times it has connected.
    connects: u64,
    /// How many errors the broker has reported, and the last one.
    errors: u64,
    error: Option<Arc<str>>,
}

/// What a client may not do with a subject, in the words of a broker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    Publish,
    Subscription,
}

/// The clients of a transport: one for each list of servers in each runtime, as long as something runs over it. The tasks
/// of a client end with the runtime in which it was made.
#[derive(Clone, Default)]
pub(crate) struct Brokers(Arc<Mutex<HashMap<(runtime::Id, Servers), Slot>>>);

/// The lock is held while a client connects, so that others wait for it.
type Slot = Arc<AsyncMutex<Weak<Broker>>>;

impl Brokers {
    /// Returns the client of these servers. Connects one with `options` where there is none; it gives up when it has no
    /// broker for so long as `patience`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt.
    pub(crate) async fn get(
        &self,
        servers: &Servers,
        patience: Duration,
        options: impl FnOnce() -> Result<ConnectOptions>,
    ) -> Result<Arc<Broker>> {
        let slot = {
            let mut slots = self.0.lock();
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || is_used(slot));
            let key = (runtime::Handle::current().id(), servers.clone());
            slots.entry(key).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(broker) = slot.upgrade().filter(|broker| !broker.is_gone()) {
            return Ok(broker);
        }
        let connecting = Broker::connect(servers, options()?, patience);
        // The future of the client is too large for the stack of a task.
        let broker = Arc::new(Box::pin(connecting).await?);
        *slot = Arc::downgrade(&broker);
        Ok(broker)
    }
}

fn is_used(slot: &Slot) -> bool {
    slot.try_lock()
        .is_ok_and(|broker| broker.strong_count() > 0)
}

impl Broker {
    async fn connect(
        servers: &Servers,
        options: ConnectOptions,
        patience: Duration,
    ) -> Result<Self> {
        let attempts = patience.div_duration_f64(LONGEST_PAUSE).ceil() as usize;
        let (report, mut events) = watch::channel(Events::default());
        let options = options
            .subscription_capacity(MAX_WAITING)
            .reconnect_delay_callback(pause)
            .retain_servers_order()
            .max_reconnects(attempts)
            .event_callback(move |event| {
                note(&report, event);
                std::future::ready(())
            });
        // Also with the servers that others name.
        let options = match servers.tls {
            true => options.require_tls(true),
            false => options,
        };
        let scheme = if servers.tls { "tls" } else { "nats" };
        let addrs = servers.at.iter().map(|at| {
            let addr = format!("{scheme}://{at}").parse::<ServerAddr>();
            addr.map_err(|error| cannot_connect(servers, ErrorKind::AddrInvalid, error))
        });
        let addrs = addrs.collect::<Result<Vec<_>>>()?;
        let client = options.connect(addrs).await;
        let client = client.map_err(|error| connect_error(servers, error))?;
        // Its first connection is not one that comes after a loss.
        let _ = events.wait_for(|events| events.connects > 0).await;
        let inbox = client.new_inbox();
        let prefix = inbox
            .rsplit_once('.')
            .map_or("_INBOX", |(prefix, _)| prefix);
        Ok(Self {
            inbox_prefix: prefix.to_owned(),
            client,
            events,
        })
    }

    /// Returns a subject that no other client can guess.
    pub(crate) fn fresh_inbox(&self) -> Result<String> {
        fresh_inbox(&self.inbox_prefix)
    }

    pub(crate) async fn subscribe(&self, subject: String) -> Result<Subscriber> {
        let subscribed = self.client.subscribe(subject).await;
        subscribed.map_err(subscribe_error)
    }

    pub(crate) async fn subscribe_in(&self, subject: String, group: &str) -> Result<Subscriber> {
        let subscribed = self.client.queue_subscribe(subject, group.to_owned()).await;
        subscribed.map_err(subscribe_error)
    }

    /// Publishes a message. It leaves later where the connection is lost.
    pub(crate) async fn publish(&self, subject: String, message: Bytes) -> Result<()> {
        let published = self.client.publish(subject, message).await;
        published.map_err(publish_error)
    }

    /// Publishes a message that is to be answered at the subject `reply`.
    pub(crate) async fn publish_with_reply(
        &self,
        subject: String,
        reply: String,
        message: Bytes,
    ) -> Result<()> {
        let published = self
            .client
            .publish_with_reply(subject, reply, message)
            .await;
        published.map_err(publish_error)
    }

    /// Waits until the broker has processed what this client sent before.
    pub(crate) async fn settle(&self) -> Result<()> {
        let inbox = self.fresh_inbox()?;
        let mut watch = self.watch();
        let settling = async {
            let mut echo = self.subscribe(inbox.clone()).await?;
            self.publish(inbox.clone(), Bytes::new()).await?;
            echo.next().await.map(drop).ok_or_else(gone)
        };
        tokio::select! {
            biased;
            error = watch.forbidden(Use::Subscription, &inbox) => Err(error),
            settled = settling => settled,
        }
    }

    /// Waits until the client has written what it was given.
    pub(crate) async fn flush(&self) {
        // What cannot be sent any more is no error at the end.
        let _ = self.client.flush().await;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Returns whether the client has given up.
    pub(crate) fn is_gone(&self) -> bool {
        self.events.has_changed().is_err()
    }

    /// Returns the maximum length of a message, in bytes.
    pub(crate) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    pub(crate) fn watch(&self) -> Watch {
        let events = self.events.clone();
        let Events {
            connects, errors, ..
        } = *events.borrow();
        Watch {
            events,
            connects,
            errors,
        }
    }
}

/// Sees what the client reports.
pub(crate) struct Watch {
    events: watch::Receiver<Events>,
    connects: u64,
    /// The errors before this was made.
    errors: u64,
}

impl Watch {
    /// Waits until the client has connected again.
    ///
    /// # Errors
    ///
    /// [`Failed`](ErrorKind::Failed) once it has given up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn reconnected(&mut self) -> Result<()> {
        let before = self.connects;
        let events = self.events.wait_for(|events| events.connects != before);
        self.connects = events.await.map_err(|_| gone())?.connects;
        Ok(())
    }

    /// Waits for an error of the broker about this subject: the client may not use it so. Errors from before this watch
    /// was made do not count. Waits for ever once the client has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn forbidden(&mut self, what: Use, subject: &str) -> Error {
        let text = format!("{what:?} to \"{subject}\"");
        let before = self.errors;
        let of_subject = |events: &Events| {
            let error = events.error.as_deref();
            events.errors > before && error.is_some_and(|error| error.contains(&text))
        };
        let found = self.events.wait_for(of_subject).await;
        let text = found.ok().and_then(|events| events.error.clone());
        let Some(text) = text else {
            return pending().await;
        };
        let why = format!("the broker does not allow it: {text}");
        Error::new(ErrorKind::Unauthenticated, why)
    }
}

fn note(report: &watch::Sender<Events>, event: Event) {
    match event {
        Event::Connected => report.send_modify(|events| events.connects += 1),
        Event::ServerError(error) => {
            tracing::warn!(%error, "the broker reports an error");
            let text = error.to_string();
            report.send_modify(|events| {
                events.errors += 1;
                events.error = Some(text.into());
            });
        }
        event => tracing::debug!(%event, "the client of a broker"),
    }
}

/// Returns the pause before an attempt to connect, of those since the last connection.
fn pause(attempt: usize) -> Duration {
    let doubled = u32::try_from(attempt.saturating_sub(2)).unwrap_or(u32::MAX);
    match attempt {
        0 | 1 => Duration::ZERO,
        _ => Duration::from_millis(20)
            .saturating_mul(2_u32.saturating_pow(doubled))
            .min(LONGEST_PAUSE),
    }
}

fn connect_error(servers: &Servers, error: ConnectError) -> Error {
    let kind = match error.kind() {
        ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls => ErrorKind::Unauthenticated,
        ConnectErrorKind::TimedOut => ErrorKind::TimedOut,
        ConnectErrorKind::ServerParse => ErrorKind::AddrInvalid,
        _ => ErrorKind::Unreachable,
    };
    cannot_connect(servers, kind, error)
}

fn cannot_connect(
    servers: &Servers,
    kind: ErrorKind,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let list: Vec<_> = servers.at.iter().map(ToString::to_string).collect();
    let list = list.join(", ");
    Error::with_source(kind, format!("no broker at {list}: {error}"), error)
}

fn subscribe_error(error: SubscribeError) -> Error {
    let why = format!("the client of the broker cannot subscribe: {error}");
    Error::with_source(ErrorKind::Failed, why, error)
}

fn publish_error(error: PublishError) -> Error {
    let why = format!("the client of the broker cannot publish: {error}");
    Error::with_source(ErrorKind::Failed, why, error)
}

pub(crate) fn gone() -> Error {
    let why = "the client of the broker has ended: no broker could be reached for long";
    Error::new(ErrorKind::Failed, why)
}

impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brokers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_to_connect_again_come_at_once_and_then_ever_later() {
        let pauses = [1, 2, 3, 8, 1000].map(pause);
        assert_eq!(pauses, [0, 20, 40, 1000, 1000].map(Duration::from_millis));
    }
}
