//! `simulate` against an independent derivation: a few lines of Python that know only the published
//! formulas read the same recording, and must come to the same evidence.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::site::Site;
use crate::support::tools::{needs, run, switchback};

const POLICY: &str = "\
routes:
  - name: all
    split: { stable: 95, canary: 5 }
    rollout: { version: v2, steps: [1, 5, 25, 50, 100], onHarm: observe }
";

/// A deterministic stream of numbers below a bound.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    /// One arm's second: bins of 7 to 7,000 ms.
    fn arm(&mut self, n: u64, worse: u64) -> Value {
        let latency: Vec<Value> =
            (0..6).map(|bin| json!([7.0 * 3.981_f64.powi(bin), self.below(n * worse / 4 + 2)])).collect();
        let good: u64 = latency.iter().filter_map(|bin| bin[1].as_u64()).sum();
        let bad = if self.below(3) == 0 { self.below(2 + worse) } else { 0 };
        json!({ "n": good + bad, "e": bad, "latency": latency })
    }
}

/// Twelve minutes over three steps; the canary grows slower and worse from the middle on.
fn recording(seed: u64) -> String {
    let mut numbers = Numbers(seed);
    let mut text = String::new();
    for t in 0..720_u64 {
        let worse = if t > 400 { 1 + numbers.below(3) } else { 1 };
        let mut line = json!({ "t": t, "stable": numbers.arm(40, 1), "canary": numbers.arm(8, worse) });
        if t % 240 == 0 {
            let step = usize::try_from(t / 240).expect("a step");
            line["w"] = json!([1.0, 5.0, 25.0][step]);
            line["step"] = json!(step);
        }
        text += &format!("{line}\n");
    }
    text
}

#[test]
fn an_independent_oracle_agrees_on_random_counts() {
    needs!("python3");
    for seed in [1, 2, 3] {
        let site = Site::new(POLICY);
        let counts = recording(seed);
        site.place("counts.jsonl", &counts);
        let config = site.file().display().to_string();
        let ours = switchback(
            &site.folder(),
            &["simulate", "--policy", &config, "--counts", "counts.jsonl", "--json"],
        );
        assert_eq!(ours.code, Some(0), "{}", ours.err);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/evidence.py");
        let theirs = run(Command::new("python3").args([script, "5"]), counts.as_bytes());
        assert_eq!(theirs.code, Some(0), "{}", theirs.err);
        let (ours, theirs): (Vec<_>, Vec<_>) = (ours.out.lines().collect(), theirs.out.lines().collect());
        assert_eq!((ours.len(), theirs.len()), (720, 720));
        let mut compared = 0;
        for (line, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            compared += agree(
                line,
                &serde_json::from_str(ours).expect("JSON"),
                &serde_json::from_str(theirs).expect("JSON"),
            );
        }
        assert!(compared > 3_000, "{compared} numbers compared");
    }
}

/// Compares one tick and says how many numbers were compared.
fn agree(line: usize, ours: &Value, theirs: &Value) -> usize {
    let metrics = &ours["evidence"]["byMetric"];
    let names = ["errors", "latencyP50", "latencyP90", "latencyP99"];
    let mut pairs = vec![(&ours["evidence"]["log"], &theirs["ln"])];
    pairs.extend(
        names
            .iter()
            .zip(theirs["means"].as_array().expect("means"))
            .map(|(name, mean)| (&metrics[*name], mean)),
    );
    for (one, other) in &pairs {
        let (one, other) = (one.as_f64().expect("a number"), other.as_f64().expect("a number"));
        assert!(
            (one - other).abs() <= 1e-9 * one.abs().max(1.0),
            "line {line}: {one}, not {other}\n{ours}\n{theirs}"
        );
    }
    let edges: Vec<f64> = ours["cuts"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let known: Vec<f64> =
        theirs["edges"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    assert_eq!(edges.len(), known.len(), "line {line}");
    assert!(
        edges.iter().zip(&known).all(|(nanos, millis)| (nanos - millis * 1e6).abs() < 1.0),
        "line {line}"
    );
    pairs.len()
}
