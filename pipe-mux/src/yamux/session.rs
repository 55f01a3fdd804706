use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use pipe_core::{Error, ErrorKind, Result};
use tokio::io::AsyncRead;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::io::poll_read_buf;

use super::core::Core;
use super::frame::{
    ACK, DATA, FIN, GO_AWAY, HEADER, Header, INTERNAL_ERROR, NORMAL, PING, PROTOCOL_ERROR, RST,
    SYN, WINDOW_UPDATE, broken,
};
use super::handle::YamuxHandle;
use super::limits::Limits;
use super::output::{Output, Writer};
use super::remote::Remote;
use super::stream::YamuxStream;
use crate::muxer::{Muxer, MuxerEvent};
use crate::turns::DriverWaker;

/// How much is read at once while much arrives, in bytes.
const READ_LARGE: usize = 64 * 1024;

/// How much is read at once otherwise, and kept while nothing arrives, in bytes.
const READ_SMALL: usize = 2 * 1024;

/// How often the byte stream is read in a row before other tasks run: what was read is still in the
/// processor's cache when they take it.
const READS: usize = 4;

/// How long large buffers are kept after they were last needed.
const SPARE_AFTER: Duration = Duration::from_millis(50);

/// How many frames are taken in before other tasks run: small ones cost the peer little.
const FRAMES: usize = 1024;

/// How much is read at most of what a peer that has broken the rules still sends, in bytes. Any other is read
/// until its end: a socket that is closed with unread data would take back what it has sent last.
const MAX_LATE_BYTES_OF_A_BREAKER: u64 = 256 * 1024;

/// How long a frame may be whose stream is over or never was, in bytes. What is in it is thrown away.
const MAX_STRAY: u32 = 1 << 20;

/// A yamux connection, as the [specification](https://github.com/hashicorp/yamux/blob/master/spec.md)
/// has it, over the two directions of a byte stream.
pub(crate) struct Yamux<R> {
    reader: R,
    core: Arc<Core>,
    driver: Arc<DriverWaker>,
    client: bool,
    input: BytesMut,
    /// How much to read next.
    appetite: usize,
    /// The data frame whose bytes come next.
    body: Option<Body>,
    events: VecDeque<MuxerEvent<YamuxStream>>,
    /// Bytes that have arrived, ever; a sign of life.
    heard: u64,
    /// The peer's direction of the byte stream has ended.
    ended: bool,
    /// The code of the GoAway that was sent.
    said: Option<u32>,
    /// The peer has introduced itself. Until then there is the control channel alone.
    greeted: bool,
    /// A frame of another stream waits in the input for that.
    waits_for_hello: bool,
    /// Frames and reads that are left of this turn.
    budget: usize,
    reads: usize,
    /// This turn is over: other tasks run first.
    rests: bool,
    /// The input may hold whole frames.
    unparsed: bool,
    /// The peer has broken the rules.
    broken: bool,
    /// Bytes that have come since this side ended the connection.
    late: u64,
    /// Much arrived since the timer was set.
    busy: bool,
    /// Runs while buffers are large.
    spare: Option<Pin<Box<Sleep>>>,
}

struct Body {
    /// None when the stream is over or never was.
    stream: Option<Arc<Remote>>,
    left: usize,
    /// The direction ends behind it.
    fin: bool,
}

