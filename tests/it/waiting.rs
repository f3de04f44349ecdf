//! What people are told of slots and weights: why a flip stays where it is, what an answer is about,
//! who set what, and what is refused before it hurts everybody.
//!
//! Everything is awaited as a condition; no row may pass by chance of timing.

use serde_json::{Value, json};

use crate::support::tools::{Finished, cli};
use crate::support::{Behaviour, Gate, Origin, Proxy, Site, eventually, get, upstreams};

const FLIP: &str = "/api/v1/routes/web/flip";

/// Two slots of which nobody answers at the idle one.
fn green_is_dead() -> (Origin, Proxy) {
    let blue = Origin::start("blue");
    let proxy = Proxy::start(&format!(
        "upstreams: {{ blue: \"{}\", green: \"http://127.0.0.1:1\" }}\n\
         routes: [{{ name: web, blueGreen: {{ slots: [blue, green], active: blue, verify: {{ for: 10m }} }} }}]\n",
        blue.url()
    ));
    (blue, proxy)
}

#[track_caller]
fn says(told: &Finished, parts: &[&str]) {
    assert_eq!(told.code, Some(0), "{told:?}");
    for part in parts {
        assert!(told.out.contains(part), "{part} is not in\n{}\n{}", told.out, told.err);
    }
}

fn records(proxy: &Proxy, route: &str) -> Vec<Value> {
    let history = proxy.read(&format!("/api/v1/routes/{route}/history"));
    history["records"].as_array().cloned().unwrap_or_default()
}

#[test]
fn a_flip_onto_a_dead_slot_says_why_it_waits_and_the_way_back_answers_for_it() {
    let (_blue, proxy) = green_is_dead();
    let site = &proxy.site;
    let done = cli(site, &["flip", "web", "--force", "--reason", "release 7"]);
    says(
        &done,
        &[
            "active green, idle blue: VERIFYING",
            "flip-1: everything goes from blue to green, which was not tried: release 7",
            "waits for: a request to green: none has ended since the flip",
        ],
    );
    assert_ne!(proxy.ask(&get("/")).status, 200);
    let waits = || cli(site, &["status", "web"]).out;
    eventually("the failure is told", || waits().contains("waits for: 1 of 1 requests to green failed"));
    assert!(waits().contains("more in a row would, and `flip --back` does it at once"), "{}", waits());
    let seen = proxy.read("/api/v1/routes/web")["blueGreen"].clone();
    assert_eq!(
        (&seen["id"], seen["waitingFor"].as_array().map(Vec::len)),
        (&json!("flip-1"), Some(1)),
        "{seen:#}"
    );
    says(
        &cli(site, &["flip", "web", "--back"]),
        &["flip-1: back from green to blue", "blue: 0 -> ", "STEADY"],
    );
    assert!(!waits().contains("waits for"), "nothing is waited for: {}", waits());
    let told = cli(site, &["history", "web"]);
    says(
        &told,
        &["  flip-1  web  STEADY -> VERIFYING  blue ", ", green 0 -> blue 0, green ", "VERIFYING -> STEADY"],
    );
    assert!(!told.out.contains("file -> file"), "{}", told.out);
    let back =
        records(&proxy, "web").into_iter().find(|one| one["code"] == "flip-back").expect("the way back");
    assert_eq!((&back["id"], &back["weights"]["after"]["green"]), (&json!("flip-1"), &json!(0)), "{back:#}");
}

#[test]
fn as_many_failures_as_were_said_send_everybody_back() {
    let (_blue, proxy) = green_is_dead();
    proxy.admin(&proxy.verb(FLIP, &json!({ "force": true }))).expect_status(200);
    proxy.ask(&get("/"));
    let slots = || proxy.read("/api/v1/routes/web")["blueGreen"].clone();
    let said = || slots()["waitingFor"][0].as_str().unwrap_or_default().to_owned();
    eventually("it is counted", || said().starts_with("1 of 1 "));
    let (_, rest) = said()
        .split_once("by that: ")
        .map(|(one, rest)| (one.to_owned(), rest.to_owned()))
        .expect("a number");
    let more: u64 = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    assert!((3..=12).contains(&more), "{rest}");
    for sent in 1..=more {
        assert_eq!(slots()["state"], "VERIFYING", "{sent} of {more}");
        proxy.ask(&get("/"));
        let all = sent + 1;
        eventually("it is counted", || {
            said().starts_with(&format!("{all} of {all} ")) || slots()["state"] != "VERIFYING"
        });
    }
    eventually("it goes back", || slots()["state"] == "FLIPPED_BACK");
}

