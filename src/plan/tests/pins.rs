//! When pins hold: as long as their arm is neither empty nor taken back, and never again after that.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Method};

use super::{BASE, NOW, load_files};
use crate::ledger::Book;
use crate::model::{ArmIx, ChoiceReason, Guided, Overlay, RequestHead, RouteOverlay};
use crate::plan::Plan;

const CANARY: ArmIx = ArmIx(0);
const ROUTE: &str = "routes: [{ name: all, split: { stable: 95, canary: 5 }, rollout: { version: v1 }, \
                     sticky: { by: [{ header: x-user-id }], pin: { cookie: p, keyFile: pin.key } } }]";

fn plan(overlay: &Overlay) -> Plan {
    let text = format!("{BASE}{ROUTE}");
    load_files(&[("a.yaml", &text)], overlay, &Book::new(1, 64), None).expect("a good file").plan
}

/// The Cookie line of a client pinned to the canary by a plan.
fn pinned(plan: &Plan) -> Option<HeaderValue> {
    let set = plan.routes[0].split.pin.as_ref()?.header(CANARY, NOW, NOW, false)?;
    HeaderValue::try_from(set.to_str().ok()?.split(';').next()?).ok()
}

/// Whether a plan keeps a client on the canary.
fn keeps(plan: &Plan, cookie: &HeaderValue) -> bool {
    let headers = HeaderMap::from_iter([(COOKIE, cookie.clone())]);
    let head = RequestHead {
        listener: 0,
        method: &Method::GET,
        host: "",
        path: "/",
        query: None,
        headers: &headers,
        client_ip: [127, 0, 0, 1].into(),
    };
    let choice = plan.routes[0].split.choose(&head, NOW, || u64::MAX).expect("a choice");
    choice.arm == CANARY && choice.reason == ChoiceReason::Pin
}

fn guided(run: u64, share: u32, void: bool) -> Overlay {
    let guide = Guided {
        from: "stable".into(),
        to: "canary".into(),
        share: Some(share),
        void: void.then(|| "canary".to_owned()),
        compared: None,
        run,
        shadow: None,
    };
    Overlay { guided: [("all".to_owned(), guide)].into(), ..Overlay::default() }
}

fn by_hand(base: Overlay, canary: u32, draining: bool) -> Overlay {
    let entry = RouteOverlay {
        weights: [("stable".to_owned(), 95), ("canary".to_owned(), canary)].into(),
        split_fingerprint: plan(&Overlay::default()).routes[0].split_fingerprint,
        draining: draining.then(|| ("canary".to_owned(), 1)).into_iter().collect(),
        ..RouteOverlay::default()
    };
    Overlay { routes: [("all".to_owned(), entry)].into(), ..base }
}

fn ended(mut base: Overlay, at_millis: u64) -> Overlay {
    base.end_pins("all", &["canary".to_owned()], at_millis);
    base
}

#[test]
fn pins_hold_while_their_arm_is_neither_empty_nor_taken_back() {
    let first = plan(&guided(1, 50_000, false));
    let cookie = pinned(&first).expect("a pin");
    let rows = [
        ("the same", guided(1, 50_000, false), true),
        ("the next step", guided(1, 250_000, false), true),
        ("weights by hand", by_hand(guided(1, 50_000, false), 20, false), true),
        ("zeroed by hand", by_hand(guided(1, 50_000, false), 0, false), false),
        ("drained", by_hand(guided(1, 50_000, false), 0, true), true),
        ("drained, the rollout aborted by that", by_hand(guided(1, 0, true), 0, true), true),
        ("weight again after a drain", by_hand(guided(1, 50_000, false), 5, true), true),
        ("ended", ended(guided(1, 50_000, false), 7), false),
        ("ended, then drained", ended(by_hand(guided(1, 50_000, false), 0, true), 7), false),
        ("on the way back", guided(1, 30_000, true), false),
        ("empty", guided(1, 0, false), false),
        ("the next run", guided(2, 50_000, false), false),
    ];
    for (what, overlay, expected) in rows {
        assert_eq!(keeps(&plan(&overlay), &cookie), expected, "{what}");
    }
}

#[test]
fn an_arm_without_pins_gives_none() {
    for overlay in [guided(1, 0, false), guided(1, 30_000, true), by_hand(Overlay::default(), 0, false)] {
        assert_eq!(pinned(&plan(&overlay)), None, "{overlay:?}");
    }
    assert!(pinned(&plan(&by_hand(Overlay::default(), 5, false))).is_some());
}
