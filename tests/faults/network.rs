use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Two hosts and the network between them: network namespaces, joined by a bridge in a third one. They
/// are removed when this is dropped.
pub(crate) struct Network {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    middle: Namespace,
}

/// Where the network is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// At the device of the left host, which knows it.
    Device,
    /// At the bridge: what is sent does not arrive, and nobody is told.
    Bridge,
}

/// A network namespace.
pub(crate) struct Namespace {
    name: String,
}

/// The address of the left end; the right one has the next.
pub(crate) const LEFT: &str = "10.213.0.1";
const RIGHT: &str = "10.213.0.2";
/// The one that the right end may get instead.
const RIGHT_LATER: &str = "10.213.0.3";

/// The device of each host, and the bridge.
const DEVICE: &str = "device0";
const BRIDGE: &str = "bridge0";

impl Network {
    /// A network of its own, or why there is none.
    pub(crate) fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Who makes the first namespace of the machine prepares the folder for all.
        static MAKING: Mutex<()> = Mutex::new(());
        let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let host = |name| Namespace::new(format!("pipe-{}-{number}-{name}", std::process::id()));
        let network = Self {
            left: host("left")?,
            right: host("right")?,
            middle: host("middle")?,
        };
        let middle = network.middle.name();
        ip(&["-n", middle, "link", "add", BRIDGE, "type", "bridge"])?;
        network.set(Place::Bridge, "up")?;
        let ends = [
            (&network.left, LEFT, "left"),
            (&network.right, RIGHT, "right"),
        ];
        for (host, addr, port) in ends {
            let host = host.name();
            #[rustfmt::skip]
            ip(&[
                "link", "add", DEVICE, "netns", host, "type", "veth",
                "peer", "name", port, "netns", middle,
            ])?;
            ip(&["-n", middle, "link", "set", port, "master", BRIDGE])?;
            ip(&["-n", middle, "link", "set", port, "up"])?;
            let addr = format!("{addr}/24");
            ip(&["-n", host, "addr", "add", &addr, "dev", DEVICE])?;
            ip(&["-n", host, "link", "set", DEVICE, "up"])?;
        }
        Ok(network)
    }

    pub(crate) fn cut(&self, place: Place) {
        self.set(place, "down").expect("a device to take down");
    }

    pub(crate) fn heal(&self, place: Place) {
        self.set(place, "up").expect("a device to bring up");
    }

    /// Takes the address of the right host away, and gives it another one.
    pub(crate) fn renumber(&self) -> Result<(), String> {
        let host = self.right.name();
        let (old, new) = (format!("{RIGHT}/24"), format!("{RIGHT_LATER}/24"));
        // In this order: the later ones of a network go with the first.
        ip(&["-n", host, "addr", "del", &old, "dev", DEVICE])?;
        ip(&["-n", host, "addr", "add", &new, "dev", DEVICE])
    }

    fn set(&self, place: Place, to: &str) -> Result<(), String> {
        let (host, device) = match place {
            Place::Device => (&self.left, DEVICE),
            Place::Bridge => (&self.middle, BRIDGE),
        };
        ip(&["-n", host.name(), "link", "set", device, to])
    }
}

impl Namespace {
    fn new(name: String) -> Result<Self, String> {
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("a network namespace is left behind: {error}");
        }
    }
}

/// Runs ip(8) of iproute2.
fn ip(args: &[&str]) -> Result<(), String> {
    let shown = args.join(" ");
    let output = Command::new("ip").args(args).output();
    let output = output.map_err(|error| format!("ip {shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {shown}: {}", said.trim()))
}
