use crate::namespace::Namespace;

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

/// The address of the left end; the right one has the next.
pub(crate) const LEFT: &str = "10.213.0.1";
const RIGHT: &str = "10.213.0.2";
/// The one that the right end may get instead.
const RIGHT_LATER: &str = "10.213.0.3";

/// The device of each host, and the bridge.
pub(crate) const DEVICE: &str = "device0";
const BRIDGE: &str = "bridge0";

impl Network {
    /// A network of its own, or why there is none.
    pub(crate) fn new() -> Result<Self, String> {
        let network = Self {
            left: Namespace::new("left")?,
            right: Namespace::new("right")?,
            middle: Namespace::new("middle")?,
        };
        let middle = &network.middle;
        middle.ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        network.set(Place::Bridge, "up")?;
        let ends = [
            (&network.left, LEFT, "left"),
            (&network.right, RIGHT, "right"),
        ];
        for (host, addr, port) in ends {
            #[rustfmt::skip]
            host.ip(&[
                "link", "add", DEVICE, "type", "veth",
                "peer", "name", port, "netns", middle.name(),
            ])?;
            middle.ip(&["link", "set", port, "master", BRIDGE])?;
            middle.ip(&["link", "set", port, "up"])?;
            host.ip(&["addr", "add", &format!("{addr}/24"), "dev", DEVICE])?;
            host.ip(&["link", "set", DEVICE, "up"])?;
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
        let host = &self.right;
        let (old, new) = (format!("{RIGHT}/24"), format!("{RIGHT_LATER}/24"));
        // In this order: the later ones of a network go with the first.
        host.ip(&["addr", "del", &old, "dev", DEVICE])?;
        host.ip(&["addr", "add", &new, "dev", DEVICE])
    }

    fn set(&self, place: Place, to: &str) -> Result<(), String> {
        let (host, device) = match place {
            Place::Device => (&self.left, DEVICE),
            Place::Bridge => (&self.middle, BRIDGE),
        };
        host.ip(&["link", "set", device, to])
    }
}
