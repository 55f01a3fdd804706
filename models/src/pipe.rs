/// One direction of a stream, of which the end of a stream takes no notice.
#[derive(Default)]
pub(crate) struct Pipe;
