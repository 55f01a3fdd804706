//! Serial numbers (RFC 1982; RFC 9260, section 1.6), widened to 64 bits.
//!
//! Inside the association every TSN, SSN and MID is a `u64` that never wraps, so that order is that
//! of integers. The wire carries the low bits; [`expand32`] and [`expand16`] find the full number that is
//! closest to a reference.

/// Offset of the first number, so that numbers a little below the start are not negative.
const EPOCH: u64 = 1 << 32;

/// Returns the full number of the first TSN of an association.
pub(crate) fn first(wire: u32) -> u64 {
    EPOCH + u64::from(wire)
}

/// Returns the number closest to `reference` with `wire` as its low 32 bits.
pub(crate) fn expand32(reference: u64, wire: u32) -> u64 {
    let difference = wire.wrapping_sub(reference as u32) as i32;
    reference.wrapping_add_signed(i64::from(difference))
}

/// Returns the number closest to `reference` with `wire` as its low 16 bits.
pub(crate) fn expand16(reference: u64, wire: u16) -> u64 {
    let difference = wire.wrapping_sub(reference as u16) as i16;
    reference.wrapping_add_signed(i64::from(difference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_expanded_across_the_wrap() {
        let last = first(u32::MAX);
        assert_eq!(expand32(last, 0), last + 1);
        assert_eq!(expand32(last + 1, u32::MAX), last);
        assert_eq!(expand32(first(0), u32::MAX), first(0) - 1);
        assert_eq!(expand16(EPOCH + 0xffff, 3), EPOCH + 0x1_0003);
        assert_eq!(expand16(EPOCH + 0x1_0003, 0xffff), EPOCH + 0xffff);
    }
}
