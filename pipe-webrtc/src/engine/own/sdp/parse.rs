use std::result::Result as StdResult;
use std::str::FromStr;

use pipe_core::{Error, Result};

use super::{
    CHANNELS, Credentials, Description, Fingerprint, MAX_CANDIDATE_LEN, MAX_CANDIDATES,
    MAX_FINGERPRINTS, MAX_LEN, MAX_MID, MAX_SECTIONS, OtherSection, SCTP_PORT, Session, Setup,
    Transport, UNNAMED_MESSAGE, unusable,
};

impl FromStr for Description {
    type Err = Error;

    /// Parses a description of a peer. Attributes that data channels do not need are skipped, and
    /// candidates beyond [`MAX_CANDIDATES`].
    ///
    /// # Errors
    ///
    /// [`Handshake`](pipe_core::ErrorKind::Handshake), which names the line.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_LEN {
            let why = format!("it has {} bytes, where {MAX_LEN} are admitted", text.len());
            return Err(unusable(1, why));
        }
        let mut parser = Parser::default();
        let mut last = 1;
        for (at, line) in (1..).zip(text.split('\n')) {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if at == 1 && line != "v=0" {
                return Err(unusable(
                    1,
                    "it is not \"v=0\", which a description begins with",
                ));
            }
            // Some end with a second line break.
            if !line.is_empty() {
                parser.line(at, line).map_err(|why| unusable(at, why))?;
                last = at;
            }
        }
        let parsed = parser.finish();
        parsed.map_err(|(at, why)| unusable(at.unwrap_or(last), why))
    }
}

/// A value, and the number of its line.
type Lined<T> = Option<(usize, T)>;

/// Why a description is unusable, and the line if it is a certain one.
type Fault = (Option<usize>, String);

#[derive(Debug, Default)]
struct Parser<'a> {
    session: Option<Session>,
    /// Attributes of the session.
    common: Attributes<'a>,
    ice_lite: bool,
    /// Names of the sections of each BUNDLE group.
    groups: Vec<Vec<&'a str>>,
    sections: Vec<Section<'a>>,
}

