//! The dashboard as a file: what Grafana needs to show it, and that rows hold what they promise.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{panels, text, yaml};

#[test]
fn the_dashboard_is_whole_and_provisioned() {
    let whole: Value = serde_json::from_str(&text("grafana/switchback.json")).expect("JSON");
    let panels = whole["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(at("x") + at("w") <= 24, "{panel:#}");
        assert!(panel["type"] == "row" || panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel:#}");
    }
    let overlap = panels.iter().enumerate().find_map(|(n, one)| {
        let at = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().expect("a place");
        let apart = |a: &Value, b: &Value| {
            at(a, "x") + at(a, "w") <= at(b, "x") || at(a, "y") + at(a, "h") <= at(b, "y")
        };
        panels.iter().skip(n + 1).find(|two| !apart(one, two) && !apart(two, one)).map(|two| (one, two))
    });
    assert!(overlap.is_none(), "{overlap:#?}");
    let source = &yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    assert_eq!(source["type"], "prometheus");
    let provider = &yaml("grafana/provisioning/dashboards/switchback.yml")["providers"][0];
    assert_eq!(provider["options"]["path"], "/var/lib/grafana/dashboards");
}

#[test]
fn the_dashboard_shows_what_an_operator_asks() {
    let queries: String = panels().into_iter().map(|(_, query)| query + "\n").collect();
    let asked = [
        "requests_total",
        "outcome=\"error\"",
        "request_duration_seconds_bucket",
        "split_weight_ratio",
        "split_observed_ratio",
        "rollout_state",
        "metric",
        "rollout_evidence_log",
        "slo_burn_rate",
        "slo_budget_remaining_ratio",
        "mirror_requests_total",
        "mirror_differences_total",
        "endpoint_healthy",
        "switchback_connections",
        "config_reloads_total",
    ];
    for what in asked {
        assert!(queries.contains(what), "no panel asks {what}");
    }
}
