use std::fmt;
use std::fs;
use std::io;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use crate::alignment::Extremes;
use crate::copies::copies;
use crate::scenario::{Figure, Flavor, Goal};
use crate::summary::Summary;

/// The measurements of a run of the program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where it was measured.
    pub environment: Environment,
    /// How many rounds count.
    pub rounds: usize,
    /// What came out.
    pub comparisons: Vec<Comparison>,
}

/// The machine and the build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The model of the processor, where the system tells.
    pub processor: Option<String>,
    /// How many threads can run at once.
    pub threads: usize,
    /// The operating system and the architecture.
    pub system: String,
    /// Whether the build is optimised; figures of one that is not mean little.
    pub optimised: bool,
    /// How fast plain copies of 64 KiB are.
    pub copies: Extremes,
}

/// One figure, for all contenders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The scenario that it belongs to.
    pub scenario: String,
    /// The runtime that it was measured on.
    pub runtime: Flavor,
    /// What the values are.
    pub figure: Figure,
    /// The contenders: ours first, then the alternatives.
    pub rows: Vec<Row>,
}

/// One figure, for one contender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the contender.
    pub contender: String,
    /// Its values, or why it has none.
    pub outcome: Result<Summary, String>,
    /// The median, over the rounds, of our value divided by this contender's in the same round: what
    /// slows a whole round down leaves it as it is. 1 for ours; none where a value of this contender was zero,
    /// to which nothing has a ratio.
    pub ours: Option<f64>,
}

impl Report {
    /// An empty report about this machine and this build.
    pub fn new(rounds: usize) -> Self {
        Self {
            environment: Environment::here(),
            rounds,
            comparisons: Vec::new(),
        }
    }

    /// Whether ours reaches all goals.
    pub fn meets_all_goals(&self) -> bool {
        self.comparisons.iter().all(|comparison| {
            let met = |(_, met)| met;
            comparison.goals().all(met)
        })
    }

