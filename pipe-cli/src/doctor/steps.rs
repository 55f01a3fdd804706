use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::address::Address;
use crate::duration::millis;
use crate::failure::Failure;
use crate::report::Report;

/// The steps so far, in order, and the advice.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: Vec<Step>,
    advice: Vec<String>,
    /// The first line for people.
    title: Option<String>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    ok: bool,
    ms: f64,
    detail: String,
}

impl Steps {
    /// Puts the address before the steps, where there are those of several: this one stands at this place among them.
    pub(super) fn title(&mut self, addr: &Address, at: usize) {
        let gap = if at == 0 { "" } else { "\n" };
        self.title = Some(format!("{gap}{addr}"));
    }

    pub(super) fn passed(&mut self, name: &'static str, began: Instant, detail: impl Into<String>) {
        self.add(name, true, began.elapsed(), detail.into());
    }

    pub(super) fn failed(&mut self, name: &'static str, began: Instant, detail: &str) {
        self.add(name, false, began.elapsed(), detail.to_owned());
    }

    pub(super) fn advise(&mut self, advice: impl Into<String>) {
        self.advice.push(advice.into());
    }

    fn add(&mut self, name: &'static str, ok: bool, took: Duration, detail: String) {
        let ms = took.as_secs_f64() * 1e3;
        self.steps.push(Step {
            name,
            ok,
            ms,
            detail,
        });
    }

    pub(super) fn tell(&self, report: &Report, addr: &str, failure: Option<&Failure>) {
        let mut text = String::new();
        if let Some(title) = &self.title {
            let _ = writeln!(text, "{title}");
        }
        for Step {
            name,
            ok,
            ms,
            detail,
        } in &self.steps
        {
            let mark = if *ok { "ok  " } else { "FAIL" };
            let took = millis(Duration::from_secs_f64(ms / 1e3));
            let _ = writeln!(text, "{mark}  {name:<12} {took:>10}  {detail}");
        }
        for advice in &self.advice {
            let _ = writeln!(text, "\n{advice}");
        }
        if failure.is_none() {
            text.push_str("\nall is well");
        }
        let event = json!({
            "event": "doctor",
            "addr": addr,
            "ok": failure.is_none(),
            "steps": self.steps,
            "advice": self.advice,
        });
        report.result(text.trim_end(), &event);
    }
}
