use std::ops::{Index, IndexMut};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Dialer,
    Listener,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Dialer, Self::Listener];

    #[inline]
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// A pair of values, one for each side.
#[derive(Debug, Default)]
pub(crate) struct PerSide<T>([T; 2]);

impl<T> PerSide<T> {
    pub(crate) fn new(mut make: impl FnMut(Side) -> T) -> Self {
        Self(Side::BOTH.map(&mut make))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> Index<Side> for PerSide<T> {
    type Output = T;

    #[inline]
    fn index(&self, side: Side) -> &T {
        &self.0[side as usize]
    }
}

impl<T> IndexMut<Side> for PerSide<T> {
    #[inline]
    fn index_mut(&mut self, side: Side) -> &mut T {
        &mut self.0[side as usize]
    }
}
