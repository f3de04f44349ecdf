//! How `status` prints copies of requests and what they showed.
//!
//! Pure: views in, text out.

use super::remote_text::{add, clean};
use crate::wire;

/// A line each, and whether somebody should look at it.
pub(super) fn lines(route: &wire::Route) -> impl Iterator<Item = (String, bool)> + '_ {
    route.mirrors.iter().map(|mirror| {
        let differs = mirror.differing.is_some_and(|places| places.confirmed > 0);
        (line(&route.name, mirror), differs)
    })
}

/// `mirror -> next 10%: 40 drawn, 30 sent, p99 12.3 ms, 10 dropped (method 8, queue_full 2)`.
fn line(route: &str, mirror: &wire::Mirror) -> String {
    let mut text = format!(
        "mirror -> {} {}%: {} drawn, {} sent",
        clean(&mirror.to),
        mirror.percent,
        mirror.sampled,
        mirror.sent
    );
    if let Some(millis) = mirror.p99_ms {
        add(&mut text, format_args!(", p99 {millis:.1} ms"));
    }
    let dropped: u64 = mirror.dropped.values().sum();
    if dropped > 0 {
        let reasons = mirror.dropped.iter().map(|(reason, count)| format!("{} {count}", clean(reason)));
        let reasons: Vec<String> = reasons.collect();
        add(&mut text, format_args!(", {dropped} dropped ({})", reasons.join(", ")));
    }
    let Some(places) = mirror.differing else { return text };
    let wire::Places { confirmed, unconfirmed, noise } = places;
    if confirmed > 0 {
        add(&mut text, format_args!("  DIFFERS in {confirmed}: switchback differences {}", clean(route)));
    } else {
        text.push_str("  no difference confirmed");
    }
    if unconfirmed + noise > 0 {
        add(&mut text, format_args!(" ({unconfirmed} unconfirmed, {noise} noise)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_a_line() {
        let plain = wire::Mirror { to: "next\u{1b}".into(), percent: 0.5, ..wire::Mirror::default() };
        let busy = wire::Mirror {
            to: "next".into(),
            percent: 10.0,
            sampled: 40,
            sent: 30,
            dropped: [("method".to_owned(), 8), ("queue_full".to_owned(), 2)].into(),
            p99_ms: Some(12.34),
            differing: Some(wire::Places { confirmed: 0, unconfirmed: 1, noise: 2 }),
            ..wire::Mirror::default()
        };
        let places = wire::Places { confirmed: 1, ..wire::Places::default() };
        let differs = wire::Mirror { differing: Some(places), ..plain.clone() };
        let mirrors = vec![plain, busy, differs];
        let route = wire::Route { name: "web".into(), mirrors, ..wire::Route::default() };
        let expected = [
            ("mirror -> next\u{fffd} 0.5%: 0 drawn, 0 sent", false),
            (
                "mirror -> next 10%: 40 drawn, 30 sent, p99 12.3 ms, 10 dropped (method 8, queue_full 2)  \
                 no difference confirmed (1 unconfirmed, 2 noise)",
                false,
            ),
            ("mirror -> next\u{fffd} 0.5%: 0 drawn, 0 sent  DIFFERS in 1: switchback differences web", true),
        ];
        let lines: Vec<(String, bool)> = lines(&route).collect();
        let lines: Vec<(&str, bool)> = lines.iter().map(|(line, bad)| (line.as_str(), *bad)).collect();
        assert_eq!(lines, expected);
    }
}
