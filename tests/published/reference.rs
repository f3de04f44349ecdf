//! The tables of config/README.md that are generated: keys from the schema, metrics from `model::names`.
//!
//! Which keys a table shows, and in which order, is for the page to say: a row is found by its first cell,
//! and the rest of it is written here. A key that no row shows is added, one that does not exist is taken
//! out. It must never say anything of its own: texts are those of src/spec, defaults those of the code.

use serde_json::Value;
use switchback::model::names;

const END: &str = "<!-- end -->";
const METRICS: &str = "<!-- metrics -->";
const KEYS: &str = "<!-- keys: ";
/// As the tables of the whole file name what their keys are in.
const FILE: &str = "the file";

/// A table of keys as the page has it.
struct Table {
    /// The block its keys are in, such as `routes[].retry`; empty for the file.
    base: String,
    columns: usize,
    keys: Vec<String>,
}

/// The page with every generated table written anew.
pub(crate) fn render(page: &str, schema: &Value) -> String {
    let mut tables: Vec<Table> = page.lines().enumerate().filter_map(|(at, _)| table(page, at)).collect();
    for table in &mut tables {
        let base = table.base.clone();
        table.keys.retain(|key| find(schema, &base, key).is_some());
    }
    add_missing(&mut tables, schema);
    let told = headings(page);
    let (mut out, mut tables, mut inside) = (String::new(), tables.into_iter(), false);
    for line in page.lines() {
        inside &= line != END;
        if !inside {
            out.extend([line, "\n"]);
        }
        if line == METRICS {
            out += &metrics();
            inside = true;
        } else if line.starts_with(KEYS) {
            out += &rows(&tables.next().expect("one per marker"), schema, &told);
            inside = true;
        }
    }
    out
}

/// The table that a line begins, if it begins one.
fn table(page: &str, at: usize) -> Option<Table> {
    let mut lines = page.lines().skip(at);
    let base = lines.next()?.strip_prefix(KEYS)?.strip_suffix(" -->")?;
    let lines: Vec<&str> = lines.take_while(|line| *line != END).collect();
    let columns = lines.first()?.matches('|').count() - 1;
    let key = |line: &&str| Some(line.split('|').nth(1)?.trim().trim_matches('`').to_owned());
    let base = if base == FILE { String::new() } else { base.to_owned() };
    Some(Table { base, columns, keys: lines.get(2..)?.iter().filter_map(key).collect() })
}

/// Adds each key that no table of its block shows to the table that shows its neighbours.
fn add_missing(tables: &mut [Table], schema: &Value) {
    let bases: Vec<String> = tables.iter().map(|table| table.base.clone()).collect();
    for base in bases {
        let shown: Vec<String> =
            tables.iter().filter(|table| table.base == base).flat_map(|table| table.keys.clone()).collect();
        let block = block(schema, &base).unwrap_or_else(|| panic!("no block {base}"));
        let mut missing = Vec::new();
        collect_missing(schema, block, "", &shown, &mut missing);
        for key in missing {
            let parent = key.rsplit_once('.').map_or("", |(parent, _)| parent).to_owned();
            let beside = |table: &Table| {
                table.keys.iter().any(|one| one.rsplit_once('.').map_or("", |(parent, _)| parent) == parent)
            };
            let of_block: Vec<usize> = (0..tables.len()).filter(|at| tables[*at].base == base).collect();
            let at = of_block.iter().copied().find(|at| beside(&tables[*at])).unwrap_or(of_block[0]);
            tables[at].keys.push(key);
        }
    }
}

/// A block is shown by a row of its own, or by rows of all it holds, or both.
fn collect_missing(schema: &Value, block: &Value, prefix: &str, shown: &[String], missing: &mut Vec<String>) {
    for (name, value, _) in properties(block) {
        if value.to_string().contains("NotYet") {
            continue;
        }
        let key = format!("{prefix}{name}");
        let inside = format!("{key}.");
        if shown.iter().any(|one| one.starts_with(&inside)) {
            let inner = held(schema, value).unwrap_or_else(|| panic!("{key} is no block"));
            collect_missing(schema, inner, &inside, shown, missing);
        } else if !shown.contains(&key) {
            missing.push(key);
        }
    }
}

/// Name, schema and description of everything a block may hold.
fn properties(block: &Value) -> Vec<(&str, &Value, &str)> {
    let variants = block["oneOf"].as_array().into_iter().flatten();
    let mut found = Vec::new();
    for one in std::iter::once(block).chain(variants) {
        for (name, value) in one["properties"].as_object().into_iter().flatten() {
            let own = value["description"].as_str();
            // Of one key among several the text is the variant's.
            let text = if std::ptr::eq(one, block) { own } else { one["description"].as_str() };
            found.push((name.as_str(), value, text.unwrap_or_default()));
        }
    }
    found
}

