//! Traffic between two endpoints over a bad path, as one value that proptest makes and shrinks.

use super::{Ledger, LinkConfig, Output, Pair, Sending, Stack, Step};
use std::time::Duration;

/// What both applications do, and over which path.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub links: [LinkConfig; 2],
    /// Whether both ends start the handshake.
    pub both_connect: bool,
    /// Whether all streams are reset in the end.
    pub reset_all: bool,
    /// Time in which everything has to be done after the last action: [`PATIENCE`], unless an end has slow timers.
    pub patience: Duration,
    pub actions: Vec<Timed>,
}

/// An action and the milliseconds between the last one and it.
#[derive(Clone, Debug)]
pub struct Timed {
    pub after: u16,
    pub end: usize,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub enum Action {
    Send {
        stream: u16,
        len: usize,
        sending: Sending,
    },
    Reset {
        stream: u16,
    },
    /// The application stops taking messages, or goes on.
    Pause,
    Resume,
}

/// What became of a scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    pub arrived: u64,
    pub abandoned: u64,
    pub resets: u64,
    pub finished: Duration,
}

/// Time enough for two endpoints of this crate.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Time in which the last timers have to end once everything has arrived.
const AFTERMATH: Duration = Duration::from_secs(120);

impl Scenario {
    /// Runs the scenario between two endpoints. Everything that is reliable has to arrive, and every reset to be
    /// performed.
    pub fn run(&self, ends: [Box<dyn Stack>; 2]) -> Result<Outcome, String> {
        let pair = Pair::new(ends, self.links.clone(), self.seed);
        let mut run = Run::new(pair, self.patience);
        run.connect(self.both_connect)?;
        for timed in &self.actions {
            let at = run.pair.now + Duration::from_millis(timed.after.into());
            while run.pair.now < at {
                run.step(Some(at))?;
            }
            run.act(timed.end, &timed.action);
        }
        run.pair.reading = [true; 2];
        run.settle()?;
        for end in (0..2).filter(|_| self.reset_all) {
            for stream in std::mem::take(&mut run.used[end]) {
                if run.resetting[end].insert(stream) {
                    run.ledgers[end].reset_sent(stream);
                    run.pair.reset(end, stream);
                }
            }
        }
        run.settle()?;
        let limit = run.pair.now + AFTERMATH;
        while run.step(None)? != Step::Quiet {
            if run.pair.now > limit {
                return Err(run.fail("timers go on with nothing to do"));
            }
        }
        for ledger in &mut run.ledgers {
            ledger.finish()?;
            run.outcome.arrived += ledger.arrived;
            run.outcome.abandoned += ledger.abandoned;
        }
        run.outcome.finished = run.pair.now;
        Ok(run.outcome)
    }
}

type Streams = std::collections::BTreeSet<u16>;

struct Run {
    pair: Pair,
    patience: Duration,
    /// `ledgers[i]` is of the messages that `ends[i]` sends.
    ledgers: [Ledger; 2],
    connected: [bool; 2],
    /// Streams with messages since their last reset.
    used: [Streams; 2],
    resetting: [Streams; 2],
    outcome: Outcome,
}

impl Run {
    fn new(pair: Pair, patience: Duration) -> Run {
        Run {
            pair,
            patience,
            ledgers: Default::default(),
            connected: [false; 2],
            used: Default::default(),
            resetting: Default::default(),
            outcome: Outcome::default(),
        }
    }

    fn fail(&self, what: &str) -> String {
        let missing = [self.ledgers[0].missing(), self.ledgers[1].missing()];
        format!(
            "{what}; missing {missing:?}, resetting {:?}; {}",
            self.resetting,
            self.pair.describe()
        )
    }

    fn connect(&mut self, both: bool) -> Result<(), String> {
        for end in 0..=usize::from(both) {
            self.pair.ends[end].connect(self.pair.now);
            self.pair.flush(end);
        }
        while self.connected != [true; 2] {
            if self.step(None)? == Step::Quiet || self.pair.now > self.patience {
                return Err(self.fail("not connected"));
            }
        }
        Ok(())
    }

    fn step(&mut self, until: Option<Duration>) -> Result<Step, String> {
        let mut outputs = Vec::new();
        let step = self
            .pair
            .step(until, &mut |end, output| outputs.push((end, output)));
        for (end, output) in outputs {
            self.check(end, output).map_err(|what| self.fail(&what))?;
        }
        Ok(step)
    }

    fn check(&mut self, end: usize, output: Output) -> Result<(), String> {
        match output {
            Output::Connected if self.connected[end] => return Err("connected twice".into()),
            Output::Connected => self.connected[end] = true,
            Output::Message { stream, payload } => {
                self.ledgers[1 - end].received(stream, &payload)?;
            }
            Output::IncomingReset { stream } => {
                self.outcome.resets += 1;
                self.ledgers[1 - end].reset_received(stream)?;
            }
            Output::OutgoingReset { stream } => {
                if !self.resetting[end].remove(&stream) {
                    return Err(format!("a reset of stream {stream} performed twice"));
                }
            }
            other => return Err(format!("end {end} reported {other:?}")),
        }
        Ok(())
    }

    fn act(&mut self, end: usize, action: &Action) {
        match *action {
            Action::Send {
                stream,
                len,
                sending,
            } => {
                // Some stacks queue what is sent during a reset, others refuse it.
                if self.resetting[end].contains(&stream) {
                    return;
                }
                let message = self.ledgers[end].message(stream, len);
                if self.pair.ends[end].send(self.pair.now, stream, message, sending) {
                    self.ledgers[end].sent(stream, len, sending);
                    self.used[end].insert(stream);
                }
            }
            Action::Reset { stream } => {
                let keeps = !self.pair.ends[end].reset_discards(stream);
                if keeps && self.used[end].remove(&stream) && self.resetting[end].insert(stream) {
                    self.ledgers[end].reset_sent(stream);
                    self.pair.ends[end].reset(self.pair.now, stream);
                }
            }
            Action::Pause => self.pair.reading[end] = false,
            Action::Resume => self.pair.reading[end] = true,
        }
        self.pair.flush(end);
    }

    /// Runs until everything that is reliable has arrived and all resets are performed.
    fn settle(&mut self) -> Result<(), String> {
        let limit = self.pair.now + self.patience;
        loop {
            let arrived = self.ledgers.iter().all(Ledger::is_settled);
            let reset = self.resetting.iter().all(Streams::is_empty)
                && self.ledgers.iter().all(|ledger| !ledger.awaits_reset());
            if arrived && reset && (0..2).all(|end| self.pair.ends[end].buffered() == 0) {
                return Ok(());
            }
            if self.step(None)? == Step::Quiet {
                return Err(self.fail("stuck: nothing is scheduled"));
            }
            if self.pair.now > limit {
                return Err(self.fail("not done in time"));
            }
        }
    }
}
