//! The queues of `pipe-core`: a task that waits for credit, an item or the end gets it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::thread;

use crate::backlog::Backlog;
use crate::close_cell::CloseCell;
use crate::close_reason::CloseReason;
use crate::window::{ConnWindow, WindowTicket};

pub(crate) fn models() -> Vec<(&'static str, fn())> {
    crate::list::models![
        credit_that_comes_while_a_stream_goes_to_wait_wakes_it,
        credit_for_two_streams_reaches_both,
        credit_is_never_taken_twice,
        an_item_that_comes_while_a_task_goes_to_wait_wakes_it,
        two_items_go_to_two_tasks,
        a_task_that_gives_up_leaves_its_item_to_another,
        a_close_that_comes_while_a_task_goes_to_wait_wakes_it,
        an_item_is_accepted_or_given_back_when_the_queue_closes,
        an_end_that_comes_while_tasks_go_to_wait_wakes_them_all,
        the_first_of_two_ends_stays,
    ]
}

/// Takes credit, and waits for it.
fn take(window: &ConnWindow, want: usize) -> usize {
    let mut ticket = WindowTicket::default();
    block_on(poll_fn(|cx| match window.take(want, &mut ticket, cx) {
        0 => Poll::Pending,
        got => Poll::Ready(got),
    }))
}

/// A window of which nothing is left.
fn empty_window(size: u64) -> Arc<ConnWindow> {
    let window = Arc::new(ConnWindow::new(size));
    assert_eq!(take(&window, size as usize), size as usize);
    window
}

/// Runs the same in another thread.
fn spawn<T: 'static, R: 'static>(
    shared: &Arc<T>,
    run: impl FnOnce(&T) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || run(&shared))
}

fn credit_that_comes_while_a_stream_goes_to_wait_wakes_it() {
    let window = empty_window(4);
    let giver = spawn(&window, |window| window.give(3));
    assert_eq!(take(&window, 4), 3);
    giver.join().expect("a thread");
}

fn credit_for_two_streams_reaches_both() {
    let window = empty_window(2);
    let giver = spawn(&window, |window| {
        window.give(1);
        window.give(1);
    });
    let other = spawn(&window, |window| take(window, 1));
    assert_eq!(take(&window, 1), 1);
    assert_eq!(other.join().expect("a thread"), 1);
    giver.join().expect("a thread");
}

fn credit_is_never_taken_twice() {
    let window = Arc::new(ConnWindow::new(3));
    let other = spawn(&window, |window| take(window, 2));
    let got = take(&window, 2);
    let others = other.join().expect("a thread");
    assert_eq!(got + others, 3);
}

fn an_item_that_comes_while_a_task_goes_to_wait_wakes_it() {
    let backlog = Arc::new(Backlog::new());
    let pusher = spawn(&backlog, |backlog| backlog.push(1));
    assert_eq!(block_on(backlog.pop()), Some(1));
    assert_eq!(pusher.join().expect("a thread"), Ok(()));
}

fn two_items_go_to_two_tasks() {
    let backlog = Arc::new(Backlog::new());
    let pusher = spawn(&backlog, |backlog| {
        backlog.push(1).expect("an open queue");
        backlog.push(2).expect("an open queue");
    });
    let other = spawn(&backlog, |backlog| block_on(backlog.pop()));
    let items = [block_on(backlog.pop()), other.join().expect("a thread")];
    assert!(items == [Some(1), Some(2)] || items == [Some(2), Some(1)]);
    pusher.join().expect("a thread");
}

fn a_task_that_gives_up_leaves_its_item_to_another() {
    let backlog = Arc::new(Backlog::new());
    let pusher = spawn(&backlog, |backlog| backlog.push(1));
    let quitter = spawn(&backlog, |backlog| {
        let mut pop = Box::pin(backlog.pop());
        block_on(poll_fn(|cx| Poll::Ready(pop.as_mut().poll(cx))))
    });
    let Poll::Ready(got) = quitter.join().expect("a thread") else {
        assert_eq!(block_on(backlog.pop()), Some(1));
        return;
    };
    assert_eq!(got, Some(1));
    assert_eq!(pusher.join().expect("a thread"), Ok(()));
}

fn a_close_that_comes_while_a_task_goes_to_wait_wakes_it() {
    let backlog = Arc::new(Backlog::<u32>::new());
    let closer = spawn(&backlog, |backlog| backlog.close());
    let other = spawn(&backlog, |backlog| block_on(backlog.pop()));
    assert_eq!(block_on(backlog.pop()), None);
    assert_eq!(other.join().expect("a thread"), None);
    assert!(closer.join().expect("a thread").is_empty());
}

fn an_item_is_accepted_or_given_back_when_the_queue_closes() {
    let backlog = Arc::new(Backlog::new());
    let closer = spawn(&backlog, |backlog| backlog.close());
    let pusher = spawn(&backlog, |backlog| backlog.push(1));
    let popped = block_on(backlog.pop());
    let left = closer.join().expect("a thread");
    let refused = pusher.join().expect("a thread").err();
    let places = [popped, left.front().copied(), refused];
    assert_eq!(places.into_iter().flatten().collect::<Vec<_>>(), [1]);
}

fn an_end_that_comes_while_tasks_go_to_wait_wakes_them_all() {
    let cell = Arc::new(CloseCell::new());
    let setter = spawn(&cell, |cell| cell.set(CloseReason(1)));
    let other = spawn(&cell, |cell| block_on(cell.wait()).0);
    assert_eq!(block_on(cell.wait()).0, 1);
    assert_eq!(other.join().expect("a thread"), 1);
    assert!(setter.join().expect("a thread"));
}

fn the_first_of_two_ends_stays() {
    let cell = Arc::new(CloseCell::new());
    let setter = spawn(&cell, |cell| cell.set(CloseReason(1)));
    let other = spawn(&cell, |cell| cell.set(CloseReason(2)));
    let reason = block_on(cell.wait()).0;
    let first = setter.join().expect("a thread");
    assert_ne!(first, other.join().expect("a thread"));
    assert_eq!(reason, if first { 1 } else { 2 });
    assert_eq!(block_on(cell.wait()).0, reason);
}