impl<R: AsyncRead + Unpin + Send + 'static> Yamux<R> {
    /// Creates the session of a byte stream. `resets` tells whether the drop of a stream that has not ended
    /// tells the peer. A stream of the peer that passes [`Limits::max_streams`] ends the connection, so the
    /// owner keeps this side's below.
    pub(crate) fn new(
        reader: R,
        writer: Writer,
        client: bool,
        limits: Limits,
        resets: bool,
        driver: Arc<DriverWaker>,
    ) -> Self {
        let output = Output::new(writer, driver.clone());
        Self {
            reader,
            driver,
            greeted: limits.control.is_none(),
            waits_for_hello: false,
            budget: FRAMES,
            reads: READS,
            rests: false,
            unparsed: false,
            broken: false,
            late: 0,
            core: Core::new(output, client, limits, resets),
            client,
            input: BytesMut::new(),
            appetite: READ_SMALL,
            body: None,
            events: VecDeque::new(),
            heard: 0,
            ended: false,
            said: None,
            busy: false,
            spare: None,
        }
    }

    /// Reads from the byte stream. Ready with 0 at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.appetite);
        let count = ready!(poll_read_buf(
            Pin::new(&mut self.reader),
            cx,
            &mut self.input
        ))?;
        self.heard += count as u64;
        self.busy |= count > READ_SMALL;
        if count >= self.appetite && self.greeted {
            self.appetite = READ_LARGE;
        }
        Poll::Ready(Ok(count))
    }

    /// Takes in what was read. On a broken rule the peer is told.
    fn take_in(&mut self) -> Result<()> {
        let taken = self.take_frames();
        if let Err(error) = &taken {
            self.broken = true;
            let code = match error.kind() {
                ErrorKind::Protocol => PROTOCOL_ERROR,
                _ => INTERNAL_ERROR,
            };
            self.go_away(code);
        }
        taken
    }

    fn take_frames(&mut self) -> Result<()> {
        loop {
            if let Some(body) = &mut self.body {
                let count = body.left.min(self.input.len());
                match &body.stream {
                    Some(stream) if count > 0 => stream.take(&mut self.input, count),
                    _ => self.input.advance(count),
                }
                body.left -= count;
                if body.left > 0 {
                    return Ok(());
                }
                if let Some(Body {
                    stream: Some(stream),
                    fin: true,
                    ..
                }) = self.body.take()
                {
                    self.take_end(&stream);
                }
            }
            let Some(header) = self.input.first_chunk::<HEADER>() else {
                return Ok(());
            };
            if self.budget == 0 {
                self.unparsed = true;
                return Ok(());
            }
            let header = Header::decode(*header)?;
            if !self.greeted
                && header.stream != 0
                && Some(header.stream) != self.core.limits.control
            {
                self.waits_for_hello = true;
                return Ok(());
            }
            self.budget -= 1;
            self.input.advance(HEADER);
            self.take_frame(header)?;
        }
    }

    fn take_frame(&mut self, header: Header) -> Result<()> {
        match header.kind {
            DATA | WINDOW_UPDATE => self.take_stream_frame(header),
            PING if header.has(SYN) => {
                self.core.output.push(Header {
                    flags: ACK,
                    ..header
                });
                Ok(())
            }
            PING => {
                self.events.push_back(MuxerEvent::Pong(header.length));
                Ok(())
            }
            _ => match header.length {
                NORMAL => {
                    self.events.push_back(MuxerEvent::GoAway);
                    Ok(())
                }
                code => Err(given_up(code)),
            },
        }
    }

    fn take_stream_frame(&mut self, header: Header) -> Result<()> {
        let id = header.stream;
        if header.has(SYN) {
            if (id % 2 == 1) == self.client {
                return Err(broken(&format!(
                    "stream {id} was opened, whose number is not the peer's"
                )));
            }
            match self.core.accept(id)? {
                Some(remote) => {
                    let stream = YamuxStream::new(remote, self.core.clone(), ACK);
                    self.events.push_back(MuxerEvent::Stream(stream));
                }
                None => {
                    self.go_away(INTERNAL_ERROR);
                    return Err(broken("too many streams at once"));
                }
            }
        }
        let stream = self.core.find(id, header.has(ACK));
        if header.kind == DATA {
            match &stream {
                Some(stream) => stream.announce(header.length, &self.core.unread)?,
                None if header.length > MAX_STRAY => {
                    return Err(broken(&format!(
                        "a frame of {} bytes of stream {id}, which is not open",
                        header.length
                    )));
                }
                None => {}
            }
        } else if let Some(stream) = &stream {
            stream.add_credit(header.length)?;
        }
        if header.has(RST) {
            if let Some(stream) = &stream {
                stream.cut();
                self.events.push_back(MuxerEvent::Reset(u64::from(id)));
                self.core.forget(id);
            }
            self.body = body(None, header, false);
            return Ok(());
        }
        self.body = body(stream.clone(), header, header.has(FIN));
        if let (None, Some(stream), true) = (&self.body, stream, header.has(FIN)) {
            self.take_end(&stream);
        }
        Ok(())
    }

    /// The peer's direction of a stream has ended.
    fn take_end(&self, stream: &Remote) {
        if stream.end() {
            self.core.forget(stream.id);
        }
    }

    fn go_away(&mut self, code: u32) {
        if self.said.is_none() {
            self.said = Some(code);
            self.core.output.push(Header {
                kind: GO_AWAY,
                flags: 0,
                stream: 0,
                length: code,
            });
        }
    }

    /// Frees large buffers that have not been needed for a while.
    fn poll_spare(&mut self, cx: &mut Context<'_>) {
        if self.input.capacity() <= READ_SMALL && !self.core.output.is_large() {
            self.spare = None;
            return;
        }
        let spare = self
            .spare
            .get_or_insert_with(|| Box::pin(sleep(SPARE_AFTER)));
        while spare.as_mut().poll(cx).is_ready() {
            self.core.output.trim();
            if !std::mem::take(&mut self.busy) && self.input.is_empty() {
                self.input = BytesMut::new();
                self.appetite = READ_SMALL;
            }
            spare.as_mut().reset(Instant::now() + SPARE_AFTER);
        }
    }
}

