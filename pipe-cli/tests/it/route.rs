//! Addresses to listen on, one for each transport.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

/// An address to listen on.
pub(crate) struct Route {
    pub(crate) addr: String,
    _dir: Option<TempDir>,
}

impl Route {
    /// For the transport of this name.
    pub(crate) fn of(name: &str) -> Self {
        let dir = (name == "unix").then(|| tempfile::tempdir().unwrap());
        let addr = match (name, &dir) {
            (_, Some(dir)) => format!("unix://{}/socket", dir.path().display()),
            ("webrtc", None) => "webrtc+tcp://127.0.0.1:0".to_owned(),
            (name, None) => format!("{name}://127.0.0.1:0"),
        };
        Self { addr, _dir: dir }
    }

    /// The same with a port that can be listened on again, after whoever listened has gone.
    pub(crate) fn lasting(&self) -> String {
        match self.addr.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", lasting_port()),
            None => self.addr.clone(),
        }
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
        on_every_transport! { @ tcp $($test)* }
        on_every_transport! { @ tls $($test)* }
        on_every_transport! { @ unix $($test)* }
        on_every_transport! { @ quic $($test)* }
        on_every_transport! { @ webrtc $($test)* }
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
