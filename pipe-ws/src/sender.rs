use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pipe_core::backend::first_bytes;
use tokio::io::AsyncWrite;

use crate::decoder::Control;
use crate::frame::{BLOCK, Header, MAX_HEADER, Opcode, Role, apply_mask};
use crate::mask_keys::MaskKeys;

/// Maximum length of the payload of a message that is sent, in bytes. The ends of streams and pings wait behind
/// one message at most. A frame of the multiplexer fits whole, at its largest and with its header: its end would go in
/// a message of its own otherwise, which others wait for.
const MAX_MESSAGE: usize = 65 * 1024;

/// Up to which length a message of a server is copied behind its header, in bytes, instead of being written from
/// where it lies.
const COPIED: usize = 1024;

/// Maximum number of pieces of one vectored write, with the header.
const MAX_PIECES: usize = 17;

/// Maximum capacity of the buffer that is kept between messages, in bytes.
const KEPT: usize = 2 * 1024;

/// Sends bytes in binary messages of one frame each.
///
/// A message is as long as the write that begins it, so small ones leave together where the writer gathers them. A
/// write reports only bytes that the byte stream below took, so that its rate can be measured. So the rest of a message
/// is still to come: after a write that took less than it was given, or that has to wait, the next one has to begin
/// with the same bytes. The multiplexer, which is the only one to write, does so.
pub(crate) struct Sender<W> {
    io: W,
    role: Role,
    keys: MaskKeys,
    /// What is to be sent first: control frames, headers, and payload that was copied.
    out: Vec<u8>,
    /// Number of bytes of `out` that were sent.
    sent: usize,
    /// Number of bytes at the end of `out` that are payload of a write and not reported yet.
    unreported: usize,
    /// Number of bytes of the message that have to be written yet, beyond those in `out`.
    left: usize,
    pong: Option<Control>,
    /// The code with which this side closes.
    code: u16,
    close_sent: bool,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    pub(crate) fn new(io: W, role: Role) -> Self {
        Self {
            io,
            role,
            keys: MaskKeys::new(),
            out: Vec::new(),
            sent: 0,
            unreported: 0,
            left: 0,
            pong: None,
            code: 1000,
            close_sent: false,
        }
    }

    /// Answers a ping, after the message that is under way. A later ping takes the place of one that was not answered
    /// yet.
    pub(crate) fn answer(&mut self, ping: Control) {
        self.pong = Some(ping);
    }

    /// Sets the code of this side's close.
    pub(crate) fn close_with(&mut self, code: u16) {
        self.code = code;
    }

