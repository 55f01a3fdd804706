use std::fmt;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use pipe_core::Addr;

use super::attack::{Attack, Costs, PACKETS, SILENT};
use super::catalog;
use super::environment::number;
use super::innocent::{Innocent, Latencies, Seen};
use super::machine::Machine;
use super::setting::Setting;
use super::sides::{self, Assault, Bystanders, Made, Victim};
use super::soak;
use super::target::Target;
use super::victim::Sample;
use crate::matrix::Matrix;
use crate::run::Outcome;
use crate::suite::publish;

/// The environment variable for how many seconds an attack goes on.
const SECONDS: &str = "PIPE_HOSTILE_SECONDS";

/// The environment variable for how many times the bounds of latency a machine may take.
const SLACK: &str = "PIPE_HOSTILE_SLACK";

/// The bounds on what an innocent peer waits for, on a quiet machine, and how many times as long as without the
/// attack it may be where that is more.
const ECHO_LIMIT: Duration = Duration::from_millis(20);
const DIAL_LIMIT: Duration = Duration::from_millis(50);
const TIMES: u32 = 3;

/// The bound on an innocent dial that has to take the place of another handshake. Over QUIC, a
/// datagram that is lost in the crowd would cost a second.
const PLACE_LIMIT: Duration = Duration::from_millis(300);

/// The slack of a machine whose processors the three sides have to share, among others.
const DEFAULT_SLACK: u32 = 5;

/// How often an attack is made until its latencies are within their bounds: those of a busy machine come and go.
const ATTEMPTS: usize = 3;

/// How many times the processor time of the easy way the same number of bytes may cost.
const EASY_TIMES: u64 = 5;

/// The bytes that a process under attack may hold beside its connections.
const FIXED: usize = 4 << 20;

/// The bytes that it may still hold when everything is over.
const LEFT: usize = 2 << 20;

/// The bytes for each handshake that is kept up: a socket, a task and the state of what carries it.
const SILENT_COST: usize = 24 << 10;

/// The bytes for each handshake that has begun or was given up of late.
const STALLED_COST: usize = 64 << 10;

/// For how long the latencies are taken without an attack.
const QUIET: Duration = Duration::from_millis(200);

/// How many attacks are under way at once unless the arguments say otherwise. One of them is measured, and the
/// others wait until nothing is left of theirs.
const AT_ONCE: usize = 6;

/// How long what an attack has taken may stay when it is over: closes, and handshakes that run out.
const AFTERMATH: Duration = Duration::from_secs(20);

