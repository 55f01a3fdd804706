use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::engine::channel_info::ChannelInfo;
use crate::engine::event::ChannelEvent;
use crate::engine::words::Words;

/// Approximate cost of a message that was not read besides its bytes.
const MESSAGE_COST: usize = 128;

/// What the engine and the handles of a channel share.
#[derive(Debug)]
pub(super) struct ChannelState {
    key: usize,
    info: ChannelInfo,
    pub(super) words: Words,
    queue: Mutex<Queue>,
}

/// The events that were not taken.
#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<ChannelEvent>,
    waker: Option<Waker>,
    is_gone: bool,
}

impl ChannelState {
    pub(super) fn new(key: usize, info: ChannelInfo) -> Arc<Self> {
        Arc::new(Self {
            key,
            info,
            words: Words::default(),
            queue: Mutex::default(),
        })
    }

    pub(super) fn key(&self) -> usize {
        self.key
    }

    pub(super) fn info(&self) -> &ChannelInfo {
        &self.info
    }

    /// Queues an event. Returns its cost until it is taken.
    pub(super) fn push(&self, event: ChannelEvent) -> usize {
        let cost = cost(&event);
        let mut queue = self.queue.lock();
        queue.events.push_back(event);
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        cost
    }

    /// Ends the events: the engine has stopped.
    pub(super) fn end(&self) {
        let mut queue = self.queue.lock();
        queue.is_gone = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Drops the events that were not taken, but for the last. Returns their cost.
    pub(super) fn discard(&self) -> usize {
        let events = std::mem::take(&mut self.queue.lock().events);
        let (closed, dropped) = events
            .into_iter()
            .partition::<VecDeque<_>, _>(|event| matches!(event, ChannelEvent::Closed));
        self.queue.lock().events.extend(closed);
        dropped.iter().map(cost).sum()
    }

    /// Returns the next event.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<ChannelEvent> {
        let mut queue = self.queue.lock();
        if let Some(event) = queue.events.pop_front() {
            if queue.events.is_empty() && queue.events.capacity() > 32 {
                queue.events = VecDeque::new();
            }
            return Poll::Ready(event);
        }
        if queue.is_gone {
            return Poll::Ready(ChannelEvent::Gone);
        }
        if !queue
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// Returns the cost of an event until it is taken.
pub(super) fn cost(event: &ChannelEvent) -> usize {
    match event {
        ChannelEvent::Text(bytes) | ChannelEvent::Bytes(bytes) => bytes.len() + MESSAGE_COST,
        ChannelEvent::Open | ChannelEvent::Closed | ChannelEvent::Gone => 0,
    }
}
