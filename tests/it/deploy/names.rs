//! Every metric and label in `deploy/` exists, in the program's list and, by the live test, in a scrape.
//!
//! Queries are read with a pattern, not a grammar: what looks like a metric of this program must be one.

use std::collections::BTreeSet;

use regex::Regex;
use switchback::model::names::{self, Family};

use super::{FOREIGN, files, panels, text, yaml};

/// What a histogram's family is exposed as.
const SUFFIXES: [&str; 3] = ["_bucket", "_sum", "_count"];

fn family(name: &str) -> Option<&'static Family> {
    names::ALL.iter().find(|family| {
        family.name == name
            || (family.kind == "histogram"
                && SUFFIXES.iter().any(|end| name.strip_suffix(end).is_some_and(|base| base == family.name)))
    })
}

/// Names of recording rules.
pub fn recorded() -> BTreeSet<String> {
    let groups = yaml("prometheus/recording.yml");
    let rules = groups["groups"].as_array().expect("groups").iter();
    let rules = rules.flat_map(|group| group["rules"].as_array().expect("rules").iter());
    rules.map(|rule| rule["record"].as_str().expect("a name").to_owned()).collect()
}

/// Names of this program's metrics in a text.
pub fn used(text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(r"\b(?:switchback|process)_[a-z0-9_]+\b").expect("a pattern");
    pattern.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

#[test]
fn every_metric_named_in_deploy_exists() {
    let rules = Regex::new(r"\bswitchback:[a-z0-9_]+(?::[a-z0-9_]+)*").expect("a pattern");
    let mut seen = 0;
    for file in files(&["yml", "yaml", "json", "md", "service"]) {
        let text = text(&file);
        for name in used(&text) {
            assert!(family(&name).is_some(), "{file}: there is no metric {name}");
            seen += 1;
        }
        for found in
            rules.find_iter(&text).map(|found| found.as_str()).filter(|name| name.contains("ratio_rate"))
        {
            assert!(recorded().contains(found), "{file}: nothing records {found}");
        }
    }
    assert!(seen > 40, "only {seen} names were found");
}

#[test]
fn every_label_asked_for_is_one_of_its_metric() {
    let pattern = Regex::new(r"\b([a-z_]+)\{([^}]*)\}").expect("a pattern");
    let label = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*""#).expect("a pattern");
    let rules = text("prometheus/alerts.yml") + &text("prometheus/recording.yml");
    let queries = panels().into_iter().map(|(_, query)| query).chain([rules]);
    let mut seen = 0;
    for query in queries {
        for found in pattern.captures_iter(&query) {
            let Some(family) = family(&found[1]) else {
                assert!(FOREIGN.contains(&&found[1]), "{} in {query}", &found[1]);
                continue;
            };
            for found in label.captures_iter(&found[2]) {
                let known = family.labels.contains(&&found[1]) || ["job", "instance"].contains(&&found[1]);
                assert!(known, "{} has no label {} in {query}", family.name, &found[1]);
                seen += 1;
            }
        }
    }
    assert!(seen > 40, "only {seen} labels were found");
}
