//! `status --watch` in a terminal: it redraws in place, follows its size, and leaves everything as it was.
//!
//! `terminal.py` is the terminal; what it shows is asked of it. It must never be judged by time: every
//! step waits for what the screen shows.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::tools::{binary, needs, python, switchback};
use crate::support::{Origin, Proxy, get, upstreams};

struct Terminal {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn open(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/terminal.py");
        let mut child = Command::new(python())
            .arg(script)
            .arg(binary())
            .args(arguments)
            .env_remove("NO_COLOR")
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("LC_ALL", "C.UTF-8")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let to = child.stdin.take().expect("piped");
        let from = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, to, from }
    }

    /// What the terminal knows after a step that must hold.
    #[track_caller]
    fn does(&mut self, step: &Value) -> Value {
        writeln!(self.to, "{step}").expect("asked");
        let line = self.from.next().expect("an answer").expect("text");
        let known: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(known["held"], true, "{step}: {known:#}");
        known
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn proxy() -> (Proxy, [Origin; 2]) {
    let origins = ["stable", "canary"].map(Origin::start);
    let routes: Vec<String> = (0..9)
        .map(|at| {
            format!("{{ name: r{at}, matches: [{{ path: /r{at} }}], split: {{ stable: 95, canary: 5 }} }}")
        })
        .collect();
    let text = format!("{}routes: [{}]\n", upstreams(&origins.each_ref()), routes.join(", "));
    (Proxy::start(&text), origins)
}

#[test]
fn status_that_watches_redraws_in_place_follows_its_size_and_leaves_the_terminal_sane() {
    needs!("python3");
    let (proxy, _origins) = proxy();
    let admin = format!("http://{}", proxy.site.admin());
    let mut terminal = Terminal::open(&["status", "r0", "--watch", "--admin", &admin], &[]);
    let first = terminal.does(&json!({ "await": "95.00%" }));
    assert_eq!((&first["alternate"], &first["cursor"]), (&json!(true), &json!(false)), "{first:#}");
    assert!(first["colours"].as_u64() > Some(0), "a terminal is coloured: {first:#}");

    // What happens is seen, in place of what was.
    proxy.ask(&get("/r0")).expect_status(200);
    proxy.weights("r0", &[("stable", 70), ("canary", 30)]);
    let second = terminal.does(&json!({ "await": "30.00%" }));
    assert!(!second["text"].as_str().expect("text").contains("95.00%"), "it is drawn over: {second:#}");
    assert!(second["frames"].as_u64() > first["frames"].as_u64(), "{second:#}");

    // A smaller terminal gets a smaller picture, and nothing scrolls.
    terminal.does(&json!({ "size": [6, 60] }));
    terminal.does(&json!({ "await": "more lines" }));
    let small = terminal.does(&json!({ "frames": 2 }));
    assert!(small["lines"].as_u64() <= Some(6) && small["widest"].as_u64() <= Some(60), "{small:#}");
    assert_eq!(small["scrolled"], 0, "{small:#}");

    terminal.does(&json!({ "type": "\u{3}" }));
    let last = terminal.does(&json!({ "end": true }));
    assert_eq!((&last["ended"], &last["sane"]), (&json!(0), &json!(true)), "{last:#}");
    assert_eq!((&last["alternate"], &last["cursor"]), (&json!(false), &json!(true)), "{last:#}");
    assert!(last["text"].as_str().expect("text").contains("30.00%"), "the last picture stays: {last:#}");
}

#[test]
fn colours_are_for_a_terminal_that_wants_them() {
    needs!("python3");
    let (proxy, _origins) = proxy();
    let admin = format!("http://{}", proxy.site.admin());
    let line = ["status", "--admin", &admin];
    for (variables, coloured) in
        [(&[][..], true), (&[("NO_COLOR", "1")][..], false), (&[("TERM", "dumb")][..], false)]
    {
        let mut terminal = Terminal::open(&line, variables);
        let shown = terminal.does(&json!({ "end": true }));
        assert_eq!((&shown["ended"], &shown["alternate"]), (&json!(0), &json!(false)), "{shown:#}");
        assert_eq!(shown["colours"].as_u64() > Some(0), coloured, "{variables:?}: {shown:#}");
    }
    let piped = switchback(&proxy.site.folder(), &line);
    assert!(piped.code == Some(0) && !piped.out.contains('\u{1b}'), "{piped:?}");
}
