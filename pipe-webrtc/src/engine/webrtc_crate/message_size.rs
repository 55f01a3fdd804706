//! The sizes of messages by direction: a peer's limit for one says nothing about the other.

/// Maximum message size of a peer that names none (RFC 8841, section 6.1), in bytes.
const UNSAID: u32 = 65_536;

const ATTRIBUTE: &str = "a=max-message-size:";

/// Returns the largest message that the author of a description takes, in bytes; 0 is any size.
pub(super) fn announced(sdp: &str) -> u32 {
    sdp.lines()
        .find_map(|line| line.trim_end().strip_prefix(ATTRIBUTE))
        .and_then(|size| size.trim().parse().ok())
        .unwrap_or(UNSAID)
}

/// Raises the largest message in a description of the peer to at least `size` bytes. The engine
/// sizes its read buffer by it, though the peer may send more than it accepts.
pub(super) fn widen(sdp: &str, size: u32) -> String {
    let mut widened = String::with_capacity(sdp.len() + 32);
    let mut in_channels = false;
    let mut is_said = false;
    let line_of = |size: u32| format!("{ATTRIBUTE}{size}\r\n");
    for line in sdp.lines() {
        if line.starts_with("m=") {
            if in_channels && !is_said {
                widened.push_str(&line_of(size));
                is_said = true;
            }
            in_channels = line.starts_with("m=application");
        }
        if line.starts_with(ATTRIBUTE) {
            let now = announced(line);
            widened.push_str(&line_of(if now == 0 { 0 } else { now.max(size) }));
            is_said = true;
            continue;
        }
        widened.push_str(line.trim_end());
        widened.push_str("\r\n");
    }
    if in_channels && !is_said {
        widened.push_str(&line_of(size));
    }
    widened
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n";

    #[test]
    fn a_description_names_its_largest_message_or_the_usual_one() {
        assert_eq!(
            announced(&format!("{BEFORE}a=max-message-size:1200\r\n")),
            1200
        );
        assert_eq!(announced(&format!("{BEFORE}a=max-message-size:0\r\n")), 0);
        for without in [BEFORE, "v=0\na=max-message-size:many\n"] {
            assert_eq!(announced(without), UNSAID);
        }
    }

    #[test]
    fn the_engine_hears_of_at_least_as_much_as_this_side_takes() {
        for (said, heard) in [("1200", 5000), ("9000", 9000), ("0", 0)] {
            let sdp = format!("{BEFORE}a=max-message-size:{said}\r\na=mid:0\r\n");
            let widened = widen(&sdp, 5000);
            assert_eq!(announced(&widened), heard);
            assert!(widened.ends_with("a=mid:0\r\n"));
        }
    }

    #[test]
    fn it_is_said_once_and_of_the_channels() {
        let widened = widen(BEFORE, 5000);
        assert_eq!(widened, format!("{BEFORE}a=max-message-size:5000\r\n"));
        let audio = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n";
        let widened = widen(&format!("{BEFORE}{audio}"), 5000);
        assert_eq!(
            widened,
            format!("{BEFORE}a=max-message-size:5000\r\n{audio}")
        );
    }
}
