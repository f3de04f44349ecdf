//! What a reload keeps: sockets, generations of untouched routes, cells, operator weights.

use std::sync::Arc;

use super::{BASE, load_files};
use crate::ledger::Book;
use crate::model::{Compared, Generation, Guided, Overlay, Provenance, RouteOverlay};
use crate::plan::{Compiled, Inputs, Plan, WeightSource, reweigh};

const ROUTES: &str = "\
routes:
  - { name: a, matches: [{ path: /a }], split: { stable: 95, canary: 5 } }
  - { name: b, matches: [{ path: /b }], split: { stable: 95, canary: 5 } }
";

fn load(text: &str, overlay: &Overlay, book: &Book, previous: Option<&Plan>) -> Compiled {
    load_files(&[("a.yaml", text)], overlay, book, previous).unwrap_or_else(|found| panic!("{found:#?}"))
}

fn operator(route: &str, fingerprint: u64, weights: &[(&str, u32)]) -> Overlay {
    let route_overlay = RouteOverlay {
        weights: weights.iter().map(|(arm, weight)| ((*arm).to_owned(), *weight)).collect(),
        split_fingerprint: fingerprint,
        by: Provenance { actor: "ann".into(), reason: "test".into(), at_millis: 1 },
        ..RouteOverlay::default()
    };
    Overlay { routes: [(route.to_owned(), route_overlay)].into(), ..Overlay::default() }
}

#[test]
fn sockets_cannot_change() {
    let (book, none) = (Book::new(1, 64), Overlay::default());
    let text = format!("{BASE}{ROUTES}");
    let first = load(&text, &none, &book, None).plan;
    let rows = [
        ("moved", "name: web, address: \"0.0.0.0:8080\"", "name: web, address: \"0.0.0.0:8081\"", (1, 35)),
        ("renamed", "name: web", "name: wab", (1, 35)),
        ("added", "8080\" }]\nup", "8080\" }, { name: x, address: \"[::1]:9\" }]\nup", (1, 73)),
    ];
    for (what, from, to, place) in rows {
        let changed = text.replacen(from, to, 1);
        let found = load_files(&[("a.yaml", &changed)], &none, &book, Some(&first)).unwrap_err();
        assert_eq!(found[0].code, "listener-changed", "{what}: {found:?}");
        assert_eq!((found[0].place.line, found[0].place.column), place, "{what}");
        assert!(found[0].hint.contains("restart"), "{found:?}");
    }
    let two = text.replacen("8080\" }]", "8080\" }, { name: x, address: \"[::1]:9\" }]", 1);
    let two = load(&two, &none, &Book::new(1, 64), None).plan;
    let found = load_files(&[("a.yaml", &text)], &none, &book, Some(&two)).unwrap_err();
    assert_eq!((found[0].code, found[0].place.line), ("listener-changed", 1), "removed");
    let limits = text.replacen("8080\" }]", "8080\", limits: { headerCount: 50 } }]", 1);
    assert_eq!(load(&limits, &none, &book, Some(&first)).plan.listeners[0].limits.header_count.value, 50);
}

#[test]
fn a_listener_address_from_the_environment_does_not_count_as_a_move() {
    let (book, none) = (Book::new(1, 64), Overlay::default());
    let text = format!("{BASE}{ROUTES}").replacen("0.0.0.0:8080", "0.0.0.0:${PORT}", 1);
    let first = load(&text, &none, &book, None).plan;
    load(&text, &none, &book, Some(&first));
    let found =
        load_files(&[("a.yaml", &text.replacen("name: web", "name: wab", 1))], &none, &book, Some(&first));
    assert_eq!(found.unwrap_err()[0].place.line, 1);
}

