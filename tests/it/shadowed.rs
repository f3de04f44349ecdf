//! What a real Prometheus says of a mirror, asked with the line that the reference prints.

use std::time::Duration;

use crate::support::load::Load;
use crate::support::prometheus::Prometheus;
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Behaviour, Origin, Site, get, needs, upstreams};

const REFERENCE: &str = include_str!("../../config/README.md");

#[test]
fn the_p99_of_a_shadow_over_its_primarys_is_one_line() {
    needs!("prometheus");
    let query = REFERENCE.lines().find(|line| {
        line.starts_with("histogram_quantile(0.99,") && line.contains("switchback_mirror_duration_seconds")
    });
    let query = query.expect("the line of the reference");
    let (stable, shadow) = (Origin::start("stable"), Origin::start("shadow"));
    shadow.on("/", Behaviour::Late(Duration::from_millis(400)));
    let site = Site::new(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 1 }}, mirror: {{ to: shadow, percent: 100% }} }},\n\
         {{ name: other, matches: [{{ path: /other }}], split: {{ shadow: 1 }} }}]\n",
        upstreams(&[&stable, &shadow])
    ));
    let prometheus = Prometheus::of(&site);
    let proxy = site.start();
    let load = Load::h1(proxy.web(), 2, Duration::from_millis(20), |round| {
        get(if round % 10 == 0 { "/other" } else { "/" })
    });
    let mut last = Vec::new();
    let known = becomes_true(2 * PATIENCE, || {
        last = prometheus.samples(query);
        last.first().is_some_and(|(_, ratio)| ratio.is_finite())
    });
    load.stop();
    assert!(known, "{last:?} of {query}");
    // A route without a mirror has no such ratio, nor has a slow one a share in another's.
    assert_eq!(last.len(), 1, "{last:?}");
    let (labels, ratio) = &last[0];
    assert_eq!((&labels["route"], &labels["upstream"]), (&"all".into(), &"shadow".into()), "{last:?}");
    // Bounds of 250 and 500 ms hold the shadow; what the primary took is the machine's to say.
    assert!((1.5..2_000.0).contains(ratio), "{last:?}");
}
