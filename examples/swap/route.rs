//! [`ROUTES`]: the transports that the program runs on.

use pipewerks::Addr;

use crate::failure::{At, Failure};

/// All routes, in the order in which they are run. A further transport is a further line.
pub(crate) const ROUTES: &[Route] = &[
    Route::new("inproc", "inproc://swap"),
    Route::new("tcp", "tcp://127.0.0.1:0"),
    Route::new("tls", "tls://127.0.0.1:0"),
    Route::new("ws", "ws://127.0.0.1:0"),
    Route::new("wss", "wss://127.0.0.1:0"),
    Route::new("quic", "quic://127.0.0.1:0"),
    Route::new("wt", "wt://127.0.0.1:0"),
    // A name of the system's choice, which there is on Linux alone.
    #[cfg(target_os = "linux")]
    Route::new("unix", "unix:///@"),
    Route::new("webrtc", "webrtc+inproc://swap"),
    Route::new("webrtc-http", "webrtc+http://127.0.0.1:0/swap"),
    Route::new("inproc-lan", "inproc://swap")
        .over("lan")
        .at_most(400, 16 * MIB),
    Route::new("inproc-wifi", "inproc://swap")
        .over("wifi")
        .at_most(200, 4 * MIB),
    Route::new("inproc-mobile", "inproc://swap")
        .over("mobile")
        .at_most(50, MIB),
    Route::new("inproc-satellite", "inproc://swap")
        .over("satellite")
        .at_most(16, MIB / 2),
];

const MIB: u64 = 1024 * 1024;

/// One transport, and what to send over it.
#[derive(Debug)]
pub(crate) struct Route {
    /// What it is called in `--only` and in messages.
    pub(crate) name: &'static str,
    /// How much to send, unless it is all.
    pub(crate) limit: Option<Limit>,
    listen: &'static str,
    link: Option<&'static str>,
}

/// How much to send where all would take long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// How many files at most.
    pub(crate) files: usize,
    /// How many bytes all files have at most.
    pub(crate) bytes: u64,
}

impl Route {
    const fn new(name: &'static str, listen: &'static str) -> Self {
        Self {
            name,
            limit: None,
            listen,
            link: None,
        }
    }

    /// Dials over a shaped link.
    const fn over(mut self, link: &'static str) -> Self {
        self.link = Some(link);
        self
    }

    const fn at_most(mut self, files: usize, bytes: u64) -> Self {
        self.limit = Some(Limit { files, bytes });
        self
    }

    /// Where to listen.
    pub(crate) fn listen_addr(&self) -> Result<Addr, Failure> {
        Addr::parse(self.listen).at(self.name)
    }

    /// Where to dial a listener that is at `local`.
    pub(crate) fn dial_addr(&self, local: Addr) -> Addr {
        match self.link {
            Some(link) => local.with_param("link", link),
            None => local,
        }
    }
}