/// The bytes behind a header, if there are any.
fn body(stream: Option<Arc<Remote>>, header: Header, fin: bool) -> Option<Body> {
    let left = header.length as usize;
    (header.kind == DATA && left > 0).then_some(Body { stream, left, fin })
}

impl<R: AsyncRead + Unpin + Send + 'static> Muxer for Yamux<R> {
    type Stream = YamuxStream;
    type Handle = YamuxHandle;

    fn handle(&self) -> YamuxHandle {
        YamuxHandle(self.core.clone())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<MuxerEvent<YamuxStream>>>> {
        if self.core.take_room() {
            return Poll::Ready(Ok(Some(MuxerEvent::Room)));
        }
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Ok(Some(event)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            if self.waits_for_hello {
                return Poll::Pending;
            }
            if self.budget == 0 || self.reads == 0 {
                self.rests = true;
                self.driver.rest();
                return Poll::Pending;
            }
            if self.core.output.is_too_much() {
                ready!(self.poll_flush(cx))?;
            }
            if std::mem::take(&mut self.unparsed) {
                self.take_in()?;
                continue;
            }
            self.reads -= 1;
            let Poll::Ready(count) = self.poll_fill(cx).map_err(lost)? else {
                self.poll_spare(cx);
                return Poll::Pending;
            };
            if count > 0 {
                self.take_in()?;
            } else if self.input.is_empty() && self.body.is_none() {
                self.ended = true;
            } else {
                return Poll::Ready(Err(lost(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    fn begin_turn(&mut self) {
        (self.budget, self.reads, self.rests) = (FRAMES, READS, false);
    }

    fn has_rest(&self) -> bool {
        self.rests
    }

    fn waits_for_hello(&self) -> bool {
        self.waits_for_hello
    }

    fn greet(&mut self) {
        self.greeted = true;
        self.unparsed |= std::mem::take(&mut self.waits_for_hello);
    }

    fn condemn(&mut self) {
        self.broken = true;
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.core.output.poll_flush(cx).map_err(lost)
    }

    /// Sends everything, ends the sending direction, and takes in what still comes until the peer's end, up to
    /// a limit.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.go_away(NORMAL);
        ready!(self.core.output.poll_shutdown(cx))?;
        while !self.ended {
            self.input.clear();
            let count = ready!(self.poll_fill(cx))?;
            self.late += count as u64;
            self.ended = count == 0 || self.broken && self.late > MAX_LATE_BYTES_OF_A_BREAKER;
        }
        Poll::Ready(Ok(()))
    }

    fn heard(&self) -> u64 {
        self.heard
    }
}

impl<R> Drop for Yamux<R> {
    fn drop(&mut self) {
        // Streams may live on; the byte stream does not.
        self.core.output.end();
    }
}

/// The error of a peer that has given the connection up.
fn given_up(code: u32) -> Error {
    let why = match code {
        PROTOCOL_ERROR => "it found the yamux protocol broken".to_owned(),
        INTERNAL_ERROR => "it had an internal error".to_owned(),
        code => format!("with code {code}"),
    };
    Error::new(
        ErrorKind::Protocol,
        format!("the peer gave the connection up: {why}"),
    )
}

fn lost(error: io::Error) -> Error {
    // An error with words of its own, such as one of TLS, says more.
    let bare = error.get_ref().is_none();
    let why = if bare && error.kind() == io::ErrorKind::UnexpectedEof {
        "the byte stream ended in the middle of a frame".to_owned()
    } else {
        error.to_string()
    };
    Error::with_source(
        ErrorKind::Failed,
        format!("the connection is lost: {why}"),
        error,
    )
}
