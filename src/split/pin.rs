//! The signed pin: a cookie that keeps a client on its arm, whatever the weights become.
//!
//! It says which arm, since when, and a code (HMAC-SHA256) over route, arm, epoch and moment. An arm
//! gets another epoch when its pins are to end, so nothing is kept per client. It must never name an
//! arm for what it did not sign itself, and never do more work than [`MAX_COPIES`] cookies ask for.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;
use xxhash_rust::xxh64::xxh64;

use crate::model::{ArmIx, RequestHead};

/// Cookies of the pin's name that are looked at; a client sends one.
pub const MAX_COPIES: usize = 4;
/// Shortest key, in bytes.
pub const MIN_KEY_BYTES: usize = 16;
/// How far the clocks of two instances may be apart, in seconds.
const MAX_SKEW_SECS: u64 = 60;
/// What is signed begins with this: no code made for another purpose is a pin.
const PURPOSE: &[u8] = b"switchback pin 1\0";
/// Which arm and since when, 8 bytes each, and the code, all in hexadecimal digits.
const LENGTH: usize = 2 * (8 + 8 + 32);

/// The keys that sign: the current one, and the one before it, which still reads.
#[derive(Clone)]
pub struct PinKeys {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl fmt::Debug for PinKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinKeys")
    }
}

impl PinKeys {
    /// Keys from text, one a line, the current one first.
    ///
    /// # Errors
    /// One sentence that does not show what the text says.
    pub fn from_lines(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let (current, previous) = (lines.next().ok_or("it is empty")?, lines.next());
        if lines.next().is_some() {
            return Err("it has more than two lines: the current key, and the one before it".to_owned());
        }
        Ok(Self { current: key(current)?, previous: previous.map(key).transpose()? })
    }
}

fn key(text: &str) -> Result<Hmac<Sha256>, String> {
    if text.len() < MIN_KEY_BYTES {
        return Err(format!("a key has {} bytes, fewer than {MIN_KEY_BYTES}", text.len()));
    }
    Hmac::new_from_slice(text.as_bytes()).map_err(|error| error.to_string())
}

/// What pins may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinArm {
    /// Arm name.
    pub name: Box<str>,
    /// Changes when its pins are to end.
    pub epoch: u64,
    /// Whether its pins hold now.
    pub open: bool,
}

/// The pin of a route.
#[derive(Clone, Debug)]
pub struct Pin {
    name: Box<str>,
    max_age: u64,
    route: Box<str>,
    keys: PinKeys,
    arms: Box<[(u64, PinArm)]>,
}

/// A pin that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The arm it names.
    pub arm: ArmIx,
    /// Since when, in Unix seconds, when it was signed with the previous key: it is to be signed again.
    pub again: Option<i64>,
}

impl Pin {
    /// A pin in a cookie of this name that holds for `max_age_secs`; arms in the order of the route.
    #[must_use]
    pub fn new(
        cookie: &str,
        max_age_secs: u64,
        route: &str,
        keys: PinKeys,
        arms: impl IntoIterator<Item = PinArm>,
    ) -> Self {
        let arms = arms.into_iter().map(|arm| (xxh64(arm.name.as_bytes(), 0), arm)).collect();
        Self { name: cookie.into(), max_age: max_age_secs, route: route.into(), keys, arms }
    }

    /// Name of the cookie.
    #[must_use]
    pub fn cookie(&self) -> &str {
        &self.name
    }

    /// How long a pin holds, in seconds.
    #[must_use]
    pub const fn max_age_secs(&self) -> u64 {
        self.max_age
    }

    /// The first pin of a request that holds at `now`, in Unix seconds. What does not is no error: the
    /// client is assigned as if it had none.
    #[must_use]
    pub fn read(&self, head: &RequestHead<'_>, now: i64) -> Option<Pinned> {
        let copies = head.cookies(self.name.as_bytes()).take(MAX_COPIES);
        copies.into_iter().find_map(|text| self.verify(text, u64::try_from(now).ok()?))
    }

    fn verify(&self, text: &[u8], now: u64) -> Option<Pinned> {
        let bytes = unhex(text)?;
        let (tag, since, code) = (number(bytes.get(..8)?)?, number(bytes.get(8..16)?)?, bytes.get(16..)?);
        let fresh = since <= now.saturating_add(MAX_SKEW_SECS) && now < since.saturating_add(self.max_age);
        let (at, arm) = self
            .arms
            .iter()
            .zip(0_u8..)
            .find_map(|((known, arm), at)| (fresh && *known == tag && arm.open).then_some((at, arm)))?;
        let signed_by = |key: &Hmac<Sha256>| self.signed(key.clone(), arm, since).verify_slice(code).is_ok();
        let again = if signed_by(&self.keys.current) {
            None
        } else if self.keys.previous.as_ref().is_some_and(signed_by) {
            Some(i64::try_from(since).ok()?)
        } else {
            return None;
        };
        Some(Pinned { arm: ArmIx(at), again })
    }

    fn signed(&self, mut mac: Hmac<Sha256>, arm: &PinArm, since: u64) -> Hmac<Sha256> {
        mac.update(PURPOSE);
        for text in [&self.route, &arm.name] {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.update(&arm.epoch.to_be_bytes());
        mac.update(&since.to_be_bytes());
        mac
    }

    /// The Set-Cookie value that pins to an arm since a moment; `None` for an arm without pins and for
    /// a pin that is over.
    #[must_use]
    pub fn header(&self, arm: ArmIx, since: i64, now: i64, secure: bool) -> Option<HeaderValue> {
        let (tag, arm) = self.arms.get(arm.at()).filter(|(_, arm)| arm.open)?;
        let (since, now) = (u64::try_from(since).ok()?, u64::try_from(now).ok()?);
        let left = since.saturating_add(self.max_age).checked_sub(now).filter(|left| *left > 0)?;
        let code = self.signed(self.keys.current.clone(), arm, since).finalize().into_bytes();
        let code: String = code.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        let secure = if secure { "; Secure" } else { "" };
        let text = format!(
            "{}={tag:016x}{since:016x}{code}; Max-Age={left}; Path=/; HttpOnly; SameSite=Lax{secure}",
            self.name
        );
        HeaderValue::try_from(text).ok()
    }

    /// Takes the cookie off a request: it is between the client and us. Spellings that we do not read
    /// some frameworks do.
    pub fn strip(&self, headers: &mut HeaderMap) {
        let own = |pair: &[u8]| {
            let name = pair.iter().position(|byte| *byte == b'=').and_then(|end| pair.get(..end));
            name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(self.name.as_bytes()))
        };
        let carries = |line: &HeaderValue| line.as_bytes().split(|byte| *byte == b';').any(own);
        if !headers.get_all(COOKIE).iter().any(carries) {
            return;
        }
        let without = |line: &HeaderValue| {
            let kept = line.as_bytes().split(|byte| *byte == b';').filter(|pair| !own(pair));
            let line = kept.collect::<Vec<_>>().join(&b';');
            HeaderValue::from_bytes(line.trim_ascii()).ok().filter(|line| !line.is_empty())
        };
        let lines: Vec<HeaderValue> = headers.get_all(COOKIE).iter().filter_map(without).collect();
        headers.remove(COOKIE);
        for line in lines {
            headers.append(COOKIE, line);
        }
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).unwrap_or('0')
}

/// The bytes of lower-case hexadecimal digits of the one length a pin has.
fn unhex(text: &[u8]) -> Option<[u8; LENGTH / 2]> {
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; LENGTH / 2];
    if text.len() != LENGTH {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = value(pair.first()?)? << 4 | value(pair.get(1)?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
