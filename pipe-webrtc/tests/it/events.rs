//! What a connection tells of what happens under its streams.

use pipe_core::{Conn, ConnState};
use pipe_webrtc::{ConnEvent, ConnEvents, Faults};
use tokio::time::timeout;

use crate::common::{LIMIT, pair, soon, times, transport};

/// Reads on until an event comes that is wanted, and returns all up to it.
async fn until(events: &mut ConnEvents, wanted: impl Fn(&ConnEvent) -> bool) -> Vec<ConnEvent> {
    let mut seen = Vec::new();
    let read = async {
        while let Some(event) = events.next().await {
            seen.push(event);
            if seen.last().is_some_and(&wanted) {
                return true;
            }
        }
        false
    };
    let found = timeout(LIMIT, read).await;
    assert!(found == Ok(true), "{found:?} after {seen:?}");
    seen
}

fn is(state: ConnState) -> impl Fn(&ConnEvent) -> bool {
    move |event| *event == ConnEvent::State(state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_making_the_path_a_restart_and_the_end_are_told() {
    let (here, there) = pair(&transport()).await;
    let mut both = [here.events(), there.events()];
    for (conn, events) in [&here, &there].into_iter().zip(&mut both) {
        let made = until(events, is(ConnState::Connected)).await;
        let local = |e: &ConnEvent| matches!(e, ConnEvent::LocalCandidate(text) if text.starts_with("candidate:"));
        assert!(made.iter().any(local), "{made:?}");
        let pair = conn.selected_candidate_pair().await.expect("a path");
        let selected = |e: &ConnEvent| matches!(e, ConnEvent::PairSelected(told) if *told == pair);
        until(&mut conn.events(), selected).await;
    }
    // The wish of the answerer becomes an offer too.
    for conn in [&here, &there] {
        soon("a restart", conn.restart_ice()).await.unwrap();
        for events in &mut both {
            until(events, |e| *e == ConnEvent::IceRestarted).await;
            let remote = |e: &ConnEvent| matches!(e, ConnEvent::RemoteCandidate(text) if text.starts_with("candidate:"));
            until(events, remote).await;
        }
    }
    let mut events = here.events();
    here.close(0, "");
    let all = until(&mut events, is(ConnState::Closed)).await;
    assert!(
        !all.contains(&ConnEvent::State(ConnState::Disconnected)),
        "{all:?}"
    );
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_and_its_end_are_told_and_so_is_a_failure() {
    let faults = Faults::new();
    let transport = transport()
        .with_config(times(100, 400, 3000))
        .unwrap()
        .with_faults(faults.clone());
    let (here, _there) = pair(&transport).await;
    let mut events = here.events();
    until(&mut events, is(ConnState::Connected)).await;
    faults.cut();
    until(&mut events, is(ConnState::Disconnected)).await;
    faults.heal();
    until(&mut events, is(ConnState::Connected)).await;
    faults.cut();
    let failure = until(&mut events, is(ConnState::Failed)).await;
    assert!(
        failure.contains(&ConnEvent::State(ConnState::Disconnected)),
        "{failure:?}"
    );
    assert_eq!(events.next().await, None);
}

/// Who reads events does not keep the connection open, and who reads none does not hold it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_events_is_no_handle() {
    let (here, there) = pair(&transport()).await;
    let (mut events, _never_read) = (here.events(), there.events());
    drop(here);
    until(&mut events, is(ConnState::Closed)).await;
    assert_eq!(soon("the end", there.closed()).await.code(), Some(0));
}
