use std::sync::Arc;

use pipe_core::Result;

use super::core::Core;
use super::frame::{Header, PING, SYN};
use super::stream::YamuxStream;
use crate::muxer::MuxerHandle;

/// Opens streams of a yamux connection.
#[derive(Clone)]
pub(crate) struct YamuxHandle(pub(super) Arc<Core>);

impl MuxerHandle for YamuxHandle {
    type Stream = YamuxStream;

    fn open(&self) -> Result<Option<YamuxStream>> {
        let opened = self.0.open()?;
        Ok(opened.map(|remote| YamuxStream::new(remote, self.0.clone(), SYN)))
    }

    fn ping(&self, value: u32) {
        self.0.output.push(Header {
            kind: PING,
            flags: SYN,
            stream: 0,
            length: value,
        });
    }
}