impl<'a> Parser<'a> {
    fn line(&mut self, at: usize, line: &'a str) -> StdResult<(), String> {
        if line.chars().any(char::is_control) {
            return Err("it has a control character".to_owned());
        }
        let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
            return Err("it is not of the form x=value".to_owned());
        };
        match kind {
            "o" if self.sections.is_empty() => self.session = Some(parse_origin(value)?),
            "m" if self.sections.len() == MAX_SECTIONS => {
                return Err(format!("there are more than {MAX_SECTIONS} sections"));
            }
            "m" => self.sections.push(Section::parse(at, value)?),
            "a" => self.attribute(at, value)?,
            _ => {}
        }
        Ok(())
    }

    fn attribute(&mut self, at: usize, text: &'a str) -> StdResult<(), String> {
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        if let Some(section) = self.sections.last_mut() {
            if name == "candidate" {
                section.attributes.candidate(text)
            } else {
                section.attributes.take(at, name, value)
            }
        } else if name == "ice-lite" {
            self.ice_lite = true;
            Ok(())
        } else if name == "group" {
            let mut words = value.split_ascii_whitespace();
            if words.next() == Some("BUNDLE") && self.groups.len() < MAX_SECTIONS {
                self.groups.push(words.take(MAX_SECTIONS).collect());
            }
            Ok(())
        } else {
            self.common.take(at, name, value)
        }
    }

    fn finish(self) -> StdResult<Description, Fault> {
        let is_used = |section: &Section<'_>| section.is_channels() && section.is_offered();
        let Some(index) = self.sections.iter().position(is_used) else {
            let rejected = self.sections.iter().find(|section| section.is_channels());
            return Err(match rejected {
                Some(section) => {
                    let why = "the data channels are rejected, with port 0".to_owned();
                    (Some(section.line), why)
                }
                None => {
                    let why = "no section before it is one of data channels: m=application … UDP/DTLS/SCTP webrtc-datachannel";
                    (None, why.to_owned())
                }
            });
        };
        let section = &self.sections[index];
        let own = &section.attributes;
        let mid = own.mid.map(|(_, mid)| mid);
        let group = self
            .groups
            .iter()
            .find(|group| mid.is_some_and(|mid| group.contains(&mid)));
        // The sections of a group share the transport of its first one (RFC 9143, section 7.1).
        let tagged = group.and_then(|group| group.first()).and_then(|first| {
            let is_first = |section: &&Section<'_>| {
                section.attributes.mid.is_some_and(|(_, mid)| mid == *first)
            };
            self.sections.iter().find(is_first)
        });
        let shared = tagged.map(|section| &section.attributes);
        let levels = || {
            [Some(own), shared, Some(&self.common)]
                .into_iter()
                .flatten()
        };

        let missing = |name: &str| {
            let why = format!("the section of the data channels has no a={name}");
            (Some(section.line), why)
        };
        let ufrag = levels().find_map(|level| level.ufrag);
        let (at, ufrag) = ufrag.ok_or_else(|| missing("ice-ufrag"))?;
        let pwd = levels().find_map(|level| level.pwd);
        let (_, pwd) = pwd.ok_or_else(|| missing("ice-pwd"))?;
        let credentials = Credentials::new(ufrag, pwd).map_err(|why| (Some(at), why))?;

        let setup = levels().find_map(|level| level.setup);

        let announces =
            |level: &&Attributes<'_>| !level.fingerprints.is_empty() || level.unaccepted.is_some();
        let announced = levels().find(announces);
        let announced = announced.ok_or_else(|| missing("fingerprint"))?;
        if let (true, Some((at, name))) = (announced.fingerprints.is_empty(), announced.unaccepted)
        {
            let why = format!("a fingerprint by {name} alone is not accepted");
            return Err((Some(at), why));
        }

        let transport = section.transport().unwrap_or(Transport::Udp);
        let sctp_port = match section.format.parse() {
            Ok(port) => port,
            Err(_) => own.sctp_port.map_or(SCTP_PORT, |(_, port)| port),
        };
        if sctp_port == 0 {
            let why = "the SCTP association is closed: its port is 0".to_owned();
            return Err((own.sctp_port.map(|(at, _)| at).or(Some(section.line)), why));
        }
        if let Some((at, (port, application))) = own.sctp_map
            && port == sctp_port
            && application != CHANNELS
        {
            let why = format!("SCTP is to carry {application:?}, not {CHANNELS}");
            return Err((Some(at), why));
        }

        let others = self.sections.iter().enumerate();
        let others = others.filter(|(at, _)| *at != index);
        Ok(Description {
            session: self.session.unwrap_or(Session { id: 0, version: 0 }),
            ice_lite: self.ice_lite,
            trickle: levels().any(|level| level.trickle),
            credentials,
            setup: setup.ok_or_else(|| missing("setup"))?,
            fingerprints: announced.fingerprints.clone(),
            candidates: own.candidates.iter().map(|&one| one.to_owned()).collect(),
            end_of_candidates: levels().any(|level| level.end_of_candidates),
            transport,
            mid: mid.map(str::to_owned),
            bundle: group.is_some(),
            sctp_port,
            max_message_size: own.max_message_size.unwrap_or(UNNAMED_MESSAGE),
            others: others.map(|(_, section)| section.rejected()).collect(),
            index,
        })
    }
}

/// A section, from its "m=" line on.
#[derive(Debug)]
struct Section<'a> {
    line: usize,
    kind: &'a str,
    port: u16,
    protocol: &'a str,
    /// The first one.
    format: &'a str,
    attributes: Attributes<'a>,
}

impl<'a> Section<'a> {
    fn parse(line: usize, value: &'a str) -> StdResult<Self, String> {
        let mut words = value.split_ascii_whitespace();
        let (Some(kind), Some(port), Some(protocol), Some(format)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("a section has a kind, a port, a protocol and a format".to_owned());
        };
        // A number of ports may follow (RFC 8866, section 5.14).
        let (port, _) = port.split_once('/').unwrap_or((port, ""));
        let port = port
            .parse()
            .map_err(|_| format!("{port:?} is no port, from 0 to 65535"))?;
        Ok(Self {
            line,
            kind,
            port,
            protocol,
            format,
            attributes: Attributes::default(),
        })
    }

    fn transport(&self) -> Option<Transport> {
        let older = self.format.parse::<u16>().is_ok();
        match self.protocol {
            "UDP/DTLS/SCTP" if !older => Some(Transport::Udp),
            "TCP/DTLS/SCTP" if !older => Some(Transport::Tcp),
            "DTLS/SCTP" if !older => Some(Transport::Dtls),
            "DTLS/SCTP" => Some(Transport::Draft),
            _ => None,
        }
    }

    fn is_channels(&self) -> bool {
        let channels = self.format == CHANNELS || self.format.parse::<u16>().is_ok();
        self.kind == "application" && channels && self.transport().is_some()
    }

    /// Port 0 rejects a section, unless it shares the transport of another (RFC 9143, section 6).
    fn is_offered(&self) -> bool {
        self.port > 0 || self.attributes.bundle_only
    }

