use std::env;
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use tokio::time::Instant;

use crate::faults::child::impatient;
use crate::faults::network::{LEFT, Network, Place};
use crate::faults::peer::{Peer, Role, Said, Side, Task};

/// How much later than it should something may come, on a machine with other things to do.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

pub(crate) fn trials() -> Vec<Trial> {
    ["tcp", "quic"].into_iter().flat_map(of_scheme).collect()
}

/// A cut that lasts and one that ends, at each place of the network.
pub(crate) fn of_scheme(scheme: &'static str) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (place, where_) in [(Place::Device, "device"), (Place::Bridge, "network")] {
        trials.push(on_a_network(
            format!("faults::{scheme}/a_cut_{where_}_is_noticed_at_both_ends_and_given_up"),
            move |network| run(cut(network, place, scheme)),
        ));
        trials.push(on_a_network(
            format!("faults::{scheme}/a_{where_}_that_comes_back_in_time_has_lost_nothing"),
            move |network| run(cut_and_heal(network, place, scheme)),
        ));
    }
    trials
}

pub(crate) fn on_a_network(name: String, test: impl FnOnce(&Network) + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match Network::new() {
        Ok(network) => {
            test(&network);
            Ok(Completion::Completed)
        }
        Err(why) => skip(&why),
    })
}

/// Namespaces take root, which not everybody is. Where the tests are to be complete, that is a failure.
pub(crate) fn skip(why: &str) -> Result<Completion, Failed> {
    let why = format!("no network namespaces: {why}");
    let required = ["CI", "PIPE_REQUIRE_PEERS"];
    if required.iter().any(|name| env::var_os(name).is_some()) {
        return Err(why.into());
    }
    Ok(Completion::ignored_with(why))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(test);
}

/// A peer on each host of the network, or on this one, with transfers under way in both directions. The first
/// listens at `ip`.
pub(crate) async fn peers(
    network: Option<&Network>,
    scheme: &str,
    ip: &str,
    failed_after: Duration,
) -> [Peer; 2] {
    let task = |side, addr| Task {
        role: Role::Flow,
        side,
        addr,
        failed_after,
    };
    let addr = format!("{scheme}://{ip}:0").parse().expect("an address");
    let left = network.map(|network| &network.left);
    let mut left = Peer::start(&task(Side::Listen, addr), left);
    let addr = left.hears("listening ").await.parse().expect("an address");
    let right = network.map(|network| &network.right);
    let mut right = Peer::start(&task(Side::Dial, addr), right);
    tokio::join!(left.hears("moving"), right.hears("moving"));
    [left, right]
}

async fn cut(network: &Network, place: Place, scheme: &str) {
    let config = impatient(Duration::from_secs(4));
    let [mut left, mut right] = peers(Some(network), scheme, LEFT, config.failed_after).await;
    let cut = Instant::now();
    network.cut(place);
    let events = [
        "state disconnected",
        "state failed",
        "read ",
        "write ",
        "quiet ",
        "closed ",
    ];
    let (left, right) = tokio::join!(left.hears_all(&events), right.hears_all(&events));
    for said in [left, right] {
        let [disconnected, failed, ends @ ..] = &said[..] else {
            unreachable!("hears_all gives one for each")
        };
        expect_after(cut, disconnected, config.disconnected_after);
        expect_after(cut, failed, config.failed_after);
        for end in ends {
            assert_eq!(end.text, "Failed", "{said:?}");
            expect_after(cut, end, config.failed_after);
        }
    }
}

/// Panics unless it was said so long after the cut. What was heard last may be older than that.
fn expect_after(cut: Instant, said: &Said, after: Duration) {
    let took = said.at.duration_since(cut);
    assert!(took >= after / 2, "after {took:?}: {said:?}");
    assert!(took <= after + SLACK, "after {took:?}: {said:?}");
}

async fn cut_and_heal(network: &Network, place: Place, scheme: &str) {
    let failed_after = Duration::from_secs(60);
    let [mut left, mut right] = peers(Some(network), scheme, LEFT, failed_after).await;
    let cut = Instant::now();
    network.cut(place);
    let lost = "state disconnected";
    tokio::join!(left.hears(lost), right.hears(lost));
    let down = cut.elapsed();
    let healed = Instant::now();
    network.heal(place);
    let back = "state connected";
    tokio::join!(left.hears(back), right.hears(back));
    // It is found out with the next packet, and those come ever more seldom (RFC 6298, 5.5; RFC 9002,
    // 6.2.1).
    println!(
        "after {down:.1?} without a network, back within {:.1?}",
        healed.elapsed()
    );

    expect_all_arrived(&mut [left, right]).await;
}

/// Ends the transfers. Everything that was sent has arrived.
pub(crate) async fn expect_all_arrived([left, right]: &mut [Peer; 2]) {
    tokio::join!(left.finish(), right.finish());
    let ends = ["sent ", "received "];
    let (left, right) = tokio::join!(left.hears_all(&ends), right.hears_all(&ends));
    assert_eq!(left[0].text, right[1].text);
    assert_eq!(right[0].text, left[1].text);
}
