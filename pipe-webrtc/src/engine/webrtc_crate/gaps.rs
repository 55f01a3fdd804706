/// Number of datagrams after a missing one that the engine acknowledges one by one: three
/// acknowledgements make the peer send it again (RFC 9260, section 7.2.4), and some are lost.
const CLOSE: u32 = 16;

/// Number of datagrams after a missing one during which the engine acknowledges every [`OFTEN`]:
/// enough that a path with a loss rate of 0.1 % stays in this mode. The next loss is reported soon,
/// and one lost acknowledgement does not stall a whole window. Each one costs the peer a scan of
/// all its data in flight.
const NEAR: u32 = 1024;
const OFTEN: u32 = 4;

/// Maximum distance of a number behind the newest one. Others restart the count: the newest need
/// not be the peer's.
const OLD: u64 = 1 << 16;

/// Notices datagrams that are missing, by the numbers of their DTLS records, which are in the clear.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    newest: u64,
    /// Number of further datagrams near the last missing one.
    near: u32,
}

impl Gaps {
    /// Notes that a datagram has come.
    pub(super) fn note(&mut self, datagram: &[u8]) {
        let Some(number) = number(datagram) else {
            return;
        };
        self.near = self.near.saturating_sub(1);
        let ahead = number.wrapping_sub(self.newest);
        if number < self.newest {
            if self.newest - number > OLD {
                self.newest = number;
            }
            return;
        }
        // A new epoch is a new count.
        if ahead > 1 && number >> 48 == self.newest >> 48 {
            self.near = NEAR;
        }
        self.newest = number;
    }

    /// Returns how many datagrams the engine is to answer together, at most.
    pub(super) fn together(&self) -> u32 {
        match self.near {
            0 => u32::MAX,
            near if near + CLOSE > NEAR => 1,
            _ => OFTEN,
        }
    }
}

/// Returns the epoch and number of the first DTLS record in a datagram, as one (RFC 6347, section
/// 4.1), which may come through a TURN server (RFC 8656, section 12.4).
fn number(datagram: &[u8]) -> Option<u64> {
    let record = match datagram {
        [64..=79, _, _, _, record @ ..] => record,
        record => record,
    };
    let [20..=63, 254, _, number @ ..] = record else {
        return None;
    };
    Some(u64::from_be_bytes(*number.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::super::vitals::tests::record;
    use super::*;

    fn data(epoch: u8, number: u32) -> Vec<u8> {
        let mut record = record(23, epoch, &[1; 40]);
        record[7..11].copy_from_slice(&number.to_be_bytes());
        record
    }

    fn after(datagrams: &[Vec<u8>]) -> Gaps {
        let mut gaps = Gaps::default();
        datagrams.iter().for_each(|datagram| gaps.note(datagram));
        gaps
    }

    #[test]
    fn numbers_in_order_miss_nothing() {
        let epochs = [data(0, 0), data(0, 1), data(1, 0), data(1, 1), data(1, 2)];
        assert_eq!(after(&epochs).together(), u32::MAX);
    }

    #[test]
    fn what_is_late_or_comes_twice_is_not_missing() {
        let late = [0, 1, 0, 1, 2].map(|number| data(1, number));
        assert_eq!(after(&late).together(), u32::MAX);
    }

    #[test]
    fn after_a_missing_one_answers_come_often_for_a_while() {
        let mut gaps = after(&[data(1, 1), data(1, 3)]);
        for number in 4..3 + NEAR {
            let together = if number < 3 + CLOSE + 1 { 1 } else { OFTEN };
            assert_eq!(gaps.together(), together, "{number}");
            gaps.note(&[1, 1, 0, 0]);
            gaps.note(&data(1, number));
        }
        let mut relayed = vec![0x40, 0, 0, 53];
        relayed.extend(data(1, 3 + NEAR));
        assert_eq!(gaps.together(), OFTEN);
        gaps.note(&relayed);
        assert_eq!(gaps.together(), u32::MAX);
    }

    #[test]
    fn a_false_number_does_not_hide_what_is_missing_later() {
        let mut gaps = after(&[data(1, 1), data(1, u32::MAX)]);
        for number in 2..=1 + NEAR {
            assert!(gaps.together() <= OFTEN);
            gaps.note(&data(1, number));
        }
        assert_eq!(gaps.together(), u32::MAX);
        gaps.note(&data(1, 3 + NEAR));
        assert_eq!(gaps.together(), 1);
    }

    #[test]
    fn what_is_no_record_has_no_number() {
        for datagram in [&[][..], &[23, 254, 253, 0, 1], &[0, 1, 0, 0], &[64, 0, 0]] {
            assert_eq!(number(datagram), None);
        }
    }
}
