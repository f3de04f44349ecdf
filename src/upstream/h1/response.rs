//! Response heads as origins send them: parsed, vetted, framed (RFC 9112 sections 4 to 6).
//!
//! Pure. What is ambiguous is refused, so that no two parsers can disagree on where a response ends.
//! It must never look at a byte behind the head.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use hyper::ext::ReasonPhrase;

/// Largest response head, in bytes.
pub const HEAD_BYTES: usize = 32 << 10;
/// Most fields of a response head.
pub const HEAD_FIELDS: usize = 100;

/// Names kept by one worker; a power of two.
const KEPT_NAMES: usize = 128;
/// Longest name that is kept, in bytes.
const KEPT_NAME: usize = 32;

/// A parsed head.
#[derive(Debug)]
pub struct Head {
    /// 100 to 599.
    pub status: StatusCode,
    /// Fields as sent, names in lower case.
    pub headers: HeaderMap,
    /// The reason phrase, if it is not the usual one.
    pub reason: Option<ReasonPhrase>,
    version: Version,
    named: Named,
}

/// Which fields that frame a message are there, so that nobody looks for those that are not.
#[derive(Clone, Copy, Debug, Default)]
struct Named {
    connection: bool,
    coding: bool,
    length: bool,
}

/// Names as origins wrote them lately: they say the same ones again, and to see that costs less than
/// to read them anew. A place for each hash: what comes later takes it.
#[derive(Debug, Default)]
pub struct Names(Vec<Option<Known>>);

/// A name and how it was written.
#[derive(Clone, Debug)]
struct Known {
    written: [u8; KEPT_NAME],
    length: usize,
    name: HeaderName,
}

impl Names {
    /// The name that is written so.
    fn name(&mut self, text: &[u8]) -> Option<HeaderName> {
        let place = place(text)?;
        if let Some(Some(known)) = self.0.get(place)
            && known.written.get(..known.length) == Some(text)
        {
            return Some(known.name.clone());
        }
        self.read(text, place)
    }

    #[cold]
    fn read(&mut self, text: &[u8], place: usize) -> Option<HeaderName> {
        let name = HeaderName::from_bytes(text).ok()?;
        if let Some(length) = Some(text.len()).filter(|length| *length <= KEPT_NAME) {
            let mut written = [0; KEPT_NAME];
            written[..length].copy_from_slice(text);
            self.0.resize(KEPT_NAMES, None);
            if let Some(known) = self.0.get_mut(place) {
                *known = Some(Known { written, length, name: name.clone() });
            }
        }
        Some(name)
    }
}

/// Where a name would be; none is empty.
fn place(text: &[u8]) -> Option<usize> {
    let (first, last, middle) = (text.first()?, text.last()?, text.get(text.len() / 2)?);
    let hash = usize::from(*first) * 3 + usize::from(*last) * 5 + usize::from(*middle) * 7 + text.len() * 11;
    Some(hash % KEPT_NAMES)
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    Close,
}

/// Why a head is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Takes a whole head from the front of `inbox`; `None` while it is not all there. `spare` is a map
/// whose memory is used again once the head is whole. `seen` is how much was looked at before; `names`
/// are those of earlier heads.
///
/// # Errors
/// It is not HTTP/1, or over [`HEAD_BYTES`] or [`HEAD_FIELDS`].
pub fn take(
    inbox: &mut BytesMut,
    seen: usize,
    spare: &mut HeaderMap,
    names: &mut Names,
) -> Result<Option<Head>, Malformed> {
    let Some(end) = head_end(inbox, seen) else {
        if inbox.len() > HEAD_BYTES {
            return Err(Malformed("the response head is too large"));
        }
        if !could_be_http(inbox) {
            return Err(Malformed("the answer is not HTTP/1"));
        }
        return Ok(None);
    };
    if end > HEAD_BYTES {
        return Err(Malformed("the response head is too large"));
    }
    let mut headers = std::mem::take(spare);
    headers.clear();
    parse(inbox.split_to(end).freeze(), headers, names).map(Some)
}

/// Where the empty line behind a head ends, at or after `seen`; lines may end in LF alone
/// (RFC 9112 section 2.2).
fn head_end(inbox: &[u8], seen: usize) -> Option<usize> {
    let mut from = seen.saturating_sub(3);
    while let Some(at) = memchr::memchr(b'\n', inbox.get(from..)?) {
        let next = from + at + 1;
        match inbox.get(next..)? {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => from = next,
        }
    }
    None
}

fn could_be_http(inbox: &[u8]) -> bool {
    let start = b"HTTP/1.";
    let count = inbox.len().min(start.len());
    inbox[..count] == start[..count]
}

fn parse(head: Bytes, mut headers: HeaderMap, names: &mut Names) -> Result<Head, Malformed> {
    let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEAD_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        &head,
        &mut slots,
    );
    match parsed {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Malformed("the response head is not complete")),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed("too many response fields")),
        Err(_) => return Err(Malformed("the response head is malformed")),
    }
    let status = response.code.filter(|code| *code <= 599);
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed("the response status is not within 100 to 599"))?;
    let version = if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let reason = response.reason.filter(|reason| status.canonical_reason() != Some(*reason));
    // Without a phrase of its own an answer gets the usual one.
    let reason = reason.filter(|reason| !reason.is_empty());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(head.slice_ref(reason.as_bytes())).ok());
    let named = append(&head, response.headers, &mut headers, |text| names.name(text))?;
    Ok(Head { status, headers, reason, version, named })
}

