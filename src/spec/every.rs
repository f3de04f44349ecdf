//! Every value that is wrong with a file at once, where the library stops at the first.
//!
//! What a finding points at is taken out, with its block, and the rest is read again, until it reads or
//! there is enough to mend. What is missing only because it was taken out is no finding. It must never
//! accept what [`super::parse`] refuses: it is for people who mend a file, not for a start.

use std::collections::BTreeSet;

use serde::de::IgnoredAny;

use super::parse::{parse_one, read_as};
use super::{Source, Spec};
use crate::model::Diagnostic;

/// Findings of one file at most.
const MAX_FINDINGS: usize = 50;
/// Times one file is read at most: a finding may need its block taken out piece by piece.
const MAX_READINGS: usize = 200;
/// Findings about the text as a whole, after which nothing can be taken out.
const OF_THE_TEXT: [&str; 4] = ["syntax", "over-budget", "too-large", "empty"];

/// Parses all files of a configuration, and goes on after the first error.
///
/// # Errors
/// Every error of shape that could be told, in file order.
pub fn parse_every(sources: Vec<Source>) -> Result<Spec, Vec<Diagnostic>> {
    let (mut files, mut findings) = (Vec::with_capacity(sources.len()), Vec::new());
    for source in sources {
        match parse_one(&source) {
            Ok(file) => files.push((source, file)),
            Err(first) => findings.extend(all_of(&source, *first)),
        }
    }
    if findings.is_empty() { Ok(Spec { files }) } else { Err(findings) }
}

/// What else is wrong with a file, after its first finding.
fn all_of(source: &Source, first: Diagnostic) -> Vec<Diagnostic> {
    if OF_THE_TEXT.contains(&first.code) {
        return vec![first];
    }
    let broken = read_as::<IgnoredAny>(source).err().map(|found| *found);
    let mut text = Text::of(source);
    let (mut all, mut next) = (Vec::new(), Some(first));
    for _ in 0..MAX_READINGS {
        let Some(found) = next.take() else { break };
        // What the taking out broke is not the writer's.
        if OF_THE_TEXT.contains(&found.code) || all.len() >= MAX_FINDINGS {
            break;
        }
        let line = (found.place.line as usize).saturating_sub(1);
        let taken = if let Some(block) = text.follows(line, &found) {
            text.take(text.around(block))
        } else {
            let column = (found.place.column as usize).saturating_sub(1);
            let block = text.block(line, column);
            // A key is missing in what begins at the place, not in its first key.
            let block = if found.code == "missing-key" { text.around(block) } else { Some(block) };
            all.push(found);
            text.take(block)
        };
        if !taken {
            break;
        }
        next = parse_one(&text.source()).err().map(|found| *found);
    }
    all.extend(broken);
    all.sort_by_key(|one| (one.place.line, one.place.column));
    all.dedup();
    all
}

/// Lines of one block, and the column it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    from: usize,
    /// The line after it.
    to: usize,
    column: usize,
}

/// A file's lines, of which some were taken out.
struct Text {
    name: String,
    lines: Vec<String>,
    taken: Vec<Block>,
    /// Keys that were taken out.
    keys: BTreeSet<String>,
}

impl Text {
    fn of(source: &Source) -> Self {
        let lines = source.text.lines().map(str::to_owned).collect();
        Self { name: source.name.clone(), lines, taken: Vec::new(), keys: BTreeSet::new() }
    }

    fn source(&self) -> Source {
        Source { name: self.name.clone(), text: self.lines.join("\n") + "\n" }
    }

    /// Where what is written on a line begins, `- ` of list items passed over; `None` of an empty one.
    fn columns(&self, line: usize) -> Option<Vec<usize>> {
        let text = self.lines.get(line)?;
        let mut at = text.len() - text.trim_start().len();
        if text.trim_start().is_empty() || text.trim_start().starts_with('#') {
            return None;
        }
        let mut columns = vec![at];
        while let Some(rest) = text.get(at..).and_then(|rest| rest.strip_prefix('-')) {
            let spaces = rest.len() - rest.trim_start().len();
            if spaces == 0 || rest.trim_start().is_empty() {
                break;
            }
            at += 1 + spaces;
            columns.push(at);
        }
        Some(columns)
    }

    /// The key, or the list item, that a place belongs to, with everything that stands further in.
    fn block(&self, line: usize, column: usize) -> Block {
        let columns = self.columns(line).unwrap_or_default();
        let within = columns.iter().rev().find(|start| **start <= column).or(columns.first());
        let column = within.copied().unwrap_or(0);
        Block { from: line, to: self.end(line, column), column }
    }

    /// The first line after one that stands no further in than a column.
    fn end(&self, line: usize, column: usize) -> usize {
        let outside = |at: &usize| {
            self.columns(*at).is_some_and(|columns| columns.first().is_some_and(|first| *first <= column))
        };
        (line + 1..self.lines.len()).find(outside).unwrap_or(self.lines.len())
    }

