use percent_encoding::percent_decode_str;
use url::Url;

/// Maximum length of a user or a password of SOCKS5, in bytes (RFC 1929, section 2).
const MAX: usize = 255;

/// A user and a password for a proxy. It is never shown.
#[derive(PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    /// Reads them from an address, for SOCKS5 or for HTTP. Returns why they cannot be used.
    pub(crate) fn of(url: &Url, socks5: bool) -> Result<Option<Self>, &'static str> {
        if url.username().is_empty() && url.password().is_none() {
            return Ok(None);
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let user = decode(url.username()).map_err(|_| "the user is no UTF-8")?;
        let password = decode(url.password().unwrap_or_default());
        let password = password.map_err(|_| "the password is no UTF-8")?;
        if socks5 {
            if !(1..=MAX).contains(&user.len()) {
                return Err("a user of SOCKS5 has 1 to 255 bytes");
            }
            if !(1..=MAX).contains(&password.len()) {
                return Err("a password of SOCKS5 has 1 to 255 bytes");
            }
        } else {
            // RFC 7617, section 2.
            if user.contains(':') {
                return Err("no user has a colon over HTTP");
            }
            if user.chars().chain(password.chars()).any(char::is_control) {
                return Err("the user or the password has a control character");
            }
        }
        Ok(Some(Self { user, password }))
    }
}
