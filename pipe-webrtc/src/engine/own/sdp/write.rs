use std::fmt;

use super::{CHANNELS, Description, OtherSection, Transport};

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = "\r\n";
        write!(f, "v=0{end}")?;
        let (id, version) = (self.session.id, self.session.version);
        // No address is meant (RFC 8829, section 5.2.1).
        write!(f, "o=- {id} {version} IN IP4 0.0.0.0{end}")?;
        write!(f, "s=-{end}t=0 0{end}")?;
        if self.ice_lite {
            write!(f, "a=ice-lite{end}")?;
        }
        if let (true, Some(mid)) = (self.bundle, &self.mid) {
            write!(f, "a=group:BUNDLE {mid}{end}")?;
        }
        let (before, after) = self.others.split_at(self.index.min(self.others.len()));
        for other in before {
            write!(f, "{other}")?;
        }
        self.write_section(f)?;
        for other in after {
            write!(f, "{other}")?;
        }
        Ok(())
    }
}

impl Description {
    fn write_section(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = "\r\n";
        let port = self.sctp_port;
        // The discard port stands for candidates that follow (RFC 8840, section 4.1.1).
        let protocol = match self.transport {
            Transport::Udp => "UDP/DTLS/SCTP",
            Transport::Tcp => "TCP/DTLS/SCTP",
            Transport::Dtls | Transport::Draft => "DTLS/SCTP",
        };
        write!(f, "m=application 9 {protocol} ")?;
        match self.transport {
            Transport::Draft => write!(f, "{port}{end}")?,
            _ => write!(f, "{CHANNELS}{end}")?,
        }
        write!(f, "c=IN IP4 0.0.0.0{end}")?;
        write!(f, "a=ice-ufrag:{}{end}", self.credentials.ufrag())?;
        write!(f, "a=ice-pwd:{}{end}", self.credentials.pwd())?;
        if self.trickle {
            write!(f, "a=ice-options:trickle{end}")?;
        }
        for fingerprint in &self.fingerprints {
            write!(f, "a=fingerprint:{fingerprint}{end}")?;
        }
        write!(f, "a=setup:{}{end}", self.setup.name())?;
        if let Some(mid) = &self.mid {
            write!(f, "a=mid:{mid}{end}")?;
        }
        match self.transport {
            Transport::Draft => write!(f, "a=sctpmap:{port} {CHANNELS} 65535{end}")?,
            _ => write!(f, "a=sctp-port:{port}{end}")?,
        }
        write!(f, "a=max-message-size:{}{end}", self.max_message_size)?;
        for candidate in &self.candidates {
            write!(f, "a={candidate}{end}")?;
        }
        if self.end_of_candidates {
            write!(f, "a=end-of-candidates{end}")?;
        }
        Ok(())
    }
}

impl fmt::Display for OtherSection {
    /// Writes it as rejected (RFC 3264, section 6).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = "\r\n";
        write!(
            f,
            "m={} 0 {} {}{end}",
            self.kind, self.protocol, self.format
        )?;
        write!(f, "c=IN IP4 0.0.0.0{end}")?;
        if let Some(mid) = &self.mid {
            write!(f, "a=mid:{mid}{end}")?;
        }
        write!(f, "a=inactive{end}")
    }
}
