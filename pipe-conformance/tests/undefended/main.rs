//! Shows that attacks can succeed: transports that lack one defence each, and the attacks that catch them.
//!
//! Each is yamux over TCP with one fault; without it, the same attacks fail to do harm. `--nocapture` shows what each
//! attack has to say.

mod frames;
mod keeping;
mod queue;
mod transport;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use pipe_conformance::Outcome;
use pipe_conformance::hostile::yamux::{ByteStream, Yamux};
use pipe_conformance::hostile::{Target, play, run_attack};
use tokio::net::TcpSocket;

use crate::transport::{Fault, Undefended};

/// A fault with attacks that have to succeed because of it, and what is said then.
const CAUGHT: [(Fault, &str, &[&str]); 5] = [
    (
        Fault::OutputIsQueuedWithoutBound,
        "the heap has grown",
        &["output_that_is_never_read"],
    ),
    (
        Fault::EachFrameIsCredited,
        "the heap has grown",
        &["credit_that_is_never_read"],
    ),
    (
        Fault::StreamsAreUnlimited,
        "handlers at once",
        &["rapid_reset", "streams_beyond_the_limit"],
    ),
    (
        Fault::WindowsAreUnlimited,
        "the heap has grown",
        &["unread_windows", "writes_and_never_reads"],
    ),
    (
        Fault::BytesAreKept,
        "resident",
        &["a_thousand_full_windows", "a_stranger_fills_windows"],
    ),
];

/// Attacks that do no harm without a fault.
const HARMLESS: [&str; 6] = [
    "output_that_is_never_read",
    "credit_that_is_never_read",
    "rapid_reset",
    "unread_windows",
    "a_thousand_full_windows",
    "a_stranger_fills_windows",
];

/// How many attacks are under way at once. One of them is measured.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let faults = CAUGHT.iter().map(|(fault, ..)| *fault);
    let targets: Vec<Target> = faults.chain([Fault::None]).map(target).collect();
    if let Some(code) = play(&targets) {
        return code;
    }
    let mut args = Arguments::from_args();
    args.test_threads.get_or_insert(AT_ONCE);
    let talkative = args.nocapture;
    let caught = CAUGHT.iter().flat_map(|&(fault, what, by)| {
        by.iter().map(move |&attack| {
            let name = format!("{fault:?}/{attack}");
            Trial::test(name, move || succeeds(fault, attack, what, talkative))
        })
    });
    let harmless = HARMLESS.map(|attack| {
        let name = format!("{:?}/{attack}", Fault::None);
        Trial::test(name, move || does_no_harm(attack))
    });
    libtest_mimic::run(&args, caught.chain(harmless).collect()).exit_code()
}

fn target(fault: Fault) -> Target {
    Target::new(Undefended(fault)).with_attacker(Yamux::new(connect))
}

/// Connects a socket that has little room for what it does not read.
async fn connect(addr: pipe_core::Addr) -> std::io::Result<Box<dyn ByteStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    socket.set_nodelay(true)?;
    Ok(Box::new(
        socket.connect(transport::socket_addr(&addr)?).await?,
    ))
}

/// An attack has a few seconds, in which it sends too little where the machine is busy with other things: it gets
/// further goes then.
const GOES: usize = 8;

fn succeeds(fault: Fault, attack: &str, what: &str, talkative: bool) -> Result<(), Failed> {
    let mut goes = (0..GOES).map(|_| run_attack(&target(fault), attack));
    let outcome = goes.find(|outcome| !matches!(outcome, Outcome::Passed));
    match outcome.unwrap_or(Outcome::Passed) {
        Outcome::Failed(message) if message.contains(what) => {
            if talkative {
                println!("{fault:?}, {attack}: {message}");
            }
            Ok(())
        }
        outcome => Err(format!("{attack} does not show it: {outcome:?}").into()),
    }
}

fn does_no_harm(attack: &str) -> Result<(), Failed> {
    match run_attack(&target(Fault::None), attack) {
        Outcome::Passed => Ok(()),
        outcome => Err(format!("{outcome:?}").into()),
    }
}
