//! The requests that come to a listener.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use pipe_core::backend::{FIRST_BYTE_TIMEOUT, Progress};
use pipe_core::{Addr, Config, Error, ErrorKind, Incoming, Result};
use pipe_mux::{Acceptor, Mux, MuxConn};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::addr::NatsAddr;
use crate::broker::{Broker, Use};
use crate::carrier::{Inboxes, Reader, open};
use crate::greeting::{Answer, Request};
use crate::source::Source;
use crate::subject::is_inbox;
use crate::taken::Taken;

/// Time for which a request waits for room, before the dialer is sent to another listener.
const PATIENCE: Duration = Duration::from_millis(100);

/// First and longest pause before a listener whose client has given up connects another one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Time limit for one attempt to subscribe with another client: the answer of a broker that dies meanwhile does not come.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Takes requests of the subject of a listener, as a member of its queue group.
pub(crate) struct Door {
    queue: Arc<Mutex<Queue>>,
    task: AbortHandle,
    _taken: Taken,
}

/// The requests that come, and those that wait to be accepted.
struct Queue {
    /// Absent once the listener is closed.
    requests: Option<Subscriber>,
    broker: Arc<Broker>,
    waiting: VecDeque<Call>,
    limit: usize,
    acceptor: Option<Waker>,
    failed: Option<Error>,
}

/// A dialer that waits for an answer. A drop refuses it, until it was admitted; then it sends it to another listener.
pub(crate) struct Call {
    broker: Arc<Broker>,
    request: Request,
    /// The inbox of the dialer, until it is answered.
    inbox: Option<String>,
    is_admitted: bool,
    since: Instant,
}

/// Makes connections of requests.
pub(crate) struct Welcome {
    pub(crate) config: Config,
    pub(crate) on: NatsAddr,
    pub(crate) local: Addr,
}

