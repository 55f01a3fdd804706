//! What client and server say to each other: [`Request`] and [`Answer`], in frames.
//!
//! A frame is its length (`u32`), then that many bytes: one that tells the message, then the fields.
//! Numbers are big-endian; a text is its length (`u16`) and UTF-8. Each stream carries one request:
//!
//! | Request | Answer |
//! |---|---|
//! | `List` | an `Entry` for each file and folder, then the end of the stream |
//! | `Get` a path | `File` with the size, then the [body](crate::body) |
//! | `Put` a path of some size, then the body | `Stored`, with what the server got |
//! | `MakeFolder` at a path | `Made` |
//!
//! `Refused` may come instead of each answer.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::body::Digest;
use crate::rel_path::{MAX_PATH_LEN, RelPath};

/// How long a frame may be, without its length. A longer one is refused unread.
pub(crate) const MAX_FRAME_LEN: usize = MAX_PATH_LEN + 64;

/// How long the text of a [`Answer::Refused`] may be, in bytes. The rest is cut.
const MAX_WHY_LEN: usize = 1024;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    List,
    Get { path: RelPath },
    Put { path: RelPath, size: u64 },
    MakeFolder { path: RelPath },
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Refused { why: String },
    Entry(Entry),
    File { size: u64 },
    Stored { digest: Digest },
    Made,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    File { path: RelPath, size: u64 },
    Folder { path: RelPath },
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, size } => write!(f, "{path} ({size} bytes)"),
            Self::Folder { path } => write!(f, "{path}/"),
        }
    }
}

impl Request {
    const LIST: u8 = 1;
    const GET: u8 = 2;
    const PUT: u8 = 3;
    const MAKE_FOLDER: u8 = 4;

    /// The request as a frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::List => Frame::new(Self::LIST),
            Self::Get { path } => Frame::new(Self::GET).text(path.as_str()),
            Self::Put { path, size } => Frame::new(Self::PUT).number(*size).text(path.as_str()),
            Self::MakeFolder { path } => Frame::new(Self::MAKE_FOLDER).text(path.as_str()),
        }
        .finish()
    }

    /// Reads a request.
    ///
    /// # Errors
    ///
    /// `InvalidData` when what comes is no request, or names a bad path.
    pub(crate) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Self> {
        let frame = read_frame(from)
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut fields = Fields(&frame);
        let request = match fields.byte()? {
            Self::LIST => Self::List,
            Self::GET => Self::Get {
                path: fields.path()?,
            },
            Self::PUT => Self::Put {
                size: fields.number()?,
                path: fields.path()?,
            },
            Self::MAKE_FOLDER => Self::MakeFolder {
                path: fields.path()?,
            },
            other => return Err(invalid(format!("unknown request {other}"))),
        };
        fields.end()?;
        Ok(request)
    }
}

impl Answer {
    const REFUSED: u8 = 1;
    const ENTRY_FILE: u8 = 2;
    const ENTRY_FOLDER: u8 = 3;
    const FILE: u8 = 4;
    const STORED: u8 = 5;
    const MADE: u8 = 6;

    /// The answer as a frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Refused { why } => {
                let mut end = why.len().min(MAX_WHY_LEN);
                while !why.is_char_boundary(end) {
                    end -= 1;
                }
                Frame::new(Self::REFUSED).text(&why[..end])
            }
            Self::Entry(Entry::File { path, size }) => Frame::new(Self::ENTRY_FILE)
                .number(*size)
                .text(path.as_str()),
            Self::Entry(Entry::Folder { path }) => {
                Frame::new(Self::ENTRY_FOLDER).text(path.as_str())
            }
            Self::File { size } => Frame::new(Self::FILE).number(*size),
            Self::Stored { digest } => Frame::new(Self::STORED).bytes(digest),
            Self::Made => Frame::new(Self::MADE),
        }
        .finish()
    }

    /// Reads an answer; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// `InvalidData` when what comes is no answer, or names a bad path.
    pub(crate) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Option<Self>> {
        let Some(frame) = read_frame(from).await? else {
            return Ok(None);
        };
        let mut fields = Fields(&frame);
        let answer = match fields.byte()? {
            Self::REFUSED => Self::Refused {
                why: fields.text()?.to_owned(),
            },
            Self::ENTRY_FILE => Self::Entry(Entry::File {
                size: fields.number()?,
                path: fields.path()?,
            }),
            Self::ENTRY_FOLDER => Self::Entry(Entry::Folder {
                path: fields.path()?,
            }),
            Self::FILE => Self::File {
                size: fields.number()?,
            },
            Self::STORED => Self::Stored {
                digest: fields.array()?,
            },
            Self::MADE => Self::Made,
            other => return Err(invalid(format!("unknown answer {other}"))),
        };
        fields.end()?;
        Ok(Some(answer))
    }
}

