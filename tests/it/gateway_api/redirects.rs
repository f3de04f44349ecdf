//! Redirects: host, path, port, scheme and status.
//!
//! A redirect must carry what was not changed (host, port, path, query) and reach no origin.

use super::Fact::Location;
use super::{Case, Group, gets, routes};
use crate::support::{Request, get};

pub(super) fn groups() -> Vec<Group> {
    vec![host_and_status(), path(), port(), port_and_scheme(), scheme(), status()]
}

fn redirect(change: &str) -> String {
    format!("filters: [{{ redirect: {{ {change} }} }}]")
}

/// Rows of target, change, status and expected location; each change is a rule of its own.
fn group(name: &'static str, host: &str, rows: &[(&str, &str, u16, &'static str)]) -> Group {
    let rules: Vec<_> = rows
        .iter()
        .map(|(target, change, ..)| (format!("{{ path: {} }}", first_segment(target)), redirect(change)))
        .collect();
    let rules: Vec<_> = rules.iter().map(|(matches, action)| (matches.as_str(), action.as_str())).collect();
    let cases =
        rows.iter().map(|(target, _, status, location)| case(host, get(target), *status, location)).collect();
    Group { name, routes: routes(host, &rules), cases }
}

/// Clients reach the listener on its own port and say so, as a real one would.
fn case(host: &str, request: Request, status: u16, location: &'static str) -> Case {
    gets(status, request.host(&format!("{host}:@web@"))).and(Location(location))
}

fn first_segment(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    path.split('/').take(2).collect::<Vec<_>>().join("/")
}

fn host_and_status() -> Group {
    group(
        "RedirectHostAndStatus",
        "rhs.test",
        &[
            (
                "/hostname-redirect",
                "hostname: example.org",
                302,
                "http://example.org:@web@/hostname-redirect",
            ),
            (
                "/host-and-status",
                "hostname: example.org, status: 301",
                301,
                "http://example.org:@web@/host-and-status",
            ),
        ],
    )
}

fn path() -> Group {
    let prefix = "path: { prefix: /replacement-prefix }";
    group(
        "RedirectPath",
        "rp.test",
        &[
            ("/original-prefix/lemon", prefix, 302, "http://rp.test:@web@/replacement-prefix/lemon"),
            (
                "/full/path/original",
                "path: { full: /full-path-replacement }",
                302,
                "http://rp.test:@web@/full-path-replacement",
            ),
            (
                "/path-and-host",
                "hostname: example.org, path: { prefix: /replacement-prefix }",
                302,
                "http://example.org:@web@/replacement-prefix",
            ),
            (
                "/path-and-status",
                "path: { prefix: /replacement-prefix }, status: 301",
                301,
                "http://rp.test:@web@/replacement-prefix",
            ),
            (
                "/full-path-and-host",
                "hostname: example.org, path: { full: /replacement-full }",
                302,
                "http://example.org:@web@/replacement-full",
            ),
            (
                "/full-path-and-status",
                "path: { full: /replacement-full }, status: 301",
                301,
                "http://rp.test:@web@/replacement-full",
            ),
            ("/query/a?x=1&y=%2F", "path: { prefix: /to }", 302, "http://rp.test:@web@/to/a?x=1&y=%2F"),
        ],
    )
}

fn port() -> Group {
    group(
        "RedirectPort",
        "rport.test",
        &[
            ("/port", "port: 8083", 302, "http://rport.test:8083/port"),
            (
                "/port-and-host",
                "hostname: example.org, port: 8083",
                302,
                "http://example.org:8083/port-and-host",
            ),
            ("/port-and-status", "port: 8083, status: 301", 301, "http://rport.test:8083/port-and-status"),
            (
                "/port-and-host-and-status",
                "port: 8083, hostname: example.org, status: 302",
                302,
                "http://example.org:8083/port-and-host-and-status",
            ),
        ],
    )
}

fn port_and_scheme() -> Group {
    let to = "hostname: example.org";
    group(
        "RedirectPortAndScheme",
        "rps.test",
        &[
            ("/nil-nil", to, 302, "http://example.org:@web@/nil-nil"),
            ("/nil-80", "hostname: example.org, port: 80", 302, "http://example.org/nil-80"),
            ("/nil-8080", "hostname: example.org, port: 8080", 302, "http://example.org:8080/nil-8080"),
            ("/https-nil", "hostname: example.org, scheme: https", 302, "https://example.org/https-nil"),
            (
                "/https-443",
                "hostname: example.org, scheme: https, port: 443",
                302,
                "https://example.org/https-443",
            ),
            (
                "/https-8443",
                "hostname: example.org, scheme: https, port: 8443",
                302,
                "https://example.org:8443/https-8443",
            ),
        ],
    )
}

fn scheme() -> Group {
    group(
        "RedirectScheme",
        "rscheme.test",
        &[
            ("/scheme", "scheme: https", 302, "https://rscheme.test/scheme"),
            (
                "/scheme-and-host",
                "hostname: example.org, scheme: https",
                302,
                "https://example.org/scheme-and-host",
            ),
            (
                "/scheme-and-status",
                "scheme: https, status: 301",
                301,
                "https://rscheme.test/scheme-and-status",
            ),
            (
                "/scheme-and-host-and-status",
                "scheme: https, status: 302, hostname: example.org",
                302,
                "https://example.org/scheme-and-host-and-status",
            ),
        ],
    )
}

fn status() -> Group {
    let host = "rstatus.test";
    let mut group = group(
        "Redirect 303, 307, 308",
        host,
        &[
            ("/see-other", "status: 303", 303, "http://rstatus.test:@web@/see-other"),
            ("/temporary", "status: 307", 307, "http://rstatus.test:@web@/temporary"),
            ("/permanent", "status: 308", 308, "http://rstatus.test:@web@/permanent"),
        ],
    );
    let posted = Request::new("POST", "/see-other");
    group.cases.push(case(host, posted, 303, "http://rstatus.test:@web@/see-other"));
    group
}
