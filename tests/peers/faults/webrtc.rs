use std::time::Duration;

use libtest_mimic::Trial;

use crate::faults::cut::{self, expect_all_arrived, on_a_network, peers};
use crate::faults::killed::{kill, run, stop, stop_and_continue};
use crate::faults::network::{DEVICE, LEFT, Network};
use crate::faults::peer::Side;

const SCHEME: &str = "webrtc+tcp";
const ADDR: &str = "webrtc+tcp://127.0.0.1:0";

/// Number of addresses of a host that has many.
const MANY: usize = 240;

/// The same deaths and cuts as elsewhere. Nothing but its silence tells that a process is gone: the
/// channel of the signalling may end at any time. Losses are made in the sockets, in the tests of
/// `pipe-webrtc`, since not every kernel brings the means.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = cut::of_scheme(SCHEME);
    for (side, dies) in [(Side::Listen, "listener"), (Side::Dial, "dialer")] {
        trials.push(Trial::test(
            format!("faults::{SCHEME}/a_killed_{dies}_fails_everything_in_time"),
            move || {
                run(kill(ADDR.parse()?, side));
                Ok(())
            },
        ));
    }
    trials.push(Trial::test(
        format!("faults::{SCHEME}/a_stopped_peer_is_disconnected_then_back_without_a_loss"),
        || {
            run(stop_and_continue(ADDR.parse()?));
            Ok(())
        },
    ));
    trials.push(Trial::test(
        format!("faults::{SCHEME}/a_peer_that_stays_stopped_is_given_up"),
        || {
            run(stop(ADDR.parse()?));
            Ok(())
        },
    ));
    trials.push(on_a_network(
        format!("faults::{SCHEME}/{MANY}_addresses_on_both_sides"),
        |network| run(many_addresses(network)),
    ));
    trials
}

/// Two hosts with as many addresses as those of a large server. Each has a socket, and pairs with all of the other's.
async fn many_addresses(network: &Network) {
    for (host, net) in [(&network.left, 214), (&network.right, 215)] {
        for last in 1..MANY {
            let addr = format!("10.{net}.0.{last}/8");
            host.ip(&["addr", "add", &addr, "dev", DEVICE])
                .expect("an address");
        }
    }
    let mut ends = peers(Some(network), SCHEME, LEFT, Duration::from_secs(60)).await;
    expect_all_arrived(&mut ends).await;
}
