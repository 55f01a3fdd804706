use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pipe_conformance::{Clock, Faults, Fixture, Setup};
use pipe_core::{Addr, Config, Result};
use pipewerks::inproc::{InprocTransport, Link, LinkProfile, Namespace};

/// In-process connections over an ideal link, in real time.
pub(crate) struct Inproc;

impl Fixture for Inproc {
    type Transport = InprocTransport;

    fn name(&self) -> &str {
        "inproc"
    }

    fn setup(&self, config: Config) -> Result<Setup<InprocTransport>> {
        inproc(LinkProfile::ideal(), config)
    }

    fn listen_addr(&self) -> Addr {
        fresh_name()
    }

    fn open_addr(&self) -> Addr {
        addr("inproc://")
    }

    fn vacant_addr(&self) -> Addr {
        fresh_name()
    }
}

/// In-process connections over a bad link, in virtual time.
pub(crate) struct SlowInproc;

impl Fixture for SlowInproc {
    type Transport = InprocTransport;

    fn name(&self) -> &str {
        "inproc-slow"
    }

    fn setup(&self, config: Config) -> Result<Setup<InprocTransport>> {
        let link = LinkProfile::ideal()
            .with_latency(Duration::from_millis(20))
            .with_jitter(Duration::from_millis(10))
            .with_bandwidth(8_000_000)
            .with_loss(0.01)
            .with_outages(Duration::from_secs(3), Duration::from_millis(150))
            .with_seed(7);
        inproc(link, config)
    }

    fn listen_addr(&self) -> Addr {
        fresh_name()
    }

    fn open_addr(&self) -> Addr {
        addr("inproc://")
    }

    fn vacant_addr(&self) -> Addr {
        fresh_name()
    }

    fn clock(&self) -> Clock {
        Clock::Paused
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(5 * 60)
    }

    fn soon(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// A transport with a namespace and a link of its own.
fn inproc(profile: LinkProfile, config: Config) -> Result<Setup<InprocTransport>> {
    let link = Link::new(profile);
    let transport = InprocTransport::new()
        .with_namespace(Namespace::new())
        .with_link(link.clone())
        .with_config(config)?;
    Ok(Setup::new(transport).with_faults(LinkFaults(link)))
}

fn fresh_name() -> Addr {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    addr(&format!("inproc://conformance-{number}"))
}

fn addr(text: &str) -> Addr {
    text.parse().expect("a well-formed address")
}

/// Cuts and heals the link of a setup.
struct LinkFaults(Link);

impl Faults for LinkFaults {
    fn cut(&self) {
        self.0.cut();
    }

    fn heal(&self) {
        self.0.heal();
    }

    fn kill_listening_side(&self) {
        self.0.crash_listeners();
    }

    fn delay(&self, time: Duration) -> bool {
        self.0.set_profile(LinkProfile::ideal().with_latency(time));
        true
    }
}
