//! Spans as OTLP writes them: the protobuf of `ExportTraceServiceRequest`, by hand.
//!
//! A handful of fields of one message need no code generator (opentelemetry-proto 1.x,
//! `trace/v1/trace.proto`; field numbers stand beside their names). It must never send a query, which may
//! hold a secret.

use crate::model::ChoiceReason;
use crate::model::log::Shadow;
use crate::model::span::{Attempt, Span};

/// Longest text of an attribute, in bytes.
const TEXT_CAP: usize = 1024;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

/// One request to a collector with all of these spans.
#[must_use]
pub fn request(spans: &[Span]) -> Vec<u8> {
    let mut resource = Message::default();
    resource.attribute(1, "service.name", Value::Text(b"switchback"));
    resource.attribute(1, "service.version", Value::Text(env!("CARGO_PKG_VERSION").as_bytes()));
    let mut scope = Message::default();
    scope.bytes(1, b"switchback");
    scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
    let mut of_scope = Message::default();
    of_scope.bytes(1, &scope.0);
    for span in spans {
        of_scope.bytes(2, &exchange(span).0);
        for attempt in &span.attempts {
            of_scope.bytes(2, &try_of(span, attempt).0);
        }
    }
    let mut of_resource = Message::default();
    of_resource.bytes(1, &resource.0);
    of_resource.bytes(2, &of_scope.0);
    let mut whole = Message::default();
    whole.bytes(1, &of_resource.0);
    whole.0
}

/// What every span begins with.
struct Head<'a> {
    trace: u128,
    own: u64,
    parent: Option<u64>,
    name: &'a str,
    kind: u64,
    start: u64,
    end: u64,
}

impl Head<'_> {
    fn begin(&self) -> Message {
        let mut message = Message::default();
        message.bytes(1, &self.trace.to_be_bytes()); // trace_id
        message.bytes(2, &self.own.to_be_bytes()); // span_id
        if let Some(parent) = self.parent {
            message.bytes(4, &parent.to_be_bytes()); // parent_span_id
        }
        message.bytes(5, self.name.as_bytes()); // name
        message.number(6, self.kind); // kind
        message.fixed(7, self.start); // start_time_unix_nano
        message.fixed(8, self.end); // end_time_unix_nano
        message
    }
}

fn exchange(span: &Span) -> Message {
    let record = &span.record;
    let copy = record.shadow == Shadow::Copy;
    let what = if copy { &record.upstream } else { &record.route };
    let name = format!("{}{} {what}", if copy { "shadow " } else { "" }, record.method);
    let end = span.start_nanos.saturating_add(nanos(record.duration));
    let kind = if copy { CLIENT } else { SERVER };
    let (ids, start) = (span.ids, span.start_nanos);
    let head =
        Head { trace: ids.trace, own: ids.own, parent: ids.parent, name: name.trim(), kind, start, end };
    let mut message = head.begin();
    let path = record.path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let client = record.client.to_string();
    let texts: [(&str, &[u8]); 14] = [
        ("http.request.method", record.method.as_str().as_bytes()),
        ("url.path", path),
        ("server.address", &record.host),
        ("client.address", client.as_bytes()),
        ("switchback.listener", record.listener.as_bytes()),
        ("switchback.request_id", &record.request_id),
        ("switchback.route", record.route.as_bytes()),
        ("switchback.arm", record.arm.as_bytes()),
        ("switchback.choice", record.choice.map_or("", ChoiceReason::label).as_bytes()),
        ("switchback.rule", record.rule.as_bytes()),
        ("switchback.upstream", record.upstream.as_bytes()),
        ("switchback.endpoint", record.endpoint.as_bytes()),
        ("switchback.shadow", if copy { b"copy" } else { b"" }),
        ("error.type", record.error.as_bytes()),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        message.attribute(9, key, Value::Text(text));
    }
    let numbers = [
        ("http.response.status_code", (record.status > 0).then_some(u64::from(record.status))),
        ("switchback.bucket", record.bucket.map(u64::from)),
        ("switchback.attempts", Some(u64::from(record.attempts))),
    ];
    for (key, number) in numbers {
        if let Some(number) = number {
            message.attribute(9, key, Value::Number(number));
        }
    }
    if let Some(original) = span.ids.parent.filter(|_| copy) {
        let mut link = Message::default();
        link.bytes(1, &span.ids.trace.to_be_bytes());
        link.bytes(2, &original.to_be_bytes());
        message.bytes(13, &link.0); // links
    }
    message.status(record.status >= 500 || record.status == 0);
    message
}

fn try_of(span: &Span, attempt: &Attempt) -> Message {
    let start = span.start_nanos.saturating_add(nanos(attempt.after));
    let end = start.saturating_add(nanos(attempt.duration));
    let (trace, parent, name) = (span.ids.trace, Some(span.ids.own), span.record.method.as_str());
    let mut message = Head { trace, own: attempt.own, parent, name, kind: CLIENT, start, end }.begin();
    message.attribute(9, "http.request.method", Value::Text(name.as_bytes()));
    message.attribute(9, "switchback.endpoint", Value::Text(attempt.endpoint.as_bytes()));
    if attempt.status > 0 {
        message.attribute(9, "http.response.status_code", Value::Number(u64::from(attempt.status)));
    }
    if !attempt.error.is_empty() {
        message.attribute(9, "error.type", Value::Text(attempt.error.as_bytes()));
    }
    message.status(attempt.status >= 400 || !attempt.error.is_empty());
    message
}

fn nanos(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

enum Value<'a> {
    Text(&'a [u8]),
    Number(u64),
}

/// A protobuf message as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn fixed(&mut self, field: u64, number: u64) {
        self.varint(field << 3 | 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A key with its value; text that is no UTF-8 is made some, for a collector refuses the whole
    /// request otherwise.
    fn attribute(&mut self, field: u64, key: &str, value: Value<'_>) {
        let mut any = Self::default();
        match value {
            Value::Text(text) => {
                let text = String::from_utf8_lossy(text.get(..TEXT_CAP).unwrap_or(text));
                any.bytes(1, text.as_bytes());
            }
            Value::Number(number) => any.number(3, number),
        }
        let mut pair = Self::default();
        pair.bytes(1, key.as_bytes());
        pair.bytes(2, &any.0);
        self.bytes(field, &pair.0);
    }

    fn status(&mut self, failed: bool) {
        if failed {
            let mut status = Self::default();
            status.number(3, ERROR);
            self.bytes(15, &status.0);
        }
    }
}
