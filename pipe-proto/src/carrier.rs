/// What the multiplexer below a session does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The lowest bit of the numbers of the streams that this side opens.
    pub local_bit: u64,
    /// A frame opens each stream on its channel. Otherwise the multiplexer makes it visible.
    pub opens_by_frame: bool,
    /// Frames about a stream and the stream itself may come in any order, as they take different channels.
    pub has_orphans: bool,
    /// The end, the reset and the stop of a direction are the multiplexer's own; no frame says them.
    pub ends_natively: bool,
    /// How a DRAIN is answered.
    pub drain: DrainMode,
    /// The peer speaks no `pipe/1`: there are no frames, and the multiplexer's end of a direction is its clean end.
    pub is_plain: bool,
}

/// How DRAIN is answered: the meaning of DRAINED differs between the wires of `pipe/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainMode {
    /// At once: by then the drainer has seen every stream of its sender.
    AtOnce,
    /// When all streams that its sender opened are over at both ends.
    WhenIdle,
    /// At once, with the number of streams that its sender has opened, of which some may still be under way.
    Counted,
}