impl Door {
    /// Begins to take requests from this subscription.
    pub(crate) fn open(
        broker: Arc<Broker>,
        source: Source,
        taken: Taken,
        requests: Subscriber,
        limit: u32,
    ) -> Self {
        let queue = Queue {
            requests: Some(requests),
            broker,
            waiting: VecDeque::new(),
            limit: limit as usize,
            acceptor: None,
            failed: None,
        };
        let queue = Arc::new(Mutex::new(queue));
        let task = tokio::spawn(run(queue.clone(), source));
        Self {
            queue,
            task: task.abort_handle(),
            _taken: taken,
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
        let mut queue = self.queue.lock();
        if let Some(mut requests) = queue.requests.take() {
            while let Some(Some(message)) = requests.next().now_or_never() {
                let call = Call::of(&queue.broker, &message);
                queue.waiting.extend(call);
            }
        }
        // Other members of the group get these, and what comes from now on.
        queue.send_away();
    }
}

/// Takes requests until the listener is closed, or the broker forbids it.
async fn run(queue: Arc<Mutex<Queue>>, source: Source) {
    loop {
        let broker = queue.lock().broker.clone();
        let mut watch = broker.watch();
        loop {
            let oldest = queue.lock().oldest();
            tokio::select! {
                biased;
                request = poll_fn(|cx| queue.lock().poll_request(cx)) => match request {
                    Some(message) => take(&queue, &broker, &message),
                    None => break,
                },
                error = watch.forbidden(Use::Subscription, &source.on.subject), if !broker.is_gone() => {
                    return queue.lock().fail(error);
                }
                () = reached(oldest.map(|since| since + PATIENCE)) => queue.lock().send_away(),
            }
        }
        if queue.lock().requests.is_none() {
            return;
        }
        tracing::warn!(
            subject = source.on.subject,
            "the client of a listener has given up"
        );
        let (broker, requests) = again(&source).await;
        let mut queue = queue.lock();
        if queue.requests.is_none() {
            return;
        }
        queue.requests = Some(requests);
        queue.broker = broker;
    }
}

/// Subscribes with another client.
async fn again(source: &Source) -> (Arc<Broker>, Subscriber) {
    let mut pause = FIRST_PAUSE;
    loop {
        match timeout(ATTEMPT, source.subscribe()).await {
            Ok(Ok(subscribed)) => return subscribed,
            Ok(Err(error)) => tracing::warn!(%error, "a listener has no broker"),
            Err(_) => tracing::warn!("a listener has no broker: it did not answer"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn take(queue: &Mutex<Queue>, broker: &Arc<Broker>, message: &Message) {
    let Some(call) = Call::of(broker, message) else {
        return tracing::debug!("a message that is no request is ignored");
    };
    let mut queue = queue.lock();
    if queue.waiting.len() >= queue.limit || queue.requests.is_none() {
        drop(queue);
        return call.answer(Answer::Busy);
    }
    queue.waiting.push_back(call);
    let acceptor = queue.acceptor.take();
    drop(queue);
    acceptor.into_iter().for_each(Waker::wake);
}

async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

impl Queue {
    /// Waits for the next message. `None` once there are no more.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        match &mut self.requests {
            Some(requests) => requests.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }

    /// Returns since when the first request waits.
    fn oldest(&self) -> Option<Instant> {
        self.waiting.front().map(|call| call.since)
    }

    /// Sends those that wait to other listeners.
    fn send_away(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .into_iter()
            .for_each(|call| call.answer(Answer::Busy));
    }

    /// Ends the listener, and leaves the group.
    fn fail(&mut self, error: Error) {
        self.failed = Some(error);
        self.requests = None;
        self.send_away();
        self.acceptor.take().into_iter().for_each(Waker::wake);
    }
}

impl Call {
    fn of(broker: &Arc<Broker>, message: &Message) -> Option<Self> {
        let inbox = message.reply.as_deref().filter(|inbox| is_inbox(inbox))?;
        Some(Self {
            broker: broker.clone(),
            request: Request::decode(&message.payload)?,
            inbox: Some(inbox.to_owned()),
            is_admitted: false,
            since: Instant::now(),
        })
    }

    /// Answers without a connection.
    fn answer(mut self, answer: Answer) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer) {
        if let Some(inbox) = self.inbox.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let broker = self.broker.clone();
            runtime.spawn(async move {
                // The dialer asks again, or gives up.
                let _ = broker.publish(inbox, answer.encode()).await;
            });
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.send(match self.is_admitted {
            true => Answer::Busy,
            false => Answer::Refused,
        });
    }
}

impl Acceptor for Door {
    type Raw = Call;
    type Upgrade = Welcome;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Call>> {
        let mut queue = self.queue.lock();
        if let Some(call) = queue.waiting.pop_front() {
            return Poll::Ready(Ok(call));
        }
        if let Some(error) = &queue.failed {
            let why = format!("the listener has no broker: {error}");
            let failed = Error::with_source(ErrorKind::Failed, why, error.clone());
            return Poll::Ready(Err(failed.into()));
        }
        queue.acceptor = Some(cx.waker().clone());
        Poll::Pending
    }

    fn incoming(_: &Call) -> Incoming {
        Incoming::unknown()
    }

    async fn upgrade(welcome: &Welcome, mut call: Call, progress: &Progress) -> Result<MuxConn> {
        call.is_admitted = true;
        // The request was the first message of the peer. It is answered once the connection has a place, since others have
        // room while this listener has none.
        if timeout(PATIENCE, progress.begin()).await.is_err() {
            call.answer(Answer::Busy);
            let why = "there is no room for it, and its dialer asks again";
            return Err(Error::new(ErrorKind::LimitReached, why));
        }
        let own = call.broker.fresh_inbox()?;
        let subscribed = call.broker.subscribe(own.clone()).await?;
        let Some(peer) = call.inbox.take() else {
            return Err(Error::new(ErrorKind::Handshake, "the request was answered"));
        };
        let answer = Answer::Welcome.encode();
        call.broker
            .publish_with_reply(peer.clone(), own, answer)
            .await?;
        // The dialer does not ask another one any more, and its first word is a round trip away.
        progress.promised();
        let (reader, writer) = open(Inboxes {
            broker: call.broker.clone(),
            own: subscribed,
            peer,
        });
        first_byte(&reader).await?;
        progress.heard();
        let remote = welcome.on.peer(&call.request.name)?;
        let mux = Mux::builder().config(welcome.config.clone());
        let mux = mux.addrs(welcome.local.clone(), remote);
        mux.server_split(reader, writer).await
    }
}

/// Waits for what the dialer sends in its connection.
async fn first_byte(reader: &Reader) -> Result<()> {
    let Ok(first) = timeout(FIRST_BYTE_TIMEOUT, reader.first_byte()).await else {
        let why = format!("the peer sent nothing within {FIRST_BYTE_TIMEOUT:?}");
        return Err(Error::new(ErrorKind::TimedOut, why));
    };
    Ok(first?)
}
