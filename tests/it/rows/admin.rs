//! A01-A10: the operator's listener under attack (faults section 5).
//!
//! Each row takes one guard away from a verb that works, and nothing may have moved afterwards. What
//! configurations and clients name must not become markup, lines or escape sequences anywhere.

use serde_json::{Value, json};

use super::Table;
use crate::support::tools::switchback;
use crate::support::{Origin, Proxy, Request, get, upstreams};

/// A route name with everything that markup, logs, exposition formats and terminals trip over.
const NAME: &str = "a</script><img src=x onerror=alert(1)>'\\\"\\n\\u{1b}[31m{x=\\\"1\\\"} 1\\u{202e}";

struct Site {
    proxy: Proxy,
    before: u64,
}

impl Site {
    fn new(origins: &[Origin; 2]) -> Self {
        let text = format!(
            "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }} }}]\n",
            upstreams(&origins.each_ref())
        );
        let text = format!("admin: {{ address: \"127.0.0.1:@admin@\", viewerTokenFile: viewer }}\n{text}");
        let site = crate::support::Site::new(&text);
        site.place("viewer", "a-viewers-token-of-32-characters\n");
        let proxy = site.start();
        let before = proxy.generation();
        Self { proxy, before }
    }

    fn verb(&self) -> Request {
        self.proxy.verb("/api/v1/routes/all/weights", &json!({ "weights": { "stable": 1, "canary": 1 } }))
    }

    /// The answer, after which nothing has moved.
    #[track_caller]
    fn refused(&self, request: &Request, status: u16) -> Value {
        let answer = self.proxy.admin(request);
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(self.proxy.generation(), self.before);
        answer.json()
    }
}

fn with(request: &Request, name: &str, value: Option<&str>) -> Request {
    let mut request = request.clone();
    request.headers.retain(|(known, _)| known != name);
    value.map_or(request.clone(), |value| request.header(name, value))
}

#[test]
fn guards() {
    let (mut table, origins) = (Table::new(), ["stable", "canary"].map(Origin::start));
    let site = Site::new(&origins);
    let verb = site.verb();
    table.row("A01", "no token", || {
        assert_eq!(site.refused(&with(&verb, "authorization", None), 401)["code"], "unauthorized");
    });
    table.row("A02", "a wrong token", || {
        let wrong = with(&verb, "authorization", Some("Bearer 00000000000000000000000000000000"));
        let told = site.refused(&wrong, 401).to_string();
        assert!(!told.contains(&site.proxy.site.token()), "{told}");
    });
    table.row("A03", "a name that was rebound to us", || {
        site.refused(&verb.clone().host("evil.test"), 403);
        site.refused(&get("/api/v1/config").host("evil.test"), 403);
    });
    table.row("A04", "a page of another origin", || {
        site.refused(&with(&verb, "origin", Some("http://evil.test")), 403);
        site.refused(&with(&verb, "sec-fetch-site", Some("cross-site")), 403);
    });
    table.row("A05", "a form, and a GET", || {
        site.refused(&with(&verb, "content-type", Some("application/x-www-form-urlencoded")), 400);
        let told = site.proxy.admin(&Request { method: "GET".to_owned(), ..verb.clone() });
        assert_eq!((told.status, site.proxy.generation()), (405, site.before));
    });
    table.row("A06", "the viewer's token", || {
        let viewer = with(&verb, "authorization", Some("Bearer a-viewers-token-of-32-characters"));
        assert_eq!(site.refused(&viewer, 403)["code"], "read-only-token");
    });
    table.row("A07", "a body of 2 MiB", || {
        let large = Request { body: vec![b' '; 2 << 20], ..verb.clone() };
        assert_eq!(site.refused(&large, 413)["code"], "too-large");
    });
    table.row("A08", "two operators at once: one is told that it saw something older", || {
        let seen = site.proxy.read("/api/v1/routes/all")["generation"].to_string();
        let one = with(&verb, "if-match", Some(&seen));
        let body = json!({ "weights": { "stable": 1, "canary": 2 } }).to_string().into_bytes();
        let (first, second) = (site.proxy.admin(&one), Request { body, ..one });
        assert_eq!((first.status, site.proxy.admin(&second).status), (200, 409));
    });
    table.end();
}