#[test]
fn only_routes_that_change_get_a_new_generation() {
    let (book, none) = (Book::new(1, 64), Overlay::default());
    let text = format!("{BASE}{ROUTES}");
    let first = load(&text, &none, &book, None).plan;
    let generations = |plan: &Plan| -> Vec<u64> {
        std::iter::once(plan.generation.0).chain(plan.routes.iter().map(|one| one.generation.0)).collect()
    };
    assert_eq!(generations(&first), [1, 1, 1]);
    let second = load(&format!("# moved down\n\n{text}"), &none, &book, Some(&first)).plan;
    assert_eq!(generations(&second), [2, 1, 1]);
    let edited = text.replacen("canary: 5", "canary: 6", 1);
    let third = load(&edited, &none, &book, Some(&second)).plan;
    assert_eq!(generations(&third), [3, 3, 1]);
    let elsewhere = text.replacen("http://10.0.1.1:8080", "http://10.0.1.2:8080", 1);
    let fourth = load(&elsewhere, &none, &book, Some(&third)).plan;
    assert_eq!(generations(&fourth), [4, 4, 4], "an upstream belongs to the routes that use it");
    assert_eq!(first.generation, Generation(1));
}

#[test]
fn routes_weighed_anew_are_what_a_whole_compilation_makes_of_them() {
    let book = Book::new(1, 64);
    let sticky = "{ name: c, hostnames: [c.example], matches: [{ path: /c }], priority: 3, sticky: { by: [{ header: x-u }] }, \
                  filters: [{ rewrite: { path: { prefix: /d } } }], split: { stable: 90, canary: 5, other: { weight: 5, upstream: canary } }, \
                  rollout: { version: v2, steps: [10, 100] } }";
    let text = format!("{BASE}{ROUTES}  - {sticky}\n");
    let mut overlay = Overlay::default();
    let mut plan = load(&text, &overlay, &book, None).plan;
    let spec = crate::spec::parse(vec![crate::spec::Source { name: "a.yaml".into(), text: text.clone() }])
        .expect("a good file");
    let guide = |share| Guided {
        from: "stable".into(),
        to: "canary".into(),
        share: Some(share),
        void: (share == 0).then(|| "canary".to_owned()),
        shadow: None,
        compared: (share > 0).then(|| Compared {
            candidate: "canary".into(),
            epoch: u64::from(share),
            seed: 7,
        }),
        run: 1,
    };
    let by_hand = operator("a", plan.routes[0].split_fingerprint, &[("stable", 60), ("canary", 40)]);
    let rounds: [(&[&str], Option<u32>, bool); 4] = [
        (&["c"], Some(100_000), false),
        (&["a"], Some(100_000), true),
        (&["c", "a", "gone"], Some(0), false),
        (&["b"], Some(0), false),
    ];
    for (names, share, operated) in rounds {
        overlay.guided = share.map(|share| ("c".to_owned(), guide(share))).into_iter().collect();
        overlay.routes = if operated { by_hand.routes.clone() } else { Overlay::default().routes };
        let whole = load(&text, &overlay, &book, Some(&plan)).plan;
        let inputs = Inputs {
            spec: &spec,
            lists: &crate::plan::Lists::new(),
            env: &std::collections::BTreeMap::new(),
            overlay: &overlay,
            book: &book,
            previous: Some(&plan),
            now: 0,
        };
        let part = reweigh(inputs, names).expect("it compiled before").expect("there is a plan before");
        assert_eq!(format!("{part:?}"), format!("{whole:?}"), "{names:?}");
        let kept = part.routes.iter().zip(&plan.routes).filter(|(new, old)| Arc::ptr_eq(new, old)).count();
        assert_eq!(kept, 3 - names.iter().filter(|name| **name != "gone").count(), "{names:?}");
        plan = part;
    }
}