/// The fields of a trailer section, with the empty line behind it.
///
/// # Errors
/// It is malformed.
pub fn fields(section: &Bytes) -> Result<HeaderMap, Malformed> {
    let mut slots = [httparse::EMPTY_HEADER; HEAD_FIELDS];
    let mut headers = HeaderMap::new();
    match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((_, found))) => {
            append(section, found, &mut headers, |text| HeaderName::from_bytes(text).ok())?;
        }
        _ => return Err(Malformed("malformed fields")),
    }
    Ok(headers)
}

fn append(
    text: &Bytes,
    found: &[httparse::Header<'_>],
    headers: &mut HeaderMap,
    mut name: impl FnMut(&[u8]) -> Option<HeaderName>,
) -> Result<Named, Malformed> {
    let mut named = Named::default();
    for field in found {
        let name = name(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(text.slice_ref(field.value));
        let (Some(name), Ok(value)) = (name, value) else {
            return Err(Malformed("a response field is malformed"));
        };
        named.connection |= name == CONNECTION;
        named.coding |= name == TRANSFER_ENCODING;
        named.length |= name == CONTENT_LENGTH;
        headers.append(name, value);
    }
    Ok(named)
}

impl Head {
    /// How the body ends, and whether the connection may serve another request after it
    /// (RFC 9112 section 6.3). `to_head` is whether the request was a HEAD. Content-Length is put in
    /// its one canonical form, or removed where a coding decides.
    ///
    /// # Errors
    /// The framing is ambiguous.
    pub fn framing(&mut self, to_head: bool) -> Result<(Framing, bool), Malformed> {
        let keep = self.version == Version::HTTP_11 && !self.says_close();
        let coded = self.named.coding;
        let length = if self.named.length { self.length()? } else { None };
        if coded {
            let mut lines = self.headers.get_all(TRANSFER_ENCODING).iter();
            let chunked = lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"chunked"));
            if !chunked || lines.next().is_some() {
                return Err(Malformed("a transfer coding other than one chunked"));
            }
            self.headers.remove(TRANSFER_ENCODING);
            self.headers.remove(CONTENT_LENGTH);
        }
        let status = self.status.as_u16();
        if to_head || status == 304 {
            return Ok((Framing::Length(0), keep));
        }
        if status == 204 || status < 200 {
            self.headers.remove(CONTENT_LENGTH);
            // Who says that a body follows may send one: nobody else's request goes there.
            return Ok((Framing::Length(0), keep && !coded && length.is_none_or(|length| length == 0)));
        }
        Ok(match (coded, length) {
            // A length beside the coding, or a coding in HTTP/1.0, is framing that others may read
            // differently: the connection serves nobody else.
            (true, length) => (Framing::Chunked, keep && length.is_none()),
            (false, Some(length)) => (Framing::Length(length), keep),
            (false, None) => (Framing::Close, false),
        })
    }

    /// The one Content-Length, however often and in whatever digits it was said.
    fn length(&mut self) -> Result<Option<u64>, Malformed> {
        let mut found: Option<u64> = None;
        let mut canonical = true;
        for (at, line) in self.headers.get_all(CONTENT_LENGTH).iter().enumerate() {
            canonical &= at == 0;
            for item in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let digits = !item.is_empty() && item.iter().all(u8::is_ascii_digit);
                let number =
                    std::str::from_utf8(item).ok().filter(|_| digits).and_then(|item| item.parse().ok());
                let number = number.ok_or(Malformed("a content-length that is no number"))?;
                if found.is_some_and(|found| found != number) {
                    return Err(Malformed("two content-lengths that differ"));
                }
                canonical &= item.len() == line.len() && (item[0] != b'0' || item.len() == 1);
                found = Some(number);
            }
        }
        if let Some(length) = found.filter(|_| !canonical) {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Ok(found)
    }

    fn says_close(&self) -> bool {
        if !self.named.connection {
            return false;
        }
        let lines = self.headers.get_all(CONNECTION).iter();
        lines
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, Malformed> {
        take(&mut BytesMut::from(text), 0, &mut HeaderMap::new(), &mut Names::default())?
            .ok_or(Malformed("more"))
    }

    #[test]
    fn framing_is_decided_once_and_ambiguity_refused() {
        use Framing::{Chunked, Close, Length};
        type Row = (&'static str, &'static str, bool, Option<(Framing, bool)>, Option<&'static str>);
        let rows: [Row; 25] = [
            ("200 OK", "content-length: 3", false, Some((Length(3), true)), Some("3")),
            ("200 OK", "content-length: 3\r\ncontent-length: 3", false, Some((Length(3), true)), Some("3")),
            ("200 OK", "content-length: 3, 3", false, Some((Length(3), true)), Some("3")),
            ("200 OK", "content-length: 03", false, Some((Length(3), true)), Some("3")),
            ("200 OK", "content-length: 0", false, Some((Length(0), true)), Some("0")),
            ("200 OK", "content-length: 3\r\ncontent-length: 4", false, None, None),
            ("200 OK", "content-length: 3, 4", false, None, None),
            ("200 OK", "content-length: +3", false, None, None),
            ("200 OK", "content-length: -1", false, None, None),
            ("200 OK", "content-length: 0x3", false, None, None),
            ("200 OK", "content-length:", false, None, None),
            ("200 OK", "content-length: 18446744073709551616", false, None, None),
            ("200 OK", "transfer-encoding: chunked", false, Some((Chunked, true)), None),
            ("200 OK", "Transfer-Encoding: Chunked", false, Some((Chunked, true)), None),
            (
                "200 OK",
                "content-length: 3\r\ntransfer-encoding: chunked",
                false,
                Some((Chunked, false)),
                None,
            ),
            ("200 OK", "transfer-encoding: gzip, chunked", false, None, None),
            ("200 OK", "transfer-encoding: gzip", false, None, None),
            ("200 OK", "transfer-encoding: chunked\r\ntransfer-encoding: chunked", false, None, None),
            ("200 OK", "x: y", false, Some((Close, false)), None),
            ("200 OK", "connection: close\r\ncontent-length: 1", false, Some((Length(1), false)), Some("1")),
            (
                "200 OK",
                "connection: x, Close\r\ncontent-length: 1",
                false,
                Some((Length(1), false)),
                Some("1"),
            ),
            ("200 OK", "content-length: 9", true, Some((Length(0), true)), Some("9")),
            ("200 OK", "transfer-encoding: chunked", true, Some((Length(0), true)), None),
            ("204 No Content", "content-length: 9", false, Some((Length(0), false)), None),
            ("304 Not Modified", "content-length: 9", false, Some((Length(0), true)), Some("9")),
        ];
        for (status, fields, to_head, expected, length) in rows {
            let mut head = head(&format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n")).unwrap();
            let framing = head.framing(to_head);
            assert_eq!(framing.ok(), expected, "{status} {fields}");
            if expected.is_some() {
                let found = head.headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap());
                assert_eq!(found, length, "{status} {fields}");
                assert!(!head.headers.contains_key(TRANSFER_ENCODING));
            }
        }
        let mut old = head("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\n").unwrap();
        assert_eq!(old.framing(false), Ok((Length(1), false)));
    }

    #[test]
    fn heads_are_taken_whole_or_refused() {
        for good in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200\r\nx: y\r\n\r\n",
            "HTTP/1.1 200 \r\n\r\n",
            "HTTP/1.0 200 Fine\nx: y\n\n",
            "HTTP/1.1 599 \r\nx:\r\n\r\n",
        ] {
            assert!(head(good).is_ok(), "{good}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(HEAD_FIELDS + 1));
        let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES));
        for bad in [
            "HTTP/1.1 600 X\r\n\r\n",
            "HTTP/1.1 99 X\r\n\r\n",
            "HTTP/1.1 2000 X\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad field\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: y\r\n folded\r\n\r\n",
            "SSH-2.0",
            "\r\n\r\n",
            &many,
            &large,
        ] {
            assert!(head(bad).is_err_and(|error| error.0 != "more"), "{bad}");
        }
    }

    #[test]
    fn names_known_from_earlier_heads_are_read_as_the_first_time() {
        let mut names = Names::default();
        let mut read = |fields: &[String]| {
            let mut inbox = BytesMut::from(&*format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", fields.join("\r\n")));
            let head = take(&mut inbox, 0, &mut HeaderMap::new(), &mut names).unwrap().unwrap();
            let fields = head.headers.iter();
            fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>()
        };
        // More than are kept, of every length, and alike in all that their place is made of.
        let name = |at: usize| format!("X-{}{:03}-{}a", "y".repeat(at % 40), at, at % 10);
        for turn in 0..3 {
            for from in (0..400).step_by(50) {
                let fields: Vec<_> = (from..from + 50).map(|at| format!("{}: {turn}", name(at))).collect();
                let lower: Vec<_> = fields.iter().map(|field| field.to_ascii_lowercase()).collect();
                assert_eq!(read(&fields), lower);
                assert_eq!(read(&lower), lower);
            }
        }
    }

    #[test]
    fn a_head_in_pieces_is_the_same_head() {
        let text = "HTTP/1.1 201 Créé\r\nServer: x\r\nset-cookie: a\r\nSet-Cookie: b\r\n\r\nbody";
        let (mut inbox, mut seen) = (BytesMut::new(), 0);
        for byte in text.as_bytes() {
            inbox.extend_from_slice(&[*byte]);
            if let Some(head) = take(&mut inbox, seen, &mut HeaderMap::new(), &mut Names::default()).unwrap()
            {
                assert_eq!(head.status, 201);
                assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
                assert!(inbox.is_empty());
                return;
            }
            seen = inbox.len();
        }
        unreachable!("the head was never seen");
    }
}
