use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

/// Something to measure, on one flavor of runtime, for several contenders.
#[derive(Debug)]
pub struct Scenario {
    pub(crate) name: String,
    pub(crate) flavor: Flavor,
    pub(crate) figures: Vec<Figure>,
    pub(crate) contenders: Vec<Contender>,
}

/// One of those that a scenario compares.
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) run: Box<dyn Fn() -> Running>,
}

/// A run under way. It gives a value for each figure of its scenario.
pub(crate) type Running = Pin<Box<dyn Future<Output = io::Result<Vec<f64>>> + Send>>;

impl Scenario {
    /// A scenario without contenders. Each run of a contender gives a value for each of the figures,
    /// in their order.
    pub fn new(name: impl Into<String>, flavor: Flavor, figures: Vec<Figure>) -> Self {
        Self {
            name: name.into(),
            flavor,
            figures,
            contenders: Vec::new(),
        }
    }

    /// Adds a contender. The first is ours, and the goals are for it; the second is the one that
    /// ratios refer to.
    ///
    /// `run` is called once a round. Its future runs as a task on the runtime of the scenario and has
    /// to end all that it starts.
    #[must_use]
    pub fn contender<F>(mut self, name: impl Into<String>, run: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<f64>>> + Send + 'static,
    {
        self.contenders.push(Contender {
            name: name.into(),
            run: Box::new(move || Box::pin(run())),
        });
        self
    }

    /// Keeps only the contenders that have one of `texts` in their names: to look at some by themselves.
    #[must_use]
    pub fn only(mut self, texts: &[String]) -> Self {
        let is_wanted = |name: &str| texts.iter().any(|text| name.contains(text));
        self.contenders.retain(|c| is_wanted(&c.name));
        self
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The flavor of runtime that it runs on.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Contender").field(&self.name).finish()
    }
}

/// A flavor of tokio's runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavor {
    /// Two worker threads.
    Multi,
    /// Everything on the current thread.
    Current,
}

impl Flavor {
    /// A runtime of this flavor.
    ///
    /// # Errors
    ///
    /// What the system says against it.
    pub fn runtime(self) -> io::Result<Runtime> {
        match self {
            Self::Multi => Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build(),
            Self::Current => Builder::new_current_thread().enable_all().build(),
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multi => "multi",
            Self::Current => "current",
        })
    }
}

/// The meaning of a number of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What is measured.
    pub name: String,
    /// The unit of the values.
    pub unit: String,
    /// Which values are the better ones.
    pub better: Better,
    /// What ours has to reach, if that is laid down.
    pub goals: Vec<Goal>,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// The higher one.
    Higher,
    /// The lower one.
    Lower,
}

impl Figure {
    /// A figure of which more is better.
    pub fn higher(name: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            better: Better::Higher,
            goals: Vec::new(),
        }
    }

    /// A figure of which less is better.
    pub fn lower(name: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            better: Better::Lower,
            ..Self::higher(name, unit)
        }
    }

    /// Lays down what ours has to reach.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goals.push(goal);
        self
    }
}

/// What the median of ours has to reach: by itself, or by its ratio to an alternative, which is the first
/// unless it is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// At least this value.
    AtLeast(f64),
    /// At most this value.
    AtMost(f64),
    /// At least so many times the alternative.
    RatioAtLeast(f64),
    /// At most so many times the alternative.
    RatioAtMost(f64),
    /// No worse than the alternative of this name.
    AheadOf(String),
}

impl Goal {
    /// Whether a median, with its ratio to the alternative, reaches the goal, where such values are the
    /// better ones.
    pub fn is_met(&self, median: f64, ratio: f64, better: Better) -> bool {
        match (self, better) {
            (Self::AtLeast(limit), _) => median >= *limit,
            (Self::AtMost(limit), _) => median <= *limit,
            (Self::RatioAtLeast(limit), _) => ratio >= *limit,
            (Self::RatioAtMost(limit), _) => ratio <= *limit,
            (Self::AheadOf(_), Better::Higher) => ratio >= 1.0,
            (Self::AheadOf(_), Better::Lower) => ratio <= 1.0,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::RatioAtLeast(limit) => write!(f, "≥ {limit}×"),
            Self::RatioAtMost(limit) => write!(f, "≤ {limit}×"),
            Self::AheadOf(alternative) => write!(f, "ahead of {alternative}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_looks_at_the_value_or_at_the_ratio() {
        let ahead = Goal::AheadOf("theirs".to_owned());
        for (goal, better, met, missed) in [
            (Goal::AtLeast(5.0), Better::Higher, (5.0, 0.0), (4.9, 9.0)),
            (Goal::AtMost(5.0), Better::Lower, (5.0, 9.0), (5.1, 0.0)),
            (
                Goal::RatioAtLeast(0.95),
                Better::Higher,
                (0.0, 0.95),
                (9.0, 0.94),
            ),
            (
                Goal::RatioAtMost(1.1),
                Better::Lower,
                (9.0, 1.1),
                (0.0, 1.11),
            ),
            (ahead.clone(), Better::Higher, (0.0, 1.0), (9.0, 0.99)),
            (ahead, Better::Lower, (9.0, 1.0), (0.0, 1.01)),
        ] {
            assert!(goal.is_met(met.0, met.1, better), "{goal}");
            assert!(!goal.is_met(missed.0, missed.1, better), "{goal}");
        }
        assert!(!Goal::RatioAtLeast(1.0).is_met(1.0, f64::NAN, Better::Higher));
    }
}
