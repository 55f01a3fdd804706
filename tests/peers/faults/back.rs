//! Networks and processes that come back after a while, which everything on its way survives.

use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::faults::cut::{SLACK, expect_all_arrived, on_a_network, peers};
use crate::faults::killed::{run, signal};
use crate::faults::network::{LEFT, Place};
use crate::faults::peer::{Peer, Side};

/// How long the network is away, in seconds.
const CUTS: [u64; 3] = [5, 20, 60];

/// How long a process is suspended.
const SUSPENDED: Duration = Duration::from_secs(5);

/// Far more than anything is away here.
const FAILED_AFTER: Duration = Duration::from_secs(120);

/// How soon after its return everything goes on, on a machine that has nothing else to do.
const SOON: Duration = Duration::from_secs(1);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for length in CUTS {
        trials.push(on_a_network(
            format!("faults::webrtc+tcp/a_cut_of_{length}_s_heals_at_once"),
            move |network| {
                run(async {
                    let ends = peers(Some(network), "webrtc+tcp", LEFT, FAILED_AFTER).await;
                    network.cut(Place::Bridge);
                    sleep(Duration::from_secs(length)).await;
                    network.heal(Place::Bridge);
                    all_goes_on(ends, [true; 2], &format!("a cut of {length} s")).await;
                });
            },
        ));
    }
    for scheme in ["tcp", "quic", "webrtc+tcp"] {
        for (side, name) in [(Side::Listen, "listener"), (Side::Dial, "dialer")] {
            trials.push(Trial::test(
                format!("faults::{scheme}/a_suspended_{name}_goes_on"),
                move || {
                    run(async {
                        let ends = peers(None, scheme, "127.0.0.1", FAILED_AFTER).await;
                        let suspended = &ends[usize::from(side == Side::Dial)];
                        signal(suspended, Signal::STOP);
                        sleep(SUSPENDED).await;
                        signal(suspended, Signal::CONT);
                        // It has not seen that time pass.
                        let notices = [side == Side::Dial, side == Side::Listen];
                        let after = format!("a suspended {name} ({scheme})");
                        all_goes_on(ends, notices, &after).await;
                    });
                    Ok(())
                },
            ));
        }
    }
    trials
}

/// What was away goes on soon after its return, at the ends that notice one, and nothing is lost.
async fn all_goes_on(mut ends: [Peer; 2], notices: [bool; 2], after: &str) {
    let back = Instant::now();
    for (end, _) in ends.iter_mut().zip(notices).filter(|(_, notices)| *notices) {
        end.hears("state connected").await;
        end.hears("moved").await;
    }
    let took = back.elapsed();
    println!("after {after}: bytes move again within {took:.2?}");
    assert!(took < SOON + SLACK, "{took:?}");
    expect_all_arrived(&mut ends).await;
}
