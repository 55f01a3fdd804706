//! Addresses to listen on, one for each transport, and a list of several.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

/// An address to listen on.
pub(crate) struct Route {
    pub(crate) addr: String,
    _dir: Option<TempDir>,
}

impl Route {
    /// For the transport of this name, or `list`.
    pub(crate) fn of(name: &str) -> Self {
        let dir = ["unix", "list"].contains(&name);
        let dir = dir.then(|| tempfile::tempdir().unwrap());
        let addr = match (name, &dir) {
            ("list", Some(dir)) => {
                let socket = dir.path().join("socket");
                format!("tls://127.0.0.1:0,unix://{}", socket.display())
            }
            (_, Some(dir)) => format!("unix://{}/socket", dir.path().display()),
            ("webrtc", None) => "webrtc+tcp://127.0.0.1:0".to_owned(),
            (name, None) => format!("{name}://127.0.0.1:0"),
        };
        Self { addr, _dir: dir }
    }

    /// The same with a port that can be listened on again, after whoever listened has gone.
    pub(crate) fn lasting(&self) -> String {
        self.addr
            .replace("127.0.0.1:0", &format!("127.0.0.1:{}", lasting_port()))
    }
}

/// A port that the system gives to nobody who asks for any: below those that it usually gives.
fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = (std::process::id() % 400) as u16 * 40;
    loop {
        let port = 10_000 + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Makes a test of each function for each transport.
macro_rules! on_every_transport {
    ($($test:ident)*) => {
        crate::route::on_every_transport! { @ tcp $($test)* }
        crate::route::on_every_transport! { @ tls $($test)* }
        crate::route::on_every_transport! { @ unix $($test)* }
        crate::route::on_every_transport! { @ quic $($test)* }
        crate::route::on_every_transport! { @ webrtc $($test)* }
    };
    (@ $transport:ident $($test:ident)*) => {
        mod $transport {
            $(
                #[test]
                fn $test() {
                    super::$test(&crate::route::Route::of(stringify!($transport)));
                }
            )*
        }
    };
}
pub(crate) use on_every_transport;

/// Makes the same for each transport, and for a list of addresses.
macro_rules! on_every_route {
    ($($test:ident)*) => {
        crate::route::on_every_transport! { $($test)* }
        crate::route::on_every_transport! { @ list $($test)* }
    };
}
pub(crate) use on_every_route;
