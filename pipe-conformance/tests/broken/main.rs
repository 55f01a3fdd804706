//! Shows that every case can fail: deliberately broken transports, and the cases that catch them.
//!
//! Each is a correct transport in a wrapper that breaks the contract in one way. With no fault, the
//! wrapper passes all those cases. `--nocapture` shows what each case has to say about its fault.

mod conn;
mod fault;
mod handshakes;
mod listener;
mod recv;
mod send;
mod shared;
mod stream;
mod transport;

use std::collections::BTreeSet;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::RwLock;
use pipe_conformance::{Clock, Faults, Fixture, Mode, Outcome, Setup, Stalled, run_case};
use pipe_core::{Addr, Config, Conn, Result, Transport};
use pipe_inproc::{InprocTransport, Link, LinkProfile, Namespace};

use crate::fault::{Caught, FAULTS, Fault};
use crate::transport::Broken;

/// The cases in which peers stall in their handshakes.
const WITH_STALLS: [u16; 6] = [13, 14, 130, 131, 134, 135];

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let talkative = args.nocapture;
    let trial = |name, mode, caught| Trial::test(name, move || is_caught(caught, mode, talkative));
    let caught = FAULTS.iter().map(|caught| {
        let name = format!("{}/{}", caught.group, caught.name);
        trial(name, Mode::Static, caught)
    });
    // Through the erased types, the first of each group.
    let erased = FAULTS
        .chunk_by(|one, next| one.group == next.group)
        .map(|group| {
            let name = format!("erased/{}", group[0].name);
            trial(name, Mode::Erased, &group[0])
        });
    let cases: BTreeSet<u16> = FAULTS
        .iter()
        .flat_map(|caught| caught.by)
        .copied()
        .collect();
    let unbroken = cases.into_iter().map(|case| {
        let name = format!("unbroken/{case:03}");
        Trial::test(name, move || is_passed(Fault::None, case))
    });
    let stalling = WITH_STALLS.map(|case| {
        let name = format!("unbroken/handshakes/{case:03}");
        Trial::test(name, move || is_passed(Fault::Handshakes, case))
    });
    let every_case = Trial::test("every_case_can_fail", every_case_can_fail);
    let trials = unbroken
        .chain(stalling)
        .chain(caught)
        .chain(erased)
        .chain([every_case]);
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

/// Every named case fails.
fn is_caught(caught: &Caught, mode: Mode, talkative: bool) -> Result<(), Failed> {
    for &case in caught.by {
        match run(caught.fault, case, mode) {
            Outcome::Failed(message) if talkative => {
                println!("{}, case {case}: {message}", caught.name);
            }
            Outcome::Failed(message) => {
                // A time limit that ran out names what it was for.
                if message.contains("it waited for nothing with a name") {
                    return Err(format!("case {case}: {message}").into());
                }
            }
            outcome => return Err(format!("case {case} does not notice: {outcome:?}").into()),
        }
    }
    Ok(())
}

/// Each case that needs no wire is named by a fault.
fn every_case_can_fail() -> Result<(), Failed> {
    let unproved = |case: &u16| FAULTS.iter().all(|caught| !caught.by.contains(case));
    let unproved: Vec<u16> = (1..=101).chain(115..=140).filter(unproved).collect();
    if unproved.is_empty() {
        Ok(())
    } else {
        Err(format!("no fault is caught by {unproved:?}").into())
    }
}

/// The case passes with the wrapper alone.
fn is_passed(fault: Fault, case: u16) -> Result<(), Failed> {
    match run(fault, case, Mode::Static) {
        Outcome::Passed => Ok(()),
        outcome => Err(format!("{outcome:?}").into()),
    }
}

/// Runs a case; one that measures the process runs alone.
fn run(fault: Fault, case: u16, mode: Mode) -> Outcome {
    const MEASURING: [u16; 7] = [65, 79, 98, 99, 100, 129, 133];
    static ALONE: RwLock<()> = RwLock::new(());
    let fixture = Arc::new(BrokenFixture::new(fault, case));
    if MEASURING.contains(&case) {
        let _alone = ALONE.write();
        run_case(&fixture, case, mode)
    } else {
        let _beside_others = ALONE.read();
        run_case(&fixture, case, mode)
    }
}

/// A broken transport over `inproc`, with a link that can be cut.
struct BrokenFixture {
    fault: Fault,
    case: u16,
    listeners: AtomicU64,
    namespace: Namespace,
}

impl BrokenFixture {
    fn new(fault: Fault, case: u16) -> Self {
        Self {
            fault,
            case,
            listeners: AtomicU64::new(0),
            namespace: Namespace::new(),
        }
    }
}

impl Fixture for BrokenFixture {
    type Transport = Broken<InprocTransport>;

    fn name(&self) -> &str {
        "broken"
    }

    fn setup(&self, config: Config) -> Result<Setup<Self::Transport>> {
        let link = Link::new(LinkProfile::ideal());
        let inner = InprocTransport::new()
            .with_namespace(self.namespace.clone())
            .with_link(link.clone())
            .with_config(self.fault.config(config.clone()))?;
        let transport = Broken::new(inner, config, self.fault);
        Ok(Setup::new(transport).with_faults(Cuts(link)))
    }

    /// A name, but for the case about listening without one.
    fn listen_addr(&self) -> Addr {
        match self.case {
            2 => addr("inproc://"),
            _ => {
                let nth = self.listeners.fetch_add(1, Ordering::Relaxed);
                addr(&format!("inproc://listener-{nth}"))
            }
        }
    }

    fn vacant_addr(&self) -> Addr {
        addr("inproc://nobody")
    }

    fn stall(&self, addr: &Addr) -> Option<BoxFuture<'static, io::Result<Stalled>>> {
        if !self.fault.has_handshakes_side_by_side() {
            return None;
        }
        let (namespace, addr) = (self.namespace.clone(), addr.clone());
        let stalling = async move {
            let dialer = InprocTransport::new().with_namespace(namespace);
            let conn = dialer.dial(&addr).await?;
            let banner = conn.clone();
            let answered = async move { drop(banner.accept_stream().await) };
            let ended = async move { drop(conn.closed().await) };
            Ok(Stalled::new(answered, ended))
        };
        Some(Box::pin(stalling))
    }

    /// Virtual time, so that a case which has to run into its limit costs nothing; but real time for
    /// those that keep the link busy for a while, because an ideal link takes no virtual time.
    fn clock(&self) -> Clock {
        match self.case {
            70 | 92 | 133 => Clock::Real,
            _ => Clock::Paused,
        }
    }

    /// Short where a case that runs into it costs real time.
    fn limit(&self) -> Duration {
        match (self.clock(), self.fault) {
            (Clock::Paused, _) | (_, Fault::None) => Duration::from_secs(20),
            // It watches for a while.
            _ if self.case == 133 => Duration::from_secs(20),
            _ => Duration::from_secs(2),
        }
    }
}

/// Harms the connections over a link.
struct Cuts(Link);

impl Faults for Cuts {
    fn cut(&self) {
        self.0.cut();
    }

    fn heal(&self) {
        self.0.heal();
    }

    fn kill_listening_side(&self) {
        self.0.crash_listeners();
    }
}

fn addr(text: &str) -> Addr {
    Addr::parse(text).expect("an address")
}
