//! Diagnostics as people read them in a terminal: the line, a caret, the hint.
//!
//! It must never decide what is wrong; it draws what it is given.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::model::{Diagnostic, Severity};

use super::Source;

/// Draws findings in order, one blank line between them.
#[must_use]
pub fn render(findings: &[Diagnostic], sources: &[Source], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let drawn: Vec<String> = findings.iter().map(|finding| render_one(finding, sources, &renderer)).collect();
    drawn.join("\n\n")
}

fn render_one(finding: &Diagnostic, sources: &[Source], renderer: &Renderer) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(finding.message.as_str()).id(finding.code);
    let source = sources.iter().find(|source| source.name == finding.place.file);
    let mut group = match source.and_then(|source| Some((source, byte_range(source, finding)?))) {
        Some((source, range)) => title.element(
            Snippet::source(source.text.as_str())
                .path(source.name.as_str())
                .fold(true)
                .annotation(AnnotationKind::Primary.span(range)),
        ),
        None if finding.place.file.is_empty() => annotate_snippets::Group::with_title(title),
        None => title.element(annotate_snippets::Origin::path(finding.place.file.as_str())),
    };
    if !finding.hint.is_empty() {
        group = group.element(Level::HELP.message(finding.hint.as_str()));
    }
    renderer.render(&[group]).clone()
}

/// Byte range of a place in its text; `None` when the place is not a line of it.
fn byte_range(source: &Source, finding: &Diagnostic) -> Option<std::ops::Range<usize>> {
    let place = &finding.place;
    let row = place.line.checked_sub(1)? as usize;
    let start: usize = source.text.split_inclusive('\n').take(row).map(str::len).sum();
    let line = source.text.get(start..)?.lines().next().unwrap_or("");
    let byte_of = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let from = byte_of(place.column.saturating_sub(1) as usize);
    let to = byte_of((place.column.saturating_sub(1) + place.length.max(1)) as usize).max(from);
    Some(start + from..start + to)
}
