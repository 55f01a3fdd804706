use std::io;
use std::time::Duration;

use tokio::time::timeout;

use crate::report::{Comparison, Row};
use crate::scenario::{Contender, Figure, Scenario};
use crate::summary::Summary;

/// How long one run may take. One that hangs is an error rather than a program that never ends.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the contenders of a scenario in turn: one round to warm up, then `rounds` that count.
///
/// Each round begins with another contender, so that none always follows the same one. `on_round` is
/// called before each, with its number; 0 is the one that warms up.
///
/// It makes a runtime of its own, so it must not be called on one.
///
/// # Errors
///
/// When a run of ours fails, panics, takes longer than a minute or does not give as many values as the
/// scenario has figures, named in the error; or when there is no contender or no round. An alternative
/// that does so is left out from then on, and the comparison says why.
pub fn interleave(
    scenario: &Scenario,
    rounds: usize,
    mut on_round: impl FnMut(usize),
) -> io::Result<Vec<Comparison>> {
    let count = scenario.contenders.len();
    if count == 0 || rounds == 0 {
        let message = format!("{}: no contender or no round", scenario.name);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let runtime = scenario.flavor.runtime()?;
    let mut values = vec![vec![Vec::new(); count]; scenario.figures.len()];
    let mut failures = vec![None; count];
    for round in 0..=rounds {
        on_round(round);
        for turn in 0..count {
            let index = (turn + round) % count;
            let contender = &scenario.contenders[index];
            if failures[index].is_some() {
                continue;
            }
            let run = match runtime.block_on(run(contender, scenario.figures.len())) {
                Ok(run) => run,
                Err(error) if index > 0 => {
                    failures[index] = Some(error.to_string());
                    continue;
                }
                Err(error) => {
                    let (scenario, contender) = (&scenario.name, &contender.name);
                    let message = format!("{scenario}: {contender}: {error}");
                    return Err(io::Error::new(error.kind(), message));
                }
            };
            if round > 0 {
                for (values, value) in values.iter_mut().zip(run) {
                    values[index].push(value);
                }
            }
        }
    }
    let figures = scenario.figures.iter().zip(values);
    let compare = |(figure, values): (&Figure, _)| Comparison {
        scenario: scenario.name.clone(),
        runtime: scenario.flavor,
        figure: figure.clone(),
        rows: rows(&scenario.contenders, values, &failures),
    };
    Ok(figures.map(compare).collect())
}

/// The values of each contender, summed up.
fn rows(contenders: &[Contender], values: Vec<Vec<f64>>, failures: &[Option<String>]) -> Vec<Row> {
    let ours = values.first().cloned().unwrap_or_default();
    let all = contenders.iter().zip(values).zip(failures);
    let rows = all.map(|((contender, values), failure)| {
        if let Some(why) = failure {
            return Row {
                contender: contender.name.clone(),
                ours: None,
                outcome: Err(why.clone()),
            };
        }
        Row {
            contender: contender.name.clone(),
            ours: ratio(&ours, &values),
            outcome: Ok(Summary::of(values)),
        }
    });
    rows.collect()
}

/// The median, over the rounds, of our value divided by another one; none where that is not finite.
pub(crate) fn ratio(ours: &[f64], values: &[f64]) -> Option<f64> {
    let ratios = ours.iter().zip(values).map(|(ours, value)| ours / value);
    let ratio = Summary::of(ratios.collect()).median;
    ratio.is_finite().then_some(ratio)
}

async fn run(contender: &Contender, figures: usize) -> io::Result<Vec<f64>> {
    // As a task of its own, it runs on a worker like the tasks that it starts.
    let task = tokio::spawn((contender.run)());
    let abort = task.abort_handle();
    let Ok(joined) = timeout(LIMIT, task).await else {
        abort.abort();
        let message = format!("it did not end within {LIMIT:?}");
        return Err(io::Error::new(io::ErrorKind::TimedOut, message));
    };
    let values = joined??;
    if values.len() != figures {
        let message = format!("it gave {} values for {figures} figures", values.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Figure, Flavor};

    #[test]
    fn nothing_has_a_ratio_to_zero() {
        let figures = vec![Figure::lower("heap", "B")];
        let scenario = Scenario::new("test", Flavor::Current, figures)
            .contender("ours", || std::future::ready(Ok(vec![1.0])))
            .contender("theirs", || std::future::ready(Ok(vec![0.0])));
        let comparisons = interleave(&scenario, 1, |_| {}).unwrap();
        assert_eq!(comparisons[0].rows[0].ours, Some(1.0));
        assert_eq!(comparisons[0].rows[1].ours, None);
    }

    #[test]
    fn contenders_take_turns_and_the_first_round_does_not_count() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let contender = |name: &'static str, base: f64| {
            let log = log.clone();
            move || {
                let mut log = log.lock().unwrap();
                log.push(name);
                let round = log.iter().filter(|&&n| n == name).count() as f64;
                std::future::ready(Ok(vec![base * round, 7.0]))
            }
        };
        let figures = vec![Figure::higher("first", "x"), Figure::lower("second", "y")];
        let scenario = Scenario::new("test", Flavor::Current, figures)
            .contender("ours", contender("ours", 10.0))
            .contender("theirs", contender("theirs", 100.0));
        let mut rounds = Vec::new();
        let comparisons = interleave(&scenario, 3, |round| rounds.push(round)).unwrap();

        assert_eq!(rounds, [0, 1, 2, 3]);
        let order = [
            "ours", "theirs", "theirs", "ours", "ours", "theirs", "theirs", "ours",
        ];
        assert_eq!(*log.lock().unwrap(), order);
        let [first, second] = &comparisons[..] else {
            panic!("{comparisons:?}");
        };
        let summary = |row: &Row| row.outcome.clone().unwrap();
        assert_eq!(summary(&first.rows[0]).values, [20.0, 30.0, 40.0]);
        assert_eq!(summary(&first.rows[1]).median, 300.0);
        assert_eq!(first.rows[1].ours, Some(0.1));
        assert_eq!(first.rows[0].ours, Some(1.0));
        assert_eq!(second.rows[1].ours, Some(1.0));
    }

    #[test]
    fn a_failed_run_is_named() {
        let figures = vec![Figure::higher("first", "x")];
        let failing = Scenario::new("test", Flavor::Multi, figures.clone())
            .contender("ours", || async { Err(io::Error::other("broken")) });
        let error = interleave(&failing, 1, |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "test: ours: broken");

        let wrong = Scenario::new("test", Flavor::Multi, figures.clone())
            .contender("ours", || async { Ok(vec![1.0, 2.0]) });
        let error = interleave(&wrong, 1, |_| {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            "test: ours: it gave 2 values for 1 figures"
        );

        let half = Scenario::new("test", Flavor::Multi, figures.clone())
            .contender("ours", || async { Ok(vec![1.0]) })
            .contender("theirs", || async { Err(io::Error::other("broken")) });
        let comparisons = interleave(&half, 1, |_| {}).unwrap();
        let [ours, theirs] = &comparisons[0].rows[..] else {
            panic!("{comparisons:?}");
        };
        assert!(ours.outcome.is_ok());
        assert_eq!(theirs.outcome.as_ref().unwrap_err(), "broken");
        assert_eq!(theirs.ours, None);

        let nobody = Scenario::new("test", Flavor::Multi, figures);
        assert!(interleave(&nobody, 1, |_| {}).is_err());
    }
}
