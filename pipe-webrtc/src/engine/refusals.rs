use std::fmt;

use parking_lot::Mutex;

/// Maximum number of kept reasons why servers do not help.
pub(super) const MAX_REASONS: usize = 8;

/// The reasons why STUN and TURN servers do not help a connection. The engine only writes them to
/// its log.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Vec<String>>);

impl Refusals {
    /// Notes a reason. Beyond the first few they are dropped.
    pub(crate) fn note(&self, reason: String) {
        let mut reasons = self.0.lock();
        if reasons.len() < MAX_REASONS && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = self.0.lock();
        if reasons.is_empty() {
            return f.write_str("no answer has come");
        }
        f.write_str(&reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_reasons_are_kept_and_each_once() {
        let refusals = Refusals::default();
        assert!(refusals.is_empty());
        for i in 0..100 {
            refusals.note(format!("reason {}", i / 2));
        }
        let shown = refusals.to_string();
        assert!(shown.starts_with("reason 0; reason 1; "), "{shown}");
        assert_eq!(shown.split("; ").count(), MAX_REASONS);
    }
}