#[test]
fn names() {
    let (mut table, origins) = (Table::new(), ["stable", "canary"].map(Origin::start));
    let text = format!(
        "{}routes: [{{ name: \"{}\", split: {{ stable: 95, canary: 5 }} }}]\n",
        upstreams(&origins.each_ref()),
        NAME.replace("\\u{1b}", "\\x1b").replace("\\u{202e}", "\\u202e"),
    );
    let site = crate::support::Site::new(&text);
    let checked = switchback(&site.folder(), &["check", &site.file().display().to_string()]);
    if checked.code != Some(0) {
        // Refused with its place: no name of that kind ever reaches anybody.
        table.row("A09", "a hostile name is refused, and not shown raw", || {
            assert_eq!(checked.code, Some(1), "{}", checked.err);
            let shown = format!("{}{}", checked.out, checked.err);
            assert!(!shown.contains('\x1b') && !shown.contains('\u{202e}'), "{shown}");
        });
        return table.end();
    }
    let proxy = site.start();
    proxy.ask(&get("/")).expect_status(200);
    table.row("A09", "a hostile name in JSON, metrics and a terminal", || {
        let routes = proxy.read("/api/v1/routes");
        assert!(
            routes["routes"][0]["name"].as_str().is_some_and(|name| name.starts_with("a</script>")),
            "{routes}"
        );
        let scraped = proxy.admin(&proxy.admin_request("GET", "/metrics")).expect_status(200).text();
        assert!(
            scraped.lines().all(|line| line.starts_with('#')
                || line.starts_with("switchback_")
                || line.starts_with("process_")),
            "{scraped}"
        );
        let admin = format!("http://{}", proxy.site.admin());
        let shown = switchback(&proxy.site.folder(), &["status", "--admin", &admin]);
        assert!(!shown.out.contains('\x1b') && !shown.out.contains('\u{202e}'), "{}", shown.out);
    });
    table.row("A09", "no answer can be taken for a page", || {
        for path in ["/api/v1/routes", "/api/v1/nothing%3Cscript%3E", "/metrics"] {
            let answer = proxy.admin(&proxy.admin_request("GET", path));
            let kind = answer.header("content-type").unwrap_or_default().to_owned();
            assert!(!kind.contains("html"), "{path}: {kind}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        }
    });
    table.end();
}

#[test]
fn secrets() {
    let (mut table, origins) = (Table::new(), ["stable", "canary"].map(Origin::start));
    let text = format!(
        "{}notify: [{{ webhook: {{ url: \"https://hooks.test/x?token=in-the-url\", secretFile: secret }} }}]\n\
         routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, sticky: {{ by: [{{ header: x-user }}], \
         pin: {{ cookie: sb, keyFile: pin }} }}, overrides: [{{ name: qa, trusted: true, arm: canary, \
         when: {{ headers: [{{ name: x-secret, secretFile: secret }}] }} }}] }}]\n",
        upstreams(&origins.each_ref())
    );
    let site = crate::support::Site::new(&text);
    site.place("secret", "the-secret-of-the-hooks\n");
    site.place("pin", "the-key-of-the-pins-which-is-32b\n");
    let proxy = site.start();
    let token = proxy.site.token();
    table.row("A10", "nothing that is secret in any answer", || {
        for path in [
            "/api/v1/config",
            "/api/v1/config/history",
            "/api/v1/status",
            "/api/v1/routes",
            "/api/v1/limits",
            "/metrics",
            "/openapi.json",
        ] {
            let told = proxy.admin(&proxy.admin_request("GET", path)).expect_status(200).text();
            for secret in ["the-secret-of", "the-key-of", "in-the-url", token.as_str()] {
                assert!(!told.contains(secret), "{path} tells {secret}");
            }
        }
    });
    table.end();
}