/// A frame that is being written.
struct Frame(Vec<u8>);

impl Frame {
    fn new(tag: u8) -> Self {
        Self(vec![0, 0, 0, 0, tag])
    }

    fn number(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Adds a text, of at most `u16::MAX` bytes.
    fn text(self, text: &str) -> Self {
        let len = u16::try_from(text.len()).expect("texts are bounded by the types that hold them");
        self.bytes(&len.to_be_bytes()).bytes(text.as_bytes())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len() - 4).expect("a frame is short");
        self.0[..4].copy_from_slice(&len.to_be_bytes());
        self.0
    }
}

/// Reads a frame; `None` when the stream ends before it.
async fn read_frame<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Option<Vec<u8>>> {
    let mut len = [0; 4];
    if from.read(&mut len[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut len[1..]).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > MAX_FRAME_LEN {
        return Err(invalid(format!(
            "a frame of {len} bytes, and {MAX_FRAME_LEN} are allowed"
        )));
    }
    let mut frame = vec![0; len];
    from.read_exact(&mut frame).await?;
    Ok(Some(frame))
}

/// What is left of a frame that is being read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn byte(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn number(&mut self) -> io::Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn path(&mut self) -> io::Result<RelPath> {
        RelPath::parse(self.text()?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn text(&mut self) -> io::Result<&'a str> {
        let len = u16::from_be_bytes(self.array()?);
        let (text, rest) = self
            .0
            .split_at_checked(len.into())
            .ok_or_else(|| invalid("a frame that is too short".to_owned()))?;
        self.0 = rest;
        str::from_utf8(text).map_err(|_| invalid("a text that is not UTF-8".to_owned()))
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| invalid("a frame that is too short".to_owned()))?;
        self.0 = rest;
        Ok(*array)
    }

    fn end(self) -> io::Result<()> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(invalid("a frame that is too long".to_owned()))
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).unwrap()
    }

    #[tokio::test]
    async fn every_message_is_read_as_it_was_written() {
        let longest = "ä".repeat(MAX_PATH_LEN / 2);
        for request in [
            Request::List,
            Request::Get { path: path("a/b") },
            Request::Put {
                path: path(&longest),
                size: u64::MAX,
            },
            Request::MakeFolder { path: path("c") },
        ] {
            let frame = request.encode();
            assert_eq!(Request::read(&mut &frame[..]).await.unwrap(), request);
        }
        for answer in [
            Answer::Refused {
                why: "no such file".to_owned(),
            },
            Answer::Entry(Entry::File {
                path: path("a"),
                size: 0,
            }),
            Answer::Entry(Entry::Folder { path: path("b") }),
            Answer::File { size: 1 },
            Answer::Stored { digest: [7; 32] },
            Answer::Made,
        ] {
            let frame = answer.encode();
            assert_eq!(Answer::read(&mut &frame[..]).await.unwrap(), Some(answer));
        }
        assert_eq!(Answer::read(&mut &[][..]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_long_refusal_is_cut_between_characters() {
        let why = "x".to_owned() + &"ä".repeat(MAX_WHY_LEN);
        let frame = Answer::Refused { why }.encode();
        let Some(Answer::Refused { why }) = Answer::read(&mut &frame[..]).await.unwrap() else {
            panic!("it was a refusal");
        };
        assert_eq!(why.len(), MAX_WHY_LEN - 1);
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused() {
        let cases: [(&[u8], &str); 8] = [
            (&[], "unexpected end of file"),
            (&[0, 0], "early eof"),
            (&[0xff, 0xff, 0xff, 0xff], "a frame of 4294967295 bytes"),
            (&[0, 0, 0, 0], "a frame that is too short"),
            (&[0, 0, 0, 1, 99], "unknown request 99"),
            (&[0, 0, 0, 2, 1, 0], "a frame that is too long"),
            (&[0, 0, 0, 4, 2, 0, 9, b'a'], "a frame that is too short"),
            (&[0, 0, 0, 5, 2, 0, 2, b'.', b'.'], "bad path \"..\""),
        ];
        for (bytes, expected) in cases {
            let error = Request::read(&mut &bytes[..])
                .await
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{bytes:?}: {error}");
        }
    }
}
