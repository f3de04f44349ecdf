//! What a user of the local verbs sees: exit codes, results on one stream, findings on the other.

use std::fs;
use std::path::PathBuf;

use clap::{CommandFactory, Parser};
use serde_json::Value;
use tempfile::TempDir;

use super::{Cli, Command, Exit, Streams};

const CANARY: &str = "\
listeners: [{ name: web, address: \"0.0.0.0:8080\" }]
upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }
routes: [{ name: all, split: { stable: 95, canary: 5 }, sticky: { by: [{ header: x-user-id }] } }]
";

struct Desk(TempDir);

struct Said {
    exit: Exit,
    out: String,
    err: String,
}

impl Desk {
    fn new(files: &[(&str, &str)]) -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = desk.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a line in which `@name` is a file of the desk.
    fn run(&self, line: &[&str]) -> Said {
        let argument = |word: &&str| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => (*word).to_owned(),
        };
        let words = std::iter::once("switchback".to_owned()).chain(line.iter().map(argument));
        let Command::Local(local) = Cli::try_parse_from(words).unwrap().command else {
            panic!("{line:?} is not local")
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = local.run(&mut Streams { out: &mut out, err: &mut err, colour: false }).unwrap();
        Said { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
    }
}

#[test]
fn check_prints_where_the_traffic_goes() {
    let said = Desk::new(&[("a.yaml", CANARY)]).run(&["check", "@a.yaml"]);
    assert_eq!(said.exit, Exit::Ok, "{}", said.err);
    assert_eq!(
        said.out,
        "ok: 1 listener, 1 route, 2 upstreams\nall: stable 95.00 % [500-9999], canary 5.00 % [0-499]\n"
    );
    assert_eq!(said.err, "");
}

#[test]
fn check_shows_the_line_and_refuses() {
    let text = CANARY.replace("canary: 5", "canery: 5");
    let said = Desk::new(&[("a.yaml", &text)]).run(&["check", "@a.yaml"]);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Refused, ""));
    for part in ["a.yaml:3:44", "there is no upstream `canery`", "did you mean `canary`?", "^^^^^^"] {
        assert!(said.err.contains(part), "{part} in {}", said.err);
    }
}

#[test]
fn check_speaks_json() {
    let desk = Desk::new(&[("good.yaml", CANARY), ("bad.yaml", &CANARY.replace("split", "spilt"))]);
    let good: Value =
        serde_json::from_str(&desk.run(&["check", "@good.yaml", "--format", "json"]).out).unwrap();
    assert_eq!(good, serde_json::json!({ "ok": true, "diagnostics": [] }));
    let said = desk.run(&["check", "@good.yaml", "@bad.yaml", "--format", "json"]);
    let bad: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.exit, bad["ok"].as_bool()), (Exit::Refused, Some(false)));
    let finding = &bad["diagnostics"][0];
    assert_eq!(finding["code"], "unknown-key");
    assert_eq!((finding["place"]["line"].as_u64(), finding["severity"].as_str()), (Some(3), Some("error")));
}

#[test]
fn check_warns_of_an_access_log_that_cannot_be_written() {
    let with = |path: &str| format!("accessLog: {{ path: {path} }}\n{CANARY}");
    let (fine, inside, folder) = (with("logs/a/access.log"), with("taken/access.log"), with("sub"));
    let desk = Desk::new(&[
        ("fine.yaml", &fine),
        ("inside.yaml", &inside),
        ("folder.yaml", &folder),
        ("device.yaml", &with("/dev/null")),
        ("taken", "a file"),
        ("sub/x.txt", ""),
    ]);
    for (name, why) in [("inside", "taken is not a folder"), ("folder", "it is a folder")] {
        let said = desk.run(&["check", &format!("@{name}.yaml")]);
        assert_eq!(said.exit, Exit::Ok, "{}", said.err);
        for part in ["unwritable-log", why, "tried again"] {
            assert!(said.err.contains(part), "{part} in {}", said.err);
        }
    }
    for name in ["@fine.yaml", "@device.yaml"] {
        assert_eq!(desk.run(&["check", name]).err, "", "{name}");
    }
    assert!(!desk.path("logs").exists(), "a check writes nothing");
}

#[test]
fn check_reads_a_folder_its_lists_and_nothing_hidden() {
    let (listeners, rest) = CANARY.split_once('\n').unwrap();
    let rest = rest.replace(
        "split: {",
        "overrides: [{ name: qa, when: { stickyKey: { inFile: qa.txt } }, arm: canary }], split: {",
    );
    let desk = Desk::new(&[
        ("conf/10.yaml", listeners),
        ("conf/20.yaml", &rest),
        ("conf/.30.yaml", "junk: ["),
        ("conf/notes.txt", "junk: ["),
        ("conf/qa.txt", "u1\n# not u2\nu3\n"),
    ]);
    let said = desk.run(&["check", "@conf"]);
    assert_eq!(said.exit, Exit::Ok, "{}", said.err);
    fs::remove_file(desk.path("conf/qa.txt")).unwrap();
    let said = desk.run(&["check", "@conf"]);
    assert_eq!(said.exit, Exit::Refused);
    assert!(said.err.contains("list `qa.txt` cannot be read: no such file"), "{}", said.err);
}

