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
use pipe_conformance::{
    Clock, Faults, Fixture, Mode, Outcome, Setup, Stalled, case_names, run_case,
};
use pipe_core::{Addr, Config, Conn, Result, Transport};
use pipe_inproc::{InprocTransport, Link, LinkProfile, Namespace};

use crate::fault::{Caught, FAULTS, Fault};
use crate::transport::Broken;

/// The cases in which peers stall in their handshakes.
const WITH_STALLS: [&str; 6] = [
    "a_peer_that_stalls_in_its_handshake_delays_no_other",
    "a_peer_that_fails_in_its_handshake_harms_no_other",
    "a_stalled_handshake_is_given_up",
    "a_mute_stranger_takes_no_place_in_the_backlog",
    "a_newcomer_gets_in_while_others_stall",
    "no_more_handshakes_run_at_once_than_allowed",
];

/// The cases that measure the process.
const MEASURING: [&str; 7] = [
    "memory_with_unaccepted_streams_is_bounded",
    "a_dropped_dial_leaves_nothing_behind",
    "dropped_streams_leave_nothing_behind",
    "closed_connections_leave_nothing_behind",
    "dropped_unread_bytes_return_their_credit",
    "a_slow_reader_costs_no_more_than_its_window",
    IDLE,
];

/// Those that keep the link busy, or watch it, for a while: an ideal link takes no virtual time.
const IN_REAL_TIME: [&str; 3] = [
    "every_method_at_once_does_no_harm",
    "a_ping_gets_through_a_saturated_link",
    IDLE,
];

const IDLE: &str = "an_idle_connection_takes_no_processor_time";

/// The case about listening without a name.
const OPEN_ADDR: &str = "a_listener_tells_an_address_that_can_be_dialed";

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let talkative = args.nocapture;
    let caught = FAULTS.iter().map(|caught| {
        let name = format!("{}/{}", caught.group, caught.name);
        Trial::test(name, move || all_notice(caught, talkative))
    });
    let unbroken = [Mode::Erased, Mode::Static].into_iter().flat_map(|mode| {
        case_names(mode).map(move |case| {
            let name = format!("unbroken/{mode}/{case}");
            Trial::test(name, move || is_passed(Fault::None, case, mode))
        })
    });
    let stalling = WITH_STALLS.map(|case| {
        let name = format!("unbroken/handshakes/{case}");
        Trial::test(name, move || {
            is_passed(Fault::Handshakes, case, Mode::Erased)
        })
    });
    let every_name = Trial::test("every_name_is_that_of_a_case", every_name_is_that_of_a_case);
    let every_case = Trial::test("every_case_can_fail", every_case_can_fail);
    let trials = unbroken
        .chain(stalling)
        .chain(caught)
        .chain([every_name, every_case]);
    libtest_mimic::run(&args, trials.collect()).exit_code()
}

/// Every case that the fault names fails, in each mode that it runs in.
fn all_notice(caught: &Caught, talkative: bool) -> Result<(), Failed> {
    let own_types: Vec<&str> = case_names(Mode::Static).collect();
    for &case in caught.by {
        if !caught.fault.is_hidden_by_erasure() {
            notices(caught, case, Mode::Erased, talkative)?;
        }
        if own_types.contains(&case) {
            notices(caught, case, Mode::Static, talkative)?;
        }
    }
    Ok(())
}

fn notices(caught: &Caught, case: &'static str, mode: Mode, talkative: bool) -> Result<(), Failed> {
    match run(caught.fault, case, mode) {
        Outcome::Failed(message) => {
            if talkative {
                println!("{}, {mode}/{case}: {message}", caught.name);
            }
            // A time limit that ran out names what it was for.
            if message.contains("it waited for nothing with a name") {
                return Err(format!("{mode}/{case}: {message}").into());
            }
            Ok(())
        }
        outcome => Err(format!("{mode}/{case} does not notice it: {outcome:?}").into()),
    }
}

/// Each case notices a fault: through the transport's own types, if it runs through them.
fn every_case_can_fail() -> Result<(), Failed> {
    let own_types: BTreeSet<&str> = case_names(Mode::Static).collect();
    let proves = |caught: &Caught, case: &str| {
        let shown = own_types.contains(case) || !caught.fault.is_hidden_by_erasure();
        shown && caught.by.contains(&case)
    };
    let unproved: Vec<&str> = case_names(Mode::Erased)
        .filter(|case| !FAULTS.iter().any(|caught| proves(caught, case)))
        .collect();
    if unproved.is_empty() {
        Ok(())
    } else {
        Err(format!("no fault is caught by {unproved:?}").into())
    }
}

/// A case that was renamed is renamed here, too.
fn every_name_is_that_of_a_case() -> Result<(), Failed> {
    let named = [&WITH_STALLS[..], &MEASURING, &IN_REAL_TIME, &[OPEN_ADDR]].concat();
    let by = FAULTS.iter().flat_map(|caught| caught.by).copied();
    let known: BTreeSet<&str> = case_names(Mode::Erased).collect();
    let unknown: Vec<&str> = named
        .into_iter()
        .chain(by)
        .filter(|case| !known.contains(case))
        .collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(format!("there are no such cases: {unknown:?}").into())
    }
}

/// The case passes with the wrapper alone.
fn is_passed(fault: Fault, case: &'static str, mode: Mode) -> Result<(), Failed> {
    match run(fault, case, mode) {
        Outcome::Passed => Ok(()),
        outcome => Err(format!("{outcome:?}").into()),
    }
}

/// Runs a case; one that measures the process runs alone.
fn run(fault: Fault, case: &'static str, mode: Mode) -> Outcome {
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
    case: &'static str,
    listeners: AtomicU64,
    namespace: Namespace,
}

impl BrokenFixture {
    fn new(fault: Fault, case: &'static str) -> Self {
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
            OPEN_ADDR => addr("inproc://"),
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

    /// Virtual time, so that a case which has to run into its limit costs nothing, but for some.
    fn clock(&self) -> Clock {
        if IN_REAL_TIME.contains(&self.case) {
            Clock::Real
        } else {
            Clock::Paused
        }
    }

    /// Short where a case that runs into it costs real time.
    fn limit(&self) -> Duration {
        match (self.clock(), self.fault) {
            (Clock::Paused, _) | (_, Fault::None) => Duration::from_secs(20),
            // It watches for a while.
            _ if self.case == IDLE => Duration::from_secs(20),
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

    fn delay(&self, time: Duration) -> bool {
        self.0.set_profile(LinkProfile::ideal().with_latency(time));
        true
    }
}

fn addr(text: &str) -> Addr {
    Addr::parse(text).expect("an address")
}
