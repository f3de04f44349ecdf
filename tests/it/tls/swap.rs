//! Files of certificates that change while they serve, for better and for worse.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::{config, request};
use crate::rows::row;
use crate::support::site::replace;
use crate::support::tls::{Authority, Client};
use crate::support::{Origin, Proxy, Site, eventually, needs};

fn refused(proxy: &Proxy) -> f64 {
    proxy.metrics().sum("switchback_tls_certificate_refused", &[])
}

#[test]
fn a_pair_is_replaced_under_load_without_a_failure() {
    needs!("openssl");
    row("T05", "a certificate is replaced under load: no failure", || {
        let (origin, ca) = (Origin::start("app"), Authority::new());
        let served = ca.sign("served", "/CN=one", "DNS:a.test");
        let others = [ca.sign("two", "/CN=two", "DNS:a.test"), ca.sign("three", "/CN=three", "DNS:a.test")];
        let proxy = Proxy::start(&config(&origin, &[&served], ""));
        let (stop, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let client = Client::new(&ca.ca());
                    let mut kept = client.open(proxy.web(), "a.test").expect("a connection to keep");
                    while !stop.load(Ordering::Relaxed) {
                        let fresh = client.ask(proxy.web(), "a.test", &request("a.test"));
                        for answer in [fresh, kept.ask(&request("a.test"))] {
                            asked.fetch_add(1, Ordering::Relaxed);
                            if !answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
            let client = Client::new(&ca.ca());
            for round in 0..6 {
                let next = &others[round % 2];
                served.replace_by(next);
                eventually("new connections get the new certificate", || {
                    client.open(proxy.web(), "a.test").is_ok_and(|conn| conn.leaf() == next.leaf())
                });
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(failed.load(Ordering::Relaxed), 0, "of {}", asked.load(Ordering::Relaxed));
        assert!(asked.load(Ordering::Relaxed) > 20);
        assert_eq!(proxy.generation(), 1, "the plan has no part in it");
    });
}

#[test]
fn what_cannot_be_used_never_replaces_what_is_served_and_is_told() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let served = ca.sign("served", "/CN=one", "DNS:a.test");
    let good = ca.sign("two", "/CN=two", "DNS:a.test");
    let expired = ca.sign_expired("old", "DNS:a.test");
    let proxy = Proxy::start(&config(&origin, &[&served], ""));
    let client = Client::new(&ca.ca());
    let before = served.leaf();
    let (cert, key) = (fs::read_to_string(&served.cert).unwrap(), fs::read_to_string(&served.key).unwrap());
    let half = fs::read_to_string(&good.cert).unwrap();
    let rows: [(&str, &dyn Fn()); 5] = [
        ("has expired", &|| served.replace_by(&expired)),
        ("the key is not the certificate's", &|| fs::write(&served.cert, &half).unwrap()),
        ("it is no whole PEM", &|| fs::write(&served.cert, &half[..half.len() / 2]).unwrap()),
        ("no whole private key", &|| fs::write(&served.key, &key[..key.len() / 2]).unwrap()),
        ("cannot be read", &|| fs::remove_file(&served.cert).unwrap()),
    ];
    for (why, spoil) in rows {
        spoil();
        eventually(&format!("{why}: it is told"), || {
            let ready = proxy.read("/readyz");
            ready["checks"]["certificates"].as_str().is_some_and(|text| text.contains(why))
        });
        assert!((refused(&proxy) - 1.0).abs() < 0.1, "{why}");
        eventually("it is logged", || proxy.err().iter().any(|line| line.contains(why)));
        assert_eq!(client.open(proxy.web(), "a.test").unwrap().leaf(), before, "{why}");
        fs::write(&served.cert, &cert).unwrap();
        fs::write(&served.key, &key).unwrap();
        eventually("all is well again", || proxy.read("/readyz")["checks"].get("certificates").is_none());
        assert!(refused(&proxy).abs() < 0.1, "{why}");
    }
    let secret = key.lines().nth(1).unwrap();
    assert!(!proxy.err().iter().chain(&proxy.out()).any(|line| line.contains(secret)), "a key was shown");
    let expiry = proxy.metrics().sum("switchback_tls_certificate_expiry_timestamp_seconds", &[]);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((28.0..32.0).contains(&((expiry - now) / 86_400.0)), "{expiry}");
    served.replace_by(&good);
    eventually("a good pair is taken after all that", || {
        client.open(proxy.web(), "a.test").is_ok_and(|conn| conn.leaf() == good.leaf())
    });
}

#[test]
fn a_key_that_comes_after_its_certificate_raises_no_alarm() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let served = ca.sign("served", "/CN=one", "DNS:a.test");
    let next = [ca.sign("two", "/CN=two", "DNS:a.test"), ca.sign("three", "/CN=three", "DNS:a.test")];
    let proxy = Proxy::start(&config(&origin, &[&served], ""));
    let client = Client::new(&ca.ca());
    let leaf = || client.open(proxy.web(), "a.test").expect("a handshake").leaf();
    for (turn, next) in next.iter().enumerate() {
        let mut files = [(&served.cert, &next.cert), (&served.key, &next.key)];
        files.rotate_left(turn);
        let before = leaf();
        for (at, (to, from)) in files.into_iter().enumerate() {
            replace(to, &fs::read_to_string(from).expect("a PEM file"));
            // The second comes so much later than the first.
            let since = Instant::now();
            while at == 0 && since.elapsed() < Duration::from_millis(700) {
                assert!(refused(&proxy).abs() < 0.1, "for a moment");
                assert!(proxy.read("/readyz")["checks"].get("certificates").is_none(), "for a moment");
                assert_eq!(leaf(), before, "half a pair serves nobody");
            }
        }
        eventually("the new pair serves", || leaf() == next.leaf());
        assert!(refused(&proxy).abs() < 0.1, "and nothing is left of it");
    }
    let said = proxy.err().join("\n");
    assert!(!said.contains("is not taken"), "{said}");
}

#[test]
fn sessions_are_resumed_over_reloads_and_swaps() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let served = ca.sign("served", "/CN=one", "DNS:a.test");
    let other = ca.sign("two", "/CN=two", "DNS:a.test");
    let text = config(&origin, &[&served], "");
    let proxy = Proxy::start(&text);
    for client in [Client::new(&ca.ca()), Client::older(&ca.ca())] {
        let ask = || {
            let mut conn = client.open(proxy.web(), "a.test").unwrap();
            assert!(conn.ask(&request("a.test")).unwrap().starts_with("HTTP/1.1 200"));
            conn
        };
        assert!(!ask().resumed());
        assert!(ask().resumed());
        let added = if text.contains(", minVersion") { "" } else { ", minVersion: \"1.2\"" };
        proxy.reload(
            &config(&origin, &[&served], added)
                .replace("name: all", &format!("name: all{}", proxy.generation())),
        );
        assert!(ask().resumed(), "after a reload");
    }
    let client = Client::new(&ca.ca());
    client.ask(proxy.web(), "a.test", &request("a.test")).unwrap();
    served.replace_by(&other);
    eventually("the new pair serves", || {
        Client::new(&ca.ca()).open(proxy.web(), "a.test").is_ok_and(|conn| conn.leaf() == other.leaf())
    });
    assert!(client.open(proxy.web(), "a.test").unwrap().resumed(), "after a swap");
}

#[test]
fn a_start_or_reload_with_an_unusable_pair_is_refused_where_it_is_written() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let good = ca.sign("good", "/CN=a", "DNS:a.test");
    let other = ca.sign("other", "/CN=a", "DNS:a.test");
    let mixed = crate::support::tls::Signed { cert: good.cert.clone(), key: other.key.clone() };
    let missing = crate::support::tls::Signed { cert: "none.crt".into(), key: good.key.clone() };
    for (pair, says) in [(&mixed, "the key is not the certificate's"), (&missing, "none.crt")] {
        let mut proxy = Proxy::spawn(Site::new(&config(&origin, &[pair], "")));
        let status = proxy.await_exit();
        assert_eq!(status.code(), Some(1), "{:?}", proxy.err());
        eventually("the place is told", || {
            let said = proxy.err().join("\n");
            said.contains(says) && said.contains("switchback.yaml:") && said.contains("unusable-certificate")
        });
        assert!(!proxy.site.state().exists(), "a refused start leaves no trace");
    }
    let proxy = Proxy::start(&config(&origin, &[&good], ""));
    proxy.site.write(&config(&origin, &[&good, &mixed], ""));
    eventually("the reload is refused", || {
        proxy.read("/readyz")["checks"]["config"].as_str().is_some_and(|text| text.contains("last good one"))
    });
    let answer = Client::new(&ca.ca()).ask(proxy.web(), "a.test", &request("a.test")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"));
    proxy.reload(&config(&origin, &[&other], ""));
    let conn = Client::new(&ca.ca()).open(proxy.web(), "a.test").unwrap();
    assert_eq!(conn.leaf(), other.leaf(), "what the new plan names");
}
