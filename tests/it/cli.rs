//! The command line: check, diff, schema, explain, help, and the remote verbs.
//!
//! Pipelines rely on exit codes and on what goes to which stream. Everything here is run as a user
//! would, in a folder of its own; nothing may need a running proxy that does not say so.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::tools::{Finished, switchback};
use crate::support::{Origin, Proxy, Site, bucket, get, upstreams};

const GOOD: &str = "upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }\n";

fn file(site: &Site) -> String {
    site.file().display().to_string()
}

fn run(site: &Site, arguments: &[&str]) -> Finished {
    switchback(&site.folder(), arguments)
}

fn said(ended: &Finished) -> String {
    format!("{}{}", ended.out, ended.err)
}

fn canary(split: &str) -> Site {
    Site::new(&format!(
        "{GOOD}routes: [{{ name: all, split: {split}, sticky: {{ by: [{{ header: x-user-id }}] }} }}]\n"
    ))
}

#[test]
fn the_complete_canary_of_the_contract_is_fine() {
    let site = Site::new(
        "listeners: [{ name: web, address: \"0.0.0.0:8080\" }]\n\
         upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }\n\
         routes: [{ name: all, split: { stable: 95, canary: 5 } }]\n",
    );
    assert_eq!(run(&site, &["check", &file(&site)]).code, Some(0));
    assert_eq!(run(&site, &["check", &site.folder().display().to_string()]).code, Some(0), "a folder too");
}

