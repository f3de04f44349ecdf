//! What an operator sees of compiling: refusals, warnings, and that meaning alone counts.

mod diff;
mod key_order;
mod mutations;
mod pins;
mod refusals;
mod reload;
mod routing;

use std::collections::BTreeMap;

use super::{Compiled, Inputs, Lists, Plan, compile};
use crate::ledger::Book;
use crate::model::{Diagnostic, Overlay};
use crate::spec::{Source, parse};

/// Unix seconds at which tests compile: January 2027.
pub(crate) const NOW: i64 = 1_800_000_000;

/// What most configurations of these tests begin with: two lines.
pub(crate) const BASE: &str = "\
listeners: [{ name: web, address: \"0.0.0.0:8080\" }]
upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }
";

/// A configuration of one file, or its findings.
pub(crate) fn load(text: &str) -> Result<Compiled, Vec<Diagnostic>> {
    load_files(&[("a.yaml", text)], &Overlay::default(), &Book::new(1, 64), None)
}

/// The plan of a configuration that compiles.
pub(crate) fn plan(text: &str) -> Plan {
    load(text).unwrap_or_else(|findings| panic!("{findings:#?}\n{text}")).plan
}

pub(crate) fn load_files(
    files: &[(&str, &str)],
    overlay: &Overlay,
    book: &Book,
    previous: Option<&Plan>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let sources = files.iter().map(|(name, text)| Source { name: (*name).into(), text: (*text).into() });
    let spec = parse(sources.collect()).map_err(|finding| vec![*finding])?;
    let lists: Lists = [
        ("beta.txt".to_owned(), Ok("u1\n# a comment\n u2 \n".to_owned())),
        ("gone.txt".to_owned(), Err("no such file".to_owned())),
        ("pin.key".to_owned(), Ok("a-key-that-is-long-enough\n".to_owned())),
        ("short.key".to_owned(), Ok("too-short".to_owned())),
    ]
    .into();
    let env = BTreeMap::from([("PORT".to_owned(), "8080".to_owned())]);
    compile(Inputs { spec: &spec, lists: &lists, env: &env, overlay, book, previous, now: NOW })
}