    fn rejected(&self) -> OtherSection {
        OtherSection {
            kind: self.kind.to_owned(),
            protocol: self.protocol.to_owned(),
            format: self.format.to_owned(),
            mid: self.attributes.mid.map(|(_, mid)| mid.to_owned()),
        }
    }
}

#[derive(Debug, Default)]
struct Attributes<'a> {
    ufrag: Lined<&'a str>,
    pwd: Lined<&'a str>,
    setup: Option<Setup>,
    fingerprints: Vec<Fingerprint>,
    /// The function of a fingerprint that is not accepted.
    unaccepted: Lined<&'a str>,
    trickle: bool,
    candidates: Vec<&'a str>,
    end_of_candidates: bool,
    mid: Lined<&'a str>,
    sctp_port: Lined<u16>,
    /// Port and application of the older form.
    sctp_map: Lined<(u16, &'a str)>,
    max_message_size: Option<u32>,
    bundle_only: bool,
}

impl<'a> Attributes<'a> {
    fn take(&mut self, at: usize, name: &str, value: &'a str) -> StdResult<(), String> {
        match name {
            "ice-ufrag" => _ = self.ufrag.get_or_insert_with(|| (at, value.trim())),
            "ice-pwd" => _ = self.pwd.get_or_insert_with(|| (at, value.trim())),
            "ice-options" => {
                // Some separate them by commas.
                let mut options = value.split([' ', ',']);
                self.trickle |= options.any(|option| option == "trickle");
            }
            "setup" => _ = self.setup.get_or_insert(parse_setup(value.trim())?),
            "fingerprint" => match Fingerprint::parse(value)? {
                _ if self.fingerprints.len() == MAX_FINGERPRINTS => {
                    return Err(format!(
                        "there are more than {MAX_FINGERPRINTS} fingerprints"
                    ));
                }
                Some(fingerprint) => self.fingerprints.push(fingerprint),
                None => {
                    let function = value.split_ascii_whitespace().next();
                    self.unaccepted = function.map(|function| (at, function));
                }
            },
            "end-of-candidates" => self.end_of_candidates = true,
            "mid" => {
                let mid = value.trim();
                if mid.is_empty() || mid.len() > MAX_MID || !mid.bytes().all(is_token) {
                    return Err(format!(
                        "the name of a section is a token of up to {MAX_MID} characters"
                    ));
                }
                self.mid.get_or_insert((at, mid));
            }
            "sctp-port" => {
                let port = value.trim();
                let port = port
                    .parse()
                    .map_err(|_| format!("{port:?} is no port of SCTP"))?;
                self.sctp_port.get_or_insert((at, port));
            }
            "sctpmap" => {
                let mut words = value.split_ascii_whitespace();
                let port = words.next().and_then(|port| port.parse().ok());
                let (Some(port), Some(application)) = (port, words.next()) else {
                    return Err("a=sctpmap has a port and an application".to_owned());
                };
                self.sctp_map.get_or_insert((at, (port, application)));
            }
            "max-message-size" => {
                let size = parse_size(value.trim())?;
                self.max_message_size.get_or_insert(size);
            }
            "bundle-only" => self.bundle_only = true,
            _ => {}
        }
        Ok(())
    }

    fn candidate(&mut self, text: &'a str) -> StdResult<(), String> {
        if text.len() > MAX_CANDIDATE_LEN || self.candidates.len() == MAX_CANDIDATES {
            tracing::debug!(length = text.len(), "a candidate of the peer is left out");
        } else {
            self.candidates.push(text.trim_end());
        }
        Ok(())
    }
}

fn parse_origin(value: &str) -> StdResult<Session, String> {
    let mut words = value.split_ascii_whitespace().skip(1);
    // Some number their sessions with more than 64 bits, and nothing depends on the number.
    let number = |word: &str| {
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| word.parse().unwrap_or(u64::MAX))
    };
    match (words.next().and_then(number), words.next().and_then(number)) {
        (Some(id), Some(version)) => Ok(Session { id, version }),
        _ => Err("an origin has a name, a session and a version, which are numbers".to_owned()),
    }
}

fn parse_setup(value: &str) -> StdResult<Setup, String> {
    [Setup::Active, Setup::Passive, Setup::ActPass]
        .into_iter()
        .find(|setup| setup.name() == value)
        .ok_or_else(|| format!("{value:?} is no role in DTLS: active, passive or actpass"))
}

fn parse_size(value: &str) -> StdResult<u32, String> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{value:?} is no size of a message, in bytes"));
    }
    Ok(value.parse().unwrap_or(u32::MAX))
}

/// Returns whether this is a character of a token (RFC 8866, section 9).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte)
}
