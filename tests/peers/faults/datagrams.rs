use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use libtest_mimic::Trial;
use pipewerks::Addr;
use tokio::time::timeout;

use crate::faults::cut::{expect_all_arrived, on_a_network, peers};
use crate::faults::network::{LEFT, Network};
use crate::faults::peer::{Peer, Role, Side, Task};
use crate::faults::relay::{Relay, Weather};

/// When a peer is given up that is not heard of, which is not to happen here.
const FAILED_AFTER: Duration = Duration::from_secs(60);

/// How long a change of address may take to be done.
const SOON: Duration = Duration::from_secs(30);

/// How much each side sends at least, in MiB: enough that every kind of fault comes many times.
const MOVED: [&str; 2] = ["moved 1 ", "moved 4 "];

const LOSS: Weather = Weather {
    lost: 0.05,
    overtaken: 0.0,
};

const DISORDER: Weather = Weather {
    lost: 0.0,
    overtaken: 0.1,
};

const STORM: Weather = Weather {
    lost: 0.05,
    overtaken: 0.1,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, weather, rebinds) in [
        ("5_percent_of_loss_each_way_lose_nothing", LOSS, false),
        (
            "datagrams_that_overtake_each_other_change_nothing",
            DISORDER,
            false,
        ),
        (
            "a_client_behind_a_new_port_goes_on",
            Weather::default(),
            true,
        ),
        ("a_client_behind_a_new_port_goes_on_in_a_storm", STORM, true),
    ] {
        trials.push(Trial::test(format!("faults::quic/{name}"), move || {
            run(on_a_bad_path(weather, rebinds));
            Ok(())
        }));
    }
    trials.push(on_a_network(
        "faults::quic/a_client_with_a_new_address_goes_on".into(),
        |network| run(another_address(network)),
    ));
    trials
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(test);
}

async fn on_a_bad_path(weather: Weather, rebinds: bool) {
    let task = |side, addr| Task {
        role: Role::Flow,
        side,
        addr,
        failed_after: FAILED_AFTER,
    };
    let any = "quic://127.0.0.1:0".parse().expect("an address");
    let mut left = Peer::start(&task(Side::Listen, any), None);
    let addr: Addr = left.hears("listening ").await.parse().expect("an address");
    let port = addr.port().expect("a port");
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let relay = Relay::new(target, weather).expect("a relay");
    let by_relay =
        addr.as_str()
            .replacen(&format!(":{port}"), &format!(":{}", relay.addr.port()), 1);
    let by_relay = by_relay.parse().expect("an address");
    let mut right = Peer::start(&task(Side::Dial, by_relay), None);

    for moved in MOVED {
        tokio::join!(left.hears(moved), right.hears(moved));
        if rebinds {
            relay.rebind();
            // It is known at the listener by another port.
            timeout(SOON, left.hears("peer ")).await.expect("a move");
        }
    }
    expect_undisturbed([left, right]).await;

    let [lost, overtaken, rebound] = relay.counts();
    println!("{lost} datagrams lost, {overtaken} overtaken, {rebound} new ports");
    assert_eq!(lost > 50, weather.lost > 0.0, "{lost} were lost");
    let expected = weather.overtaken > 0.0;
    assert_eq!(overtaken > 50, expected, "{overtaken} were overtaken");
    assert_eq!(rebound, if rebinds { 2 } else { 0 });
}

/// The right host gets another address in place of its own, as a telephone does that leaves the house.
async fn another_address(network: &Network) {
    let [mut left, right] = peers(Some(network), "quic", LEFT, FAILED_AFTER).await;
    network.renumber().expect("another address");
    timeout(SOON, left.hears("peer ")).await.expect("a move");
    left.hears(MOVED[1]).await;
    expect_undisturbed([left, right]).await;
}

/// Everything has arrived, and neither side took the other for gone.
async fn expect_undisturbed(mut ends: [Peer; 2]) {
    expect_all_arrived(&mut ends).await;
    for peer in &ends {
        assert!(!peer.has_said("state "), "{:?}", peer.said());
    }
}
