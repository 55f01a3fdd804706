use libtest_mimic::Trial;

use crate::faults::cut;
use crate::faults::killed::{kill, run, stop, stop_and_continue};
use crate::faults::peer::Side;

const SCHEME: &str = "webrtc+tcp";
const ADDR: &str = "webrtc+tcp://127.0.0.1:0";

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
    trials
}
