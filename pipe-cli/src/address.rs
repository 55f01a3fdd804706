use std::fmt;
use std::ops::Deref;

use pipewerks::Addr;

use crate::failure::{Failure, explain};
use crate::token::{PARAM, Token};

/// An address as it is given to a command: that of a transport, and perhaps a token; or a list of such addresses.
///
/// It shows itself without the tokens, so that no message and no log has them.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    addr: Addr,
    /// The token of each of its addresses that has one.
    tokens: Vec<(Addr, Token)>,
}

impl Address {
    /// Takes the tokens out of an address.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let misused = |error: pipewerks::Error| Failure::usage(explain(&error));
        let addr = Addr::parse(text).map_err(misused)?;
        let mut bare = Vec::new();
        let mut tokens = Vec::new();
        for part in addr.alternatives() {
            let (part, token) = take_token(part)?;
            tokens.extend(token.map(|token| (part.clone(), token)));
            bare.push(part);
        }
        let addr = Addr::list(bare).map_err(misused)?;
        Ok(Self { addr, tokens })
    }

    /// Returns the token that is to be shown to the listener at one of the addresses.
    pub(crate) fn token_for(&self, addr: &Addr) -> Option<&Token> {
        let found = self.tokens.iter().find(|(of, _)| of == addr);
        found.map(|(_, token)| token)
    }

    /// Returns the token of a listener on all of the addresses. One that a single address has counts for all.
    pub(crate) fn token(&self) -> Result<Option<&Token>, Failure> {
        let mut tokens = self.tokens.iter().map(|(_, token)| token);
        let first = tokens.next();
        if tokens.any(|other| Some(other.as_str()) != first.map(Token::as_str)) {
            let why = format!("{self}: a listener has one token, and these addresses have several");
            return Err(Failure::usage(why));
        }
        Ok(first)
    }

    /// Returns the single addresses.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Self> {
        self.alternatives().iter().map(|addr| {
            let tokens = self.tokens.iter().filter(|(of, _)| of == addr);
            Self {
                addr: addr.clone(),
                tokens: tokens.cloned().collect(),
            }
        })
    }
}

/// Takes the token out of a single address.
fn take_token(addr: &Addr) -> Result<(Addr, Option<Token>), Failure> {
    let Some(token) = addr.param(PARAM) else {
        return Ok((addr.clone(), None));
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
    let misused = |error: pipewerks::Error| Failure::usage(explain(&error));
    let addr = Addr::parse(bare.as_str()).map_err(misused)?;
    let misused = |why: &str| Failure::usage(addr.invalid(why).to_string());
    if twice {
        return Err(misused("the option \"token\" is given twice"));
    }
    let token = Token::parse(&token).map_err(|why| misused(&why))?;
    Ok((addr, Some(token)))
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
            assert_eq!(addr.token().unwrap().unwrap().as_str(), token);
            assert_eq!(addr.token_for(&addr).unwrap().as_str(), token);
            assert!(!format!("{addr:?}").contains(token));
        }
        let without = Address::parse("tcp://a:1").unwrap();
        assert!(without.token().unwrap().is_none());
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

    #[test]
    fn each_address_of_a_list_has_its_token() {
        let (one, other) = ("0123456789abcdef", "fedcba9876543210");
        let text = format!("tcp://a:1?token={one},unix:///x,tls://b:1?token={other}&k=v");
        let list = Address::parse(&text).unwrap();
        assert_eq!(list.to_string(), "tcp://a:1,unix:///x,tls://b:1?k=v");
        let shown = format!("{list:?}");
        assert!(!shown.contains(one) && !shown.contains(other), "{shown}");
        let tokens: Vec<_> = list
            .alternatives()
            .iter()
            .map(|addr| list.token_for(addr).map(Token::as_str))
            .collect();
        assert_eq!(tokens, [Some(one), None, Some(other)]);
        for (part, token) in list.parts().zip(tokens) {
            assert_eq!(part.token().unwrap().map(Token::as_str), token);
            assert_eq!(part.alternatives().len(), 1);
        }
        let failure = list.token().unwrap_err();
        assert!(failure.message.contains("one token"), "{failure}");
        assert!(!failure.message.contains(one), "{failure}");
    }

    #[test]
    fn a_token_of_one_address_counts_for_a_listener_on_all() {
        let token = "0123456789abcdef";
        for text in [
            format!("tcp://a:1,tls://a:2?token={token}"),
            format!("tcp://a:1?token={token},tls://a:2?token={token}"),
        ] {
            let list = Address::parse(&text).unwrap();
            assert_eq!(list.token().unwrap().unwrap().as_str(), token);
        }
    }
}