/// The block that a value is, or is a list or a map of.
fn held<'a>(schema: &'a Value, value: &'a Value) -> Option<&'a Value> {
    if let Some(name) = value["$ref"].as_str() {
        let named = schema.pointer(name.strip_prefix('#')?)?;
        return if properties(named).is_empty() { held(schema, named) } else { Some(named) };
    }
    let choices = value["anyOf"].as_array().into_iter().flatten();
    let inner = [&value["items"], &value["additionalProperties"]].into_iter().filter(|one| one.is_object());
    choices.chain(inner).find_map(|one| held(schema, one))
}

fn block<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    let mut names = plain(path).into_iter();
    names.try_fold(schema, |block, name| {
        let (_, value, _) = properties(block).into_iter().find(|(one, ..)| *one == name)?;
        held(schema, value)
    })
}

/// Names of a path, without what says that one is a list or a map.
fn plain(path: &str) -> Vec<String> {
    let names = path.split('.').filter(|name| !name.is_empty() && *name != "<name>");
    names.map(|name| name.trim_end_matches("[]").to_owned()).collect()
}

/// What the schema says of a key.
struct Found<'a> {
    text: &'a str,
    default: &'a Value,
    required: bool,
}

fn find<'a>(schema: &'a Value, base: &str, key: &str) -> Option<Found<'a>> {
    let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
    let block = block(schema, &format!("{base}.{parent}"))?;
    let (_, value, text) = properties(block).into_iter().find(|(one, ..)| *one == name)?;
    let required = block["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    Some(Found { text, default: &value["default"], required })
}

/// The default of a key by its whole path, as a cell says it.
pub(crate) fn default_of(schema: &Value, path: &str) -> Option<String> {
    let found = find(schema, "", path)?;
    Some(default(&found, path, meaning(found.text).1.as_deref()))
}

/// Paths of what a block holds.
pub(crate) fn keys_of(schema: &Value, path: &str) -> Vec<String> {
    let block = block(schema, path).unwrap_or_else(|| panic!("no block {path}"));
    properties(block).into_iter().map(|(name, ..)| format!("{path}.{name}")).collect()
}

fn rows(table: &Table, schema: &Value, told: &[Vec<String>]) -> String {
    let titles = if table.columns == 3 { "| Key | Default | Meaning |" } else { "| Key | Meaning |" };
    let mut out = format!("{titles}\n|{}\n", "---|".repeat(table.columns));
    for key in &table.keys {
        let found = find(schema, &table.base, key).expect("keys that do not exist are taken out");
        let (meaning, written) = meaning(found.text);
        let path = plain(&format!("{}.{key}", table.base));
        let below = if told.contains(&path) { ", below" } else { "" };
        let default = match table.columns {
            3 => format!(" {} |", default(&found, key, written.as_deref())),
            _ => String::new(),
        };
        out.extend(["| `", key, "` |", &default, " ", &meaning, below, " |\n"]);
    }
    out
}

/// A description as a cell has it, and the default it ends with, if it says one.
fn meaning(text: &str) -> (String, Option<String>) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (text, default) = match (text.rsplit_once(" Default: "), text.strip_suffix(" Required.")) {
        (Some((text, default)), _) => (text, Some(default.trim_end_matches('.').to_owned())),
        (None, Some(text)) => (text, Some("required".to_owned())),
        (None, None) => (text.as_str(), None),
    };
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    // Names in capitals stay as they are.
    let meaning = match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(std::iter::once(second)).chain(letters).collect()
        }
        _ => text.to_owned(),
    };
    (meaning, default)
}

fn default(found: &Found<'_>, key: &str, written: Option<&str>) -> String {
    if found.required {
        let block = key.rsplit_once('.').map_or(String::new(), |(block, _)| format!(" in `{block}`"));
        return format!("required{block}");
    }
    let nothing = match found.default {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    match (nothing, written) {
        (false, None) => format!("`{}`", flow(found.default)),
        (true, Some(text)) => text.to_owned(),
        (true, None) => "none".to_owned(),
        (false, Some(_)) => panic!("`{key}` has a default in the code and one in its text"),
    }
}

/// A value as the file would have it, in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() || text.parse::<f64>().is_ok() => format!("\"{text}\""),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}: {}", flow(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// Paths that a heading of the page names: ``### `routes[].split`, `blueGreen` `` names two.
fn headings(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("### `")) {
        let names: Vec<_> = line.split('`').skip(1).step_by(2).map(plain).collect();
        let parent = names.first().map(|first| first[..first.len().saturating_sub(1)].to_vec());
        for (at, name) in names.into_iter().enumerate() {
            let beside = parent.as_ref().filter(|_| at > 0).into_iter().flatten().cloned();
            found.push(beside.chain(name).collect());
        }
    }
    found
}

fn metrics() -> String {
    let mut out = "| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for family in names::ALL {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, help) = (family.name, family.kind, family.help.trim_end_matches('.'));
        out.extend(["| `", name, "` | ", kind, " | ", &labels.join(", "), " | ", help, " |\n"]);
    }
    out
}
