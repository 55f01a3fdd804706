use std::env;
use std::fmt;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::attack::{self, Attack, SILENT};
use super::innocent::Seen;
use super::sides::{self, Assault, Bystanders, Victim};
use super::soak;
use super::target::{Target, config};
use super::victim::Sample;
use crate::matrix::Matrix;
use crate::run::Outcome;
use crate::suite::publish;

/// The environment variable for how many seconds an attack goes on.
const SECONDS: &str = "PIPE_HOSTILE_SECONDS";

/// The environment variable for how many times the bounds of latency a machine may take.
const SLACK: &str = "PIPE_HOSTILE_SLACK";

/// The bounds on what an innocent peer waits for, on a quiet machine.
const ECHO_LIMIT: Duration = Duration::from_millis(20);
const DIAL_LIMIT: Duration = Duration::from_millis(100);

/// The slack of a machine whose processors the three sides have to share, among others.
const DEFAULT_SLACK: u32 = 5;

/// The bytes that a process under attack may hold beside its connections.
const FIXED: usize = 16 << 20;

/// How long what an attack has taken may stay when it is over: closes, and handshakes that run out.
const AFTERMATH: Duration = Duration::from_secs(20);

/// File descriptors that a runtime may have opened meanwhile, and bytes that its buffers may have grown by.
const FEW: usize = 16;

/// The attacks on any number of transports, as the program of a test target with `harness = false`.
///
/// See the [module's docs](super).
#[derive(Debug, Default)]
pub struct Suite {
    targets: Vec<Target>,
}

impl Suite {
    /// A suite without a target.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a target.
    ///
    /// # Panics
    ///
    /// If there is one of the same name.
    #[must_use]
    pub fn with(mut self, target: Target) -> Self {
        let name = &target.name;
        assert!(
            self.targets.iter().all(|other| other.name != *name),
            "two targets are named {name:?}"
        );
        self.targets.push(target);
        self
    }

    /// Runs what the arguments of the process ask for, prints the figures and the outcomes, and returns
    /// the exit code: success only if nothing failed.
    ///
    /// The arguments are those of Rust's own test harness. See the [module's docs](super) for the environment
    /// variables.
    pub fn main(self) -> ExitCode {
        if let Some(code) = sides::play(&self.targets) {
            return code;
        }
        if let Some(code) = soak::run(&self.targets) {
            return code;
        }
        let mut args = Arguments::from_args();
        // What is measured has the machine for itself.
        args.test_threads = Some(1);
        let attacks = attack::all();
        let columns = self.targets.iter().map(|target| target.name.clone());
        let rows = attacks.iter().map(|a| (a.number, a.name, a.group));
        let matrix = Arc::new(Mutex::new(Matrix::new(columns.collect(), rows)));
        let figures = Arc::new(Mutex::new(vec![Figures::HEAD.to_owned()]));
        let mut trials = Vec::new();
        for (column, target) in self.targets.into_iter().enumerate() {
            let target = Arc::new(target);
            for (row, &attack) in attacks.iter().enumerate() {
                let (target, matrix, figures) = (target.clone(), matrix.clone(), figures.clone());
                let name = format!("{}/{}_{}", target.name, attack.number, attack.name);
                trials.push(Trial::ignorable_test(name.clone(), move || {
                    let (outcome, seen) = attack_once(&target, &attack);
                    if let Some(seen) = seen {
                        let line = format!("| {name} | {seen} |");
                        println!("{line}");
                        figures
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(line);
                    }
                    matrix.lock().unwrap_or_else(PoisonError::into_inner).set(
                        column,
                        row,
                        outcome.clone(),
                    );
                    match outcome {
                        Outcome::Passed => Ok(Completion::Completed),
                        Outcome::Skipped(why) => Ok(Completion::ignored_with(why)),
                        Outcome::Failed(message) => Err(Failed::from(message)),
                    }
                }));
            }
        }
        let conclusion = libtest_mimic::run(&args, trials);
        let figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
        if figures.len() > 1 {
            println!("{}\n", figures.join("\n"));
        }
        publish(
            &matrix.lock().unwrap_or_else(PoisonError::into_inner),
            &args,
        );
        conclusion.exit_code()
    }
}

/// What was seen of one attack.
struct Figures {
    seen: Seen,
    before: Sample,
    during: Sample,
    heap_limit: usize,
    made: (u64, u64),
}

impl Figures {
    const HEAD: &'static str = "\
| attack | echo p50 | p99 | max | dials | dial p99 | heap | of | resident | handlers | conns, batches |
|---|---|---|---|---|---|---|---|---|---|---|";

    /// By how much the heap has grown at most.
    fn heap(&self) -> usize {
        self.during.peak_heap.saturating_sub(self.before.heap)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let (echoes, dials) = (&self.seen.echoes, &self.seen.dials);
        let cells = [
            ms(echoes.percentile(50)),
            ms(echoes.percentile(99)),
            ms(echoes.percentile(100)),
            dials.len().to_string(),
            ms(dials.percentile(99)),
            mib(self.heap()),
            mib(self.heap_limit),
            mib(self.during.resident.saturating_sub(self.before.resident)),
            self.during.peak_handlers.to_string(),
            format!("{}, {}", self.made.0, self.made.1),
        ];
        f.write_str(&cells.join(" | "))
    }
}

