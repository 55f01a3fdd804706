//! Peers of other makes: programs that speak the wires of our transports and were written by others; and an earlier
//! build of our own.
//!
//! `ci/install-peers` installs what they need. A peer that is missing is skipped with a word, unless
//! `PIPE_REQUIRE_PEERS=1` is set: then its tests fail. With `PIPE_PEER_LOG=1` the peers' own words are
//! shown.

#[cfg(feature = "webrtc")]
mod browser;
mod bytes;
#[cfg(all(feature = "webrtc", target_os = "linux"))]
mod candidates;
#[cfg(any(feature = "ws", feature = "nats"))]
mod daemon;
#[cfg(all(
    unix,
    feature = "tcp",
    feature = "tls",
    feature = "unix",
    feature = "quic",
    feature = "webrtc"
))]
mod earlier;
#[cfg(all(feature = "webrtc", feature = "tcp", target_os = "linux"))]
mod firewall;
#[cfg(all(feature = "webrtc", target_os = "linux"))]
mod nat;
#[cfg(all(feature = "nats", feature = "webrtc"))]
mod nats;
mod peer;
#[cfg(all(feature = "tcp", feature = "tls", feature = "ws"))]
mod proxy;
#[cfg(feature = "quic")]
mod quic;
mod tools;
#[cfg(feature = "webrtc")]
mod turn;
#[cfg(feature = "webrtc")]
mod webrtc;
#[cfg(all(feature = "whip", feature = "inproc"))]
mod whip;
#[cfg(feature = "ws")]
mod ws;
mod yamux;

use std::future::Future;
use std::time::Duration;

use libtest_mimic::{Completion, Failed, Trial};
use tools::Missing;

#[cfg(all(feature = "webrtc", target_os = "linux"))]
use crate::namespace::Namespace;
#[cfg(any(feature = "quic", feature = "webrtc", feature = "ws"))]
use {std::fmt::Debug, std::pin::Pin, tokio::process::Command, tools::Program};

/// How long one test may take, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Returns the tests with every peer.
pub(crate) fn trials() -> Vec<Trial> {
    let trials = yamux::trials();
    #[cfg(feature = "ws")]
    let trials: Vec<_> = trials.into_iter().chain(ws::trials()).collect();
    #[cfg(all(feature = "tcp", feature = "tls", feature = "ws"))]
    let trials: Vec<_> = trials.into_iter().chain(proxy::trials()).collect();
    #[cfg(all(feature = "whip", feature = "inproc"))]
    let trials: Vec<_> = trials.into_iter().chain(whip::trials()).collect();
    #[cfg(all(feature = "nats", feature = "webrtc"))]
    let trials: Vec<_> = trials.into_iter().chain(nats::trials()).collect();
    #[cfg(feature = "quic")]
    let trials: Vec<_> = trials.into_iter().chain(quic::trials()).collect();
    #[cfg(feature = "webrtc")]
    let trials: Vec<_> = trials
        .into_iter()
        .chain(webrtc::trials())
        .chain(browser::trials())
        .chain(turn::trials())
        .collect();
    #[cfg(all(feature = "webrtc", target_os = "linux"))]
    let trials: Vec<_> = trials
        .into_iter()
        .chain(candidates::trials())
        .chain(nat::trials())
        .collect();
    #[cfg(all(feature = "webrtc", feature = "tcp", target_os = "linux"))]
    let trials: Vec<_> = trials.into_iter().chain(firewall::trials()).collect();
    #[cfg(all(
        unix,
        feature = "tcp",
        feature = "tls",
        feature = "unix",
        feature = "quic",
        feature = "webrtc"
    ))]
    let trials: Vec<_> = trials.into_iter().chain(earlier::trials()).collect();
    trials
}

/// The network that a test runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// That of this machine.
    Machine,
    /// A network namespace of the test's own, with an interface beside loopback.
    #[cfg(all(feature = "webrtc", target_os = "linux"))]
    Namespace,
}

/// What happens on a stage, which is a connection to a peer, as a rule.
#[cfg(any(feature = "quic", feature = "webrtc", feature = "ws"))]
type Scenario<S> = fn(S) -> Pin<Box<dyn Future<Output = ()>>>;

/// Every scenario with a peer in each of its roles, in tests called `what::role::scenario`.
#[cfg(any(feature = "quic", feature = "webrtc", feature = "ws"))]
fn in_roles<R, S, F>(
    what: &str,
    place: Place,
    peer: Program,
    roles: [R; 2],
    scenarios: &[(&str, Scenario<S>)],
    run: impl Fn(R, Command, Scenario<S>) -> F + Copy + Send + 'static,
) -> Vec<Trial>
where
    R: Copy + Debug + Send + 'static,
    S: 'static,
    F: Future<Output = ()>,
{
    let mut trials = Vec::new();
    for role in roles {
        for &(name, scenario) in scenarios {
            let name = format!("{what}::{role:?}::{name}").to_lowercase();
            let test = move |command| run(role, command, scenario);
            trials.push(trial_in(place, &name, peer, test));
        }
    }
    trials
}

/// A test that talks to a peer, if the peer is there.
fn trial<P, F>(
    name: &str,
    peer: impl FnOnce() -> Result<P, Missing> + Send + 'static,
    test: impl FnOnce(P) -> F + Send + 'static,
) -> Trial
where
    P: Send + 'static,
    F: Future<Output = ()>,
{
    trial_in(Place::Machine, name, peer, test)
}

/// The same, in this network.
fn trial_in<P, F>(
    place: Place,
    name: &str,
    peer: impl FnOnce() -> Result<P, Missing> + Send + 'static,
    test: impl FnOnce(P) -> F + Send + 'static,
) -> Trial
where
    P: Send + 'static,
    F: Future<Output = ()>,
{
    Trial::ignorable_test(format!("interop::{name}"), move || {
        let peer = match peer() {
            Ok(peer) => peer,
            Err(missing) => return without(missing),
        };
        match place {
            Place::Machine => run(test(peer))?,
            #[cfg(all(feature = "webrtc", target_os = "linux"))]
            Place::Namespace => match Namespace::with_interface("interop") {
                Ok(namespace) => namespace.inside(move || run(test(peer)))??,
                Err(why) => {
                    let why = format!("no network namespaces: {why}");
                    let excused = false;
                    return without(Missing { why, excused });
                }
            },
        }
        Ok(Completion::Completed)
    })
}

/// What becomes of a test whose peer is missing.
fn without(missing: Missing) -> Result<Completion, Failed> {
    if tools::peers_are_required() && !missing.excused {
        return Err(missing.why.into());
    }
    Ok(Completion::ignored_with(missing.why))
}

/// Runs a test for as long as it may take.
fn run(test: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failed::from)?;
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, test)
            .await
            .map_err(|_| Failed::from(format!("it was not over within {LIMIT:?}")))
    })
}