#[test]
fn every_error_of_meaning_is_told_at_once_with_its_place() {
    let site = Site::new(&format!(
        "{GOOD}routes:\n  - name: all\n    split: {{ stable: 95, canry: 5 }}\n    defaultArm: stabel\n  \
         - name: all\n    matches: [{{ path: {{ regex: \"(\" }} }}]\n    split: {{ stable: 1 }}\n"
    ));
    let ended = run(&site, &["check", &file(&site)]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let text = said(&ended);
    for (line, word) in [(7, "canry"), (8, "stabel"), (9, "all"), (10, "(")] {
        assert!(text.contains(&format!(":{line}:")), "line {line} for {word} in {text}");
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(text.contains("canary"), "a guess at what was meant: {text}");
    assert!(text.contains("split: { stable: 95, canry: 5 }"), "a snippet: {text}");

    let json = run(&site, &["check", "--format", "json", &file(&site)]);
    assert_eq!(json.code, Some(1));
    let report: Value = serde_json::from_str(&json.out).expect("a JSON report on stdout");
    assert!(report.to_string().matches("\"message\"").count() >= 4, "{report}");
}

#[test]
fn every_wrong_value_is_told_at_once_and_from_standard_input_too() {
    let text = format!(
        "{GOOD}routes:\n  - name: all\n    split: {{ stable: 95x, canary: 5 }}\n  - name: other\n    timeouts: {{ request: soon }}\n    \
         split: {{ stable: 1 }}\n    retry: {{ budget: 20%, atempts: 3 }}\nadmin:\n  address: \"127.0.0.1:1\"\n  insecure: perhaps\n"
    );
    let site = Site::new(&text);
    let ended = run(&site, &["check", &file(&site)]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let told = said(&ended);
    for word in ["95x", "soon", "atempts", "perhaps"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    let json = run(&site, &["check", "--format", "json", &file(&site)]);
    let report: Value = serde_json::from_str(&json.out).expect("a report");
    assert_eq!(report["diagnostics"].as_array().map(Vec::len), Some(4), "{report:#}");

    let written = std::fs::read_to_string(site.file()).expect("the file");
    let piped = |text: &str, line: &[&str]| {
        let mut command = std::process::Command::new(crate::support::tools::binary());
        crate::support::tools::run(command.args(line).current_dir(site.folder()), text.as_bytes())
    };
    let ended = piped(&written, &["check", "-"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(said(&ended).contains("<stdin>:") && said(&ended).contains("perhaps"), "{ended:?}");
    let good = canary("{ stable: 95, canary: 5 }");
    let good = std::fs::read_to_string(good.file()).expect("the file");
    let ended = piped(&good, &["check", "-"]);
    assert!(ended.code == Some(0) && ended.out.contains("stable 95.00 %"), "{ended:?}");
    assert_eq!(piped("", &["check", "-"]).code, Some(1), "nothing is no configuration");
}

#[test]
fn an_unknown_key_gets_a_place_and_a_guess() {
    let site = Site::new(&format!("{GOOD}routes:\n  - name: all\n    spilt: {{ stable: 1 }}\n"));
    let ended = run(&site, &["check", &file(&site)]);
    let text = said(&ended);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(text.contains("spilt") && text.contains("split") && text.contains(":7:"), "{text}");
}

#[test]
fn keys_of_later_features_are_refused_as_such() {
    let site = Site::new(&format!(
        "{GOOD}routes: [{{ name: all, split: {{ stable: 9, canary: 1 }} }}]\nstate: {{ etcd: {{}} }}\n"
    ));
    let ended = run(&site, &["check", &file(&site)]);
    let text = said(&ended);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(text.contains("`state` is not yet supported"), "{text}");
}

#[test]
fn bombs_are_refused_quickly_and_politely() {
    let mut aliases = String::from("a0: &a0 [x]\n");
    for level in 1..40 {
        let before = level - 1;
        aliases.push_str(&format!("a{level}: &a{level} [*a{before}, *a{before}, *a{before}, *a{before}]\n"));
    }
    let rows = [
        ("aliases", aliases),
        ("depth", format!("routes: {}{}\n", "[".repeat(5_000), "]".repeat(5_000))),
        ("size", format!("{GOOD}# {}\n", "x".repeat(6 << 20))),
        ("binary", "\u{0}\u{1}\u{2}".to_owned()),
        ("empty", "listeners: []\n".to_owned()),
    ];
    for (what, text) in rows {
        let site = canary("{ stable: 1 }");
        fs::write(site.file(), text).expect("write");
        let ended = run(&site, &["check", &file(&site)]);
        if what != "empty" {
            assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        }
        assert!(!said(&ended).contains("panicked") && ended.code.is_some(), "{what}: {ended:?}");
    }
}

#[test]
fn a_third_arm_without_slots_is_warned_about() {
    let site = Site::new(&format!(
        "{GOOD}routes: [{{ name: all, split: {{ stable: 8, a: {{ weight: 1, upstream: canary }}, b: {{ weight: 1, upstream: canary }} }} }}]\n"
    ));
    let ended = run(&site, &["check", &file(&site)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(said(&ended).contains("slot"), "{ended:?}");
}

#[test]
fn a_missing_file_is_a_usage_error() {
    let site = canary("{ stable: 1 }");
    let ended = run(&site, &["check", "missing.yaml"]);
    assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
    assert!(said(&ended).contains("missing.yaml"), "{ended:?}");
    assert_eq!(run(&site, &["no-such-verb"]).code, Some(2));
    assert_eq!(run(&site, &["run"]).code, Some(2), "-c is required");
}

#[test]
fn diff_shows_what_an_edit_moves_and_warns_when_it_moves_too_much() {
    let (old, new) = (canary("{ stable: 95, canary: 5 }"), canary("{ stable: 90, canary: 10 }"));
    let ended = run(&old, &["diff", &file(&old), &file(&new)]);
    assert!(matches!(ended.code, Some(0 | 1)), "{ended:?}");
    let text = said(&ended);
    assert!(text.contains("canary") && text.contains("10"), "{text}");
    assert!(!text.to_lowercase().contains("warning"), "growing a canary moves only who it must: {text}");

    let salted = Site::new(&format!(
        "{GOOD}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, sticky: {{ by: [{{ header: x-user-id }}], salt: other }} }}]\n"
    ));
    let text = said(&run(&old, &["diff", &file(&old), &file(&salted)]));
    assert!(text.to_lowercase().contains("warning"), "a new salt draws everybody anew: {text}");

    let same = run(&old, &["diff", &file(&old), &file(&old)]);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(!said(&same).contains("canary"), "nothing changed: {same:?}");
}

#[test]
fn explain_from_a_file_tells_route_reason_and_bucket() {
    let site = canary("{ stable: 95, canary: 5 }");
    let user = crate::support::split::user_in("all", 0..500);
    let header = format!("x-user-id: {user}");
    let ended = run(&site, &["explain", "-c", &file(&site), "-H", &header, "http://shop.test/cart"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in ["all", "canary", &bucket("all", &user).to_string()] {
        assert!(ended.out.contains(word), "{word} in {}", ended.out);
    }
    let ended = run(&site, &["explain", "-c", &file(&site), "--key", &user, "http://shop.test/"]);
    assert!(ended.out.contains(&bucket("all", &user).to_string()), "{ended:?}");
    let post = run(&site, &["explain", "-c", &file(&site), "-X", "POST", "http://shop.test/"]);
    assert_eq!(post.code, Some(0), "{post:?}");
}

#[test]
fn the_schema_is_json_and_knows_the_keys() {
    let site = canary("{ stable: 1 }");
    let ended = run(&site, &["schema"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let schema: Value = serde_json::from_str(&ended.out).expect("JSON");
    assert!(schema["$schema"].is_string(), "{schema}");
    for key in ["listeners", "upstreams", "routes", "admin", "trustedProxies", "stateDir"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    let text = schema.to_string();
    for key in ["whenUnavailable", "clientIP", "inFile", "greaterThan", "issueCookie", "blueGreen"] {
        assert!(text.contains(&format!("\"{key}\"")), "{key}");
    }
}

#[test]
fn every_published_example_checks() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut examples = 0;
    for entry in fs::read_dir(&folder).expect("the config folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|kind| kind == "yaml") {
            let ended = switchback(&folder, &["check", &path.display().to_string()]);
            assert_eq!(ended.code, Some(0), "{}: {ended:?}", path.display());
            examples += 1;
        }
    }
    assert!(examples >= 2, "{examples} examples in {}", folder.display());
}

#[test]
fn help_lists_the_verbs() {
    let site = canary("{ stable: 1 }");
    let ended = run(&site, &["--help"]);
    assert_eq!(ended.code, Some(0));
    for verb in ["run", "check", "explain", "diff", "schema", "demo", "status", "weights", "reload"] {
        assert!(ended.out.contains(verb), "{verb} in {}", ended.out);
        assert_eq!(run(&site, &[verb, "--help"]).code, Some(0), "{verb} --help");
    }
    let version = run(&site, &["--version"]);
    assert!(version.out.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
}

#[test]
fn remote_verbs_act_on_a_running_proxy_and_say_what_changed() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }} }}]\n",
        upstreams(&[&stable, &canary])
    ));
    let admin = format!("http://{}", proxy.site.admin());
    let token = proxy.site.state().join("admin.token").display().to_string();
    let verb = |arguments: &[&str]| {
        let mut all = arguments.to_vec();
        all.extend(["--admin", &admin, "--token-file", &token]);
        run(&proxy.site, &all)
    };
    let status = verb(&["status"]);
    assert_eq!(status.code, Some(0), "{status:?}");
    assert!(status.out.contains("all") && status.out.contains("canary"), "{}", status.out);
    let json: Value = serde_json::from_str(&verb(&["status", "--json"]).out).expect("JSON");
    assert!(json.to_string().contains("\"generation\""), "{json}");

    let weights = verb(&["weights", "all", "stable=0", "canary=1"]);
    assert_eq!(weights.code, Some(0), "{weights:?}");
    assert!(
        weights.out.contains("canary") && weights.out.contains(&proxy.generation().to_string()),
        "{}",
        weights.out
    );
    assert_eq!(proxy.ask(&get("/")).origin(), "canary");
    assert_eq!(verb(&["weights", "all", "--reset"]).code, Some(0));
    assert_eq!(verb(&["reload"]).code, Some(0));

    let refused = verb(&["weights", "none", "stable=1"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(said(&refused).contains("none"), "{refused:?}");
    let strangers =
        run(&proxy.site, &["weights", "all", "stable=1", "--admin", &admin, "--token-file", "/dev/null"]);
    assert!(matches!(strangers.code, Some(1 | 2)), "{strangers:?}");
}

#[test]
fn the_demo_promotes_a_good_version_and_puts_two_bad_ones_back() {
    let site = canary("{ stable: 1 }");
    let ended = run(&site, &["demo"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let table: Vec<&str> = ended.out.lines().skip_while(|line| !line.starts_with("version")).collect();
    let fate = |version: &str| -> Vec<&str> {
        let line = table.iter().find(|line| line.starts_with(version)).expect("a line of the table");
        line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect()
    };
    let [good, failing, slow] = ["v2", "v3", "v4"].map(fate);
    assert_eq!((good[2], good[5], good[6]), ("PROMOTED", "0", "0"), "{good:?}");
    assert_eq!(failing[2], "REVERTED", "{failing:?}");
    assert!(["errors", "guard"].contains(&failing[3]), "{failing:?}");
    assert!(failing[5] != "0" && failing[6] != "0", "{failing:?}");
    assert_eq!((slow[2], slow[5]), ("REVERTED", "0"), "{slow:?}");
    assert!(slow[3].starts_with("latency-p") && slow[6] != "0", "{slow:?}");
    for said in [
        "FINISHED",
        "every minute): 2 min",
        "Argo Rollouts",
        ": 0 failed because of switchback, 0 connections were closed",
        "0 answers older than what was promoted, 0 users thrown back and forth",
    ] {
        assert!(ended.out.contains(said), "{said} in {}", ended.out);
    }
}

#[test]
fn shells_and_manuals_know_every_verb() {
    let site = canary("{ stable: 1 }");
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef switchback"), ("fish", "complete -c switchback")]
    {
        let ended = run(&site, &["completions", shell]);
        assert_eq!(ended.code, Some(0), "{shell}: {}", ended.err);
        for word in [mark, "rollout", "postmortem", "dry-run"] {
            assert!(ended.out.contains(word), "{word} for {shell}");
        }
    }
    assert_eq!(run(&site, &["completions", "tcl"]).code, Some(2));
    let page = run(&site, &["man"]);
    assert!(page.code == Some(0) && page.out.contains(".TH switchback 1"), "{page:?}");
    let page = run(&site, &["man", "rollout", "wait"]);
    assert!(
        page.out.contains("\\-\\-timeout") && page.out.contains("switchback\\-rollout\\-wait"),
        "{page:?}"
    );
    let none = run(&site, &["man", "rollout", "nonsense"]);
    assert!(none.code == Some(2) && none.err.contains("wait"), "{none:?}");
}

#[test]
fn a_failure_says_what_to_do_next() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }} }}]\n",
        upstreams(&[&stable, &canary])
    ));
    let admin = format!("http://{}", proxy.site.admin());
    let web = format!("http://{}", proxy.site.web());
    let away = canary_folder();
    let socket = "unix:/nowhere/admin.sock";
    let missing = away.folder().join("none.token").display().to_string();
    let rows: [(&[&str], i32, &[&str]); 6] = [
        (&["status", "--admin", socket], 2, &["/nowhere/admin.sock", "admin.address", "--admin"]),
        (&["status", "--admin", &web], 2, &["the port of the traffic", "--admin"]),
        (
            &["reload", "--admin", &admin],
            1,
            &["no token was found here", "--token-file", "SWITCHBACK_TOKEN", "stateDir"],
        ),
        (
            &["reload", "--admin", &admin, "--token-file", "/dev/null"],
            1,
            &["the token of --token-file /dev/null"],
        ),
        (&["reload", "--admin", &admin, "--token-file", &missing], 2, &["none.token"]),
        (&["status", "al", "--admin", &admin], 1, &["did you mean `all`?"]),
    ];
    for (line, code, parts) in rows {
        let ended = run(&away, line);
        assert!(matches!(ended.code, Some(1 | 2)) && ended.out.is_empty(), "{line:?}: {ended:?}");
        assert_eq!(ended.code, Some(code), "{line:?}: {ended:?}");
        for part in parts {
            assert!(ended.err.contains(part), "{part} for {line:?}: {}", ended.err);
        }
    }
    let token = proxy.site.state().join("admin.token").display().to_string();
    let verb =
        |arguments: &[&str]| run(&away, &[arguments, &["--admin", &admin, "--token-file", &token]].concat());
    assert_eq!(verb(&["weights", "all", "stable=90", "canary=10", "--reason", "try it"]).code, Some(0));
    let stale = verb(&["weights", "all", "stable=80", "canary=20", "--generation", "1"]);
    let now = format!("now: generation {}", proxy.generation());
    assert!(stale.code == Some(1) && stale.err.contains(&now), "{stale:?}");
    let shown = verb(&["status"]);
    assert!(
        shown.out.contains("weights set by hand since") && shown.out.contains("\"try it\""),
        "{}",
        shown.out
    );
    assert!(shown.out.contains("10*  10.00%"), "{}", shown.out);
    assert!(!shown.out.contains('\x1b'), "a pipe is no terminal: {:?}", shown.out);
}

fn canary_folder() -> Site {
    canary("{ stable: 1 }")
}

#[test]
fn certificates_that_a_start_would_refuse_are_refused() {
    let site = Site::new(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:@web@\", tls: {{ certificates: [{{ cert: web.crt, key: web.key }}] }} }}]\n\
         {GOOD}routes: [{{ name: all, split: {{ stable: 1 }} }}]\n"
    ));
    let ended = run(&site, &["check", &file(&site)]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(said(&ended).contains("unusable-certificate"), "{ended:?}");
}

#[test]
fn weights_that_leave_nobody_to_answer_are_asked_about() {
    let site = Site::new(&format!("{GOOD}routes: [{{ name: all, split: {{ stable: 9, canary: 1 }} }}]\n"));
    let ended = run(&site, &["weights", "all", "canary=0"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(said(&ended).contains("everybody would get 503"), "{ended:?}");
}
