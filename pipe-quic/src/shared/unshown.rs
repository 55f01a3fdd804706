/// The streams that the driver has to announce: those of this side from the first to the last.
#[derive(Default)]
pub(super) struct Unshown(Option<(u64, u64)>);

impl Unshown {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Takes them all: the numbers of the first and the last.
    pub(super) fn take(&mut self) -> Option<(u64, u64)> {
        self.0.take()
    }

    /// Adds a stream. Returns whether it is the only one, so that the driver has to be woken.
    pub(super) fn add(&mut self, id: u64) -> bool {
        match &mut self.0 {
            Some((first, last)) => {
                *first = id.min(*first);
                *last = id.max(*last);
                false
            }
            none => {
                *none = Some((id, id));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_told_of_the_first_and_looks_at_all() {
        let mut unshown = Unshown::default();
        assert!(unshown.add(8));
        assert!(!unshown.add(16));
        assert!(!unshown.add(4));
        assert_eq!(unshown.0, Some((4, 16)));
    }
}
