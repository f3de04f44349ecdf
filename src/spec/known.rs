//! What the schema knows of a key that was not expected where it stands: where it belongs, and which of
//! the expected ones are built.
//!
//! It reads the schema that `switchback schema` prints, so that no list of keys is kept twice. It must
//! never be asked but for an error: making a schema takes time.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::File;

/// Deepest place that is looked at, in keys.
const MAX_DEPTH: usize = 5;

/// The schema of a file, to be asked.
pub(super) struct Known(Value);

impl Known {
    pub(super) fn new() -> Self {
        Self(schemars::schema_for!(File).to_value())
    }

    /// The expected keys that can be written today.
    pub(super) fn built<'a>(&self, expected: &[&'a str]) -> Vec<&'a str> {
        let Some(keys) = self.of(expected) else { return expected.to_vec() };
        expected.iter().copied().filter(|key| keys.get(*key).is_none_or(|value| !is_later(value))).collect()
    }

    /// Where an unexpected key belongs: below where it stands, else anywhere in a file.
    pub(super) fn place(&self, key: &str, expected: &[&str]) -> Option<String> {
        let below = self.of(expected).and_then(|keys| self.path(key, keys));
        if let Some(path) = below {
            let first = path.first()?.trim_end_matches("[]").to_owned();
            let opened: String = path.iter().map(|one| open(one)).collect();
            let closed: String = path.iter().rev().map(|one| close(one)).collect();
            return Some(format!("it belongs under `{first}`: `{opened}{key}: …{closed}`"));
        }
        let path = self.path(key, self.0.get("properties")?.as_object()?)?;
        Some(format!("it belongs elsewhere: `{}.{key}`", path.join(".")))
    }

    /// The map with exactly these keys.
    fn of(&self, expected: &[&str]) -> Option<&Map<String, Value>> {
        let wanted: BTreeSet<&str> = expected.iter().copied().collect();
        let defined = self.0.get("$defs").and_then(Value::as_object).into_iter().flat_map(Map::values);
        let all = std::iter::once(&self.0).chain(defined);
        let mut maps = all.filter_map(|one| one.get("properties")?.as_object());
        maps.find(|keys| keys.keys().map(String::as_str).collect::<BTreeSet<_>>() == wanted)
    }

    /// Keys that lead from a map to a key; a list's with brackets. The shortest way, at least one key.
    fn path(&self, key: &str, from: &Map<String, Value>) -> Option<Vec<String>> {
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([(from, Vec::<String>::new())]);
        while let Some((keys, path)) = queue.pop_front() {
            if !path.is_empty() && keys.get(key).is_some_and(|value| !is_later(value)) {
                return Some(path);
            }
            for (name, value) in keys.iter().filter(|_| path.len() < MAX_DEPTH) {
                let list = if is_list(value) { "[]" } else { "" };
                for (_, inner) in self.maps(value).into_iter().filter(|(map, _)| seen.insert(*map)) {
                    let mut path = path.clone();
                    path.push(format!("{name}{list}"));
                    queue.push_back((inner, path));
                }
            }
        }
        None
    }

    /// Maps that a value can be, with their names.
    fn maps<'a>(&'a self, value: &'a Value) -> Vec<(&'a str, &'a Map<String, Value>)> {
        let mut found = Vec::new();
        let mut open = vec![value];
        let mut seen = BTreeSet::new();
        while let Some(value) = open.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(name) = fields.get("$ref").and_then(Value::as_str)
                        && let Some(name) = name.strip_prefix("#/$defs/")
                        && seen.insert(name)
                        && let Some(named) = self.0.get("$defs").and_then(|all| all.get(name))
                    {
                        match named.get("properties").and_then(Value::as_object) {
                            Some(keys) => found.push((name, keys)),
                            None => open.push(named),
                        }
                    }
                    open.extend(fields.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        found
    }
}

/// Refused as not built yet.
fn is_later(value: &Value) -> bool {
    let name = |value: &Value| value.get("$ref").and_then(Value::as_str) == Some("#/$defs/NotYet");
    let any = value.get("anyOf").and_then(Value::as_array);
    name(value) || any.is_some_and(|any| any.iter().any(name))
}

fn is_list(value: &Value) -> bool {
    value.get("type").is_some_and(|kind| {
        kind == "array" || kind.as_array().is_some_and(|all| all.contains(&"array".into()))
    })
}

fn open(key: &str) -> String {
    key.strip_suffix("[]").map_or_else(|| format!("{key}: {{ "), |name| format!("{name}: [{{ "))
}

fn close(key: &str) -> &'static str {
    if key.ends_with("[]") { " }]" } else { " }" }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Source, parse};

    fn hint(text: &str) -> String {
        let source = Source { name: "a.yaml".to_owned(), text: text.to_owned() };
        parse(vec![source]).expect_err("an unknown key").hint
    }

    #[test]
    fn a_key_at_the_wrong_level_is_told_where_it_belongs() {
        let route = |line: &str| format!("routes:\n  - name: all\n    {line}\n");
        let rows = [
            (route("steps: [5, 50]"), "it belongs under `rollout`: `rollout: { steps: … }`"),
            (route("dwell: 60s"), "`rollout: { analysis: { dwell: … } }`"),
            (route("pin: {}"), "it belongs under `sticky`: `sticky: { pin: … }`"),
            ("steps: [5]\n".to_owned(), "it belongs under `routes`: `routes: [{ rollout: { steps: … } }]`"),
            (route("rollout: { version: v2, split: { a: 1 } }"), "it belongs elsewhere: `routes[].split`"),
        ];
        for (text, part) in rows {
            let hint = hint(&text);
            assert!(hint.contains(part), "{part} is not in {hint}\n{text}");
        }
    }

    #[test]
    fn what_is_not_built_is_never_offered() {
        // One letter from a key that is refused as not yet.
        let told = hint("states: {}\n");
        assert!(!told.contains("`state`"), "{told}");
        let told = hint("routes:\n  - name: all\n    spilt: {}\n");
        assert_eq!(told, "did you mean `split`?");
    }
}
