//! Who may steer a worker over HTTP. Pure.
//!
//! Without a token only this machine may. A browser on it is kept out: it says where a page came from (`Origin`), and
//! without asking first it cannot send JSON. A proxy on it would lend its address to everybody, so what was forwarded
//! needs the token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// The token of those who may steer, kept as its SHA-256 only.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The shortest token, in characters.
    pub const LEAST: usize = 16;

    /// `None` for a token that is easily guessed: shorter than [`Token::LEAST`].
    #[must_use]
    pub fn new(secret: &SecretString) -> Option<Self> {
        let text = secret.expose_secret();
        (text.chars().count() >= Self::LEAST).then(|| Self(Sha256::digest(text).into()))
    }

    /// Takes the same time wherever the two differ.
    fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.iter().zip(given).fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs)) == 0
    }
}

/// What a request says of where it comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Caller<'a> {
    pub(super) peer: Option<IpAddr>,
    /// It has an `Origin` header.
    pub(super) of_a_page: bool,
    /// It came through a proxy.
    pub(super) forwarded: bool,
    /// Its body is said to be JSON.
    pub(super) json: bool,
    /// What follows `Authorization: Bearer`.
    pub(super) bearer: Option<&'a str>,
}

/// Why somebody may not steer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("orders are not taken from web pages")]
    OfAPage,
    #[error("orders are JSON: send Content-Type: application/json")]
    NotJson,
    #[error("the token is missing or wrong: send Authorization: Bearer with what ops.control_token_file holds")]
    Token,
    #[error("orders from another machine, or through a proxy, need ops.control_token_file")]
    NotThisMachine,
}

/// Only the two addresses that programs of this machine use: a sidecar that carries others' requests in takes another
/// one of 127.0.0.0/8.
fn is_here(peer: IpAddr) -> bool {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&peer.to_canonical())
}

/// Whether the caller may steer.
pub(super) fn admit(caller: Caller<'_>, token: Option<&Token>) -> Result<(), Refusal> {
    if caller.of_a_page {
        return Err(Refusal::OfAPage);
    }
    match token {
        // Also from this machine: whoever sets a token means it.
        Some(token) if !caller.bearer.is_some_and(|given| token.is(given)) => return Err(Refusal::Token),
        Some(_) => {}
        None => {
            if !caller.peer.is_some_and(is_here) || caller.forwarded {
                return Err(Refusal::NotThisMachine);
            }
        }
    }
    if caller.json { Ok(()) } else { Err(Refusal::NotJson) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(peer: &str) -> Caller<'static> {
        Caller { peer: peer.parse().ok(), json: true, ..Caller::default() }
    }

    fn token() -> Token {
        Token::new(&SecretString::from("correct-horse-battery")).expect("long enough")
    }

    #[test]
    fn without_a_token_only_this_machine_may_steer() {
        for here in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(admit(at(here), None), Ok(()), "{here}");
        }
        for other in ["127.0.0.6", "10.0.0.7", "192.168.1.2", "0.0.0.0", "2001:db8::1", "::ffff:10.0.0.7", "no address"]
        {
            assert_eq!(admit(at(other), None), Err(Refusal::NotThisMachine), "{other}");
        }
        let proxied = Caller { forwarded: true, ..at("127.0.0.1") };
        assert_eq!(admit(proxied, None), Err(Refusal::NotThisMachine));
        // A token is not asked for, so that none is sent in the clear for nothing.
        assert_eq!(admit(Caller { bearer: Some("x"), ..at("127.0.0.1") }, None), Ok(()));
    }

    #[test]
    fn with_a_token_everybody_must_have_it() {
        let token = token();
        for peer in ["127.0.0.1", "10.0.0.7"] {
            let right = Caller { bearer: Some("correct-horse-battery"), forwarded: true, ..at(peer) };
            assert_eq!(admit(right, Some(&token)), Ok(()), "{peer}");
            for wrong in [None, Some(""), Some("correct-horse-batterx"), Some("correct-horse-battery ")] {
                let caller = Caller { bearer: wrong, ..at(peer) };
                assert_eq!(admit(caller, Some(&token)), Err(Refusal::Token), "{peer} {wrong:?}");
            }
        }
    }

    #[test]
    fn no_page_may_steer_and_nothing_but_json_is_taken() {
        let token = token();
        let right = Caller { bearer: Some("correct-horse-battery"), ..at("127.0.0.1") };
        for (caller, token) in [(at("127.0.0.1"), None), (right, Some(&token))] {
            assert_eq!(admit(Caller { of_a_page: true, ..caller }, token), Err(Refusal::OfAPage));
            assert_eq!(admit(Caller { json: false, ..caller }, token), Err(Refusal::NotJson));
        }
    }

    #[test]
    fn a_token_that_is_easily_guessed_is_none() {
        assert!(Token::new(&SecretString::from("fifteen-letters")).is_none());
        assert!(Token::new(&SecretString::from("sixteen--letters")).is_some());
    }
}
