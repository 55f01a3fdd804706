use std::fmt;
use std::ops::Deref;

use pipewerks::Addr;

use crate::failure::{Failure, explain};
use crate::token::{PARAM, Token};

/// An address as it is given to a command: that of a transport, and perhaps a token.
///
/// It shows itself without the token, so that no message and no log has it.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    addr: Addr,
    pub(crate) token: Option<Token>,
}

impl Address {
    /// Takes the token out of an address.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let misused = |error: pipewerks::Error| Failure::usage(explain(&error));
        let addr = Addr::parse(text).map_err(misused)?;
        let Some(token) = addr.param(PARAM) else {
            return Ok(Self { addr, token: None });
        };
        let twice = addr.params().filter(|(key, _)| key == PARAM).count() > 1;
        let url = addr.as_url();
        let rest = url.query().unwrap_or_default().split('&');
        let rest: Vec<_> = rest
            .filter(|pair| pair.split('=').next() != Some(PARAM))
            .collect();
        let mut bare = url.clone();
        bare.set_query(
            if rest.is_empty() {
                None
            } else {
                Some(rest.join("&"))
            }
            .as_deref(),
        );
        let addr = Addr::parse(bare.as_str()).map_err(misused)?;
        let misused = |why: &str| Failure::usage(addr.invalid(why).to_string());
        if twice {
            return Err(misused("the option \"token\" is given twice"));
        }
        let token = Token::parse(&token).map_err(|why| misused(&why))?;
        Ok(Self {
            addr,
            token: Some(token),
        })
    }
}

impl Deref for Address {
    type Target = Addr;

    fn deref(&self) -> &Addr {
        &self.addr
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_out_and_not_shown() {
        let token = "0123456789abcdef";
        for (text, bare) in [
            (format!("tcp://a:1?token={token}"), "tcp://a:1"),
            (
                format!("tls://a:1?cert-sha256=00ff&token={token}"),
                "tls://a:1?cert-sha256=00ff",
            ),
            (
                format!("unix:///x?token={token}&wire=raw"),
                "unix:///x?wire=raw",
            ),
        ] {
            let addr = Address::parse(&text).unwrap();
            assert_eq!(addr.to_string(), bare);
            assert_eq!(addr.token.as_ref().unwrap().as_str(), token);
            assert!(!format!("{addr:?}").contains(token));
        }
        assert!(Address::parse("tcp://a:1").unwrap().token.is_none());
        let twice = format!("tcp://a:1?token={token}&token={token}");
        for wrong in [
            "tcp://a:1?token=short",
            "tcp://a:1?token=",
            "tcp://a:1?token",
            &twice,
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