#[test]
fn a_rollout_that_shadows_mirrors_its_candidate_beside_what_the_file_mirrors() {
    let book = Book::new(1, 64);
    let route = |mirror: &str| {
        let rollout = "rollout: { version: v2, steps: [10, 100] }";
        format!("{BASE}routes: [{{ name: c, split: {{ stable: 1, canary: 0 }}, {rollout}{mirror} }}]\n")
    };
    let guide = |shadow| Guided {
        from: "stable".into(),
        to: "canary".into(),
        share: Some(0),
        void: None,
        compared: None,
        run: 0,
        shadow,
    };
    let rows = [
        ("", None, None),
        ("", Some(0), None),
        ("", Some(100_000), Some((100_000, true, 65_536))),
        (", mirror: { to: canary, percent: 1%, maxBody: 1KiB }", Some(100_000), Some((100_000, true, 1024))),
        (", mirror: { to: canary, percent: 1%, maxBody: 1KiB }", None, Some((10_000, false, 1024))),
    ];
    for (mirror, shadow, expected) in rows {
        let guided = [("c".to_owned(), guide(shadow))].into();
        let overlay = Overlay { guided, ..Overlay::default() };
        let plan = load(&route(mirror), &overlay, &book, None).plan;
        let found: Vec<_> =
            plan.routes[0].mirrors.iter().map(|one| (one.sample, one.pairs(), one.max_body)).collect();
        assert_eq!(found, Vec::from_iter(expected), "{mirror} {shadow:?}");
    }
}

#[test]
fn cells_are_carried_over() {
    let (book, none) = (Book::new(1, 64), Overlay::default());
    let text = format!("{BASE}{ROUTES}");
    let first = load(&text, &none, &book, None).plan;
    let second = load(&text.replacen("canary: 5", "canary: 50", 1), &none, &book, Some(&first)).plan;
    for (before, after) in first.routes.iter().zip(&second.routes) {
        for (old, new) in before.arms.iter().zip(&after.arms) {
            assert!(old.cells.iter().zip(&new.cells).all(|(old, new)| Arc::ptr_eq(old, new)));
        }
    }
    assert!(Arc::ptr_eq(&first.upstreams[0].cell, &second.upstreams[0].cell));
    assert_eq!(first.upstreams[0].endpoints[0].cell.id, second.upstreams[0].endpoints[0].cell.id);
}

#[test]
fn operator_weights_last_until_their_split_is_edited() {
    let book = Book::new(1, 64);
    let text = format!("{BASE}{ROUTES}");
    let first = load(&text, &Overlay::default(), &book, None).plan;
    let overlay = operator("a", first.routes[0].split_fingerprint, &[("stable", 1)]);
    let second = load(&text, &overlay, &book, Some(&first)).plan;
    let [a, b] = &second.routes[..] else { panic!() };
    assert_eq!(a.arms.iter().map(|arm| arm.weight).collect::<Vec<_>>(), [0, 1], "arms not named get 0");
    assert_eq!((a.arms[0].source, b.arms[0].source), (WeightSource::Operator, WeightSource::Spec));
    assert!(a.split.arms[0].void && !a.split.arms[1].void && !b.split.arms[0].void);
    assert_eq!(a.operator.as_ref().map(|by| by.actor.as_str()), Some("ann"));
    assert_eq!((a.generation.0, b.generation.0), (2, 1));
    // An edit of anything else leaves them in force, an edit of the split ends them.
    let elsewhere = text.replacen("path: /a", "path: /aa", 1);
    assert_eq!(
        load(&elsewhere, &overlay, &book, Some(&second)).plan.routes[0].arms[1].source,
        WeightSource::Operator
    );
    let edited = text.replacen("canary: 5", "canary: 6", 1);
    let third = load(&edited, &overlay, &book, Some(&second)).plan;
    assert_eq!(third.routes[0].arms[0].weight, 6);
    assert!(third.routes[0].operator.is_none());
    // All zero: nobody is served, which an operator may want.
    let overlay = operator("a", first.routes[0].split_fingerprint, &[]);
    assert!(load(&text, &overlay, &book, Some(&first)).plan.routes[0].split.ranges.is_none());
}
