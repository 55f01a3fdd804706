use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use pipe_core::backend::wire::{ControlEvent, Hello, random_ping};
use pipe_core::backend::{Liveness, LivenessEvent};
use pipe_core::{CloseReason, Error, ErrorKind, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::linger::linger_waker;
use crate::muxer::{Muxer, MuxerEvent, MuxerHandle, MuxerStream};
use crate::pings;
use crate::shared::{Chores, Shared};
use crate::stream_core::{StreamCore, wake};
use crate::turns::Turns;
use crate::wire::Wire;
use crate::yamux::YamuxStream;

/// How long the last messages of a connection may take to get out, and the peer to end its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many streams of the peer may go without an answer. Some implementations stop opening at 256.
const UNANSWERED: usize = 64;

/// How long a stream that was opened may wait to be shown to the peer by its own first bytes.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(1);

/// How many events of one kind are handled before the others get their turn.
const BATCH: usize = 64;

/// Owns a multiplexer and drives the connection over it until it has ended.
pub(crate) struct Driver<M: Muxer<Stream = YamuxStream>> {
    muxer: M,
    shared: Arc<Shared>,
    client: bool,
    /// The stream that the control channel runs over.
    control: Option<YamuxStream>,
    /// Told of the peer's hello.
    ready: Option<oneshot::Sender<Result<Hello>>>,
    /// Bytes that have arrived when it was last looked.
    heard: u64,
    chores: Chores,
    /// Streams to be looked at and brought to their ends.
    lingering: Vec<Arc<StreamCore>>,
    /// Opens may wait that can be served, and streams to be shown to the peer.
    opens: bool,
    /// A plain peer takes no more streams, and ends the connection with the last one.
    leaving: bool,
    clock: Liveness,
    alarm: Pin<Box<Sleep>>,
    /// Runs while opened streams may wait to be shown.
    patience: Option<Pin<Box<Sleep>>>,
    /// Streams of the peer that it may not know to have come.
    unanswered: Vec<u64>,
    /// Messages about streams of the peer that have not come yet, by their numbers.
    early: BTreeMap<u64, Vec<ControlEvent>>,
    /// How many there are.
    early_count: usize,
    newest: u64,
    /// The byte stream takes nothing more; until when its end, and the peer's last words, are waited for.
    unsent: Option<(Error, Pin<Box<Sleep>>)>,
}

impl<M: Muxer<Stream = YamuxStream>> Driver<M> {
    pub(crate) fn new(
        muxer: M,
        shared: Arc<Shared>,
        client: bool,
        ready: oneshot::Sender<Result<Hello>>,
    ) -> Self {
        let now = Instant::now();
        let clock = Liveness::new(&shared.config, now);
        let alarm = Box::pin(sleep_until(clock.deadline()));
        let mut driver = Self {
            muxer,
            shared,
            client,
            control: None,
            ready: Some(ready),
            heard: 0,
            chores: Chores::default(),
            lingering: Vec::new(),
            opens: false,
            leaving: false,
            clock,
            alarm,
            patience: None,
            unanswered: Vec::new(),
            early: BTreeMap::new(),
            early_count: 0,
            newest: 0,
            unsent: None,
        };
        if driver.shared.wire == Wire::Raw {
            driver.greet(Ok(Hello {
                max_streams: u32::MAX,
                stream_window: u32::MAX,
                connection_window: 0,
            }));
        }
        driver
    }

    pub(crate) async fn run(mut self) {
        let turns = Turns::new(self.shared.driver.clone());
        let lost = poll_fn(|cx| turns.poll(cx, |cx| self.poll(cx))).await;
        if let Err(error) = lost {
            if error.kind() == ErrorKind::Protocol {
                self.muxer.condemn();
            }
            self.greet(Err(error.clone()));
            self.shared.end(&CloseReason::Failed(error));
        }
        let plain = self.shared.wire == Wire::Raw;
        if plain {
            self.shared.reset_plain_streams();
        }
        // The last messages get out, unless the peer does not take them.
        let closing = poll_fn(|cx| turns.poll(cx, |cx| self.poll_close(cx)));
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.muxer.begin_turn();
        if let Poll::Ready(Err(_)) = self.poll_control_output(cx) {
            return Poll::Ready(());
        }
        if self.control.is_none() || self.output_is_empty() {
            return self.muxer.poll_close(cx).map(|_| ());
        }
        // Streams of the peer that come now are dropped, which resets them.
        while let Poll::Ready(next) = self.muxer.poll_next(cx) {
            if !matches!(next, Ok(Some(_))) {
                return Poll::Ready(());
            }
        }
        self.muxer.poll_flush(cx).map(|_| ())
    }

    /// Ready when the connection has ended, with the error if it was lost.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.muxer.begin_turn();
        loop {
            if self.shared.status.reason().is_some() {
                return Poll::Ready(Ok(()));
            }
            let mut progress = false;
            progress |= self.start_control()?;
            self.take_chores();
            self.poll_opens(cx)?;
            self.poll_lingering()?;
            if let Poll::Ready(sent) = self.poll_control_output(cx) {
                sent?;
                self.shared.free_room();
            }
            self.check_output()?;
            for _ in 0..BATCH {
                match self.muxer.poll_next(cx) {
                    // Nothing comes behind it but the end of the byte stream.
                    Poll::Ready(Ok(Some(MuxerEvent::GoAway))) if self.shared.wire == Wire::Pipe => {
                        return Poll::Ready(self.last_words(cx, None));
                    }
                    Poll::Ready(Ok(Some(event))) => {
                        self.take(event)?;
                        progress = true;
                    }
                    Poll::Ready(ended) => {
                        let unsent = self.unsent.take().map(|(error, _)| error);
                        return Poll::Ready(self.last_words(cx, ended.err().or(unsent)));
                    }
                    Poll::Pending => break,
                }
            }
            progress |= self.poll_control_input(cx)?;
            if self.muxer.waits_for_hello() {
                let why = "the peer broke the protocol: a stream before its hello";
                return Poll::Ready(Err(Error::new(ErrorKind::Handshake, why)));
            }
            self.poll_clock(cx);
            if self.leaving && self.shared.inner.lock().streams.is_empty() {
                self.shared.end(&CloseReason::remote(0, ""));
                continue;
            }
            if self.muxer.has_rest() || !progress && !self.shared.has_chores() {
                if let Some((error, until)) = &mut self.unsent {
                    if until.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    let error = error.clone();
                    return Poll::Ready(self.last_words(cx, Some(error)));
                }
                if let Poll::Ready(Err(error)) = self.muxer.poll_flush(cx) {
                    // The peer may have said why before it closed the byte stream.
                    self.unsent = Some((error, Box::pin(sleep(CLOSE_TIMEOUT))));
                    continue;
                }
                return Poll::Pending;
            }
        }
    }

    /// The client opens the control stream; the server takes the first stream for it.
    fn start_control(&mut self) -> Result<bool> {
        if !self.client || self.shared.wire == Wire::Raw || self.control.is_some() {
            return Ok(false);
        }
        self.control = self.shared.mux.open()?;
        Ok(self.control.is_some())
    }

    /// Takes over what handles and streams have left to do.
    fn take_chores(&mut self) {
        if self.shared.take_chores(&mut self.chores) {
            self.opens |= std::mem::take(&mut self.chores.opens);
            self.lingering.append(&mut self.chores.lingering);
        }
    }

    /// Opens the streams that wait, and shows those to the peer that the application has not shown soon by
    /// using them.
    fn poll_opens(&mut self, cx: &mut Context<'_>) -> Result<()> {
        if self.ready.is_some() {
            return Ok(());
        }
        if std::mem::take(&mut self.opens) && self.shared.open_waiting()? {
            self.patience
                .get_or_insert_with(|| Box::pin(sleep(ANNOUNCE_AFTER)));
        }
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            self.patience = None;
            self.shared.show_opened();
        }
        Ok(())
    }

    /// Lets the peer know that its stream has come: at once, or together with others.
    fn answer(&mut self, stream: &Arc<StreamCore>) {
        if self.shared.wire == Wire::Raw {
            return stream.state.lock().show();
        }
        self.unanswered.push(stream.id);
        if self.unanswered.len() < UNANSWERED {
            return;
        }
        for id in std::mem::take(&mut self.unanswered) {
            if let Some(stream) = self.shared.stream(id) {
                stream.state.lock().show();
            }
        }
    }

    /// Brings streams to their ends.
    fn poll_lingering(&mut self) -> Result<()> {
        while let Some(stream) = self.lingering.pop() {
            let mut state = stream.state.lock();
            state.lingers = false;
            // What comes later calls the driver again, for this stream alone.
            let waker = linger_waker(&stream, &self.shared);
            let ended = state.poll_linger(&mut Context::from_waker(&waker));
            drop(state);
            if let Poll::Ready(ended) = ended {
                ended?;
                self.shared.settle_in_turn(&stream);
            }
        }
        Ok(())
    }

    /// A peer that does not take what is said over the control channel has lost the connection.
    fn check_output(&self) -> Result<()> {
        let inner = self.shared.inner.lock();
        let max_streams = self.shared.config.max_streams;
        if inner
            .control
            .as_ref()
            .is_some_and(|c| c.is_flooded(max_streams))
        {
            let why = "the peer broke the protocol: it does not read its control channel";
            return Err(Error::new(ErrorKind::Protocol, why));
        }
        Ok(())
    }

    fn take(&mut self, event: MuxerEvent<YamuxStream>) -> Result<()> {
        match event {
            MuxerEvent::Stream(io) => self.take_stream(io),
            MuxerEvent::Reset(id) => {
                if let Some(stream) = self.shared.stream(id) {
                    let wakers = stream.state.lock().cut_by_peer()?;
                    self.shared.settle_in_turn(&stream);
                    wakers.into_iter().for_each(wake);
                }
                Ok(())
            }
            MuxerEvent::Pong(value) => {
                self.shared.pings.answer(&pings::from_value(value));
                Ok(())
            }
            MuxerEvent::GoAway => {
                self.leaving = true;
                self.shared.drain_by_peer();
                Ok(())
            }
            MuxerEvent::Room => {
                self.opens = true;
                Ok(())
            }
        }
    }

    /// A stream of the peer.
    fn take_stream(&mut self, io: YamuxStream) -> Result<()> {
        if self.shared.wire == Wire::Pipe && self.control.is_none() {
            self.control = Some(io);
            return Ok(());
        }
        let id = io.id();
        let limit = self.shared.config.max_streams;
        let (theirs, in_use) = {
            let inner = self.shared.inner.lock();
            (inner.theirs, inner.theirs_in_use)
        };
        // The peer counts what is over earlier than this side, which waits for its last words.
        if in_use >= limit as usize || theirs >= 4 * limit as usize {
            if self.shared.wire == Wire::Raw {
                // A plain peer does not know the limit: the drop of its stream resets it.
                tracing::debug!(id, limit, "a stream beyond the limit is refused");
                return Ok(());
            }
            let why = format!("the peer broke the protocol: more than {limit} streams at once");
            return Err(Error::new(ErrorKind::Protocol, why));
        }
        let stream = Arc::new(StreamCore::new(io, self.shared.wire, None));
        self.newest = self.newest.max(id);
        self.shared.insert(&stream);
        self.answer(&stream);
        // A queue that is closed belongs to a connection that is ending.
        let _ = self.shared.backlog.push(stream);
        // Numbers rise, so that what is before this one never comes.
        let later = self.early.split_off(&(id + 1));
        let mut early = std::mem::replace(&mut self.early, later);
        self.early_count -= early.values().map(Vec::len).sum::<usize>();
        let events = early.remove(&id).unwrap_or_default();
        events.into_iter().try_for_each(|event| self.handle(event))
    }

    /// The multiplexer's connection has ended: what the peer said before still counts, its close above
    /// all.
    fn last_words(&mut self, cx: &mut Context<'_>, error: Option<Error>) -> Result<()> {
        let heard = self.poll_control_input(cx);
        if self.leaving && error.is_none() {
            self.shared.end(&CloseReason::remote(0, ""));
        }
        if self.shared.status.reason().is_some() {
            return Ok(());
        }
        Err(error.or_else(|| heard.err()).unwrap_or_else(|| {
            Error::new(
                ErrorKind::Failed,
                "the peer ended the connection without a word",
            )
        }))
    }

    fn output_is_empty(&self) -> bool {
        self.shared
            .inner
            .lock()
            .control
            .as_mut()
            .is_none_or(|c| c.output().is_empty())
    }

    fn poll_control_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(stream) = &mut self.control else {
            return Poll::Pending;
        };
        let mut inner = self.shared.inner.lock();
        let Some(control) = &mut inner.control else {
            return Poll::Pending;
        };
        // Credit comes behind the rest.
        while !control.output().is_empty() {
            match stream.poll_write(cx, control.output()) {
                Poll::Ready(Ok(count)) => control.output().advance(count),
                Poll::Ready(Err(error)) => {
                    let why = format!("the control channel is lost: {error}");
                    return Poll::Ready(Err(Error::with_source(ErrorKind::Failed, why, error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_control_input(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let mut buf = [0; 4096];
        let mut progress = false;
        for _ in 0..BATCH {
            let Some(stream) = &mut self.control else {
                break;
            };
            let Poll::Ready(read) = stream.poll_read(cx, &mut buf) else {
                break;
            };
            let count = read.map_err(|error| {
                let why = format!("the control channel is lost: {error}");
                Error::with_source(ErrorKind::Failed, why, error)
            })?;
            if count == 0 {
                let why = "the peer ended the control channel without a word";
                return Err(Error::new(ErrorKind::Failed, why));
            }
            progress = true;
            let mut inner = self.shared.inner.lock();
            let Some(control) = &mut inner.control else {
                break;
            };
            control.receive(&buf[..count])?;
            let events: Vec<_> = std::iter::from_fn(|| control.next_event()).collect();
            drop(inner);
            for event in events {
                self.handle(event)?;
            }
        }
        Ok(progress)
    }

    fn handle(&mut self, event: ControlEvent) -> Result<()> {
        let shared = self.shared.clone();
        match event {
            ControlEvent::Hello(hello) => {
                shared.greet(&hello);
                self.muxer.greet();
                self.greet(Ok(hello));
            }
            ControlEvent::Pong(bytes) => shared.pings.answer(&bytes),
            ControlEvent::End { stream, bytes } => {
                if let Some(stream) = self.known(stream, event)? {
                    let waker = stream.state.lock().announce_end(bytes)?;
                    shared.settle_in_turn(&stream);
                    wake(waker);
                }
            }
            ControlEvent::Reset { stream, code } => {
                if let Some(stream) = self.known(stream, event)? {
                    let waker = {
                        let mut state = stream.state.lock();
                        state.cut_recv(pipe_core::backend::RecvState::Reset(code));
                        state.reader.take()
                    };
                    shared.settle_in_turn(&stream);
                    wake(waker);
                }
            }
            ControlEvent::Stop { stream, code } => {
                if let Some(stream) = self.known(stream, event)? {
                    let waker = {
                        let mut state = stream.state.lock();
                        if let Some(next) = state.send.stop(code) {
                            state.send = next;
                        }
                        state.writer.take()
                    };
                    shared.credit(&stream, u32::MAX);
                    shared.settle_in_turn(&stream);
                    wake(waker);
                }
            }
            ControlEvent::Taken { stream } => {
                if let Some(stream) = shared.stream(stream) {
                    let waker = {
                        let mut state = stream.state.lock();
                        state.taken = true;
                        state.writer.take()
                    };
                    shared.settle_in_turn(&stream);
                    wake(waker);
                }
            }
            ControlEvent::Credit { stream, bytes } => {
                if let Some(stream) = shared.stream(stream) {
                    shared.credit(&stream, bytes);
                }
            }
            ControlEvent::Done { stream } => {
                if let Some(stream) = shared.stream(stream) {
                    let waker = {
                        let mut state = stream.state.lock();
                        state.peer_done = true;
                        state.writer.take()
                    };
                    shared.settle_in_turn(&stream);
                    wake(waker);
                }
            }
            ControlEvent::Drain => shared.drain_by_peer(),
            ControlEvent::Drained => shared.drain_seen(),
            ControlEvent::Close { code, reason } => {
                shared.end(&CloseReason::remote(code, &reason));
            }
        }
        Ok(())
    }

    /// The stream that a message is about. One of the peer's that has not come yet keeps its message;
    /// one that is over needs none.
    fn known(&mut self, id: u64, event: ControlEvent) -> Result<Option<Arc<StreamCore>>> {
        let stream = self.shared.stream(id);
        let theirs = (id % 2 == 1) != self.client;
        if stream.is_none() && theirs && id > self.newest {
            if self.early_count >= 4 * self.shared.config.max_streams as usize {
                let why = "the peer broke the protocol: messages about streams that do not come";
                return Err(Error::new(ErrorKind::Protocol, why));
            }
            self.early_count += 1;
            self.early.entry(id).or_default().push(event);
        }
        Ok(stream)
    }

    fn poll_clock(&mut self, cx: &mut Context<'_>) {
        let heard = self.muxer.heard();
        if heard != self.heard {
            self.heard = heard;
            if self.clock.heard(Instant::now()) {
                self.shared.status.set_connected(true);
            }
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            while let Some(event) = self.clock.poll(now) {
                match event {
                    LivenessEvent::Ping => {
                        if let Some(windows) = self.shared.peer_windows() {
                            windows.nudge();
                        }
                        self.ask();
                    }
                    LivenessEvent::Disconnected => self.shared.disconnect(),
                    LivenessEvent::Failed => {
                        self.shared.end(&CloseReason::Failed(self.clock.error()));
                        return;
                    }
                }
            }
            self.alarm.as_mut().reset(self.clock.deadline());
        }
    }

    /// Asks the peer for a sign of life that nobody waits for.
    fn ask(&self) {
        if self.shared.wire == Wire::Raw {
            return self.shared.mux.ping(0);
        }
        if let (Ok(bytes), Some(control)) = (random_ping(), &mut self.shared.inner.lock().control)
            && control.pings_under_way() < 128
        {
            control.ping(bytes);
        }
        self.shared.wake_driver();
    }

    /// Tells whoever makes the connection how the handshake went.
    fn greet(&mut self, hello: Result<Hello>) {
        if let Some(ready) = self.ready.take() {
            // Whoever waited may have given up; then the handle that it held closes the connection.
            let _ = ready.send(hello);
        }
    }
}

impl<M: Muxer<Stream = YamuxStream>> Drop for Driver<M> {
    fn drop(&mut self) {
        // Without its driver, a connection that has not ended would leave all that waits waiting: the runtime
        // is gone, or the driver has panicked.
        let why = "the task that drives the connection has stopped";
        let stopped = Error::new(ErrorKind::Failed, why);
        self.greet(Err(stopped.clone()));
        self.shared.end(&CloseReason::Failed(stopped));
        self.shared.left.close();
    }
}
