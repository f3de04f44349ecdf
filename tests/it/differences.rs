//! What an operator sees of differences when nothing was mirrored yet. With copies, `mirrored` goes on.

use serde_json::{Value, json};

use crate::support::tools::cli;
use crate::support::{Origin, Proxy, get, upstreams};

#[test]
fn a_route_without_pairs_has_none_and_says_so() {
    let origins = ["stable", "canary"].map(Origin::start);
    let text = format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, \
         rollout: {{ version: v2, steps: [{{ shadow: 10 }}, 5, 100], autoStart: false }} }}]\n",
        upstreams(&origins.each_ref())
    );
    let proxy = Proxy::start(&text);
    proxy.ask(&get("/")).expect_status(200);
    let known: Value = proxy.read("/api/v1/routes/all/differences");
    assert_eq!(known, json!({ "route": "all", "mirrors": [], "dropped": 0 }));
    let unknown = proxy.admin(&proxy.admin_request("GET", "/api/v1/routes/al/differences"));
    let unknown = unknown.expect_status(404);
    assert!(unknown.text().contains("unknown-route"), "{}", unknown.text());
    let site = proxy.stop().start();
    let run = |more: &[&str]| cli(&site.site, &[&["differences", "all"], more].concat());
    let said = run(&[]);
    assert_eq!(
        (said.code, said.out.contains("no pair of answers was seen")),
        (Some(0), true),
        "{}",
        said.err
    );
    let said = run(&["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&said.out).expect("JSON"), known);
}
