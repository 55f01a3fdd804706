/// Why something is over, as far as a [`close_cell`](crate::close_cell) cares.
#[derive(Debug)]
pub(crate) struct CloseReason(pub(crate) u32);
