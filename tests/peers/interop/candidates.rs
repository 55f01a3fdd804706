//! Which addresses a peer is told, on a machine with several interfaces: a network namespace, which takes
//! root and iproute2.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use libtest_mimic::{Completion, Failed, Trial};
use pipewerks::webrtc::signaling::Signal;
use pipewerks::webrtc::{AddrFilter, IceServer, InterfaceFilter, Network, WebRtcSettings};
use pipewerks::{Error, ErrorKind};

use crate::interop::tools;
use crate::interop::turn::connect;
use crate::namespace::Namespace;

/// The interfaces, beside that of loopback, and their addresses.
const INTERFACES: [(&str, &[&str]); 3] = [
    ("wan0", &["198.51.100.1/24"]),
    ("lan0", &["10.77.0.1/24", "fd00:77::1/64"]),
    ("bridge0", &["172.17.0.1/16"]),
];

/// What happens in a namespace.
type Scenario = fn() -> Pin<Box<dyn Future<Output = ()>>>;

pub(crate) fn trials() -> Vec<Trial> {
    let scenarios: [(&str, bool, Scenario); 8] = [
        ("interfaces", true, || Box::pin(interfaces())),
        ("denied_interfaces", true, || Box::pin(denied_interfaces())),
        (
            "allowed_interfaces",
            true,
            || Box::pin(allowed_interfaces()),
        ),
        ("networks", true, || Box::pin(networks())),
        (
            "external_addresses",
            true,
            || Box::pin(external_addresses()),
        ),
        ("no_network", false, || Box::pin(no_network())),
        ("unknown_server", true, || Box::pin(unknown_server())),
        ("multicast_names", true, || Box::pin(multicast_names())),
    ];
    let trials = scenarios.map(|(name, network, scenario)| {
        Trial::ignorable_test(format!("interop::candidates::{name}"), move || {
            let namespace = match prepare(name, network) {
                Ok(namespace) => namespace,
                Err(why) => {
                    let why = format!("no network namespaces: {why}");
                    if tools::peers_are_required() {
                        return Err(why.into());
                    }
                    return Ok(Completion::ignored_with(why));
                }
            };
            run(&namespace, scenario)
        })
    });
    trials.into()
}

/// A namespace with its loopback, and the other interfaces or not.
fn prepare(name: &str, network: bool) -> Result<Namespace, String> {
    let namespace = Namespace::new(name)?;
    namespace.ip(&["link", "set", "lo", "up"])?;
    for (interface, addrs) in INTERFACES.iter().filter(|_| network) {
        // The other end, which has no address.
        let port = format!("port-{interface}");
        namespace.ip(&[
            "link", "add", interface, "type", "veth", "peer", "name", &port,
        ])?;
        namespace.ip(&["link", "set", &port, "up"])?;
        for addr in *addrs {
            // Nobody else can have the address, so it can be used at once.
            let unchecked: &[&str] = if addr.contains(':') { &["nodad"] } else { &[] };
            let add = ["addr", "add", addr, "dev", interface];
            namespace.ip(&[&add, unchecked].concat())?;
        }
        namespace.ip(&["link", "set", interface, "up"])?;
    }
    Ok(namespace)
}

/// Runs a scenario in a thread that is in the namespace, as are those that it starts.
fn run(namespace: &Namespace, scenario: Scenario) -> Result<Completion, Failed> {
    let ran = namespace.inside(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            tokio::time::timeout(crate::interop::LIMIT, scenario())
                .await
                .map_err(std::io::Error::from)
        })
    })?;
    Ok(ran.map(|()| Completion::Completed)?)
}

/// Returns the addresses in the candidates of a side with these settings, where a connection is made.
async fn told(settings: WebRtcSettings) -> Vec<String> {
    let told = told_as_written(settings).await;
    let addr = |text: &String| text.parse::<IpAddr>().expect("an address");
    let mut addrs: Vec<_> = told.iter().map(addr).collect();
    addrs.sort();
    addrs.iter().map(IpAddr::to_string).collect()
}