    /// The report as a table, with a line for each contender.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_preset(presets::UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header([
                "scenario",
                "runtime",
                "figure",
                "contender",
                "median",
                "min … max",
                "ours ÷ it",
                "goal",
            ]);
        for comparison in &self.comparisons {
            for (index, row) in comparison.rows.iter().enumerate() {
                let mut head = [String::new(), String::new(), String::new()];
                let mut goal = String::new();
                if index == 0 {
                    let figure = &comparison.figure;
                    head = [
                        comparison.scenario.clone(),
                        comparison.runtime.to_string(),
                        format!("{}, {}", figure.name, figure.unit),
                    ];
                    goal = comparison.goals_text();
                }
                let ours = match (index, row.ours) {
                    (0, _) => String::new(),
                    (_, Some(ratio)) => format!("{ratio:.2}×"),
                    (_, None) => "—".to_owned(),
                };
                let [scenario, runtime, figure] = head;
                let (median, spread) = match &row.outcome {
                    Ok(Summary {
                        median, min, max, ..
                    }) => (
                        number(*median),
                        format!("{} … {}", number(*min), number(*max)),
                    ),
                    Err(why) => ("none".to_owned(), why.clone()),
                };
                table.add_row([
                    scenario,
                    runtime,
                    figure,
                    row.contender.clone(),
                    median,
                    spread,
                    ours,
                    goal,
                ]);
            }
        }
        for column in table.column_iter_mut().skip(4).take(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl Comparison {
    /// The goals, each with whether ours reaches it. One that names an alternative which did not take part
    /// is left out.
    pub fn goals(&self) -> impl Iterator<Item = (&Goal, bool)> {
        let ours = self.rows.first();
        let values = ours.and_then(|row| row.outcome.as_ref().ok());
        self.figure.goals.iter().filter_map(move |goal| {
            let alternative = match goal {
                Goal::AheadOf(name) => Some(
                    self.rows
                        .iter()
                        .skip(1)
                        .find(|row| row.contender == *name)?,
                ),
                _ => self.rows.get(1),
            };
            let ratio = alternative.and_then(|row| row.ours).unwrap_or(f64::NAN);
            let better = self.figure.better;
            let met = values.is_some_and(|values| goal.is_met(values.median, ratio, better));
            Some((goal, met))
        })
    }

    fn goals_text(&self) -> String {
        let goals = self.goals().map(|(goal, met)| {
            let met = if met { "met" } else { "missed" };
            format!("{goal} {met}")
        });
        goals.collect::<Vec<_>>().join(", ")
    }
}

impl Environment {
    /// This machine and this build.
    pub fn here() -> Self {
        Self {
            processor: processor().ok().flatten(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            optimised: !cfg!(debug_assertions),
            copies: copies(),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processor = self.processor.as_deref().unwrap_or("unknown processor");
        let Self {
            system,
            threads,
            copies,
            ..
        } = self;
        let gb = |rate| number(rate / 1e9);
        write!(
            f,
            "{system}, {processor}, {threads} threads; plain copies of 64 KiB: {} GB/s at the luckiest \
             alignment, {} at the unluckiest",
            gb(copies.lucky),
            gb(copies.unlucky),
        )
    }
}

/// The model of the processor, as Linux tells it.
fn processor() -> io::Result<Option<String>> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    Ok(line.map(|line| line.trim_start_matches([' ', '\t', ':']).to_owned()))
}

/// A number with three digits or more that count.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |contender: &str, value: f64, ours| Row {
            contender: contender.to_owned(),
            outcome: Ok(Summary::of(vec![value, 2.0 * value, 3.0 * value])),
            ours,
        };
        let mut report = Report::new(3);
        report.comparisons.push(Comparison {
            scenario: "64 B writes".to_owned(),
            runtime: Flavor::Multi,
            figure: Figure::higher("rate", "MB/s").goal(Goal::RatioAtLeast(1.0)),
            rows: vec![
                row("ours", 1234.5, Some(1.0)),
                row("theirs", 0.5, Some(1.1)),
            ],
        });
        report
    }

    #[test]
    fn the_table_tells_medians_spreads_ratios_and_goals() {
        let report = report();
        let shown = report.table().to_string();
        for text in [
            "64 B writes",
            "multi",
            "rate, MB/s",
            "2469",
            "1234 … 3704",
            "≥ 1× met",
        ] {
            assert!(shown.contains(text), "{text} in\n{shown}");
        }
        for text in ["theirs", "1.00", "0.500 … 1.50", "1.10×"] {
            assert!(shown.contains(text), "{text} in\n{shown}");
        }
        assert!(report.meets_all_goals());
    }

    #[test]
    fn a_missed_goal_is_told() {
        let mut report = report();
        report.comparisons[0].rows[1].ours = Some(0.9);
        assert!(report.table().to_string().contains("≥ 1× missed"));
        assert!(!report.meets_all_goals());
    }

    #[test]
    fn a_goal_that_names_an_alternative_is_about_that_one() {
        let mut report = report();
        let [comparison] = &mut report.comparisons[..] else {
            panic!("{report:?}");
        };
        let goals = &mut comparison.figure.goals;
        goals.push(Goal::AheadOf("others".to_owned()));
        assert_eq!(comparison.goals().count(), 1);

        let mut others = comparison.rows[1].clone();
        others.contender = "others".to_owned();
        others.ours = Some(0.9);
        comparison.rows.push(others);
        let told = comparison.goals_text();
        assert_eq!(told, "≥ 1× met, ahead of others missed");
        comparison.rows[2].ours = Some(1.2);
        let told = comparison.goals_text();
        assert_eq!(told, "≥ 1× met, ahead of others met");
    }

    #[test]
    fn json_is_read_as_it_was_written() {
        let mut report = report();
        let mut none = report.comparisons[0].rows[1].clone();
        none.ours = None;
        report.comparisons[0].rows.push(none.clone());
        none.outcome = Err("it did not end".to_owned());
        report.comparisons[0].rows.push(none);
        let table = report.table().to_string();
        assert!(
            table.contains('—') && table.contains("it did not end"),
            "{table}"
        );
        let json = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(back.comparisons, report.comparisons);
        assert_eq!(back.environment, report.environment);
    }
}
