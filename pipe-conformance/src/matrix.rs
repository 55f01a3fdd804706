use std::fmt::{self, Write};

use crate::run::Outcome;

/// How every case went for every transport and mode, as a table in Markdown.
#[derive(Debug)]
pub(crate) struct Matrix {
    columns: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    group: &'static str,
    cells: Vec<Option<Outcome>>,
}

impl Matrix {
    /// A matrix without outcomes, of these columns and these cases (name, group).
    pub(crate) fn new(
        columns: Vec<String>,
        cases: impl IntoIterator<Item = (&'static str, &'static str)>,
    ) -> Self {
        let rows = cases.into_iter().map(|(name, group)| Row {
            name,
            group,
            cells: vec![None; columns.len()],
        });
        Self {
            rows: rows.collect(),
            columns,
        }
    }

    /// Notes an outcome, by the places of its column and row.
    pub(crate) fn set(&mut self, column: usize, row: usize, outcome: Outcome) {
        self.rows[row].cells[column] = Some(outcome);
    }

    /// Whether no case has run.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.iter().all(Row::is_empty)
    }
}

impl Row {
    fn is_empty(&self) -> bool {
        self.cells.iter().all(Option::is_none)
    }
}

/// The cases that have run, the sums of each column, and why cases were skipped.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![line("case", self.columns.iter().map(String::as_str))];
        lines.push(Vec::new());
        let mut group = "";
        for row in self.rows.iter().filter(|row| !row.is_empty()) {
            if row.group != group {
                group = row.group;
                let title = format!("**{group}**");
                lines.push(line(&title, self.columns.iter().map(|_| "")));
            }
            lines.push(line(row.name, row.cells.iter().map(|c| cell(c.as_ref()))));
        }
        for (title, kind) in [("ok", "ok"), ("skipped", "skip"), ("failed", "FAIL")] {
            let sums: Vec<String> = (0..self.columns.len())
                .map(|column| self.count(column, kind).to_string())
                .collect();
            lines.push(line(
                &format!("**{title}**"),
                sums.iter().map(String::as_str),
            ));
        }
        write_table(f, &lines)?;
        self.write_skips(f)
    }
}

impl Matrix {
    fn count(&self, column: usize, kind: &str) -> usize {
        self.rows
            .iter()
            .filter(|row| cell(row.cells[column].as_ref()) == kind)
            .count()
    }

    fn write_skips(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, column) in self.columns.iter().enumerate() {
            let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
            for row in &self.rows {
                if let Some(Outcome::Skipped(reason)) = &row.cells[i] {
                    match reasons.iter_mut().find(|(r, _)| r == reason) {
                        Some((_, names)) => names.push(row.name),
                        None => reasons.push((reason, vec![row.name])),
                    }
                }
            }
            for (reason, names) in reasons {
                write!(f, "\n{column} skips {}: {reason}\n", names.join(", "))?;
            }
        }
        Ok(())
    }
}

fn cell(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Passed) => "ok",
        Some(Outcome::Skipped(_)) => "skip",
        Some(Outcome::Failed(_)) => "FAIL",
        None => "-",
    }
}

fn line<'a>(title: &'a str, cells: impl Iterator<Item = &'a str>) -> Vec<String> {
    std::iter::once(title)
        .chain(cells)
        .map(str::to_owned)
        .collect()
}

/// Writes the lines as a table whose columns stand in line; an empty line is the rule.
fn write_table(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for line in lines {
        f.write_char('|')?;
        for (i, &width) in widths.iter().enumerate() {
            match line.get(i) {
                Some(cell) => write!(f, " {cell:width$} |")?,
                None => write!(f, "{:-<1$}|", "", width + 2)?,
            }
        }
        f.write_char('\n')?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_ran() {
        let mut matrix = Matrix::new(
            vec!["sub/static".to_owned(), "sub/erased".to_owned()],
            [
                ("it_floats", "Water"),
                ("it_dives", "Water"),
                ("it_flies", "Air"),
            ],
        );
        assert!(matrix.is_empty());
        matrix.set(0, 0, Outcome::Passed);
        matrix.set(1, 0, Outcome::Failed("it sank".to_owned()));
        matrix.set(1, 2, Outcome::Skipped("lacks wings".to_owned()));
        assert_eq!(
            matrix.to_string(),
            "\
| case        | sub/static | sub/erased |
|-------------|------------|------------|
| **Water**   |            |            |
| it_floats   | ok         | FAIL       |
| **Air**     |            |            |
| it_flies    | -          | skip       |
| **ok**      | 1          | 0          |
| **skipped** | 0          | 1          |
| **failed**  | 0          | 1          |

sub/erased skips it_flies: lacks wings
"
        );
    }
}
