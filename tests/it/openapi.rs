//! What the API says of itself, held against libraries that are not ours.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::tools::{needs, python, run};
use crate::support::{Origin, Proxy, get, upstreams};

#[test]
fn the_document_is_openapi_and_every_answer_is_what_it_says() {
    needs!("python3");
    let origins = ["stable", "canary", "shadow"].map(Origin::start);
    let proxy = Proxy::start(&format!(
        "{}routes:\n  - {{ name: all, split: {{ stable: 95, canary: 5 }}, sticky: {{ by: [{{ header: x-user-id }}] }}, \
         mirror: {{ to: shadow, percent: 10%, compare: [status] }}, slo: {{ availability: 99.9%, window: 30d }}, \
         overrides: [{{ name: qa, arm: canary, when: {{ headers: [{{ name: x-qa, value: \"1\" }}] }} }}], \
         rollout: {{ version: v2, steps: [5, 50, 100], analysis: {{ dwell: 1h }}, deadline: {{ step: 2h }} }} }}\n  \
         - {{ name: pair, matches: [{{ path: /pair }}], blueGreen: {{ slots: [stable, canary], active: stable }} }}\n",
        upstreams(&origins.each_ref())
    ));
    for user in 0..50 {
        proxy.ask(&get("/").header("x-user-id", &format!("u{user}"))).expect_status(200);
    }
    let document = proxy.read("/openapi.json");
    let mut answers: BTreeMap<&str, Value> = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let json = methods.pointer("/get/responses/200/content/application~1json").is_some();
        if json {
            let asked = path.replace("{route}", "all");
            let query = if path.ends_with("/explain") { "?url=http://a/" } else { "" };
            answers.insert(path, proxy.read(&format!("{asked}{query}")));
        }
    }
    assert!(answers.len() >= 12, "{:?}", answers.keys());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/openapi.py");
    let asked = json!({ "document": document, "answers": answers }).to_string();
    let told = run(Command::new(python()).arg(script), asked.as_bytes());
    assert_eq!(told.code, Some(0), "{}\n{}", told.out, told.err);
}
