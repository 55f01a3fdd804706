//! Processing of the peer's frames, for the driver.

use pipe_core::backend::proto::Stream;
use pipe_core::backend::{SessionConn, now};
use pipe_core::{Error, ErrorKind, Result, Wire};
use tokio::io::AsyncRead;

use crate::control::ControlStream;
use crate::driver::{Body, Driver, Receiver};
use crate::stream_inner::{StreamRef, StreamState, wake};
use crate::yamux::frame::{
    ACK, DATA, FIN, INTERNAL_ERROR, NORMAL, PING, PROTOCOL_ERROR, RST, SYN, WINDOW_UPDATE,
};
use crate::yamux::{CONTROL, Header, broken};

/// Maximum length of a frame for a stream that is over or never was, in bytes. Its body is
/// discarded.
const MAX_STRAY: u32 = 1 << 20;

/// Maximum number of unacknowledged streams of the peer. Some implementations stop opening at 256.
const MAX_UNANSWERED: usize = 64;

impl<R: AsyncRead + Unpin + Send + 'static> Driver<R> {
    /// Processes the frames that have arrived. A broken rule is reported to the peer.
    pub(crate) fn take_frames(&mut self) -> Result<()> {
        let taken = self.try_take_frames();
        if let Err(error) = &taken {
            self.blame(error);
        }
        taken
    }

    fn try_take_frames(&mut self) -> Result<()> {
        while !self.is_gone {
            if self.body.is_some() && !self.take_body()? {
                return Ok(());
            }
            let Some(header) = self.input.next_header()? else {
                return Ok(());
            };
            self.take_frame(header)?;
        }
        Ok(())
    }

    fn take_frame(&mut self, header: Header) -> Result<()> {
        match header.kind {
            DATA | WINDOW_UPDATE if self.is_control(header.stream) => {
                self.take_control_frame(header)
            }
            DATA | WINDOW_UPDATE if !self.is_greeted => {
                let why = "the peer broke the protocol: a stream before its hello";
                Err(Error::new(ErrorKind::Handshake, why))
            }
            DATA | WINDOW_UPDATE => self.take_stream_frame(header),
            PING if header.has(SYN) => {
                self.conn.output.push(Header {
                    flags: ACK,
                    ..header
                });
                Ok(())
            }
            PING => {
                if self.conn.wire == Wire::Raw {
                    self.conn.on_yamux_pong(header.length);
                }
                Ok(())
            }
            _ if header.length != NORMAL => Err(given_up(header.length)),
            // Nothing comes behind it but the end of the byte stream.
            _ if self.conn.wire == Wire::Pipe => {
                self.is_gone = true;
                Ok(())
            }
            _ => {
                self.is_leaving = true;
                self.conn.on_go_away();
                Ok(())
            }
        }
    }

    fn is_control(&self, id: u32) -> bool {
        id == CONTROL && self.conn.wire == Wire::Pipe
    }

    fn take_control_frame(&mut self, header: Header) -> Result<()> {
        if self.control.is_none() && header.has(SYN) {
            self.control = Some(ControlStream::new(false, &self.conn.limits));
            self.conn.call_driver();
        }
        let Some(control) = &mut self.control else {
            return Err(Error::new(
                ErrorKind::Handshake,
                "the peer broke the protocol: bytes of a control channel that it did not open",
            ));
        };
        if header.kind == WINDOW_UPDATE {
            control.add_credit(header.length)?;
            self.conn.call_driver();
        } else {
            control.begin_frame(header.length)?;
        }
        if header.has(RST) {
            let why = "the peer reset the control channel";
            return Err(Error::new(ErrorKind::Failed, why));
        }
        self.begin_body(Receiver::Control, header)
    }

    fn take_stream_frame(&mut self, header: Header) -> Result<()> {
        let id = header.stream;
        if header.has(SYN) {
            self.take_stream(id)?;
        }
        let stream = self.stream(id);
        let Some(stream) = stream else {
            if header.kind == DATA && header.length > MAX_STRAY {
                return Err(broken(&format!(
                    "a frame of {} bytes of stream {id}, which is not open",
                    header.length
                )));
            }
            return self.begin_body(Receiver::Nowhere, header);
        };
        let mut state = stream.lock();
        let is_answer = header.has(ACK | FIN | RST) && !state.is_answered;
        let mut woken = [None, None];
        if header.kind == DATA {
            state.begin_frame(header.length, &self.conn.limits, &self.conn.unread)?;
        } else {
            woken[0] = state.add_credit(header.length)?;
        }
        if header.has(RST) {
            if self.conn.wire == Wire::Pipe {
                return Err(broken(&format!("stream {id} was reset without a message")));
            }
            woken = state.on_reset();
        }
        drop(state);
        if header.has(RST) {
            self.conn.update(&stream);
        }
        woken.into_iter().for_each(wake);
        if is_answer {
            self.conn.on_ack(&stream);
        }
        let to = if header.has(RST) {
            Receiver::Nowhere
        } else {
            Receiver::Stream(stream)
        };
        self.begin_body(to, header)
    }

    /// Returns the stream of a number, if it is not over.
    fn stream(&mut self, id: u32) -> Option<StreamRef> {
        if let Some(last) = &self.last
            && last.id == u64::from(id)
        {
            return Some(last.clone());
        }
        let found = self.conn.state.lock().session.stream(id.into()).cloned();
        self.last.clone_from(&found);
        found
    }

    /// Opens a stream of the peer.
    fn take_stream(&mut self, id: u32) -> Result<()> {
        let conn = self.conn.clone();
        let mut locked = conn.state.lock();
        if locked.session.is_local(id.into()) {
            return Err(broken(&format!(
                "stream {id} was opened, whose number is not the peer's"
            )));
        }
        let mut proto = Stream::remote(id.into()).with_credit_threshold(conn.credit_threshold);
        if conn.wire == Wire::Raw {
            self.late_numbers.take(id)?;
            if !locked.session.has_room() {
                // The limit is not sent to a plain peer.
                drop(locked);
                tracing::debug!(id, "a stream beyond the limit is refused");
                conn.refuse(id);
                return Ok(());
            }
            proto = proto.into_plain();
        }
        let stream = StreamState::new(proto, &conn.limits, None);
        locked.session.accept(&stream)?;
        conn.settle(locked);
        self.acknowledge(&stream);
        self.last = Some(stream.clone());
        // A queue that is closed belongs to a connection that is ending.
        let _ = conn.backlog.push(stream);
        Ok(())
    }

    /// Acknowledges the peer's stream: at once, or together with others.
    fn acknowledge(&mut self, stream: &StreamRef) {
        let conn = &self.conn;
        if conn.wire == Wire::Raw {
            return stream.lock().announce(&conn.limits, &conn.output);
        }
        self.unanswered.push(stream.id);
        if self.unanswered.len() < MAX_UNANSWERED {
            return;
        }
        for id in std::mem::take(&mut self.unanswered) {
            let stream = conn.state.lock().session.stream(id).cloned();
            if let Some(stream) = stream {
                stream.lock().announce(&conn.limits, &conn.output);
            }
        }
    }

    /// Begins the body of a frame, and the end behind it.
    fn begin_body(&mut self, to: Receiver, header: Header) -> Result<()> {
        let left = if header.kind == DATA {
            header.length as usize
        } else {
            0
        };
        let fin = header.has(FIN) && !header.has(RST);
        if left == 0 {
            return if fin { self.take_end(&to) } else { Ok(()) };
        }
        self.body = Some(Body { to, left, fin });
        Ok(())
    }

    /// Takes the part of the body that has come. Returns whether that is all.
    fn take_body(&mut self) -> Result<bool> {
        let Some(mut body) = self.body.take() else {
            return Ok(true);
        };
        let count = body.left.min(self.input.bytes.len());
        if count > 0 {
            match &body.to {
                Receiver::Control => self.take_control_bytes(count)?,
                Receiver::Stream(stream) => {
                    let mut state = stream.lock();
                    let reader = state.take_bytes(&mut self.input.bytes, count);
                    let update = if state.proto.recv().takes_bytes() {
                        None
                    } else {
                        state.window_update(&self.conn.limits)
                    };
                    drop(state);
                    if let Some(update) = update {
                        self.conn.output.push(update);
                    }
                    wake(reader);
                }
                Receiver::Nowhere => self.discard(count),
            }
        }
        body.left -= count;
        if body.left > 0 {
            self.body = Some(body);
            return Ok(false);
        }
        if body.fin {
            self.take_end(&body.to)?;
        }
        Ok(true)
    }

    /// Notes that the peer's direction of a stream has ended.
    fn take_end(&mut self, to: &Receiver) -> Result<()> {
        match to {
            Receiver::Nowhere => Ok(()),
            Receiver::Control => {
                if self.conn.status.reason().is_some() {
                    return Ok(());
                }
                let why = "the peer ended the control channel without closing the connection";
                Err(Error::new(ErrorKind::Failed, why))
            }
            Receiver::Stream(stream) => {
                let mut state = stream.lock();
                let reader = state.on_fin()?;
                drop(state);
                self.conn.update(stream);
                wake(reader);
                Ok(())
            }
        }
    }

    fn take_control_bytes(&mut self, count: usize) -> Result<()> {
        let conn = &self.conn;
        let Some(control) = &mut self.control else {
            self.input.bytes.clear();
            return Ok(());
        };
        control.take_bytes(&mut self.input.bytes, count, &conn.limits, &conn.output);
        let now = now();
        let mut locked = conn.state.lock();
        // Nothing counts behind a close.
        while !locked.session.is_ended() {
            let frame = match control.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(violation) => return Err(locked.session.blame(violation).into()),
            };
            locked.session.handle_frame(frame, now)?;
        }
        if locked.session.is_ended() {
            control.discard_input();
        }
        let is_greeted = locked.session.peer().is_some();
        conn.settle(locked);
        if is_greeted && !self.is_greeted {
            self.is_greeted = true;
            self.tell_ready(Ok(()));
        }
        Ok(())
    }
}

/// Returns the error of a peer that has aborted the connection.
fn given_up(code: u32) -> Error {
    let why = match code {
        PROTOCOL_ERROR => "it found the yamux protocol broken".to_owned(),
        INTERNAL_ERROR => "it had an internal error".to_owned(),
        code => format!("with code {code}"),
    };
    Error::new(
        ErrorKind::Protocol,
        format!("the peer aborted the connection: {why}"),
    )
}