#[test]
fn a_secret_that_is_missing_is_warned_about_as_a_load_does() {
    let text = format!("{CANARY}notify: [{{ slack: {{ urlFile: slack.url }} }}]\n");
    let desk = Desk::new(&[("a.yaml", &text)]);
    let said = desk.run(&["check", "@a.yaml"]);
    assert_eq!(said.exit, Exit::Ok, "{}", said.err);
    assert!(said.err.contains("unreadable-secret") && said.err.contains("no such file"), "{}", said.err);
    fs::write(desk.path("slack.url"), "").unwrap();
    assert!(desk.run(&["check", "@a.yaml"]).err.contains("it is empty"));
    fs::write(desk.path("slack.url"), "https://hooks.test/s3cret\n").unwrap();
    let said = desk.run(&["check", "@a.yaml"]);
    assert!(said.exit == Exit::Ok && said.err.is_empty(), "{}", said.err);
}

#[test]
fn what_cannot_be_read_is_one_line_and_exit_2() {
    let desk = Desk::new(&[("empty/x.txt", ""), ("latin.yaml", "")]);
    fs::write(desk.path("latin.yaml"), [b'a', b':', 0xe9, b'\n']).unwrap();
    for (name, why) in [
        ("none.yaml", "no such file"),
        ("empty", "has no *.yaml file"),
        ("latin.yaml", "byte 2 is not UTF-8"),
    ] {
        let name = format!("@{name}");
        for line in [vec!["check", &name], vec!["explain", "-c", &name, "/"], vec!["diff", &name, &name]] {
            let said = desk.run(&line);
            assert_eq!(said.exit, Exit::Usage, "{line:?}");
            assert!(said.err.contains(why), "{why}: {}", said.err);
        }
    }
}

