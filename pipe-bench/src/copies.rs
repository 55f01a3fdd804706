use std::hint::black_box;
use std::time::Instant;

use crate::alignment::Extremes;
use crate::page_buffer::{PAGE, PageBuffer};

/// The size of a copy, in bytes.
const COPY: usize = 64 * 1024;

/// How many copies are timed together.
const COPIES: usize = 4;

/// How often each offset is tried; the best counts.
const PASSES: usize = 5;

/// How fast plain copies of 64 KiB are in this process, at the luckiest and the unluckiest distance
/// of their two sides modulo the page.
///
/// Where the two are far apart, a transport that copies in one piece is at the mercy of its
/// allocator.
pub fn copies() -> Extremes {
    let mut from = PageBuffer::new(COPY);
    let mut to = PageBuffer::new(COPY);
    let mut rates = [0.0_f64; PAGE / 8];
    for _ in 0..PASSES {
        for (index, best) in rates.iter_mut().enumerate() {
            let from = from.at(0);
            let to = to.at(index * 8);
            let start = Instant::now();
            for _ in 0..COPIES {
                to.copy_from_slice(black_box(from));
                black_box(&to);
            }
            let rate = (COPIES * COPY) as f64 / start.elapsed().as_secs_f64();
            *best = best.max(rate);
        }
    }
    Extremes {
        lucky: rates.iter().copied().fold(0.0, f64::max),
        unlucky: rates.iter().copied().fold(f64::INFINITY, f64::min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lucky_rate_is_no_less_than_the_unlucky_one() {
        let copies = copies();
        assert!(copies.unlucky > 0.0);
        assert!(copies.lucky >= copies.unlucky);
    }
}
