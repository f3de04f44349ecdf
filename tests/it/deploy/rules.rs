//! Alerting and recording rules as promtool and a person who is woken see them.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::{alerts, folder, yaml};
use crate::support::needs;
use crate::support::tools::{find, run};

fn promtool(arguments: &[&str]) {
    let mut command = Command::new(find("promtool").expect("promtool was checked for"));
    let done = run(command.args(arguments).current_dir(folder().join("prometheus")), b"");
    assert_eq!(done.code, Some(0), "promtool {arguments:?}\n{}\n{}", done.out, done.err);
}

#[test]
fn promtool_accepts_the_configuration_and_every_case_comes_true() {
    needs!("promtool");
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "recording.yml", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml", "alerts_days_test.yml"]);
}

#[test]
fn every_alert_says_how_urgent_it_is_and_where_to_read_on() {
    for alert in alerts() {
        let (name, rule) = (&alert.name, &alert.rule);
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning" | "info")), "{name}: {severity:?}");
        for key in ["summary", "description"] {
            let said = rule["annotations"][key].as_str().unwrap_or_default();
            assert!(said.len() > 20, "{name}: {key} is {said:?}");
        }
        assert_eq!(rule["annotations"]["runbook_url"], format!("deploy/runbooks/{name}.md"));
        assert!(folder().join(format!("runbooks/{name}.md")).is_file(), "{name} has no runbook");
    }
}

#[test]
fn every_alert_fires_and_ends_in_a_case_of_promtool() {
    let mut fires: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut ends = BTreeSet::new();
    let files = ["prometheus/alerts_test.yml", "prometheus/alerts_days_test.yml"].map(yaml);
    for case in files.iter().flat_map(|file| file["tests"].as_array().expect("cases")) {
        let moments = case["alert_rule_test"].as_array().expect("moments");
        for moment in moments {
            let name = moment["alertname"].as_str().expect("a name").to_owned();
            let expected = moment["exp_alerts"].as_array().expect("alerts");
            for one in expected {
                let severity = one["exp_labels"]["severity"].as_str().expect("a severity");
                fires.entry(name.clone()).or_default().insert(severity.to_owned());
            }
            if expected.is_empty() && fires.contains_key(&name) {
                ends.insert(name);
            }
        }
    }
    for alert in alerts() {
        let severity = alert.rule["labels"]["severity"].as_str().expect("a severity");
        let fired = fires.get(&alert.name).is_some_and(|known| known.contains(severity));
        assert!(fired && ends.contains(&alert.name), "{} ({severity}) has no case", alert.name);
    }
}