/// For how long windows are filled at most, and how long an attack has sent nothing once they are full.
const FILLING: Duration = Duration::from_secs(4);
const FILLED: Duration = Duration::from_secs(1);

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
        let strict = number(SLACK, DEFAULT_SLACK) == 1;
        let default = if strict { 1 } else { AT_ONCE };
        args.test_threads.get_or_insert(default);
        let machine = Arc::new(Machine::default());
        let attacks = catalog::all();
        let columns = self.targets.iter().map(|target| target.name.clone());
        let rows = attacks.iter().map(|a| (a.name, a.group));
        let matrix = Arc::new(Mutex::new(Matrix::new(columns.collect(), rows)));
        let figures = Arc::new(Mutex::new(vec![Figures::HEAD.to_owned()]));
        let mut trials = Vec::new();
        for (column, target) in self.targets.into_iter().enumerate() {
            let target = Arc::new(target);
            for (row, &attack) in attacks.iter().enumerate() {
                let (target, matrix, figures) = (target.clone(), matrix.clone(), figures.clone());
                let machine = machine.clone();
                let name = format!("{}/{}", target.name, attack.name);
                trials.push(Trial::ignorable_test(name.clone(), move || {
                    let (outcome, seen) = attack_once(&target, &attack, &machine);
                    if let Some(seen) = seen {
                        let line = format!("| {name} | {seen} |");
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
    /// Before it, without one.
    quiet: Seen,
    seen: Seen,
    /// Beside it, of a listener that is not attacked.
    beside: Seen,
    before: Sample,
    during: Sample,
    heap_limit: usize,
    made: Made,
    /// Microseconds on a processor for a batch, and for one of the easy way.
    spent: Option<(u64, u64)>,
}

impl Figures {
    const HEAD: &'static str = "\
| attack | echo p50 | p99 | max | quiet | beside | dials | dial p50 | p99 | max | quiet | beside | heap | of | resident | handlers | conns, batches, packets | µs a batch, easy |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

    /// By how much the heap has grown at most.
    fn heap(&self) -> usize {
        self.during.peak_heap.saturating_sub(self.before.heap)
    }

    /// By how much the process has grown.
    fn resident(&self) -> usize {
        self.during.resident.saturating_sub(self.before.resident)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let mib = |bytes: usize| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let (echoes, dials) = (&self.seen.echoes, &self.seen.dials);
        let Made {
            conns,
            batches,
            packets,
        } = self.made;
        let cells = [
            ms(echoes.percentile(50)),
            ms(echoes.percentile(99)),
            ms(echoes.percentile(100)),
            ms(self.quiet.echoes.percentile(99)),
            ms(self.beside.echoes.percentile(99)),
            dials.len().to_string(),
            ms(dials.percentile(50)),
            ms(dials.percentile(99)),
            ms(dials.percentile(100)),
            ms(self.quiet.dials.percentile(99)),
            ms(self.beside.dials.percentile(99)),
            mib(self.heap()),
            mib(self.heap_limit),
            mib(self.resident()),
            self.during.peak_handlers.to_string(),
            format!("{conns}, {batches}, {packets}"),
            self.spent
                .map_or_else(String::new, |(hard, easy)| format!("{hard}, {easy}")),
        ];
        f.write_str(&cells.join(" | "))
    }
}

/// What was wrong with an attack.
#[derive(Default)]
struct Faults {
    /// Failures that a busy machine may have caused.
    of_time: Vec<String>,
    other: Vec<String>,
}

/// Makes one attack on a target, by its [name](super#the-attacks), and blocks until it is over.
///
/// A program that calls it has to [play] the sides first. Attacks that are made from several threads are measured
/// one after another.
///
/// # Panics
///
/// If there is no attack of this name.
pub fn run_attack(target: &Target, name: &str) -> Outcome {
    static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::default);
    let all = catalog::all();
    let Some(attack) = all.iter().find(|attack| attack.name == name) else {
        panic!("there is no attack {name}");
    };
    attack_once(target, attack, &MACHINE).0
}

/// Plays the side of an attack that this process was started for, if it was. The program ends with the code.
///
/// [`Suite::main`] does so by itself.
pub fn play(targets: &[Target]) -> Option<ExitCode> {
    sides::play(targets)
}

/// Makes an attack, and makes it again where a busy machine may be at fault.
fn attack_once(target: &Target, attack: &Attack, machine: &Machine) -> (Outcome, Option<Figures>) {
    if let Some(why) = target.skips(attack) {
        return (Outcome::Skipped(why), None);
    }
    let mut attempt = 1;
    loop {
        match attempt_once(target, attack, machine) {
            Ok((figures, faults)) if faults.of_time.is_empty() && faults.other.is_empty() => {
                return (Outcome::Passed, Some(figures));
            }
            Ok((_, faults)) if faults.other.is_empty() && attempt < ATTEMPTS => attempt += 1,
            Ok((figures, faults)) => {
                let faults = [faults.of_time, faults.other].concat();
                return (Outcome::Failed(faults.join("\n")), Some(figures));
            }
            Err(message) => return (Outcome::Failed(message), None),
        }
    }
}

fn victim(target: &Target, setting: Setting) -> Result<Victim, String> {
    if target.in_process {
        Victim::here(target, setting)
    } else {
        Victim::child(target, setting)
    }
}

fn attempt_once(
    target: &Target,
    attack: &Attack,
    machine: &Machine,
) -> Result<(Figures, Faults), String> {
    let _place = machine.enter(target.in_process);
    let setting = attack.costs.setting();
    let (mut attacked, beside) = (victim(target, setting)?, victim(target, Setting::Usual)?);
    let mut compared = match attack.costs {
        Costs::Time => Some(victim(target, setting)?),
        _ => None,
    };
    let measuring = machine.measure();
    let figures = besiege(target, attack, &mut attacked, beside.addr(), &mut compared)?;
    drop(measuring);
    // What follows waits, and leaves the machine to others.
    let mut faults = judge(attack, &figures);
    faults.other.extend(settle(&mut attacked, figures.before)?);
    for victim in [attacked, beside].into_iter().chain(compared) {
        victim.stop()?;
    }
    Ok((figures, faults))
}

/// Attacks for a while, and returns what was seen.
fn besiege(
    target: &Target,
    attack: &Attack,
    victim: &mut Victim,
    beside: &Addr,
    compared: &mut Option<Victim>,
) -> Result<Figures, String> {
    let seconds = Duration::from_secs(number(SECONDS, 1).into());
    let easy = match compared {
        Some(compared) => Some(easy_cost(target, attack, compared, seconds)?),
        None => None,
    };
    let addr = victim.addr().clone();
    let bystanders = Bystanders::start(target, &addr, None)?;
    let beside = Bystanders::start(target, beside, None)?;
    let innocent = bystanders.innocent.clone();
    // All are served before the attack begins.
    for innocent in [&innocent, &beside.innocent] {
        warm_up(innocent)?;
    }
    innocent.take();
    thread::sleep(QUIET);
    let quiet = innocent.take();
    let before = victim.sample()?;
    victim.mark()?;
    innocent.take();
    beside.innocent.take();
    let mut assault = Assault::start(target, attack, false, &addr)?;
    begin(attack, &mut assault)?;
    // The places of those who are silent are taken one by one, and packets to addresses are paced.
    let times = match attack.costs {
        _ if attack.conns == SILENT => 2,
        Costs::Packets => 4,
        _ => 1,
    };
    let mut peak_resident = 0;
    let hard = match attack.costs {
        Costs::Unread(_) => {
            peak_resident = fill(victim, &mut assault)?;
            0
        }
        _ => batch_cost(victim, &mut assault, times * seconds)?,
    };
    let seen = innocent.take();
    let seen_beside = beside.innocent.take();
    let mut during = victim.sample()?;
    during.resident = during.resident.max(peak_resident);
    let made = assault.made()?;
    assault.stop()?;
    // What was kept beyond the window of the handshakes of the innocent goes with them.
    bystanders.stop();
    beside.stop();
    let each = match attack.costs {
        Costs::Places => STALLED_COST,
        _ if attack.conns == SILENT => SILENT_COST,
        Costs::Windows => target.windows + target.conn_cost,
        Costs::Unread(setting) => setting.limit(target.stream_cost),
        _ => target.conn_cost,
    };
    let heap_limit = match attack.costs {
        // The process itself is little beside it.
        Costs::Unread(_) => attack.conns * each,
        _ => attack.conns * each + FIXED,
    };
    Ok(Figures {
        quiet,
        seen,
        beside: seen_beside,
        before,
        during,
        heap_limit,
        made,
        spent: easy.map(|easy| (hard, easy)),
    })
}

/// Returns the microseconds on a processor that a batch of the easy way costs a listener of its own, with innocent
/// peers as the one that is attacked has.
fn easy_cost(
    target: &Target,
    attack: &Attack,
    victim: &mut Victim,
    time: Duration,
) -> Result<u64, String> {
    let addr = victim.addr().clone();
    let bystanders = Bystanders::start(target, &addr, None)?;
    warm_up(&bystanders.innocent)?;
    let mut assault = Assault::start(target, attack, true, &addr)?;
    begin(attack, &mut assault)?;
    let cost = batch_cost(victim, &mut assault, time)?;
    assault.stop()?;
    bystanders.stop();
    Ok(cost)
}

/// Compares what was seen with what is allowed.
fn judge(attack: &Attack, figures: &Figures) -> Faults {
    let Figures {
        quiet,
        seen,
        beside,
        during,
        made,
        ..
    } = figures;
    let mut faults = Faults::default();
    let slack = number(SLACK, DEFAULT_SLACK);
    let mut latency = |what: &str, of: fn(&Seen) -> &Latencies, limit: Duration| {
        let is = of(seen).percentile(99);
        let limit = limit.max(TIMES * of(quiet).percentile(99)) * slack;
        // A machine that is not quiet holds others up as well.
        let beside = match slack {
            1 => Duration::ZERO,
            _ => TIMES * of(beside).percentile(99),
        };
        if is > limit.max(beside) {
            faults.of_time.push(format!(
                "of {what}s, 99% take up to {is:?}, where {limit:?} are allowed, or {beside:?} by how busy the \
                 machine is"
            ));
        }
    };
    latency("echo", |seen| &seen.echoes, ECHO_LIMIT);
    let dial = match attack.costs {
        Costs::Places => PLACE_LIMIT,
        _ => DIAL_LIMIT,
    };
    latency("dial", |seen| &seen.dials, dial);
    if let Some((hard, easy)) = figures.spent
        && hard > easy.max(1) * EASY_TIMES
    {
        faults.of_time.push(format!(
            "a batch costs {hard} µs on a processor, where the easy way takes {easy} µs"
        ));
    }
    if figures.heap() > figures.heap_limit {
        let (heap, limit) = (figures.heap(), figures.heap_limit);
        faults.other.push(format!(
            "the heap has grown by {heap} B, where {limit} B are allowed"
        ));
    }
    if let Costs::Unread(_) = attack.costs
        && figures.resident() > figures.heap_limit
    {
        let (resident, limit) = (figures.resident(), figures.heap_limit);
        faults.other.push(format!(
            "the process has grown by {resident} resident B, where {limit} B are allowed"
        ));
    }
    // Those of connections that end while others begin count twice.
    let handlers = 2 * attack.conns * attack.costs.setting().config().max_streams as usize + FEW;
    if during.peak_handlers > handlers {
        let peak = during.peak_handlers;
        faults.other.push(format!(
            "{peak} handlers at once, where {handlers} are allowed"
        ));
    }
    if let Costs::Unread(setting) = attack.costs {
        let streams = attack.conns * setting.config().max_streams as usize;
        let peak = during.peak_handlers;
        if peak < streams {
            faults.of_time.push(format!(
                "only {peak} streams at once have come, where {streams} are to be left unread"
            ));
        }
    }
    if attack.costs == Costs::Packets {
        let (packets, limit) = (made.packets, made.conns * PACKETS);
        if packets == 0 || packets > limit {
            faults.other.push(format!(
                "{packets} packets to addresses that {} attempts named, where {limit} are allowed, and some have \
                 to come",
                made.conns
            ));
        }
    }
    if made.conns == 0 {
        let none = "the attack has made no connection".to_owned();
        faults.other.push(none);
    }
    faults.other.extend(seen.failures.clone());
    faults
}

/// Waits until a polite peer is served.
fn warm_up(innocent: &Innocent) -> Result<(), String> {
    let patience = Instant::now();
    let (mut echoes, mut dials) = (0, 0);
    while echoes < 50 || dials < 2 {
        thread::sleep(Duration::from_millis(20));
        let seen = innocent.take();
        if !seen.failures.is_empty() {
            (echoes, dials) = (0, 0);
        }
        (echoes, dials) = (echoes + seen.echoes.len(), dials + seen.dials.len());
        if patience.elapsed() > AFTERMATH {
            return Err(format!(
                "no service before the attack: {echoes} echoes, {dials} dials, {:?}",
                seen.failures
            ));
        }
    }
    Ok(())
}

/// Waits until an attack has made a connection, and packets that it is to cause have come.
fn begin(attack: &Attack, assault: &mut Assault) -> Result<(), String> {
    let started = Instant::now();
    while started.elapsed() < AFTERMATH {
        let made = assault.made()?;
        if made.conns > 0 && (made.packets > 0 || attack.costs != Costs::Packets) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until an attack sends no more, and returns the most resident bytes meanwhile. What was sent in time counts.
fn fill(victim: &mut Victim, assault: &mut Assault) -> Result<usize, String> {
    let started = Instant::now();
    let (mut batches, mut resident, mut sent) = (0, 0, started);
    while started.elapsed() < FILLING && sent.elapsed() < FILLED {
        thread::sleep(Duration::from_millis(20));
        resident = resident.max(victim.sample()?.resident);
        let now = assault.made()?.batches;
        if now != batches {
            (batches, sent) = (now, Instant::now());
        }
    }
    Ok(resident)
}

/// Lets an attack go on for so long, and returns the microseconds on a processor that a batch has cost.
fn batch_cost(victim: &mut Victim, assault: &mut Assault, time: Duration) -> Result<u64, String> {
    let (spent, batches) = (victim.sample()?.spent, assault.made()?.batches);
    thread::sleep(time);
    let spent = victim.sample()?.spent.saturating_sub(spent) as u64;
    let batches = assault.made()?.batches - batches;
    Ok(spent / batches.max(1))
}

/// Waits until nothing is left of an attack, and returns what is, if it does not go.
fn settle(victim: &mut Victim, before: Sample) -> Result<Option<String>, String> {
    let started = Instant::now();
    loop {
        let now = victim.sample()?;
        let gone = now.handlers <= before.handlers
            && now.conns <= before.conns
            && now.descriptors <= before.descriptors + FEW
            && now.heap <= before.heap + LEFT;
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
