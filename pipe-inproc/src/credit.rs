/// What the writer of a stream learns of the reader's windows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credit {
    /// How many bytes were read and not returned before.
    pub(crate) read: u32,
    /// By how many bytes the window of the stream has grown.
    pub(crate) growth: u32,
    /// By how many bytes all windows have grown.
    pub(crate) all_growth: u64,
}