    /// Writes the first bytes of `bufs`, as many as it reports.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        if self.close_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        loop {
            if self.unreported > 0 {
                return self.poll_report(cx);
            }
            ready!(self.poll_out(cx))?;
            if self.left > 0 {
                return self.poll_rest(cx, bufs);
            }
            if self.stage_pong()? {
                continue;
            }
            let length = total.min(MAX_MESSAGE);
            if self.role == Role::Client || length <= COPIED || !self.io.is_write_vectored() {
                self.stage(Opcode::Binary, length, first_bytes(bufs, length))?;
                self.unreported = length;
                continue;
            }
            return self.poll_begin(cx, bufs, length);
        }
    }

    /// Sends what was copied, and reports how much of it was payload.
    fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.unreported;
        loop {
            let done = self.poll_out_once(cx);
            let unsent = self.out.len() - self.sent;
            self.unreported = before.min(unsent);
            let reported = before - self.unreported;
            match done {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                _ if reported > 0 => return Poll::Ready(Ok(reported)),
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Begins a message of a server, from where its payload lies.
    fn poll_begin(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let mut header = [0; MAX_HEADER];
        let len = self
            .header(Opcode::Binary, length, None)
            .encode(&mut header);
        let header = &header[..len];
        let mut pieces = [IoSlice::new(header); MAX_PIECES];
        let mut count = 1;
        for (piece, body) in pieces[1..].iter_mut().zip(pieces_of(bufs, length)) {
            *piece = IoSlice::new(body);
            count += 1;
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, &pieces[..count]);
        let written = ready!(written)?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let reported = written.saturating_sub(len);
        self.left = length - reported;
        if let Some(rest) = header.get(written..) {
            self.out.extend_from_slice(rest);
        }
        if reported > 0 {
            return Poll::Ready(Ok(reported));
        }
        ready!(self.poll_out(cx))?;
        self.poll_rest(cx, bufs)
    }

    /// Goes on with a message of a server.
    fn poll_rest(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
        let mut count = 0;
        for (piece, body) in pieces.iter_mut().zip(pieces_of(bufs, self.left)) {
            *piece = IoSlice::new(body);
            count += 1;
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &pieces[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.left -= written;
        Poll::Ready(Ok(written))
    }

    /// Sends the answers that are due, as far as the byte stream takes them now.
    pub(crate) fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.close_sent {
            return Poll::Ready(Ok(()));
        }
        if self.unreported > 0 || self.left > 0 {
            // It goes behind the message, with the write that ends this.
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_out(cx))?;
        if self.stage_pong()? {
            ready!(self.poll_out(cx))?;
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unreported == 0 {
            ready!(self.poll_out(cx))?;
            if self.left == 0 && self.stage_pong()? {
                ready!(self.poll_out(cx))?;
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Sends the close of this side, and ends the sending direction of the byte stream below: nothing follows a close,
    /// and a peer that does not answer it still learns of the end.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.close_sent {
            if self.unreported > 0 || self.left > 0 {
                let why = "a message was not written to its end";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, why)));
            }
            ready!(self.poll_out(cx))?;
            let code = self.code.to_be_bytes();
            self.stage(Opcode::Close, code.len(), [&code[..]].into_iter())?;
            self.close_sent = true;
        }
        ready!(self.poll_out(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Puts the answer to a ping behind what is to be sent.
    fn stage_pong(&mut self) -> io::Result<bool> {
        let Some(pong) = self.pong.take() else {
            return Ok(false);
        };
        let payload = pong.payload();
        self.stage(Opcode::Pong, payload.len(), [payload].into_iter())?;
        Ok(true)
    }

    /// Puts a frame behind what is to be sent, masked where this side has to.
    fn stage<'a>(
        &mut self,
        opcode: Opcode,
        length: usize,
        payload: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<()> {
        let mask = match self.role {
            Role::Client => Some(self.keys.next()?),
            Role::Server => None,
        };
        let mut header = [0; MAX_HEADER];
        let len = self.header(opcode, length, mask).encode(&mut header);
        self.out.reserve(len + length);
        self.out.extend_from_slice(&header[..len]);
        let mut offset = 0;
        for block in payload.flat_map(|piece| piece.chunks(BLOCK)) {
            let at = self.out.len();
            self.out.extend_from_slice(block);
            if let Some(mask) = mask {
                apply_mask(&mut self.out[at..], mask, offset);
                offset += block.len();
            }
        }
        Ok(())
    }

    fn header(&self, opcode: Opcode, length: usize, mask: Option<[u8; 4]>) -> Header {
        Header {
            is_final: true,
            opcode,
            mask,
            length: length as u64,
        }
    }

    /// Sends what is to be sent first, all of it.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            ready!(self.poll_out_once(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends some of what is to be sent first.
    fn poll_out_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let unsent = &self.out[self.sent..];
        match ready!(Pin::new(&mut self.io).poll_write(cx, unsent))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => self.sent += count,
        }
        if self.sent == self.out.len() {
            self.sent = 0;
            self.out.clear();
            if self.out.capacity() > KEPT {
                self.out = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the first bytes of `bufs`, without empty pieces.
fn pieces_of<'a>(bufs: &'a [IoSlice<'_>], length: usize) -> impl Iterator<Item = &'a [u8]> {
    first_bytes(bufs, length).filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::decoder::{Decoder, End};

    /// Takes bytes up to a limit in each round, and then none.
    struct Sink {
        bytes: Vec<u8>,
        room: usize,
        vectored: bool,
        is_shut: bool,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            if self.room == 0 {
                return Poll::Pending;
            }
            let before = self.bytes.len();
            for piece in first_bytes(bufs, self.room) {
                self.bytes.extend_from_slice(piece);
            }
            let count = self.bytes.len() - before;
            self.room -= count;
            Poll::Ready(Ok(count))
        }

        fn is_write_vectored(&self) -> bool {
            self.vectored
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.is_shut = true;
            Poll::Ready(Ok(()))
        }
    }

    fn sender(role: Role, vectored: bool) -> Sender<Sink> {
        let sink = Sink {
            bytes: Vec::new(),
            room: 0,
            vectored,
            is_shut: false,
        };
        Sender::new(sink, role)
    }

    /// Decodes what was sent: the payload, the pings, and the code of the close.
    fn decode(sender: &Sender<Sink>) -> (Vec<u8>, Option<u16>) {
        let mut decoder = Decoder::new(match sender.role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        });
        let mut bytes = sender.io.bytes.clone();
        let decoded = decoder.decode(&mut bytes);
        let code = match decoded.end {
            Some(End::Closed(close)) => close.code,
            Some(End::Broken(violation)) => panic!("{violation}"),
            None => None,
        };
        bytes.truncate(decoded.data);
        (bytes, code)
    }

    fn ping(payload: &[u8]) -> Control {
        let header = Header {
            is_final: true,
            opcode: Opcode::Ping,
            mask: None,
            length: payload.len() as u64,
        };
        let mut bytes = [0; MAX_HEADER];
        let len = header.encode(&mut bytes);
        let mut frame = [&bytes[..len], payload].concat();
        let decoded = Decoder::new(Role::Client).decode(&mut frame);
        decoded.ping.expect("a ping")
    }

    /// Writes all bytes, with so much room in each round.
    fn write_all(sender: &mut Sender<Sink>, bytes: &[u8], room: usize) {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut rest = bytes;
        while !rest.is_empty() {
            let (front, back) = rest.split_at(rest.len() / 3);
            let bufs = [front, &[], back].map(IoSlice::new);
            let before = sender.io.bytes.len();
            match sender.poll_write(cx, &bufs) {
                Poll::Ready(Ok(count)) => {
                    let taken = sender.io.bytes.len() - before;
                    assert!(count > 0 && count <= taken, "{count} of {taken}");
                    rest = &rest[count..];
                }
                Poll::Ready(Err(error)) => panic!("{error}"),
                Poll::Pending => sender.io.room = room,
            }
        }
    }

    #[test]
    fn payload_arrives_however_little_the_byte_stream_takes() {
        let bytes: Vec<u8> = (0..3 * MAX_MESSAGE + 5).map(|i| (i / 3) as u8).collect();
        for role in [Role::Client, Role::Server] {
            for vectored in [true, false] {
                for (len, room) in [
                    (1, 1),
                    (COPIED, 1),
                    (COPIED + 1, 1),
                    (COPIED + 1, 3),
                    (COPIED + 1, usize::MAX / 2),
                    (bytes.len(), 7),
                    (bytes.len(), 5000),
                    (bytes.len(), usize::MAX / 2),
                ] {
                    let mut sender = sender(role, vectored);
                    write_all(&mut sender, &bytes[..len], room);
                    let (data, code) = decode(&sender);
                    assert!(data == bytes[..len], "{role:?}, {len} bytes by {room}");
                    assert_eq!(code, None);
                    assert!(sender.out.capacity() <= KEPT);
                }
            }
        }
    }

    #[test]
    fn a_pong_waits_for_the_end_of_a_message() {
        let cx = &mut Context::from_waker(Waker::noop());
        for role in [Role::Client, Role::Server] {
            let bytes = vec![7; 10_000];
            let mut sender = sender(role, true);
            sender.io.room = 100;
            let written = sender.poll_write(cx, &[IoSlice::new(&bytes)]);
            let Poll::Ready(Ok(written)) = written else {
                panic!("{written:?}");
            };
            sender.answer(ping(b"one"));
            sender.answer(ping(b"two"));
            assert!(sender.poll_answers(cx).is_ready());
            assert_eq!(sender.io.bytes.len(), 100);
            write_all(&mut sender, &bytes[written..], 50_000);
            sender.io.room = 1000;
            assert!(matches!(sender.poll_flush(cx), Poll::Ready(Ok(()))));
            let (data, _) = decode(&sender);
            assert!(data == bytes);
            // The last frame is the pong to the last ping.
            let sent = &sender.io.bytes;
            let pong = match role {
                Role::Server => sent[sent.len() - 5..].to_vec(),
                Role::Client => {
                    let mut pong = sent[sent.len() - 9..].to_vec();
                    let mask = [pong[2], pong[3], pong[4], pong[5]];
                    apply_mask(&mut pong[6..], mask, 0);
                    [&[pong[0], pong[1] & 0x7f], &pong[6..]].concat()
                }
            };
            assert_eq!(pong, [0x8a, 3, b't', b'w', b'o']);
        }
    }

    #[test]
    fn a_close_is_sent_once_and_ends_the_byte_stream() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut sender = sender(Role::Server, true);
        sender.io.room = 3;
        sender.close_with(1002);
        assert!(sender.poll_shutdown(cx).is_pending());
        assert!(!sender.io.is_shut);
        sender.io.room = 10;
        assert!(matches!(sender.poll_shutdown(cx), Poll::Ready(Ok(()))));
        assert!(matches!(sender.poll_shutdown(cx), Poll::Ready(Ok(()))));
        assert!(sender.io.is_shut);
        assert_eq!(sender.io.bytes, [0x88, 2, 3, 0xea]);
        let written = sender.poll_write(cx, &[IoSlice::new(b"late")]);
        assert!(
            matches!(written, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }
}
