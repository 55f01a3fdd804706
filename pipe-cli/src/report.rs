use std::fmt::Display;
use std::io;

use serde::Serialize;

use crate::failure::Failure;
use crate::standard::{write_stderr, write_stdout};

/// Reports events to people, or with `--json` to programs.
///
/// With `--json`, each event is an object on a line of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) json: bool,
    /// Whether standard output carries data, so that events go to standard error.
    pub(crate) data_on_stdout: bool,
}

impl Report {
    /// Reports an event beside the results: on standard error, or as JSON.
    pub(crate) fn note(&self, text: impl Display, event: &impl Serialize) {
        if self.json {
            self.event(event);
        } else {
            print(write_stderr, text);
        }
    }

    /// Reports a result: on standard output, or as an event.
    pub(crate) fn result(&self, text: impl Display, event: &impl Serialize) {
        if self.json {
            self.event(event);
        } else {
            print(write_stdout, text);
        }
    }

    /// Reports a warning, which has no event of its own.
    pub(crate) fn warn(&self, text: impl Display) {
        let text = text.to_string();
        self.note(
            format_args!("pipe: {text}"),
            &serde_json::json!({"event": "warning", "message": text}),
        );
    }

    /// Prints the error that the program ends with: one line on standard error.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            let event = serde_json::json!({
                "event": "error",
                "message": failure.message,
                "exit": failure.exit as u8,
            });
            print(write_stderr, event);
        } else {
            print(write_stderr, format_args!("pipe: {failure}"));
        }
    }

    fn event(&self, event: &impl Serialize) {
        let line = match serde_json::to_string(event) {
            Ok(line) => line,
            // The events are plain data; if one cannot be written, that is reported.
            Err(error) => {
                serde_json::json!({"event": "error", "message": error.to_string()}).to_string()
            }
        };
        if self.data_on_stdout {
            print(write_stderr, line);
        } else {
            print(write_stdout, line);
        }
    }
}

/// Writes a line. Ignores errors, as after the reader has gone.
fn print(write: fn(&[u8]) -> io::Result<()>, text: impl Display) {
    let _ = write(format!("{}\n", harmless(&text.to_string())).as_bytes());
}

/// Removes control characters of a terminal from a text: names and reasons come from peers, too.
fn harmless(text: &str) -> String {
    let replace = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_command_the_terminal() {
        assert_eq!(
            harmless("a\x1b[2Jb\r\u{9b}c\nd"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\nd"
        );
    }
}
