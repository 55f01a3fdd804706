use std::collections::VecDeque;
use std::fmt;

// ANCHOR: call
/// What a dialer tells the listener: the number in the names of the two FIFOs that it has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call(pub(crate) u64);

const DIGITS: usize = 16;

impl Call {
    /// As it is written into the listener's FIFO. A write this short is never mixed with that of
    /// another process (pipe(7), `PIPE_BUF`), and the first newline ends whatever somebody else has
    /// left unfinished.
    pub(crate) fn line(self) -> String {
        format!("\n{self}\n")
    }

    /// Only digits: what becomes a part of a path must have no slashes and no dots.
    fn parse(line: &[u8]) -> Option<Self> {
        let text = str::from_utf8(line).ok()?;
        let is_call = text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_call.then(|| u64::from_str_radix(text, 16))?;
        number.ok().map(Self)
    }
}
// ANCHOR_END: call

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}", self.0)
    }
}

// ANCHOR: calls
/// Finds the calls in what arrives. Lines that are none are passed over, and memory for one line is all
/// that they take.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    line: Vec<u8>,
    found: VecDeque<Call>,
}

impl Calls {
    pub(crate) fn take_in(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.found.extend(Call::parse(&self.line));
                self.line.clear();
            } else if self.line.len() <= DIGITS {
                self.line.push(byte);
            }
        }
    }

    pub(crate) fn next(&mut self) -> Option<Call> {
        self.found.pop_front()
    }
}
// ANCHOR_END: calls

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> Vec<Call> {
        let mut calls = Calls::default();
        for part in bytes.chunks(5) {
            calls.take_in(part);
        }
        std::iter::from_fn(|| calls.next()).collect()
    }

    #[test]
    fn calls_are_found_among_anything_else() {
        let (a, b) = (Call(7), Call(u64::MAX));
        let mut text = a.line() + &b.line();
        assert_eq!(found(text.as_bytes()), [a, b]);
        text.insert_str(0, "half a line");
        text.push_str("\n../../etc/passwd\n+00000000000000a\n0\n");
        assert_eq!(found(text.as_bytes()), [a, b]);
        assert_eq!(
            found(&[b"\xff\0".repeat(10_000), b.line().into()].concat()),
            [b]
        );
    }
}
