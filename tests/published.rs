//! What is published about the configuration is true: examples load, the reference names every key,
//! metric, log field, reason and bucket.
//!
//! Documentation drifts unless a test holds it. Nothing here may look at anything but files and the
//! library's own lists. The tables of keys and of metrics are generated: write what a key means where it
//! is defined in src/spec (with `Default: …` or `Required.` at its end where the code does not say it), a metric's in
//! `model::names`, then `SWITCHBACK_WRITE_REFERENCE=1 cargo test --test published`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "published/links.rs"]
mod links;
#[path = "published/reference.rs"]
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use switchback::cli::Cli;
use switchback::ledger::Book;
use switchback::model::{FailureReason, Overlay, RejectReason, UnroutedReason, names};
use switchback::plan::{Compiled, Inputs, compile};
use switchback::proxy::error::Kind;
use switchback::spec::{Source, parse, schema};
use switchback::split::{Salt, bucket::bucket_of};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn readme() -> String {
    fs::read_to_string(folder().join("README.md")).unwrap()
}

/// Names and texts of the examples.
fn examples() -> Vec<(String, String)> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn load(name: &str, text: &str) -> Compiled {
    let spec =
        parse(vec![Source { name: name.into(), text: text.into() }]).unwrap_or_else(|one| panic!("{one}"));
    let read = |list: String| {
        let text = fs::read_to_string(folder().join(&list)).map_err(|why| why.to_string());
        (list, text)
    };
    let inputs = Inputs {
        spec: &spec,
        lists: &spec.list_files().into_iter().map(read).collect(),
        env: &BTreeMap::new(),
        overlay: &Overlay::default(),
        book: &Book::new(1, 64),
        previous: None,
        now: 1_800_000_000,
    };
    compile(inputs).unwrap_or_else(|found| panic!("{name}: {found:#?}"))
}

#[test]
fn every_example_loads_without_a_warning_and_is_listed() {
    let (examples, readme) = (examples(), readme());
    assert!(examples.len() >= 7, "{examples:?}");
    for (name, text) in examples {
        assert_eq!(load(&name, &text).warnings, [], "{name}");
        assert!(readme.contains(&format!("[{name}]({name})")), "README.md does not list {name}");
    }
}

/// Pages that are read to be copied from, with the kind of their fenced blocks.
fn printed(kind: &str) -> Vec<(String, String)> {
    let pages = ["README.md", "config/recipes.md"];
    pages.into_iter().flat_map(|page| blocks(page, kind)).collect()
}

/// Fenced blocks of a page of one kind, each with the page's name.
fn blocks(name: &str, kind: &str) -> Vec<(String, String)> {
    let page = fs::read_to_string(folder().join("..").join(name)).unwrap();
    // Between two fences; a block begins with its kind.
    let blocks = page.split("\n```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'));
    blocks.map(|block| (name.to_owned(), format!("{block}\n"))).collect()
}

#[test]
fn every_printed_file_loads_without_a_warning() {
    let (root, files) = (schema(), printed("yaml"));
    assert!(files.len() >= 14, "{files:?}");
    for (page, text) in files {
        assert_eq!(load(&page, &text).warnings, [], "{page}: {text}");
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        satisfies(&value, &root, &root).unwrap_or_else(|why| panic!("{page}: {why}"));
    }
}

/// Words of a line as a shell sees them: quotes hold together, `#` begins a comment, `&&` and `|` end it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for one in line.chars().chain([' ']) {
        match (quote, one) {
            (None, '\'' | '"') => quote = Some(one),
            (Some(open), _) if one == open => quote = None,
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => words.push(std::mem::take(&mut word)),
            _ => word.push(one),
        }
    }
    let end = words.iter().position(|word| word.starts_with('#') || word == "&&" || word == "|");
    words.truncate(end.unwrap_or(words.len()));
    words
}

#[test]
fn every_printed_command_is_one() {
    let mut read = 0;
    for (page, text) in printed("sh").into_iter().chain(blocks("deploy/README.md", "text")) {
        for line in text.lines() {
            let line = line.replace("cargo run --release -- ", "switchback ");
            // As it is asked inside a container.
            let line = line.find(" /usr/local/bin/switchback ").map_or(&*line, |at| &line[at + 16..]);
            let words = words(line);
            if words.first().is_some_and(|word| word == "switchback") {
                read += 1;
                Cli::try_parse_from(&words).unwrap_or_else(|why| panic!("{page}: {line}\n{why}"));
            }
        }
    }
    assert!(read >= 31, "{read} commands");
}

/// Every key of every block of the schema, and whether its feature is built.
fn keys() -> BTreeMap<String, bool> {
    let root = schema();
    let mut keys = BTreeMap::new();
    let mut blocks: Vec<&Value> = vec![&root];
    blocks.extend(root["$defs"].as_object().unwrap().values());
    for block in blocks {
        let variants = block["oneOf"].as_array().into_iter().flatten();
        for properties in
            std::iter::once(block).chain(variants).filter_map(|one| one["properties"].as_object())
        {
            for (key, value) in properties {
                let built = !value.to_string().contains("NotYet");
                *keys.entry(key.clone()).or_insert(false) |= built;
            }
        }
    }
    keys
}

