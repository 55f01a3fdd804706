//! The messages by which a dialer and a listener find each other. They are lines of ASCII: words with a space between them,
//! and further words are for later versions.

use bytes::Bytes;

/// The first word.
const PROTOCOL: &str = "pipe.1";

/// Maximum length of a message, in bytes.
const MAX_LEN: usize = 1024;

/// Maximum length of a dialer's name, in characters.
const MAX_NAME: usize = 32;

/// What a dialer asks for on the subject of a listener. The reply subject is its inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The name for its address: letters and digits.
    pub(crate) name: String,
}

/// The answer of a listener in the dialer's inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The reply subject is the inbox for this connection.
    Welcome,
    /// This listener has no room now.
    Busy,
    /// This listener does not want the connection.
    Refused,
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        format!("{PROTOCOL} dial {}", self.name).into()
    }

    /// Reads a request. `None` for anything else.
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        let mut words = words(message)?;
        let (Some("dial"), Some(name)) = (words.next(), words.next()) else {
            return None;
        };
        let is_name = name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric());
        is_name.then(|| Self {
            name: name.to_owned(),
        })
    }
}

impl Answer {
    pub(crate) fn encode(self) -> Bytes {
        let word = match self {
            Self::Welcome => "welcome",
            Self::Busy => "busy",
            Self::Refused => "refused",
        };
        format!("{PROTOCOL} {word}").into()
    }

    /// Reads an answer. `None` for anything else.
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        match words(message)?.next()? {
            "welcome" => Some(Self::Welcome),
            "busy" => Some(Self::Busy),
            "refused" => Some(Self::Refused),
            _ => None,
        }
    }
}

/// Returns the words behind the first one.
fn words(message: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let text = message.get(..message.len().min(MAX_LEN))?;
    let mut words = str::from_utf8(text).ok()?.split(' ');
    (words.next() == Some(PROTOCOL)).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_from_their_bytes() {
        let request = Request {
            name: "00ff".into(),
        };
        assert_eq!(&request.encode()[..], b"pipe.1 dial 00ff");
        assert_eq!(Request::decode(&request.encode()), Some(request.clone()));
        let later = b"pipe.1 dial 00ff and more";
        assert_eq!(Request::decode(later), Some(request));
        for answer in [Answer::Welcome, Answer::Busy, Answer::Refused] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn anything_else_is_none() {
        let long = format!("pipe.1 dial {}", "a".repeat(MAX_NAME + 1));
        for message in [
            &b""[..],
            b"pipe.2 dial 00ff",
            b"pipe.1",
            b"pipe.1 dial",
            b"pipe.1 dial a/b",
            b"pipe.1 dial \xff",
            long.as_bytes(),
        ] {
            assert_eq!(Request::decode(message), None);
            assert_eq!(Answer::decode(message), None);
        }
    }
}