/// A pair of which green holds its smoke test up until the gate opens.
fn held() -> ([Origin; 2], Gate, String) {
    let (origins, gate) = (["blue", "green"].map(Origin::start), Gate::closed());
    origins[1].on("/ready", Behaviour::Gated(gate.clone()));
    let text = format!(
        "{}routes: [{{ name: web, blueGreen: {{ slots: [blue, green], active: blue, smoke: [{{ path: /ready }}] }} }}]\n",
        upstreams(&origins.each_ref())
    );
    (origins, gate, text)
}

/// Asks for a flip that is held up; the answer comes in its own time.
fn flipping(proxy: &Proxy) -> std::thread::JoinHandle<(u16, Value)> {
    let (request, admin) = (proxy.verb(FLIP, &json!({})), proxy.site.admin());
    let asked = std::thread::spawn(move || {
        let answer = crate::support::Conn::open(admin).ask(&request);
        (answer.status, answer.json())
    });
    eventually("it is tried", || proxy.read("/api/v1/routes/web")["blueGreen"]["state"] == "SMOKE");
    asked
}

#[test]
fn a_flip_that_is_called_off_is_what_both_answers_are_about() {
    let (_origins, gate, text) = held();
    let proxy = Proxy::start(&text);
    let asked = flipping(&proxy);
    let waits = proxy.read("/api/v1/routes/web")["blueGreen"]["waitingFor"].clone();
    assert!(waits[0].as_str().is_some_and(|text| text.contains("its smoke test must pass")), "{waits}");
    let back = proxy.admin(&proxy.verb(FLIP, &json!({ "back": true }))).expect_status(200).json();
    assert_eq!((&back["id"], &back["text"]), (&json!("flip-1"), &json!("the flip to green was called off")));
    assert_eq!((&back["active"], &back["state"]), (&json!("blue"), &json!("STEADY")), "{back:#}");
    let (status, answer) = asked.join().expect("an answer");
    assert_eq!((status, &answer["code"]), (409, &json!("called-off")), "{answer:#}");
    drop(gate);
}

#[test]
fn slots_that_are_edited_away_during_their_test_are_a_conflict_and_no_outage() {
    let (origins, gate, text) = held();
    let third = Origin::start("teal");
    let other = format!(
        "{}routes: [{{ name: web, blueGreen: {{ slots: [blue, teal], active: blue }} }}]\n",
        upstreams(&[&origins[0], &third])
    );
    let split = format!(
        "{}routes: [{{ name: web, split: {{ blue: 1, green: 1 }} }}]\n",
        upstreams(&origins.each_ref())
    );
    let gone = format!("{}routes: [{{ name: all, split: {{ blue: 1 }} }}]\n", upstreams(&[&origins[0]]));
    let proxy = Proxy::start(&text);
    for (what, edited) in [("other slots", other), ("a split", split), ("no route", gone)] {
        let asked = flipping(&proxy);
        proxy.reload(&edited);
        let (status, answer) = asked.join().expect("an answer");
        assert_eq!((status, &answer["code"]), (409, &json!("slot-edited")), "{what}: {answer:#}");
        assert_ne!(answer["hint"], "", "{what}");
        proxy.reload(&text);
    }
    drop(gate);
}

