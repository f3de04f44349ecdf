//! One reading of `/metrics`, queried by name and labels.
//!
//! Tests ask for the labels they care about and get the sum over the rest, so that a label added
//! later breaks no row. It must never tolerate a line it cannot parse.

use std::collections::{BTreeMap, BTreeSet};

/// A parsed exposition.
#[derive(Debug)]
pub struct Scrape {
    pub text: String,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Sample::parse(line).unwrap_or_else(|| panic!("unreadable metrics line {line:?}")))
            .collect();
        Self { text: text.to_owned(), samples }
    }

    /// Sum of every series of this name carrying these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels)
            .map(|sample| sample.value)
            // An empty float sum is -0.0, which prints badly in a failing assertion.
            .fold(0.0, |total, value| total + value)
    }

    /// The same as a whole number, which is what counters hold.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self.sum(name, labels);
        format!("{sum:.0}").parse().expect("a counter")
    }

    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// Every distinct value of one label over the series of this name.
    pub fn values_of(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.matching(name, &[]).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    /// The lines of one family, for a failing assertion.
    pub fn family(&self, name: &str) -> String {
        self.text
            .lines()
            .filter(|line| line.starts_with(name))
            .fold(String::new(), |all, line| all + line + "\n")
    }

    /// The identity of every series: what must not grow with traffic.
    pub fn series(&self) -> BTreeSet<String> {
        self.samples.iter().map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
    }

    fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        })
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let Some((name, rest)) = series.split_once('{') else {
            return Some(Self { name: series.to_owned(), labels: BTreeMap::new(), value });
        };
        Some(Self { name: name.to_owned(), labels: labels(rest.strip_suffix('}')?)?, value })
    }
}

fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.trim().to_owned(), value);
        rest = after[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}
