//! Values as operators see them: short, and without what is nobody's business.
//!
//! It must never write more than its bound, whatever it is given, nor the value of anything that is
//! named like a secret.

use http::HeaderName;
use serde_json::Value;

/// Bytes of a value that are shown.
pub const MAX_VALUE: usize = 120;
/// In place of a secret.
pub const REDACTED: &str = "[redacted]";
/// Headers whose values are secrets.
const HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];
/// What a name of a secret contains, in small letters without `_` and `-`.
const NAMES: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "token",
    "secret",
    "apikey",
    "authorization",
    "credential",
    "cookie",
    "session",
    "privatekey",
];

/// Whether what has this name is a secret.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect();
    NAMES.iter().any(|part| plain.contains(part))
}

/// The value of a header.
#[must_use]
pub fn header(name: &HeaderName, value: &[u8]) -> String {
    if HEADERS.contains(&name.as_str()) || is_secret(name.as_str()) {
        return REDACTED.to_owned();
    }
    let mut text = String::new();
    push(&mut text, &String::from_utf8_lossy(value.get(..MAX_VALUE * 2).unwrap_or(value)));
    text
}

/// A JSON value.
#[must_use]
pub fn json(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

/// The path of a request without its query, which may hold anything.
#[must_use]
pub fn target(path: &str) -> String {
    let mut text = String::new();
    push(&mut text, path.split('?').next().unwrap_or_default());
    text
}

/// Writes as much as there is room for; whether there is more room.
fn write(out: &mut String, value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            let mut more = push(out, "{");
            for (at, (key, value)) in map.iter().enumerate() {
                more = more && push(out, if at == 0 { "" } else { "," });
                more = more && push(out, &format!("{:?}:", short(key)));
                more = more && if is_secret(key) { push(out, REDACTED) } else { write(out, value) };
                if !more {
                    return false;
                }
            }
            push(out, "}")
        }
        Value::Array(list) => {
            let mut more = push(out, "[");
            for (at, value) in list.iter().enumerate() {
                more = more && push(out, if at == 0 { "" } else { "," }) && write(out, value);
                if !more {
                    return false;
                }
            }
            push(out, "]")
        }
        Value::String(text) => push(out, &format!("{:?}", short(text))),
        other => push(out, &other.to_string()),
    }
}

/// As much of a text as could be shown.
fn short(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_VALUE + 1)).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Adds a text without control characters; false when it did not fit.
fn push(out: &mut String, text: &str) -> bool {
    for c in text.chars() {
        if out.len() + c.len_utf8() > MAX_VALUE {
            out.push('…');
            return false;
        }
        out.push(if c.is_control() { '\u{fffd}' } else { c });
    }
    true
}
