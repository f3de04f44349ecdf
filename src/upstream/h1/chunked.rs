//! The chunked coding of a response (RFC 9112 section 7.1): bytes in, data and trailers out.
//!
//! It is strict, because a size read differently by two parsers is a smuggled response: sizes are
//! hexadecimal digits alone, lines end in CRLF. Extensions are dropped and bounded. It must never
//! read past the message's own last byte.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::response::fields;

/// Most hexadecimal digits of a chunk size: 64 bits.
const MAX_DIGITS: usize = 16;
/// Most bytes of chunk extensions in one message, as hyper allows its clients.
const MAX_EXTENSIONS: usize = 16 << 10;
/// Most bytes of a trailer section.
const MAX_TRAILERS: usize = 16 << 10;
/// Longest size line: digits, extensions, CRLF.
const MAX_LINE: usize = MAX_DIGITS + MAX_EXTENSIONS + 2;

/// Where in a message the decoder is.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    extensions: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Over,
}

/// What came out.
#[derive(Debug)]
pub enum Step {
    /// More bytes are needed.
    More,
    /// Body bytes, never empty.
    Data(Bytes),
    /// The message is over, with its trailers if it had any.
    Over(Option<HeaderMap>),
}

/// The coding is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Chunked {
    /// Whether the message is over.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes what it can from the front of `inbox`.
    ///
    /// # Errors
    /// The coding is broken; nothing after it can be trusted.
    pub fn decode(&mut self, inbox: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = line_end(inbox, MAX_LINE, "a chunk size line is too long")? else {
                        return Ok(Step::More);
                    };
                    let (size, extension) = size(&inbox[..line - 2])?;
                    self.extensions += extension;
                    if self.extensions > MAX_EXTENSIONS {
                        return Err(Malformed("too many chunk extensions"));
                    }
                    inbox.advance(line);
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    if inbox.is_empty() {
                        return Ok(Step::More);
                    }
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(inbox.len());
                    let data = inbox.split_to(count).freeze();
                    let left = left - count as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    // The end that is already there is taken too, so that the last frame is known to
                    // be the last.
                    self.try_end(inbox)?;
                    return Ok(Step::Data(data));
                }
                State::DataEnd => {
                    if inbox.len() < 2 && b"\r\n".starts_with(inbox) {
                        return Ok(Step::More);
                    }
                    if !inbox.starts_with(b"\r\n") {
                        return Err(Malformed("a chunk does not end where its size says"));
                    }
                    inbox.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => return self.trailers(inbox),
                State::Over => return Ok(Step::Over(None)),
            }
        }
    }

    /// Takes a last chunk without trailers when all of it is there.
    fn try_end(&mut self, inbox: &mut BytesMut) -> Result<(), Malformed> {
        if matches!(self.state, State::DataEnd) && inbox.len() >= 2 {
            if !inbox.starts_with(b"\r\n") {
                return Err(Malformed("a chunk does not end where its size says"));
            }
            inbox.advance(2);
            self.state = State::Size;
            if inbox.starts_with(b"0\r\n\r\n") {
                inbox.advance(5);
                self.state = State::Over;
            }
        }
        Ok(())
    }

    fn trailers(&mut self, inbox: &mut BytesMut) -> Result<Step, Malformed> {
        let mut from = 0;
        loop {
            let rest = inbox.get(from..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'\n', rest) else { break };
            let end = from + at + 1;
            if end > MAX_TRAILERS {
                break;
            }
            if inbox[from..end] == *b"\r\n" {
                let section = inbox.split_to(end).freeze();
                self.state = State::Over;
                if section.len() == 2 {
                    return Ok(Step::Over(None));
                }
                let trailers = fields(&section).map_err(|_| Malformed("malformed trailers"))?;
                return Ok(Step::Over(Some(trailers)));
            }
            from = end;
        }
        if inbox.len() > MAX_TRAILERS {
            return Err(Malformed("too large trailers"));
        }
        Ok(Step::More)
    }
}