#[test]
fn explain_tells_route_arm_bucket_and_ranges() {
    let desk = Desk::new(&[("a.yaml", CANARY)]);
    // Bucket computed by the published formula.
    let bucket = (u128::from(xxhash_rust::xxh64::xxh64(b"all\0u42", 0)) * 10_000) >> 64;
    let arm = if bucket < 500 { "canary" } else { "stable" };
    let said = desk.run(&["explain", "-c", "@a.yaml", "http://shop.test/x?y=1", "--key", "u42"]);
    assert_eq!(said.exit, Exit::Ok, "{}", said.err);
    for part in [
        "route   all: won by any host, any path".to_owned(),
        format!("arm     {arm}, upstream {arm}"),
        format!("bucket {bucket} belongs to arm {arm}"),
        "stable 95.00 % [500-9999], canary 5.00 % [0-499]".to_owned(),
    ] {
        assert!(said.out.contains(&part), "{part} in {}", said.out);
    }
    let said = desk.run(&["explain", "-c", "@a.yaml", "/", "-H", "x-user-id: u42", "--json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["bucket"].as_u64().map(u128::from), Some(bucket));
    assert_eq!((json["arm"].as_str(), json["reason"].as_str()), (Some(arm), Some("sticky")));
    let said = desk.run(&["explain", "-c", "@a.yaml", "/", "--json"]);
    let json: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((json["reason"].as_str(), &json["bucket"]), (Some("random"), &Value::Null));
}

#[test]
fn explain_without_a_plan_names_both_ways_to_one() {
    let said = Cli::try_parse_from(["switchback", "explain", "http://shop.test/"]).unwrap_err().to_string();
    for part in ["--config <PATH>", "--admin <URL>"] {
        let asked =
            said.lines().take_while(|line| !line.starts_with("Usage")).any(|line| line.contains(part));
        assert!(asked, "{part} in {said}");
    }
}

#[test]
fn explain_puts_the_key_where_the_route_looks_first() {
    let rows = [
        ("{ header: x-user-id }", "u 42"),
        ("{ cookie: uid }", "u42"),
        ("{ query: user }", "u&4 2"),
        ("clientIP", "192.0.2.7"),
    ];
    for (source, key) in rows {
        let text = CANARY.replace("{ header: x-user-id }", source);
        let desk = Desk::new(&[("a.yaml", &text)]);
        let line =
            ["explain", "-c", "@a.yaml", "/p?a=b", "-H", "cookie: a=b; uid=other", "--key", key, "--json"];
        let json: Value = serde_json::from_str(&desk.run(&line).out).unwrap();
        let joined = [b"all\0", key.as_bytes()].concat();
        let bucket = (u128::from(xxhash_rust::xxh64::xxh64(&joined, 0)) * 10_000) >> 64;
        assert_eq!(json["bucket"].as_u64().map(u128::from), Some(bucket), "{source}");
    }
    let text = CANARY.replace("{ header: x-user-id }", "clientIP");
    let said = Desk::new(&[("a.yaml", &text)]).run(&["explain", "-c", "@a.yaml", "/", "--key", "u42"]);
    assert_eq!(said.exit, Exit::Usage);
    assert!(said.err.contains("`u42` is none"), "{}", said.err);
}

#[test]
fn explain_names_overrides_answers_and_nothing() {
    let text = "\
listeners: [{ name: web, address: \"0.0.0.0:8080\" }]
upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }
routes:
  - name: all
    hostnames: [a.test]
    matches: [{ path: /x }]
    split: { stable: 95, canary: 5 }
    overrides: [{ name: qa, when: { headers: [{ name: x-qa, value: 1 }] }, arm: canary }]
  - { name: old, hostnames: [b.test], filters: [{ redirect: { hostname: a.test } }] }
  - { name: off, hostnames: [c.test], split: { stable: 0 } }
";
    let desk = Desk::new(&[("a.yaml", text)]);
    let rows: [(&[&str], &str); 6] = [
        (&["http://A.test:8080/x", "-H", "X-QA: 1"], "override `qa` names arm canary"),
        (&["/x/y", "-H", "host: a.test", "-H", "X-QA: 1"], "path prefix of 2 characters"),
        (&["http://a.test/xy"], "none matches the request: 404"),
        (&["http://z.test/"], "no route serves this host: 404"),
        (&["http://b.test/"], "redirects with 302"),
        (&["http://c.test/"], "no arm has weight: 503"),
    ];
    for (words, expected) in rows {
        let said = desk.run(&[&["explain", "-c", "@a.yaml"], words].concat());
        assert!(said.out.contains(expected), "{words:?}: {}", said.out);
        let json = desk.run(&[&["explain", "--json", "-c", "@a.yaml"], words].concat()).out;
        assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
    }
}

#[test]
fn diff_tells_how_many_users_move() {
    let more = CANARY.replace("stable: 95, canary: 5", "stable: 90, canary: 10");
    let salted = CANARY.replace("x-user-id }]", "x-user-id }], salt: other");
    let moved = CANARY.replace(":8080\" }]\n", ":8081\" }]\n");
    let desk = Desk::new(&[
        ("a.yaml", CANARY),
        ("more.yaml", &more),
        ("salted.yaml", &salted),
        ("moved.yaml", &moved),
    ]);
    let said = desk.run(&["diff", "@a.yaml", "@a.yaml"]);
    assert_eq!((said.exit, said.out.as_str()), (Exit::Ok, "no change\n"));
    let said = desk.run(&["diff", "@a.yaml", "@more.yaml"]);
    assert!(said.out.contains("canary 5.00% becomes 10.00%"), "{}", said.out);
    assert!(said.out.contains("5.00 % of sticky users change arm"), "{}", said.out);
    assert_eq!(said.err, "");
    let said = desk.run(&["diff", "@a.yaml", "@salted.yaml"]);
    assert_eq!(said.exit, Exit::Ok);
    assert!(said.err.contains("moves more users than"), "{}", said.err);
    let json: Value =
        serde_json::from_str(&desk.run(&["diff", "@a.yaml", "@salted.yaml", "--json"]).out).unwrap();
    assert_eq!(json["changes"][0]["excessive"], true);
    let said = desk.run(&["diff", "@a.yaml", "@moved.yaml"]);
    assert!(said.out.contains("restart"), "{}", said.out);
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("switchback").chain(line.split_whitespace()))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn verbs_and_their_arguments() {
    let good = [
        "run -c a.yaml",
        "run --config a.yaml",
        "demo",
        "demo --stay",
        "check a.yaml b",
        "check a.yaml --format json",
        "explain -c a -X POST http://h/p?q=1 -H x:1 -H y:2 --key u42 --client-ip ::1 --json",
        "explain --admin unix:/run/s.sock --token-file t http://h/p",
        "diff a b --json",
        "schema",
        "status",
        "status checkout --watch --json",
        "status --admin unix:/run/s.sock --token-file t",
        "weights checkout stable=90 canary=10 --reason why",
        "weights checkout --reset",
        "reload --dry-run",
    ];
    for line in good {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
    let bad = [
        "",
        "run",
        "check",
        "explain -c a",
        "explain http://h/",
        "explain -c a --admin http://h:1 /p",
        "explain -c a /p --client-ip nobody",
        "explain -c a /p -H nocolon",
        "diff a",
        "weights checkout",
        "weights checkout a",
        "weights checkout a=-1",
        "weights checkout a=1 --reset",
        "check a --format xml",
        "nonsense",
    ];
    for line in bad {
        assert_eq!(parse(line).map(|_| ()).unwrap_err().exit_code(), 2, "{line}");
    }
}