/// The same, with names where they stand for addresses.
async fn told_as_written(settings: WebRtcSettings) -> Vec<String> {
    let (here, there, mut heard) = connect(settings, WebRtcSettings::default()).await;
    let _conns = (
        here.expect("the offerer's end"),
        there.expect("the answerer's"),
    );
    let all = heard.wait_for(|signals| signals.contains(&Signal::EndOfCandidates));
    all.await
        .expect("the end of candidates")
        .iter()
        .filter_map(|signal| match signal {
            Signal::Candidate(candidate) => candidate.candidate.split(' ').nth(4),
            _ => None,
        })
        .map(str::to_owned)
        .collect()
}

/// The error of a side with these settings.
async fn refused(settings: WebRtcSettings) -> Error {
    let (here, _there, _) = connect(settings, WebRtcSettings::default()).await;
    here.expect_err("an error")
}

fn without_loopback() -> WebRtcSettings {
    WebRtcSettings::default().with_loopback(false)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// All interfaces are used, with loopback only if that is wanted, and link-local addresses never.
async fn interfaces() {
    let outer = ["10.77.0.1", "172.17.0.1", "198.51.100.1", "fd00:77::1"];
    assert_eq!(told(without_loopback()).await, outer);
    let all = [
        "10.77.0.1",
        "127.0.0.1",
        "172.17.0.1",
        "198.51.100.1",
        "::1",
        "fd00:77::1",
    ];
    assert_eq!(
        told(WebRtcSettings::default().with_loopback(true)).await,
        all
    );
}

async fn denied_interfaces() {
    let settings = without_loopback()
        .with_interfaces(InterfaceFilter::default().with_deny(names(&["bridge", "wan"])));
    assert_eq!(told(settings).await, ["10.77.0.1", "fd00:77::1"]);
}

/// What is denied stays denied when it is allowed too.
async fn allowed_interfaces() {
    let filter = InterfaceFilter::default()
        .with_allow(names(&["wan0", "bridge"]))
        .with_deny(names(&["bridge0"]));
    let settings = without_loopback().with_interfaces(filter.clone());
    assert_eq!(told(settings).await, ["198.51.100.1"]);

    let nothing = filter.with_deny(names(&["wan", "bridge"]));
    let error = refused(without_loopback().with_interfaces(nothing)).await;
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    assert!(error.to_string().contains("interfaces"), "{error}");
}

async fn networks() {
    let network = |text: &str| text.parse::<Network>().expect("a network");
    let settings = without_loopback().with_addrs(
        AddrFilter::default()
            .with_allow(vec![
                network("10.0.0.0/8"),
                network("172.16.0.0/12"),
                network("fd00::/8"),
            ])
            .with_deny(vec![network("172.17.0.0/16"), network("fd00:77::/32")]),
    );
    assert_eq!(told(settings).await, ["10.77.0.1"]);
}

/// External addresses stand for those of their family, and others stay.
async fn external_addresses() {
    let settings = without_loopback()
        .with_interfaces(InterfaceFilter::default().with_allow(names(&["lan0"])))
        .with_external_addrs(vec!["203.0.113.5".parse().expect("an address")]);
    assert_eq!(told(settings).await, ["203.0.113.5", "fd00:77::1"]);
}

/// A machine without a network reaches itself.
async fn no_network() {
    assert_eq!(told(WebRtcSettings::default()).await, ["127.0.0.1", "::1"]);
    let error = refused(without_loopback()).await;
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
    assert!(error.to_string().contains("no address is left"), "{error}");
}

/// A server whose name cannot be resolved is named.
async fn unknown_server() {
    let settings = without_loopback()
        .with_ice_servers([IceServer::turn("turn:turn.example:3478", "name", "secret")])
        .with_relay_only(true);
    let error = refused(settings).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let text = error.to_string();
    assert!(
        text.contains("the server turn.example:3478 is not found"),
        "{text}"
    );
}

/// Names of multicast DNS stand for the addresses. Its groups are joined on each interface, so that no route for
/// multicast is needed.
async fn multicast_names() {
    let told = told_as_written(without_loopback().with_mdns(true)).await;
    assert!(!told.is_empty(), "no candidate");
    assert!(told.iter().all(|name| name.ends_with(".local")), "{told:?}");
}
