use std::collections::BTreeMap;

use crate::frame::StreamFrame;
use crate::violation::Violation;

/// Frames about streams of the peer that have not come yet, in their order.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    by_stream: BTreeMap<u64, Vec<StreamFrame>>,
    count: usize,
}

impl Orphans {
    /// Keeps a frame, of which there may be `limit`.
    pub(crate) fn keep(
        &mut self,
        id: u64,
        frame: StreamFrame,
        limit: usize,
    ) -> Result<(), Violation> {
        if self.count >= limit {
            return Err(Violation::new("messages about streams that do not come"));
        }
        self.count += 1;
        self.by_stream.entry(id).or_default().push(frame);
        Ok(())
    }

    /// Takes out the frames about a stream that has come. Those about earlier ones are dropped: numbers rise, so
    /// that these streams never come.
    pub(crate) fn take(&mut self, id: u64) -> Vec<StreamFrame> {
        if self.count == 0 {
            return Vec::new();
        }
        let later = match id.checked_add(1) {
            Some(next) => self.by_stream.split_off(&next),
            None => BTreeMap::new(),
        };
        let mut earlier = std::mem::replace(&mut self.by_stream, later);
        self.count -= earlier.values().map(Vec::len).sum::<usize>();
        earlier.remove(&id).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_wait_for_their_stream_and_are_bounded() {
        let mut orphans = Orphans::default();
        orphans.keep(3, StreamFrame::End(5), 4).unwrap();
        orphans.keep(5, StreamFrame::Reset(1), 4).unwrap();
        orphans.keep(5, StreamFrame::Stop(2), 4).unwrap();
        orphans.keep(7, StreamFrame::End(9), 4).unwrap();
        assert!(orphans.keep(9, StreamFrame::End(0), 4).is_err());
        assert_eq!(
            orphans.take(5),
            [StreamFrame::Reset(1), StreamFrame::Stop(2)]
        );
        assert_eq!(orphans.take(3), []);
        orphans.keep(9, StreamFrame::End(0), 4).unwrap();
        assert_eq!(orphans.take(7), [StreamFrame::End(9)]);
        assert_eq!(orphans.take(9), [StreamFrame::End(0)]);
        orphans.keep(u64::MAX, StreamFrame::End(0), 4).unwrap();
        assert_eq!(orphans.take(u64::MAX), [StreamFrame::End(0)]);
    }
}
