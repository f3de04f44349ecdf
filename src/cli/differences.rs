//! `differences ROUTE`: what mirrored requests were answered differently, in words.
//!
//! It must never call anything a difference that the proxy did not: standings come from there.

use std::fmt::Write;

use clap::Args;

use super::Exit;
use super::remote::{AdminArgs, Outcome, Remote, finish, pretty, route_path};
use crate::wire;

/// Noise named in words at most; `--json` has all of it.
const MAX_NOISE: usize = 10;

/// Arguments of `differences`.
#[derive(Clone, Debug, Args)]
pub struct DifferencesArgs {
    /// The route
    pub route: String,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Shows them.
#[must_use]
pub fn run(args: &DifferencesArgs) -> Exit {
    finish(Remote::open(&args.admin).and_then(|remote| ask(&remote, args)))
}

fn ask(remote: &Remote, args: &DifferencesArgs) -> Outcome {
    let known: wire::Differences = remote.get(&format!("{}/differences", route_path(&args.route)))?;
    if args.admin.json { pretty(&known) } else { Ok(text(&known)) }
}

/// What an operator reads.
fn text(known: &wire::Differences) -> String {
    let mut out = String::new();
    if known.mirrors.is_empty() {
        _ = writeln!(out, "{}: no pair of answers was seen; a mirror with `compare` gives them", known.route);
    }
    // Writing into a string does not fail.
    for mirror in &known.mirrors {
        _ = one(&mut out, &known.route, mirror);
    }
    if known.dropped > 0 {
        _ = writeln!(out, "{} pairs were dropped: comparing could not keep up", known.dropped);
    }
    out
}

fn one(out: &mut String, route: &str, mirror: &wire::Mirrored) -> std::fmt::Result {
    let compared =
        if mirror.compare.is_empty() { "failures alone".to_owned() } else { mirror.compare.join(", ") };
    let phase = if mirror.live { "; a shadow phase goes by it" } else { "" };
    writeln!(out, "{route} -> {}: compares {compared}{phase}", mirror.to)?;
    let failures = &mirror.failures;
    writeln!(
        out,
        "  failures  both good {}, only the client's answer bad {}, only the copy's {}, both {}",
        failures.both_good, failures.primary_bad, failures.shadow_bad, failures.both_bad
    )?;
    let millis = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let times = |one: &wire::Quantiles| {
        format!("{} / {} / {} ms", millis(one.p50_ms), millis(one.p90_ms), millis(one.p99_ms))
    };
    let (primary, shadow) = (times(&mirror.latency.primary), times(&mirror.latency.shadow));
    writeln!(out, "  latency   p50 / p90 / p99: the client's {primary}, the copy's {shadow}")?;
    if mirror.compare.is_empty() {
        return Ok(());
    }
    write!(out, "  pairs     {} compared, {} of stable with itself", mirror.pairs, mirror.noise_pairs)?;
    if mirror.noise_pairs < mirror.noise_needed {
        write!(out, " of {} that are needed before anything is confirmed", mirror.noise_needed)?;
    }
    if mirror.unread > 0 {
        write!(out, ", {} with bodies too long or encoded", mirror.unread)?;
    }
    writeln!(out)?;
    let (mut noise, mut others) = (0, 0);
    for place in &mirror.differences {
        noise += usize::from(place.standing == "noise");
        others += usize::from(place.standing != "noise");
        if place.standing != "noise" || noise <= MAX_NOISE {
            let (share, usual) = (place.share * 100.0, place.noise_share * 100.0);
            writeln!(
                out,
                "  {:<11} {:<12} {}  {} ({share:.2} %), with itself {} ({usual:.2} %)",
                place.standing, place.kind, place.path, place.pairs, place.noise
            )?;
        }
    }
    if noise > MAX_NOISE {
        writeln!(out, "  {} more that are noise", noise - MAX_NOISE)?;
    }
    if others == 0 {
        writeln!(out, "  nothing differs but noise")?;
    }
    for sample in &mirror.samples {
        writeln!(
            out,
            "  {} {} {}: {} {}: {} | {}",
            sample.request_id,
            sample.method,
            sample.target,
            sample.kind,
            sample.path,
            sample.primary,
            sample.shadow
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told_before_what_is_noise() {
        let place = |kind: &str, path: &str, standing: &str| wire::Differing {
            kind: kind.into(),
            path: path.into(),
            standing: standing.into(),
            pairs: 40,
            share: 0.02,
            ..wire::Differing::default()
        };
        let mirror = wire::Mirrored {
            to: "v2".into(),
            compare: vec!["status".into(), "json".into()],
            pairs: 2_000,
            noise_pairs: 500,
            noise_needed: 50,
            differences: [place("json-value", "$.price", "confirmed")]
                .into_iter()
                .chain((0..12).map(|at| place("json-value", &format!("$.n{at}"), "noise")))
                .collect(),
            samples: vec![wire::Mismatch {
                request_id: "id-9".into(),
                primary: "1".into(),
                shadow: "2".into(),
                ..wire::Mismatch::default()
            }],
            ..wire::Mirrored::default()
        };
        let known = wire::Differences { route: "all".into(), mirrors: vec![mirror], dropped: 3 };
        let text = text(&known);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("all -> v2: compares status, json"), "{text}");
        assert!(lines[4].contains("confirmed") && lines[4].contains("$.price  40 (2.00 %)"), "{text}");
        assert!(text.contains("2 more that are noise") && !text.contains("$.n10"), "{text}");
        assert!(
            text.contains("id-9") && text.contains("1 | 2") && text.contains("3 pairs were dropped"),
            "{text}"
        );
        let none = wire::Differences { route: "all".into(), ..wire::Differences::default() };
        assert!(super::text(&none).contains("no pair of answers"));
    }
}
