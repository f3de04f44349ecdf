//! Prometheus' text format: families, labels, escaping.
//!
//! It must never write a name that is not in `model::names`.

use std::fmt::Write;

use crate::ledger::BinCounts;
use crate::ledger::bins::PROMETHEUS_BOUNDS;
use crate::model::names::Family;

/// Text under construction.
#[derive(Debug, Default)]
pub struct Exposition {
    out: String,
    labels: String,
}

impl Exposition {
    /// Opens a family: its help and type lines.
    pub fn family(&mut self, family: &Family) {
        let Family { name, kind, help, .. } = family;
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One whole-number series; `values` in the order of the family's labels.
    pub fn count(&mut self, family: &Family, values: &[&str], value: u64) {
        self.set_labels(family, values);
        self.line(family.name, "", "", format_args!("{value}"));
    }

    /// One series of any number.
    pub fn number(&mut self, family: &Family, values: &[&str], value: f64) {
        self.set_labels(family, values);
        self.line(family.name, "", "", Number(value));
    }

    /// One histogram in seconds, with the bounds of the contract and `further` ones, in nanoseconds,
    /// exact where they are edges of its bins.
    pub fn histogram(&mut self, family: &Family, values: &[&str], counts: &BinCounts, further: &[u64]) {
        self.set_labels(family, values);
        let mut bounds: Vec<u64> = PROMETHEUS_BOUNDS.iter().chain(further).copied().collect();
        bounds.sort_unstable();
        bounds.dedup();
        for bound in bounds {
            let le = seconds(u128::from(bound)).to_string();
            self.line(family.name, "_bucket", &le, counts.at_most(bound));
        }
        let total = counts.total();
        self.line(family.name, "_bucket", "+Inf", total);
        self.line(family.name, "_sum", "", Number(seconds(counts.sum_nanos)));
        self.line(family.name, "_count", "", total);
    }

    /// The text, to which more families may be appended.
    #[must_use]
    pub fn into_text(self) -> String {
        self.out
    }

    fn set_labels(&mut self, family: &Family, values: &[&str]) {
        self.labels.clear();
        for (name, value) in family.labels.iter().zip(values) {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(&mut self.labels, value);
            self.labels.push('"');
        }
    }

    fn line(&mut self, name: &str, suffix: &str, le: &str, value: impl std::fmt::Display) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        if !self.labels.is_empty() || !le.is_empty() {
            self.out.push('{');
            self.out.push_str(&self.labels);
            if !le.is_empty() {
                let comma = if self.labels.is_empty() { "" } else { "," };
                self.push(format_args!("{comma}le=\"{le}\""));
            }
            self.out.push('}');
        }
        self.push(format_args!(" {value}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

/// Nanoseconds as seconds.
#[must_use]
pub fn seconds(nanos: u128) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
    let nanos = nanos as f64;
    nanos / 1e9
}

/// A float as Prometheus reads it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_nan() { f.write_str("NaN") } else { self.0.fmt(f) }
    }
}

/// A label value with backslash, quote and line feed escaped.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}
