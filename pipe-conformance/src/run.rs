use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::case::Case;
use crate::cases;
use crate::env::Role;
use crate::fixture::{Clock, DEFAULT_LIMIT, Fixture};
use crate::mode::Mode;
use crate::panics::Panics;
use crate::start::Start;
use crate::time::within;
use crate::waits::Waits;

/// The environment variable that sets the seed of all payloads.
pub(crate) const SEED: &str = "PIPE_CONFORMANCE_SEED";

/// After how many times its limit a run is given up whose threads are blocked.
const WATCHDOG: u32 = 12;

/// How long a runtime may take to end its tasks after a run, which then count for nothing.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The transport keeps this part of the contract.
    Passed,
    /// The transport lacks what the case needs, for the reason that the fixture gives.
    Skipped(String),
    /// The transport breaks this part of the contract; the message says how, in which role, and with
    /// which seed.
    Failed(String),
}

/// Returns the names of the cases that run in this mode, in the order of the matrix.
pub fn case_names(mode: Mode) -> impl Iterator<Item = &'static str> {
    cases::of(mode).into_iter().map(|case| case.name)
}

/// Runs one case of the suite, in all its roles, and blocks until it is over.
///
/// It takes a runtime of its own for each role, and must not be called from within one. A case about
/// memory or file descriptors measures the whole process: run it alone.
///
/// # Panics
///
/// If there is no case of this [name](case_names) in this mode, or the environment variable
/// `PIPE_CONFORMANCE_SEED` holds something else than a number.
pub fn run_case<F: Fixture>(fixture: &Arc<F>, name: &str, mode: Mode) -> Outcome {
    let Some(case) = cases::of(mode).into_iter().find(|case| case.name == name) else {
        panic!("there is no case {name} in the {mode} mode");
    };
    let subject: Arc<dyn Start> = fixture.clone();
    run(&subject, case, mode)
}

/// Runs a case in all its roles. It must be one of this mode.
pub(crate) fn run(subject: &Arc<dyn Start>, case: Case, mode: Mode) -> Outcome {
    for (capability, why) in subject.lacks() {
        if case.needs.contains(&capability) {
            return Outcome::Skipped(format!("lacks {capability}: {why}"));
        }
    }
    let seed = seed();
    for &role in case.roles {
        let run = Run {
            subject: subject.clone(),
            case,
            mode,
            role,
            seed,
        };
        if let Err(message) = run.guarded() {
            return Outcome::Failed(format!("{role}, {SEED}={seed}: {message}"));
        }
    }
    Outcome::Passed
}

fn seed() -> u64 {
    match std::env::var(SEED) {
        Ok(text) => match text.parse() {
            Ok(seed) => seed,
            Err(e) => panic!("{SEED} is {text:?}: {e}"),
        },
        Err(_) => fastrand::u64(..),
    }
}

/// One role of one case.
struct Run {
    subject: Arc<dyn Start>,
    case: Case,
    mode: Mode,
    role: Role,
    seed: u64,
}

impl Run {
    /// Runs on a thread of its own, and gives it up if it blocks for good.
    fn guarded(self) -> Result<(), String> {
        let patience = WATCHDOG
            * match self.subject.clock() {
                Clock::Real => self.limit(),
                // The fixture's limit is virtual; this is about the computing.
                Clock::Paused => DEFAULT_LIMIT * self.case.weight,
            };
        let panics = Panics::new();
        let waits = Waits::default();
        let (collector, open_waits) = (panics.clone(), waits.clone());
        let (done, result) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(self.case.name.to_owned())
            .spawn(move || {
                collector.watch_this_thread();
                open_waits.watch_this_thread();
                let _ = done.send(self.run(&collector, &open_waits));
            })
            .map_err(|e| format!("no thread for the case: {e}"))?;
        match result.recv_timeout(patience) {
            Ok(result) => {
                let _ = thread.join();
                result
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(panics
                .report()
                .unwrap_or_else(|| "its thread ended".to_owned())),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let panics = panics.report().unwrap_or_default();
                let waits = waited_for(&waits);
                Err(format!(
                    "its threads were blocked for {patience:?}{waits}\n{panics}"
                ))
            }
        }
    }

    fn run(self, panics: &Panics, waits: &Waits) -> Result<(), String> {
        let runtime = runtime(self.subject.clock(), panics.clone(), waits.clone());
        let result = runtime.block_on(async {
            let limit = self.limit();
            let subject = self.subject.clone();
            let case = subject.start(&self.case, self.mode, self.role, self.seed)?;
            let case = tokio::spawn(case);
            let ended = tokio::select! {
                ended = within(limit, case) => ended,
                () = panics.panicked() => None,
            };
            match (panics.report(), ended) {
                (Some(report), _) => Err(report),
                (None, Some(Ok(()))) => Ok(()),
                (None, Some(Err(e))) => Err(format!("the case was aborted: {e}")),
                (None, None) => {
                    let waits = waited_for(waits);
                    Err(format!("it was not over within {limit:?}{waits}"))
                }
            }
        });
        runtime.shutdown_timeout(SHUTDOWN);
        result
    }

