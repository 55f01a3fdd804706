//! Addresses to listen on, one for each transport.

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
