//! [`Progress`]: a bar on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far one transport is. Clones share it.
#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar over so many bytes, if both standard output and standard error are a terminal.
    pub(crate) fn new(label: &str, bytes: u64) -> Self {
        if !io::stdout().is_terminal() || !io::stderr().is_terminal() {
            return Self::hidden();
        }
        let style = ProgressStyle::with_template(
            "{prefix} {msg:<9} {wide_bar} {bytes:>10}/{total_bytes} {binary_bytes_per_sec:>12}",
        )
        .expect("the template is well formed")
        .progress_chars("━╸─");
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        Self(bar.with_style(style).with_prefix(label.to_owned()))
    }

    /// A bar that is never drawn.
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Says what is being done.
    pub(crate) fn stage(&self, name: &'static str) {
        self.0.set_message(name);
    }

    /// Moves on by so many bytes.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