    fn limit(&self) -> Duration {
        self.subject.limit() * self.case.weight
    }
}

/// Names what still runs when the time of a run is over, as the end of a message.
fn waited_for(waits: &Waits) -> String {
    match waits.report() {
        Some(report) => format!("; it waited for:{report}"),
        None => "; it waited for nothing with a name".to_owned(),
    }
}

fn runtime(clock: Clock, panics: Panics, waits: Waits) -> Runtime {
    let mut builder = match clock {
        Clock::Real => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
        Clock::Paused => {
            let mut builder = Builder::new_current_thread();
            builder.start_paused(true);
            builder
        }
    };
    builder
        .enable_all()
        .on_thread_start(move || {
            panics.watch_this_thread();
            waits.watch_this_thread();
        })
        .build()
        .expect("the runtime of a case")
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use pipe_core::{Addr, Config, Error, ErrorKind, Result};
    use pipe_inproc::{InprocTransport, Link, LinkProfile, Namespace};

    use super::*;
    use crate::fixture::{Capability, Setup};

    const CONNECT: &str = "a_dial_connects_both_sides";
    const MIRROR: &str = "the_addresses_of_the_ends_mirror_each_other";

    /// In-process connections, with something done beside each setup.
    struct Test {
        beside: fn() -> Result<()>,
        cut: bool,
        lacks: Option<Capability>,
        limit: Duration,
    }

    /// For a case that has to run into it.
    const SHORT: Duration = Duration::from_millis(200);

    impl Default for Test {
        fn default() -> Self {
            Self {
                beside: || Ok(()),
                cut: false,
                lacks: None,
                limit: DEFAULT_LIMIT,
            }
        }
    }

    impl Fixture for Test {
        type Transport = InprocTransport;

        fn name(&self) -> &str {
            "test"
        }

        fn setup(&self, config: Config) -> Result<Setup<InprocTransport>> {
            (self.beside)()?;
            let link = Link::new(LinkProfile::ideal());
            if self.cut {
                link.cut();
            }
            let transport = InprocTransport::new()
                .with_namespace(Namespace::new())
                .with_link(link)
                .with_config(config)?;
            Ok(Setup::new(transport))
        }

        fn listen_addr(&self) -> Addr {
            "inproc://here".parse().unwrap()
        }

        fn vacant_addr(&self) -> Addr {
            "inproc://nowhere".parse().unwrap()
        }

        fn lacks(&self) -> Vec<(Capability, &'static str)> {
            self.lacks.map(|c| (c, "it was lost")).into_iter().collect()
        }

        fn limit(&self) -> Duration {
            self.limit
        }
    }

    fn outcome(fixture: Test, case: &str) -> Outcome {
        run_case(&Arc::new(fixture), case, Mode::Erased)
    }

    fn failure(fixture: Test) -> String {
        match outcome(fixture, CONNECT) {
            Outcome::Failed(message) => message,
            other => panic!("the case did not fail: {other:?}"),
        }
    }

    #[test]
    fn a_case_passes_or_is_skipped_for_the_reason_given() {
        assert_eq!(outcome(Test::default(), MIRROR), Outcome::Passed);
        let lacking = Test {
            lacks: Some(Capability::MirroredAddrs),
            ..Test::default()
        };
        assert_eq!(
            outcome(lacking, MIRROR),
            Outcome::Skipped("lacks MirroredAddrs: it was lost".to_owned())
        );
    }

    #[test]
    fn a_setup_that_fails_or_panics_fails_the_case() {
        let message = failure(Test {
            beside: || Err(Error::new(ErrorKind::Io, "no pipes left")),
            ..Test::default()
        });
        assert!(message.contains("no pipes left"), "{message}");
        let message = failure(Test {
            beside: || panic!("the pipes are frozen"),
            ..Test::default()
        });
        assert!(message.contains("the pipes are frozen"), "{message}");
        assert!(message.contains("the dialer opens"), "{message}");
        assert!(message.contains(SEED), "{message}");
    }

    #[test]
    fn a_panic_in_the_background_fails_the_case() {
        let message = failure(Test {
            beside: || {
                tokio::spawn(async { panic!("the pump is dry") });
                Ok(())
            },
            // So that the case is not over before.
            cut: true,
            ..Test::default()
        });
        assert!(message.contains("the pump is dry"), "{message}");
    }

    #[test]
    fn a_case_that_does_not_end_fails() {
        let message = failure(Test {
            cut: true,
            limit: SHORT,
            ..Test::default()
        });
        assert!(message.contains("not over within 200ms"), "{message}");
        assert!(
            message.contains("it waited for:\n  a dial and its accept, for "),
            "{message}"
        );
    }

    #[test]
    fn a_case_that_blocks_its_thread_is_given_up() {
        static BLOCKED: Mutex<()> = Mutex::new(());
        let held = BLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
        let message = failure(Test {
            beside: || {
                drop(BLOCKED.lock());
                Ok(())
            },
            limit: SHORT,
            ..Test::default()
        });
        assert!(message.contains("threads were blocked"), "{message}");
        drop(held);
    }
}
