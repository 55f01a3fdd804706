use std::time::Duration;

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use serde_json::json;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::report::Report;

/// Maximum number of failures that are shown one by one.
const SHOWN: usize = 20;

/// The results of a transfer's files.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    failures: Vec<String>,
    failed: u64,
}

impl Summary {
    /// Adds a failure with its reason.
    pub(crate) fn fail(&mut self, failure: impl Into<String>) {
        self.failed += 1;
        if self.failures.len() < SHOWN {
            self.failures.push(failure.into());
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Reports the result: a single failure is the error of the program, of several each has a
    /// line.
    pub(crate) fn tell(
        &self,
        report: &Report,
        done: &str,
        took: Duration,
    ) -> Result<Exit, Failure> {
        let seconds = took.as_secs_f64();
        let rate = DecimalBytes((self.bytes as f64 / seconds.max(1e-9)) as u64);
        let text = format_args!(
            "{done} {}, {} in {seconds:.1} s ({rate}/s)",
            count(self.files),
            DecimalBytes(self.bytes)
        );
        let event = json!({
            "event": done,
            "files": self.files,
            "bytes": self.bytes,
            "seconds": seconds,
            "failed": self.failed,
        });
        report.result(text, &event);
        match (self.failed, self.failures.as_slice()) {
            (0, _) => Ok(Exit::Done),
            (1, [failure]) => Err(Failure::failed(failure)),
            (failed, failures) => {
                for failure in failures {
                    report.warn(failure);
                }
                Err(Failure::failed(format!(
                    "{failed} files or folders were not {done}"
                )))
            }
        }
    }
}

/// Returns a number of files, in words.
pub(crate) fn count(files: u64) -> String {
    match files {
        1 => "1 file".to_owned(),
        files => format!("{files} files"),
    }
}

/// Creates a bar of bytes on standard error, if that is a terminal.
pub(crate) fn bar(report: &Report) -> ProgressBar {
    if report.json {
        return ProgressBar::hidden();
    }
    let template =
        "{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {eta} {msg}";
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