#[test]
fn weights_by_hand_are_in_the_history_and_survive_a_restart() {
    let origins = ["stable", "canary"].map(Origin::start);
    let text = format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }} }}]\n",
        upstreams(&origins.each_ref())
    );
    let proxy = Proxy::start(&text);
    says(&cli(&proxy.site, &["weights", "all", "stable=70", "canary=30", "--reason", "look at it"]), &[]);
    says(&cli(&proxy.site, &["weights", "all", "--reset"]), &[]);
    let told = cli(&proxy.site, &["history", "all"]);
    let lines = [
        "  by-hand  all  FILE -> BY_HAND  canary 5, stable 95 -> canary 30, stable 70  by ",
        "  look at it\n",
        "  by-hand  all  BY_HAND -> FILE  canary 30, stable 70 -> canary 5, stable 95  by ",
    ];
    says(&told, &lines);
    let rates = |proxy: &Proxy| proxy.metrics().sum("switchback_rollout_transitions_total", &[]);
    assert!(rates(&proxy) < 1.0, "they are no decision of a rollout");
    let site = proxy.stop();
    let proxy = site.start();
    says(&cli(&proxy.site, &["history", "all"]), &lines);
    let kept = records(&proxy, "all");
    assert_eq!(kept.len(), 2, "{kept:#?}");
    assert_eq!(
        (&kept[0]["kind"], &kept[0]["reason"]),
        (&json!("operator"), &json!("look at it")),
        "{kept:#?}"
    );
    // An edit of the split ends them, and that is told.
    proxy.weights("all", &[("stable", 1), ("canary", 1)]);
    proxy.reload(&text.replace("canary: 5", "canary: 6"));
    let last = records(&proxy, "all").pop().expect("a record");
    assert_eq!((&last["code"], &last["to"]), (&json!("weights-ended"), &json!("FILE")), "{last:#}");
}

#[test]
fn a_split_that_leaves_nobody_must_be_meant() {
    let origins = ["stable", "canary"].map(Origin::start);
    let text = format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }} }}]\n",
        upstreams(&origins.each_ref())
    );
    let proxy = Proxy::start(&text);
    let path = "/api/v1/routes/all/weights";
    let before = proxy.generation();
    for weights in [json!({ "stable": 0 }), json!({ "canary": 0 }), json!({ "stable": 0, "canary": 0 })] {
        let refused =
            proxy.admin(&proxy.verb(path, &json!({ "weights": weights }))).expect_status(409).json();
        assert_eq!(refused["code"], "no-weight-left", "{weights}: {refused:#}");
        assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("--force")), "{refused:#}");
    }
    assert_eq!(proxy.generation(), before, "nothing moved");
    proxy.ask(&get("/")).expect_status(200);
    let forced = json!({ "weights": { "stable": 0 }, "force": true, "reason": "everybody out" });
    proxy.admin(&proxy.verb(path, &forced)).expect_status(200);
    proxy.ask(&get("/")).expect_status(503);
    proxy.reset_weights("all");
    says(&cli(&proxy.site, &["weights", "all", "stable=0", "--force"]), &["stable: 95 -> 0"]);
    proxy.ask(&get("/")).expect_status(503);
}

#[test]
fn who_may_do_what_is_told_and_a_wrong_token_is_counted() {
    let origins = ["stable", "canary"].map(Origin::start);
    let site = Site::new(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }} }}]\nadmin: {{ address: \"127.0.0.1:@admin@\", viewerTokenFile: viewer.token }}\n",
        upstreams(&origins.each_ref())
    ));
    site.place("viewer.token", "a-token-for-those-who-look\n");
    let proxy = Proxy::start_at(site);
    let asked = |token: Option<&str>| {
        let request = proxy.admin_request("GET", "/api/v1/access");
        let request = match token {
            Some(token) => request.header("authorization", &format!("Bearer {token}")),
            None => request,
        };
        proxy.admin(&request)
    };
    let operator = proxy.site.token();
    for (token, role, verbs) in [
        (None, "none", false),
        (Some("a-token-for-those-who-look"), "viewer", false),
        (Some(&*operator), "operator", true),
    ] {
        let told = asked(token).expect_status(200).json();
        assert_eq!((&told["role"], &told["verbs"]), (&json!(role), &json!(verbs)), "{told:#}");
        assert_eq!(told["why"] == "", verbs, "{told:#}");
    }
    for _ in 0..10 {
        asked(Some("guess")).expect_status(401);
    }
    asked(Some("guess")).expect_status(429);
}