fn attack_once(target: &Target, attack: &Attack) -> (Outcome, Option<Figures>) {
    if let Some(why) = target.skips(attack) {
        return (Outcome::Skipped(why), None);
    }
    let victim = if target.in_process {
        Victim::here(target)
    } else {
        Victim::child(target)
    };
    let besieged = victim.and_then(|mut victim| {
        let besieged = besiege(target, attack, &mut victim)?;
        victim.stop()?;
        Ok(besieged)
    });
    match besieged {
        Ok((figures, faults)) if faults.is_empty() => (Outcome::Passed, Some(figures)),
        Ok((figures, faults)) => (Outcome::Failed(faults.join("\n")), Some(figures)),
        Err(message) => (Outcome::Failed(message), None),
    }
}

/// Attacks for a while, and returns what was seen and what was wrong with it.
fn besiege(
    target: &Target,
    attack: &Attack,
    victim: &mut Victim,
) -> Result<(Figures, Vec<String>), String> {
    let addr = victim.addr().clone();
    let bystanders = Bystanders::start(target, &addr, None)?;
    let innocent = bystanders.innocent.clone();
    // Both are served before the attack begins.
    let patience = Instant::now();
    let mut warm = 0;
    while warm < 50 {
        thread::sleep(Duration::from_millis(50));
        let seen = innocent.take();
        if seen.echoes.len() > 0 && seen.dials.len() > 0 && seen.failures.is_empty() {
            warm += seen.echoes.len();
        }
        if patience.elapsed() > AFTERMATH {
            return Err(format!("no service before the attack: {:?}", seen.failures));
        }
    }
    victim.mark()?;
    let before = victim.sample()?;
    innocent.take();
    let mut assault = Assault::start(target, attack, &addr)?;
    let started = Instant::now();
    while assault.made()?.0 == 0 && started.elapsed() < AFTERMATH {
        thread::sleep(Duration::from_millis(20));
    }
    let seconds: u64 = number(SECONDS, 1).into();
    // The places of those who are silent are taken one by one.
    let times = if attack.conns == SILENT { 2 } else { 1 };
    thread::sleep(times * Duration::from_secs(seconds));
    let seen = innocent.take();
    let during = victim.sample()?;
    let made = assault.made()?;
    assault.stop()?;
    // What was kept beyond the window of the handshakes of the innocent goes with them.
    bystanders.stop();
    let settled = settle(victim, before)?;

    let config = config();
    let of_windows = 2 * config.connection_window as usize;
    let figures = Figures {
        seen,
        before,
        during,
        heap_limit: if attack.conns == SILENT {
            FIXED
        } else {
            attack.conns * (of_windows + target.conn_cost) + FIXED
        },
        made,
    };
    let mut faults = Vec::new();
    let slack = number(SLACK, DEFAULT_SLACK);
    let mut latency = |what: &str, is: Duration, limit: Duration| {
        if is > limit * slack {
            faults.push(format!(
                "of {what}s, 99% take up to {is:?}, where {limit:?} are allowed, and {slack} times as much here"
            ));
        }
    };
    latency("echo", figures.seen.echoes.percentile(99), ECHO_LIMIT);
    latency("dial", figures.seen.dials.percentile(99), DIAL_LIMIT);
    if figures.heap() > figures.heap_limit {
        let (heap, limit) = (figures.heap(), figures.heap_limit);
        faults.push(format!(
            "the heap has grown by {heap} B, where {limit} B are allowed"
        ));
    }
    // Those of connections that end while others begin count twice.
    let handlers = 2 * attack.conns * config.max_streams as usize + FEW;
    if during.peak_handlers > handlers {
        let peak = during.peak_handlers;
        faults.push(format!(
            "{peak} handlers at once, where {handlers} are allowed"
        ));
    }
    if made.0 == 0 {
        faults.push("the attack has made no connection".to_owned());
    }
    faults.extend(figures.seen.failures.clone());
    faults.extend(settled);
    Ok((figures, faults))
}

/// Waits until nothing is left of an attack, and returns what is, if it does not go.
fn settle(victim: &mut Victim, before: Sample) -> Result<Option<String>, String> {
    let started = Instant::now();
    loop {
        let now = victim.sample()?;
        let gone = now.handlers <= before.handlers
            && now.conns <= before.conns
            && now.descriptors <= before.descriptors + FEW
            && now.heap <= before.heap + FIXED / 2;
        if gone {
            return Ok(None);
        }
        if started.elapsed() > AFTERMATH {
            return Ok(Some(format!(
                "{AFTERMATH:?} after the attack there are {} handlers ({} before), {} connections ({}), \
                 {} descriptors ({}), {} B ({})",
                now.handlers,
                before.handlers,
                now.conns,
                before.conns,
                now.descriptors,
                before.descriptors,
                now.heap,
                before.heap
            )));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A number of the environment.
pub(crate) fn number(variable: &str, default: u32) -> u32 {
    let Ok(text) = env::var(variable) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|e| panic!("{variable} is {text:?}: {e}"))
}