#[test]
fn the_reference_names_every_key() {
    let readme = readme();
    // Words between backquotes, taken apart: `limits.headerBytes` names both.
    let code = readme.split('`').skip(1).step_by(2);
    let named: BTreeSet<&str> =
        code.flat_map(|code| code.split(|one: char| !one.is_alphanumeric())).collect();
    let missing: Vec<_> = keys().into_keys().filter(|key| !named.contains(key.as_str())).collect();
    assert_eq!(missing, Vec::<String>::new(), "keys that config/README.md does not mention");
}

fn collect_keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            found.insert(key.clone());
            collect_keys(value, found);
        }),
        Value::Array(list) => list.iter().for_each(|value| collect_keys(value, found)),
        _ => {}
    }
}

#[test]
fn everything_yaml_has_every_key_that_is_built() {
    let text = fs::read_to_string(folder().join("everything.yaml")).unwrap();
    let mut written = BTreeSet::new();
    collect_keys(&serde_saphyr::from_str(&text).unwrap(), &mut written);
    let built = keys().into_iter().filter(|(_, built)| *built).map(|(key, _)| key);
    let missing: Vec<_> = built.filter(|key| !written.contains(key)).collect();
    assert_eq!(missing, Vec::<String>::new(), "keys that everything.yaml does not show");
}

#[test]
fn examples_satisfy_the_schema() {
    let root = schema();
    for (name, text) in examples() {
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        if let Err(why) = satisfies(&value, &root, &root) {
            panic!("{name}: {why}");
        }
    }
    for bad in
        ["{ rotues: [] }", "{ workers: many }", "{ listeners: {} }", "{ tracing: {} }", "{ routes: [{}] }"]
    {
        assert!(satisfies(&serde_saphyr::from_str(bad).unwrap(), &root, &root).is_err(), "{bad}");
    }
}

/// As much of JSON Schema as the schema uses.
fn satisfies(value: &Value, schema: &Value, root: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = name.strip_prefix('#').and_then(|pointer| root.pointer(pointer)).unwrap();
        return satisfies(value, target, root);
    }
    let fail = |why: String| Err(format!("{why}: {value}"));
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let is = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("type {other}"),
    };
    if !types.is_empty() && !types.iter().any(is) {
        return fail(format!("is no {types:?}"));
    }
    if schema.get("not").is_some() {
        return fail("is not yet allowed".into());
    }
    if schema.get("const").is_some_and(|only| only != value) {
        return fail(format!("is not {}", schema["const"]));
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(list) = schema[choice].as_array()
            && !list.iter().any(|one| satisfies(value, one, root).is_ok())
        {
            return fail(format!("fits none of {}", Value::from(list.clone())));
        }
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        satisfies(item, &schema["items"], root).map_err(|why| format!("[{at}] {why}"))?;
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let known = &schema["properties"][key];
        let extra = &schema["additionalProperties"];
        if known.is_null() && *extra == Value::Bool(false) {
            return fail(format!("key {key} is unknown"));
        }
        let rule = if known.is_null() { extra } else { known };
        satisfies(inner, rule, root).map_err(|why| format!("{key}: {why}"))?;
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(key).is_none() {
            return fail(format!("key {key} is missing"));
        }
    }
    Ok(())
}

/// Rows of the tables, cells without their backquotes.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'));
    lines.map(|line| line.split('|').map(cell).collect()).collect()
}

#[test]
fn the_generated_tables_are_what_the_program_says() {
    let (page, schema) = (readme(), schema());
    let generated = reference::render(&page, &schema);
    if std::env::var_os("SWITCHBACK_WRITE_REFERENCE").is_some() {
        fs::write(folder().join("README.md"), &generated).unwrap();
    } else if generated != page {
        let (is, should): (Vec<_>, Vec<_>) = (page.lines().collect(), generated.lines().collect());
        let gone = is.iter().filter(|line| !should.contains(line)).map(|line| format!("-{line}\n"));
        let new = should.iter().filter(|line| !is.contains(line)).map(|line| format!("+{line}\n"));
        let diff: String = gone.chain(new).collect();
        panic!("config/README.md differs; SWITCHBACK_WRITE_REFERENCE=1 writes it anew:\n{diff}");
    }
    // What is edited in a table, left out of it or made up is put right again.
    assert!(generated.matches("<!-- end -->").count() >= 20);
    let edits = [
        ("| `20000` | open", "| `30000` | open"),
        ("| gauge |", "| counter |"),
        ("| `via` |", "| `vie` | none | nothing |\n| `via` |"),
    ];
    for (from, to) in edits {
        let edited = generated.replacen(from, to, 1);
        assert_ne!(edited, generated, "{from}");
        assert_eq!(reference::render(&edited, &schema), generated, "{from}");
    }
    for key in ["| `via` |", "| `limits.streams` |", "| `outlier.baseEjection` |", "| `slack` |"] {
        let row = generated.lines().find(|line| line.starts_with(key)).unwrap();
        let without = generated.replacen(&format!("{row}\n"), "", 1);
        assert!(reference::render(&without, &schema).contains(&format!("{row}\n")), "{key}");
    }
}

