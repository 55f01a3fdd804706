use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Reads a number of bytes: `500k`, `2M`, `1.5G` in powers of 1,000, `64Ki`, `1Mi` in powers of 1,024.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: f64 = match &text[digits.len()..] {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        other => {
            return Err(format!(
                "the unit {other:?} is unknown; there are k, M, G, Ki, Mi, Gi"
            ));
        }
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "expected a number, as in 500k".to_owned())?;
    let bytes = number * unit;
    if !(1.0..=1e18).contains(&bytes) {
        return Err("it has to be from 1 to 10^18".to_owned());
    }
    Ok(bytes as u64)
}

/// Limits its clones together to so many bytes a second.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    next: Mutex<Instant>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until the bytes that went before have had their time.
    pub(crate) async fn before(&self, bytes: usize) {
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + time;
            turn
        };
        sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_their_units() {
        assert_eq!(parse_bytes("12"), Ok(12));
        assert_eq!(parse_bytes("1.5k"), Ok(1500));
        assert_eq!(parse_bytes("2M"), Ok(2_000_000));
        assert_eq!(parse_bytes("64Ki"), Ok(65_536));
        for wrong in ["", "k", "1x", "-1", "0", "nan", "1e30", "1 M"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
