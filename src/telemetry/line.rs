//! One access record as one line of JSON, written by hand into a reused buffer.
//!
//! Whatever a client sent, the line stays one line of valid UTF-8: control bytes and invalid bytes
//! are escaped, fields are cut at [`FIELD_CAP`]. It must never allocate per record.

use std::io::Write;
use std::time::Duration;

use crate::model::log::{AccessRecord, Shadow};

/// Longest text of a field in bytes before escaping.
pub const FIELD_CAP: usize = 1024;

/// Writes lines; keeps the calendar text of the last second.
#[derive(Debug, Default)]
pub struct LineWriter {
    second: u64,
    calendar: String,
}

impl LineWriter {
    /// Appends one line with its line feed.
    pub fn write(&mut self, out: &mut Vec<u8>, record: &AccessRecord) {
        self.timestamp(out, record.at_millis);
        text(out, "request_id", &record.request_id);
        optional(out, "trace_id", &record.trace_id);
        text(out, "listener", record.listener.as_bytes());
        plain(out, "client", format_args!("\"{}\"", record.client));
        text(out, "method", record.method.as_str().as_bytes());
        text(out, "host", &record.host);
        text(out, "path", &record.path);
        plain(out, "status", format_args!("{}", record.status));
        optional(out, "route", record.route.as_bytes());
        optional(out, "arm", record.arm.as_bytes());
        optional(out, "upstream", record.upstream.as_bytes());
        optional(out, "endpoint", record.endpoint.as_bytes());
        optional(out, "choice", record.choice.map_or("", crate::model::ChoiceReason::label).as_bytes());
        optional(out, "rule", record.rule.as_bytes());
        match record.bucket {
            Some(bucket) => plain(out, "bucket", format_args!("{bucket}")),
            None => plain(out, "bucket", format_args!("null")),
        }
        match record.key_digest {
            Some(digest) => plain(out, "key_digest", format_args!("\"{digest:08x}\"")),
            None => plain(out, "key_digest", format_args!("null")),
        }
        millis(out, "duration_ms", Some(record.duration));
        millis(out, "upstream_ms", record.upstream_time);
        plain(out, "bytes_in", format_args!("{}", record.bytes_in));
        plain(out, "bytes_out", format_args!("{}", record.bytes_out));
        plain(out, "attempts", format_args!("{}", record.attempts));
        optional(out, "error", record.error.as_bytes());
        match &record.shadow {
            Shadow::No => plain(out, "shadow", format_args!("false")),
            Shadow::To(upstreams) => text(out, "shadow", upstreams.as_bytes()),
            Shadow::Copy => plain(out, "shadow", format_args!("true")),
        }
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 in UTC with milliseconds; the calendar is computed once a second.
    fn timestamp(&mut self, out: &mut Vec<u8>, at_millis: u64) {
        let second = at_millis / 1000;
        if self.second != second || self.calendar.is_empty() {
            self.second = second;
            let moment = jiff::Timestamp::from_second(second.cast_signed()).unwrap_or_default();
            self.calendar = moment.to_string();
            // Seconds are shown without a fraction, so what is left of the zone is the prefix.
            self.calendar.truncate(self.calendar.len().saturating_sub(1));
        }
        put(out, format_args!("{{\"ts\":\"{}.{:03}Z\"", self.calendar, at_millis % 1000));
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

fn plain(out: &mut Vec<u8>, key: &str, value: std::fmt::Arguments<'_>) {
    put(out, format_args!(",\"{key}\":"));
    put(out, value);
}

fn millis(out: &mut Vec<u8>, key: &str, time: Option<Duration>) {
    match time.map(|time| time.as_micros()) {
        Some(micros) => plain(out, key, format_args!("{}.{:03}", micros / 1000, micros % 1000)),
        None => plain(out, key, format_args!("null")),
    }
}

/// A text, or null when it is empty.
fn optional(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    if value.is_empty() { plain(out, key, format_args!("null")) } else { text(out, key, value) }
}

fn text(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    put(out, format_args!(",\"{key}\":\""));
    escape(out, value);
    out.push(b'"');
}

/// The inside of a JSON string: at most [`FIELD_CAP`] bytes of `value`, with an ellipsis when cut.
fn escape(out: &mut Vec<u8>, value: &[u8]) {
    let cut = value.len() > FIELD_CAP;
    let value = value.get(..FIELD_CAP).unwrap_or(value);
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                // Controls (DEL and C1 too) and line separators could rule a terminal or split lines.
                control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
                    put(out, format_args!("\\u{:04x}", u32::from(control)));
                }
                other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            // Shown as text, so that the line says what was sent.
            put(out, format_args!("\\\\x{byte:02x}"));
        }
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;

    pub(in crate::telemetry) fn record() -> AccessRecord {
        AccessRecord {
            at_millis: 1_700_000_000_042,
            request_id: Bytes::from_static(b"id-1"),
            trace_id: Bytes::new(),
            listener: "web".into(),
            client: std::net::IpAddr::from([192, 0, 2, 1]),
            method: http::Method::GET,
            host: Bytes::from_static(b"shop.example"),
            path: Bytes::from_static(b"/a"),
            status: 200,
            route: "all".into(),
            arm: "canary".into(),
            upstream: "canary".into(),
            endpoint: "http://10.0.0.1:80".into(),
            choice: Some(crate::model::ChoiceReason::Sticky),
            rule: "".into(),
            bucket: Some(42),
            key_digest: Some(0xab),
            duration: Duration::from_micros(12_345),
            upstream_time: None,
            bytes_in: 0,
            bytes_out: 13,
            attempts: 1,
            error: "",
            shadow: Shadow::No,
        }
    }

    fn line(record: &AccessRecord) -> String {
        let mut out = Vec::new();
        LineWriter::default().write(&mut out, record);
        String::from_utf8(out).expect("valid UTF-8")
    }

    #[test]
    fn a_line_has_the_keys_of_the_contract_in_order() {
        assert_eq!(
            line(&record()),
            concat!(
                "{\"ts\":\"2023-11-14T22:13:20.042Z\",\"request_id\":\"id-1\",\"trace_id\":null,",
                "\"listener\":\"web\",\"client\":\"192.0.2.1\",\"method\":\"GET\",\"host\":\"shop.example\",",
                "\"path\":\"/a\",\"status\":200,\"route\":\"all\",\"arm\":\"canary\",\"upstream\":\"canary\",",
                "\"endpoint\":\"http://10.0.0.1:80\",\"choice\":\"sticky\",\"rule\":null,\"bucket\":42,",
                "\"key_digest\":\"000000ab\",\"duration_ms\":12.345,\"upstream_ms\":null,\"bytes_in\":0,",
                "\"bytes_out\":13,\"attempts\":1,\"error\":null,\"shadow\":false}\n"
            )
        );
    }

    #[test]
    fn an_original_names_who_got_its_copy_and_the_copy_says_that_it_is_one() {
        let mut shadow = Shadow::default();
        let rows = [(None, "false}\n"), (Some("a"), "\"a\"}\n"), (Some("b"), "\"a,b\"}\n")];
        for (upstream, end) in rows {
            if let Some(name) = upstream {
                shadow.add(&name.into());
            }
            let line = line(&AccessRecord { shadow: shadow.clone(), ..record() });
            assert!(line.ends_with(&format!(",\"shadow\":{end}")), "{line}");
        }
        let copy = line(&AccessRecord { shadow: Shadow::Copy, ..record() });
        assert!(copy.ends_with(",\"shadow\":true}\n"), "{copy}");
    }

    #[test]
    fn hostile_bytes_stay_on_one_line_of_json() {
        let mut hostile = record();
        let mut path = b"/\x1b[31m\"\\\n\r\t\x7f\xc2\x9b\xe2\x80\xa8\xff\x00".to_vec();
        path.extend(vec![b'a'; 5000]);
        hostile.path = path.into();
        hostile.host = Bytes::from_static(b"\xc3");
        let line = line(&hostile);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.trim_end().chars().any(char::is_control), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("valid JSON");
        let path = read["path"].as_str().expect("text");
        assert!(path.starts_with("/\u{1b}[31m\"\\\n\r\t\u{7f}\u{9b}\u{2028}\\xff\0a") && path.len() < 1100);
        assert_eq!(read["host"], "\\xc3");
    }
}