    /// What a block is part of: the list item it is a key of, or the key above it.
    fn around(&self, block: Block) -> Option<Block> {
        (0..=block.from).rev().find_map(|line| {
            let columns = self.columns(line)?;
            let column = columns.into_iter().rev().find(|column| *column < block.column)?;
            Some(Block { from: line, to: self.end(line, column), column })
        })
    }

    /// The block that was taken out and that a finding comes from, if it does.
    fn follows(&self, line: usize, found: &Diagnostic) -> Option<Block> {
        let missing = found.code == "missing-key"
            && found.message.split('`').nth(1).is_some_and(|key| self.keys.contains(key));
        // A key is missing anywhere in what it was a key of; what is empty stands where it was.
        let inside = |block: &&Block| {
            let around = self.around(**block).unwrap_or(**block);
            let end = if missing { around.to } else { block.to };
            (around.from..end.max(block.from + 1)).contains(&line)
        };
        let empty = self.columns(line).is_none() || found.message.contains("nothing is written");
        self.taken.iter().rev().find(inside).copied().filter(|_| missing || empty)
    }

    /// Takes a block out; false when nothing is left of it.
    fn take(&mut self, block: Option<Block>) -> bool {
        let Some(block) = block else { return false };
        let mut some = false;
        for (at, line) in self.lines.iter_mut().enumerate().take(block.to).skip(block.from) {
            let from = if at == block.from { block.column } else { 0 };
            let Some((kept, gone)) = line.split_at_checked(from) else { continue };
            some |= !gone.trim().is_empty();
            let keys = gone.split(['{', ',', '-']).filter_map(|part| part.split_once(':'));
            self.keys.extend(keys.map(|(key, _)| key.trim().trim_matches(['"', '\'']).to_owned()));
            *line = kept.to_owned();
        }
        self.taken.push(block);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the findings, and their codes.
    fn found(text: &str) -> Vec<(u32, &'static str)> {
        let source = Source { name: "a.yaml".to_owned(), text: text.to_owned() };
        match parse_every(vec![source]) {
            Ok(_) => Vec::new(),
            Err(all) => all.iter().map(|one| (one.place.line, one.code)).collect(),
        }
    }

    #[test]
    fn every_value_that_is_wrong_is_told_and_nothing_that_follows_from_it() {
        let head = "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n";
        let rows: &[(&str, &[(u32, &str)])] = &[
            ("upstreams: { a: \"http://127.0.0.1:1\" }\nroutes: [{ name: all, split: { a: 1 } }]\n", &[]),
            // A value, an unknown key, and a value in another block.
            (
                "upstreams:\n  a:\n    endpoints: [\"http://127.0.0.1:1\"]\n    connectTimeout: soon\n  b:\n    endpoints: [\"http://127.0.0.1:2\"]\n    \
                 brekaer: {}\nroutes:\n  - name: all\n    split: { a: 1x }\n  - name: other\n    timeouts: { request: never }\n    split: { a: 1 }\n",
                &[(5, "unknown-key"), (8, "unknown-key"), (11, "bad-value"), (13, "bad-value")],
            ),
            // What is required is what is wrong.
            (
                "upstreams:\n  a: \"http://127.0.0.1:1\"\nroutes:\n  - name: [x]\n    split: { a: 1 }\n  - name: b\n    split: 7\n",
                &[(5, "bad-value"), (8, "bad-value")],
            ),
            // The only item of a list, then of the file's only list.
            (
                "upstreams: { a: \"http://127.0.0.1:1\" }\nroutes:\n  - { name: all, split: { a: x } }\nadmin: 5\n",
                &[(4, "bad-value"), (5, "bad-value")],
            ),
            // A key that is missing by itself.
            (
                "upstreams: { a: \"http://127.0.0.1:1\" }\nroutes:\n  - split: { a: 1 }\n  - name: b\n    split: 7\n",
                &[(4, "missing-key"), (6, "bad-value")],
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(found(&format!("{head}{text}")), *expected, "{text}");
        }
    }

    #[test]
    fn it_ends_whatever_is_written() {
        let bad: Vec<String> = (0..300).map(|at| format!("  - name: r{at}\n    split: 7\n")).collect();
        assert_eq!(found(&format!("routes:\n{}", bad.concat())).len(), MAX_FINDINGS);
        for text in [
            "",
            "a",
            "- a\n- b\n",
            "routes: [\n",
            "routes: { a: [ } ]\n",
            "\u{0}",
            "routes:\n  - - - x\n",
            "x: &a [*a]\n",
        ] {
            assert!(!found(text).is_empty(), "{text:?}");
        }
    }
}
