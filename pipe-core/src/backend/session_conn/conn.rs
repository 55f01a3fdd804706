use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::MutexGuard;
use pipe_proto::{Event, Hello, PingBytes, Session, Stream};

use super::core::{SessionCore, SessionState};
use super::deferred::Deferred;
use super::stream_ref::{StreamRef, StreamState};
use crate::backend::{PingWaiter, lost, now, open_error, random_ping};
use crate::{Addr, CloseReason, ConnStats, Error, ErrorKind, PeerIdentity, Result};

/// The state behind the lock of the session of a connection.
pub type State<C> = SessionState<<C as SessionConn>::Stream, <C as SessionConn>::Extra>;

/// The actions that a connection defers until no lock is held.
pub type Changes<C> = Deferred<StreamRef<<C as SessionConn>::Stream>, <C as SessionConn>::Dropped>;

/// A connection over a session: the rules are the session's, and this trait does what follows from its events.
///
/// A transport implements the hooks, which say what is particular to its carrier. Hooks that get the state are called
/// while the session is locked, and wake no task: what they put into the [`Deferred`] is done after that.
pub trait SessionConn:
    Deref<Target = SessionCore<<Self as SessionConn>::Stream, <Self as SessionConn>::Extra>>
    + Sized
    + Send
    + Sync
    + 'static
{
    /// What is behind the lock of a stream.
    type Stream: StreamState;
    /// What the transport keeps behind the lock of the session.
    type Extra: Send;
    /// What the transport drops only when no lock is held.
    type Dropped: Send;

    // The hooks.

    /// Opens a stream, once the peer's limit allows it.
    fn open(conn: &Arc<Self>) -> impl Future<Output = Result<StreamRef<Self::Stream>>> + Send;

    /// Returns the address of this side.
    fn local_addr(&self) -> Addr;

    /// Returns the address of the peer.
    fn remote_addr(&self) -> Addr;

    /// Returns the identity that the peer has proved.
    fn peer_identity(&self) -> Option<PeerIdentity> {
        None
    }

    /// Wakes the driver: there are frames, a nearer deadline, or the end.
    fn wake_driver(&self);

    /// Gives bytes back to the peer's connection window.
    fn give_room(&self, bytes: u64);

    /// Wakes a stream that waits for room in the peer's connection window, since one that was woken may not use it.
    fn nudge(&self) {}

    /// Takes in what the peer allows.
    fn on_hello(&self, _hello: &Hello) {}

    /// Adapts the carrier to a change of a stream by the session, before its tasks are woken.
    fn on_wake(
        &self,
        _state: &mut State<Self>,
        _stream: &StreamRef<Self::Stream>,
        _changes: &mut Changes<Self>,
    ) {
    }

    /// Adapts the carrier to a change of a stream, before the session looks at it.
    fn before_update(&self, _state: &mut State<Self>, _stream: &StreamRef<Self::Stream>) {}

    /// Returns the round trip of the path, where the carrier measures it.
    fn measured_round_trip(&self) -> Option<Duration> {
        None
    }

    /// Takes in by how many bytes all windows have grown, before the peer is granted them.
    fn on_window_growth(&self, _bytes: u64) {}

    /// Acts on the end of a stream.
    fn on_retired(
        &self,
        _state: &mut State<Self>,
        _stream: &StreamRef<Self::Stream>,
        _changes: &mut Changes<Self>,
    ) {
    }

    /// Makes the streams visible to the peer that were opened.
    fn on_announce(&self, _state: &mut State<Self>) {}

    /// Acts on a drain, of either side.
    fn on_drain(&self, _state: &mut State<Self>, _changes: &mut Changes<Self>) {}

    /// Sends the frames of the session, or leaves that to the driver. Returns whether the driver has to be woken.
    fn send_frames(&self, state: &mut State<Self>, _changes: &mut Changes<Self>) -> bool {
        state.session.has_frames()
    }

    /// Returns `Ok` where the peer answers pings.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported), with the reason why not.
    fn check_pings(&self) -> Result<()> {
        Ok(())
    }

    /// Cuts a ping to what the carrier transports.
    fn cut_ping(&self, bytes: PingBytes) -> PingBytes {
        bytes
    }

    /// Sends a ping of the carrier, to a peer that knows no frames.
    fn send_plain_ping(&self, _bytes: &PingBytes) {}

    /// Ends the session for this reason.
    fn end_session(&self, state: &mut State<Self>, reason: &CloseReason) {
        match reason {
            CloseReason::Local { code, reason } => state.session.close(*code, 0, reason),
            _ => state.session.fail(),
        }
    }

    /// Gives up what waits for streams, at the end of the session.
    fn on_session_end(&self, _state: &mut State<Self>, _changes: &mut Changes<Self>) {}

    /// Acts on the end of the connection, when no lock is held.
    fn on_end(&self) {}

    /// Acts on the end of the last stream, or a step of a drain, when no lock is held.
    fn on_idle(&self) {}

    /// Ends the connection of a peer that was silent for too long.
    fn on_silence(&self) {
        self.end(&CloseReason::Failed(lost(&self.config)));
    }

    /// Returns whether a drain of this side is over.
    fn is_drained(&self) -> bool {
        self.state.lock().session.is_drained()
    }

    /// Waits after a drain until the peer knows of the close, so that the program may end.
    fn until_left(&self) -> impl Future<Output = ()> + Send {
        async {
            // There are no permits: this waits for the close.
            let _ = self.left.acquire().await;
        }
    }

    // Streams.

    /// Returns `Ok` if this side may open streams.
    ///
    /// # Errors
    ///
    /// The reason why not.
    fn check_open(&self) -> Result<()> {
        let check = self.state.lock().session.check_open();
        check.map_err(|error| open_error(error, self.status.error()))
    }

    /// Waits for a stream of the peer.
    fn accept(&self) -> impl Future<Output = Result<StreamRef<Self::Stream>>> + Send {
        async {
            let stream = self.status.accept(&self.backlog).await?;
            let mut state = self.state.lock();
            state.session.on_accepted(&stream);
            self.settle(state);
            Ok(stream)
        }
    }

    /// Changes a stream for the application, and does what follows. Returns the result of the change.
    fn change<R>(&self, stream: &StreamRef<Self::Stream>, act: impl FnOnce(&mut Stream) -> R) -> R {
        let mut state = stream.lock();
        let done = act(&mut state.proto);
        state.on_change();
        let needs_update = state.needs_update();
        drop(state);
        if needs_update {
            self.update(stream);
        }
        done
    }

    /// Looks at a stream after a change that concerns more than itself.
    fn update(&self, stream: &StreamRef<Self::Stream>) {
        let mut state = self.state.lock();
        self.before_update(&mut state, stream);
        self.tune_window(&mut state, stream);
        state.session.update(stream);
        self.settle(state);
    }

    /// Tunes the window of a stream of which read bytes are due to be returned to the peer with a CREDIT.
    fn tune_window(&self, state: &mut State<Self>, stream: &StreamRef<Self::Stream>) {
        let due = stream.lock().proto.due_credit();
        if let Some(due) = due {
            let measured = || self.measured_round_trip();
            state.session.tune_window(stream, due, now(), measured);
            self.on_window_growth(state.session.window_growth());
        }
    }

    /// Abandons a stream that the application does not get.
    fn abandon(&self, stream: &StreamRef<Self::Stream>) {
        self.change(stream, |proto| proto.reset(0));
        self.change(stream, |proto| proto.stop(0));
    }

    // Events.

    /// Acts on the events of the session, sends its frames, and unlocks it.
    fn settle(&self, state: MutexGuard<'_, State<Self>>) {
        self.settle_with(state, Deferred::default());
    }

    /// Settles as [`settle`](Self::settle) does, with actions that are deferred already.
    fn settle_with(&self, mut state: MutexGuard<'_, State<Self>>, mut changes: Changes<Self>) {
        self.take_events(&mut state, &mut changes);
        let wakes_driver = self.send_frames(&mut state, &mut changes);
        self.take_events(&mut state, &mut changes);
        drop(state);
        if wakes_driver {
            self.wake_driver();
        }
        self.run(changes);
    }

    /// Acts on the events of the session and unlocks it, for the driver, which sends the frames itself.
    fn settle_events(&self, mut state: MutexGuard<'_, State<Self>>) {
        let mut changes = Deferred::default();
        self.take_events(&mut state, &mut changes);
        drop(state);
        self.run(changes);
    }

    /// Acts on the events of the session, as far as a lock allows.
    fn take_events(&self, state: &mut State<Self>, changes: &mut Changes<Self>) {
        while let Some(event) = state.session.poll_event() {
            self.on_event(state, event, changes);
        }
    }

    /// Acts on an event of the session, as far as a lock allows.
    fn on_event(
        &self,
        state: &mut State<Self>,
        event: Event<StreamRef<Self::Stream>, PingWaiter>,
        changes: &mut Changes<Self>,
    ) {
        match event {
            Event::Hello(hello) => self.on_hello(&hello),
            Event::Wake {
                stream,
                reader,
                writer,
            } => {
                self.on_wake(state, &stream, changes);
                let mut locked = stream.lock();
                let wakers = locked.take_wakers(reader, writer);
                let needs_session = locked.proto.needs_session();
                drop(locked);
                changes.wakers.extend(wakers.into_iter().flatten());
                if needs_session {
                    state.session.update(&stream);
                }
            }
            Event::Room(bytes) => changes.room += bytes,
            Event::SlotFreed(stream) => changes.slots.extend(stream.lock().slot.take()),
            Event::Retired(stream) => self.on_retired(state, &stream, changes),
            Event::Idle => changes.is_idle = true,
            Event::Pong { waiter, round_trip } => changes.pongs.push((waiter, round_trip)),
            Event::PingsEnded(waiters) => changes.lost_pings = waiters,
            Event::KeepAlive => {
                changes.nudges = true;
                self.send_keep_alive(&mut state.session);
            }
            Event::Announce => self.on_announce(state),
            Event::Disconnected => drop(self.status.set_connected(false)),
            Event::Reconnected => drop(self.status.set_connected(true)),
            Event::Failed => changes.is_lost = true,
            Event::Draining => {
                changes.is_draining = true;
                self.on_drain(state, changes);
            }
            // While the lock is held, so that the end shows with its reason.
            Event::Closed { code, reason, .. }
                if self.status.end(CloseReason::remote(code, &reason)) =>
            {
                changes.is_closed = true;
                self.on_session_end(state, changes);
            }
            // The rest is about wires of messages, or a second end.
            _ => {}
        }
    }

    /// Does what was deferred.
    fn run(&self, changes: Changes<Self>) {
        if changes.room > 0 {
            self.give_room(changes.room);
        }
        if changes.nudges {
            self.nudge();
        }
        if changes.is_draining {
            self.slots.close();
        }
        for (waiter, round_trip) in changes.pongs {
            waiter.answer(round_trip);
        }
        drop((changes.lost_pings, changes.dropped, changes.slots));
        for (done, stream) in changes.opened {
            // The open may have been given up meanwhile.
            if let Err(stream) = done.send(stream) {
                self.abandon(&stream);
            }
        }
        changes.wakers.into_iter().for_each(Waker::wake);
        if changes.is_idle {
            self.idle.notify_waiters();
            self.on_idle();
        }
        if changes.is_closed {
            self.wake_waiters();
        }
        if changes.is_lost {
            self.on_silence();
        }
    }

    // Pings.

    /// Measures a round trip.
    ///
    /// # Errors
    ///
    /// That of [`check_pings`](Self::check_pings), and that of the connection once it has ended.
    fn ping(&self) -> impl Future<Output = Result<Duration>> + Send {
        let send = |bytes, waiter| {
            let bytes = self.cut_ping(bytes);
            let mut state = self.state.lock();
            let is_sent = state.session.ping(bytes, waiter, now());
            if is_sent.is_ok() && state.session.carrier().is_plain {
                self.send_plain_ping(&bytes);
            }
            self.settle(state);
            // A waiter that comes back is dropped: the connection has ended.
        };
        async move {
            self.status.check()?;
            self.check_pings()?;
            self.pings.round_trip(&self.status, send).await
        }
    }

    /// Sends a ping that nothing waits for.
    fn keep_alive(&self) {
        let mut state = self.state.lock();
        self.send_keep_alive(&mut state.session);
        self.settle(state);
    }

    /// Sends a ping that nothing waits for, over a session that is locked.
    fn send_keep_alive(&self, session: &mut Session<StreamRef<Self::Stream>, PingWaiter>) {
        if self.check_pings().is_err() {
            return;
        }
        match random_ping() {
            Ok(bytes) => {
                let bytes = self.cut_ping(bytes);
                if session.keep_alive(bytes, now()) {
                    self.send_plain_ping(&bytes);
                }
            }
            Err(error) => tracing::debug!(%error, "no ping is sent"),
        }
    }

    // The end.

    /// Waits until all streams are over, closes the connection, and waits until the peer knows.
    ///
    /// # Errors
    ///
    /// That of the connection, if it ends in another way.
    fn drain(&self) -> impl Future<Output = Result<()>> + Send {
        async {
            if self.status.reason().is_none() {
                self.announce_drain();
            }
            let is_drained = || self.is_drained();
            let ended_idle = || self.state.lock().session.ended_idle();
            let close = || self.close(0, "");
            let drained = self
                .status
                .drained(&self.idle, is_drained, close, ended_idle);
            drained.await?;
            self.until_left().await;
            Ok(())
        }
    }

    /// Announces that this side drains the connection.
    fn announce_drain(&self) {
        let mut state = self.state.lock();
        let mut changes = Deferred::default();
        if state.session.drain() {
            changes.is_draining = true;
            self.on_drain(&mut state, &mut changes);
        }
        self.settle_with(state, changes);
    }

    /// Closes the connection from this side.
    fn close(&self, code: u32, reason: &str) {
        self.end(&CloseReason::local(code, reason));
    }

    /// Ends the connection, unless it has ended: all that waits wakes up. Returns whether this end counts.
    fn end(&self, reason: &CloseReason) -> bool {
        self.end_and(reason, || ())
    }

    /// Ends the connection as [`end`](Self::end) does. The first end acts on the carrier before the session is
    /// unlocked.
    fn end_and(&self, reason: &CloseReason, act: impl FnOnce()) -> bool {
        let mut state = self.state.lock();
        if !self.status.end(reason.clone()) {
            return false;
        }
        self.end_session(&mut state, reason);
        act();
        let mut changes = Deferred::default();
        self.on_session_end(&mut state, &mut changes);
        self.settle_with(state, changes);
        self.wake_waiters();
        true
    }

    /// Wakes the tasks that wait for the connection itself, after its end.
    fn wake_waiters(&self) {
        self.slots.close();
        self.pings.close();
        drop(self.backlog.close());
        self.idle.notify_waiters();
        self.on_end();
        self.wake_driver();
    }

    /// Ends a connection that has lost its driver, unless it has ended: everything that waits would wait for ever.
    /// Returns the error.
    fn on_driver_gone(&self) -> Error {
        let why = "the task that drives the connection has stopped";
        let stopped = Error::new(ErrorKind::Failed, why);
        self.end(&CloseReason::Failed(stopped.clone()));
        self.left.close();
        stopped
    }

    /// Returns what the connection carried.
    fn stats(&self) -> ConnStats {
        self.state.lock().session.totals().into()
    }
}