#[test]
fn every_limit_is_listed_with_its_default() {
    let (page, schema) = (readme(), schema());
    let section = page.split("\n## Limits\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let listed: BTreeMap<String, String> =
        rows(section).into_iter().skip(2).map(|row| (row[0].clone(), row[1].clone())).collect();
    let blocks = [
        "listeners[].limits",
        "listeners[].timeouts",
        "upstreams.<name>.limits",
        "routes[].timeouts",
        "budgets",
    ];
    for key in blocks.iter().flat_map(|block| reference::keys_of(&schema, block)) {
        assert!(listed.contains_key(&key), "{key} is a limit that is not listed");
    }
    for (key, default) in listed {
        let known = reference::default_of(&schema, &key).unwrap_or_else(|| panic!("{key} is no key"));
        assert_eq!(default, known.trim_matches('`'), "{key}");
    }
}

#[test]
fn twenty_vectors_hold() {
    let vectors: Vec<_> = rows(&readme())
        .into_iter()
        .filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone(), row.get(2)?.parse::<u16>().ok()?)))
        .collect();
    assert_eq!(vectors.len(), 20);
    for (salt, key, bucket) in vectors {
        assert_eq!(bucket_of(Salt::new(&salt).hash(key.as_bytes())), bucket, "{salt} {key}");
    }
}

#[test]
fn the_reference_names_every_metric_with_its_kind_and_labels() {
    let rows = rows(&readme());
    for family in names::ALL {
        let row = rows.iter().find(|row| row[0] == family.name);
        let row = row.unwrap_or_else(|| panic!("config/README.md does not name {}", family.name));
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        assert_eq!(
            (row[1].as_str(), row[2].trim_matches('`')),
            (family.kind, labels.join(", ").trim_matches('`')),
            "{row:?}"
        );
    }
    let known: BTreeSet<&str> = names::ALL.iter().map(|family| family.name).collect();
    let named = rows.iter().map(|row| row[0].as_str()).filter(|name| name.starts_with("switchback_"));
    assert_eq!(named.filter(|name| !known.contains(name)).count(), 0, "a metric that does not exist");
}

#[test]
fn the_reference_names_every_request_of_the_api_and_every_verb_of_the_command_line() {
    let readme = readme();
    let section = |title: &str| readme.split(title).nth(1).unwrap().split("\n## ").next().unwrap();
    let (api, line) = (section("\n## The admin API\n"), section("\n## The command line\n"));
    // The document the API serves of itself is held against its router elsewhere.
    let described = fs::read_to_string(folder().join("../src/admin/openapi.rs")).unwrap();
    let described = described.split("#[cfg(test)]").next().unwrap();
    let path = |text: &&str| text.starts_with('/') && !text.contains(' ') && !text.starts_with("/components");
    let paths: BTreeSet<&str> = described.split('"').filter(path).collect();
    assert!(paths.len() >= 24, "{paths:?}");
    let missing: Vec<_> = paths.into_iter().filter(|path| !api.contains(&format!(" {path}`"))).collect();
    assert_eq!(missing, Vec::<&str>::new(), "requests that config/README.md does not name");
    for verb in Cli::command().get_subcommands().map(clap::Command::get_name) {
        assert!(line.contains(&format!("| `{verb}")), "config/README.md does not name `{verb}`");
    }
}

#[test]
fn the_reference_names_every_reason_with_its_status() {
    let rows = rows(&readme());
    let rejects = RejectReason::ALL.iter().map(|reason| Kind::Reject(*reason));
    let unrouted = UnroutedReason::ALL.iter().map(|reason| Kind::Unrouted(*reason));
    let upstream = FailureReason::ALL.iter().map(|reason| Kind::Upstream(*reason));
    for kind in rejects.chain(unrouted).chain(upstream) {
        let row = rows.iter().find(|row| row.len() == 4 && row[0] == kind.label());
        let row = row.unwrap_or_else(|| panic!("config/README.md does not name `{}`", kind.label()));
        let told = [FailureReason::Status, FailureReason::GrpcStatus].map(Kind::Upstream);
        if !told.contains(&kind) {
            assert_eq!(row[1], kind.answer().0.as_u16().to_string(), "{row:?}");
        }
    }
}

#[test]
fn the_reference_names_every_field_of_the_access_log() {
    // The fields as the contract lists them.
    let fields = "ts, request_id, trace_id, listener, client, method, host, path, status, route, arm, upstream, endpoint, \
                  choice, rule, bucket, key_digest, duration_ms, upstream_ms, bytes_in, bytes_out, attempts, error, shadow";
    let readme = readme();
    let section = readme.split("## Access log").nth(1).unwrap().split("\n## ").next().unwrap();
    for field in fields.split(", ").map(str::trim) {
        assert!(section.contains(&format!("`{field}`")), "{field}");
    }
}