/// The length of the first line with its CRLF, or `None` while it is not all there.
fn line_end(inbox: &[u8], limit: usize, too_long: &'static str) -> Result<Option<usize>, Malformed> {
    match memchr::memchr(b'\n', &inbox[..inbox.len().min(limit)]) {
        Some(at) if at > 0 && inbox[at - 1] == b'\r' => Ok(Some(at + 1)),
        Some(_) => Err(Malformed("a line does not end in CRLF")),
        None if inbox.len() >= limit => Err(Malformed(too_long)),
        None => Ok(None),
    }
}

/// Size and length of the extensions of a size line without its CRLF.
fn size(line: &[u8]) -> Result<(u64, usize), Malformed> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || digits > MAX_DIGITS {
        return Err(Malformed("a chunk size is not a number"));
    }
    let size = line[..digits].iter().fold(0_u64, |size, byte| {
        let digit = char::from(*byte).to_digit(16).unwrap_or_default();
        (size << 4) | u64::from(digit)
    });
    let rest = &line[digits..];
    let extension = rest.trim_ascii_start();
    if !extension.is_empty() && extension[0] != b';' || rest.contains(&b'\r') {
        return Err(Malformed("a chunk size is followed by something else"));
    }
    Ok((size, rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in pieces of `piece` bytes; gives body, trailers and what was not touched.
    fn decode(text: &[u8], piece: usize) -> Result<(String, Option<HeaderMap>, usize), Malformed> {
        let (mut chunked, mut inbox, mut body) = (Chunked::default(), BytesMut::new(), Vec::new());
        let mut pieces = text.chunks(piece);
        loop {
            match chunked.decode(&mut inbox)? {
                Step::Data(data) => body.extend_from_slice(&data),
                Step::Over(trailers) => {
                    let left = inbox.len() + pieces.map(<[u8]>::len).sum::<usize>();
                    return Ok((String::from_utf8(body).unwrap(), trailers, left));
                }
                Step::More => match pieces.next() {
                    Some(more) => inbox.extend_from_slice(more),
                    None => return Err(Malformed("truncated")),
                },
            }
        }
    }

    #[test]
    fn messages_read_the_same_however_they_are_cut() {
        let rows: [(&[u8], &str, Option<&str>, usize); 6] = [
            (b"0\r\n\r\n", "", None, 0),
            (b"3\r\nabc\r\n0\r\n\r\n", "abc", None, 0),
            (b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n00\r\n\r\nHTTP", "abc0123456789", None, 4),
            (b"1 ; q=\"a\"\r\nx\r\n0;last\r\n\r\n", "x", None, 0),
            (b"1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n", "x", Some("7"), 0),
            (b"0\r\nX-Sum:8\r\nother: 1\r\n\r\nsurplus", "", Some("8"), 7),
        ];
        for (text, body, sum, left) in rows {
            for piece in [1, 2, 3, 7, 1000] {
                let (found, trailers, rest) = decode(text, piece).unwrap();
                assert_eq!((found.as_str(), rest), (body, left), "{piece}");
                let value = trailers.as_ref().and_then(|trailers| trailers.get("x-sum"));
                assert_eq!(value.map(|value| value.to_str().unwrap()), sum, "{piece}");
            }
        }
    }

    #[test]
    fn broken_codings_are_refused() {
        let rows: [&[u8]; 15] = [
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"-3\r\nabc\r\n0\r\n\r\n",
            b"3_\r\nabc\r\n0\r\n\r\n",
            b"\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"g\r\nabc\r\n0\r\n\r\n",
            b"11111111111111111\r\nabc\r\n0\r\n\r\n",
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b"3\r\nabcX\r0\r\n\r\n",
            b"3;a\rb\r\nabc\r\n0\r\n\r\n",
            b"0\r\nbad trailer\r\n\r\n",
            b"3\r\nabc\r\n",
        ];
        for text in rows {
            for piece in [1, 1000] {
                assert!(decode(text, piece).is_err(), "{}", String::from_utf8_lossy(text));
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(MAX_EXTENSIONS));
        assert!(decode(long.as_bytes(), 4096).is_err());
        let many = format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(20) + "0\r\n\r\n";
        assert!(decode(many.as_bytes(), 4096).is_err());
        let trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(4000));
        assert!(decode(trailers.as_bytes(), 4096).is_err());
    }
}
