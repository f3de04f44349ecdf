//! Places in JSON: how they are written, and which of them are ignored.
//!
//! Elements of arrays are one place, `[*]`, and so are keys that look like ids, `.*`, so that the
//! number of places depends on the shape of the answers and not on what is in them. A place must
//! never be printed longer than its bound.

use std::fmt::Write;

use crate::model::PathStep;

/// Steps of a place at most; what lies deeper is compared as a whole.
pub const MAX_DEPTH: usize = 32;
/// Bytes of a place as it is printed, at most.
pub const MAX_PATH: usize = 200;
/// Hexadecimal digits, and the dashes between them, from which on a key is an id.
const LEAST_ID: usize = 16;

/// One step into JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A key of an object.
    Key(&'a str),
    /// An element of an array, from 0.
    Element(usize),
}

impl Step<'_> {
    /// Whether it is a key that looks like an id.
    fn is_id(key: &str) -> bool {
        let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        let hex = key.len() >= LEAST_ID
            && key.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
            && key.bytes().any(|byte| byte.is_ascii_digit());
        digits || hex
    }
}

/// A place as it is printed: `$.items[*].price`.
#[must_use]
pub fn text(steps: &[Step<'_>]) -> String {
    let mut text = String::from("$");
    for step in steps {
        match step {
            Step::Element(_) => text.push_str("[*]"),
            Step::Key(key) if Step::is_id(key) => text.push_str(".*"),
            Step::Key(key) if is_plain(key) => {
                text.push('.');
                text.push_str(key);
            }
            // Writing into a string does not fail.
            Step::Key(key) => _ = write!(text, "[{key:?}]"),
        }
        if text.len() > MAX_PATH {
            let end = (0..=MAX_PATH).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
            break;
        }
    }
    text
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Whether a place is a written one, or below it.
#[must_use]
pub fn covers(written: &[PathStep], steps: &[Step<'_>]) -> bool {
    let one = |(written, step): (&PathStep, &Step<'_>)| match (written, step) {
        (PathStep::Any, _) => true,
        (PathStep::Key(wanted), Step::Key(key)) => **wanted == **key,
        (PathStep::Index(wanted), Step::Element(at)) => *wanted as usize == *at,
        _ => false,
    };
    !written.is_empty() && written.len() <= steps.len() && written.iter().zip(steps).all(one)
}
