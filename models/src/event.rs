/// An event of a connection, as far as the wire cares: its number at its sender.
pub(crate) struct Event(pub(crate) u32);

impl Event {
    pub(crate) fn size(&self) -> usize {
        1
    }
}
