//! Sticky keys: where a user's key is read, the cookie for those who have none, and the pin.
//!
//! An arm's epoch is made of what its pins end with: the run of a rollout, and an operator's or a
//! rollout's word that they are over. It must never depend on what moves otherwise.

use xxhash_rust::xxh64::xxh64;

use super::{Context, rules};
use crate::analysis::Policy;
use crate::model::overlay::MAX_PIN_AGE_SECS;
use crate::model::{Guided, RouteOverlay};
use crate::spec::Spot;
use crate::spec::route::Route as Written;
use crate::spec::split::{KeySource as WrittenKey, Pin as WrittenPin, Sticky};
use crate::split::{ArmState, IssueCookie, KeySource, Pin, PinArm, PinKeys};

pub(super) fn keys(context: &mut Context<'_>, sticky: &Spot<Sticky>) -> Vec<KeySource> {
    if sticky.by.is_empty() {
        context.findings.error(
            &sticky.by,
            "empty-sticky",
            "sticky names no key",
            "by: [{ header: x-user-id }]",
        );
    }
    let mut keys: Vec<KeySource> = Vec::new();
    for source in &sticky.by.value {
        let key = match &source.value {
            WrittenKey::Header(name) => rules::header_name(context, name).map(KeySource::Header),
            WrittenKey::Cookie(name) => rules::cookie_name(context, name).map(KeySource::Cookie),
            WrittenKey::Query(name) => Some(KeySource::Query(name.as_bytes().into())),
            WrittenKey::ClientIp => Some(KeySource::ClientIp),
        };
        if keys.contains(&KeySource::ClientIp) {
            let message = "a key after clientIP is never read: every request has an address";
            context.findings.warn(source, "unreachable-key", message, "move clientIP to the end");
        }
        keys.extend(key);
    }
    // A client that was given an id is known by it from then on.
    if let Some(issue) = &sticky.issue_cookie
        && let Some(name) = rules::cookie_name(context, &issue.name)
    {
        let own = KeySource::Cookie(name);
        if keys.contains(&KeySource::ClientIp) {
            let message = "the cookie is never issued: every request has an address as its key";
            context.findings.warn(&issue.name, "unreachable-key", message, "remove clientIP or issueCookie");
        }
        if !keys.contains(&own) {
            keys.push(own);
        }
    }
    keys
}

pub(super) fn issue(context: &mut Context<'_>, sticky: &Spot<Sticky>) -> Option<IssueCookie> {
    let written = sticky.issue_cookie.as_ref()?;
    if written.max_age.0.is_zero() {
        context.findings.error(&written.name, "bad-value", "the cookie's maxAge is 0", "write 30d");
    }
    Some(IssueCookie::new(&written.name, written.max_age.0.as_secs()))
}

/// What decides which pins hold.
pub(super) struct Arms<'a> {
    pub names: &'a [&'a str],
    pub weights: &'a [u32],
    pub states: &'a [ArmState],
    pub overlay: Option<&'a RouteOverlay>,
    pub policy: Option<&'a Policy>,
}

pub(super) fn pin(context: &mut Context<'_>, written: &Written, arms: &Arms<'_>) -> Option<Pin> {
    let sticky = written.sticky.as_ref()?;
    let pin = sticky.pin.as_ref()?;
    let age = pin.max_age.0.as_secs();
    if age == 0 || age > MAX_PIN_AGE_SECS {
        let message = "the pin's maxAge is not 1s to 30d";
        context.findings.error(&pin.cookie, "bad-value", message, "maxAge: 1h");
    }
    own_cookie(context, sticky, pin);
    if written.rollout.is_some() {
        let message = "requests by pin count for no test: only the first request of each maxAge is evidence";
        let hint = "users keep their arm without a pin; `sticky.by` moves them only when a weight does";
        context.findings.warn(pin, "pinned-rollout", message, hint);
    }
    let text = rules::secret_text(context, &pin.key_file)?;
    let keys = PinKeys::from_lines(text).map_err(|why| {
        let message = format!("`{}` holds no key for pins: {why}", *pin.key_file);
        context.findings.error(&pin.key_file, "bad-key", message, "openssl rand -hex 32");
    });
    let overlay = context.inputs.overlay;
    let guide = overlay.guided.get(written.name.as_str());
    let ended = overlay.pins_ended.get(written.name.as_str());
    let all = arms.names.iter().zip(arms.weights).zip(arms.states);
    let pinned = all.map(|((name, weight), state)| PinArm {
        name: (*name).into(),
        epoch: epoch(name, guide, arms.policy, ended.and_then(|arms| arms.get(*name)).copied()),
        open: if *weight == 0 {
            arms.overlay.is_some_and(|overlay| overlay.draining.contains_key(*name))
        } else {
            !state.void
        },
    });
    Some(Pin::new(&pin.cookie, age, &written.name, keys.ok()?, pinned))
}

/// A cookie of its own: what is private to the pin must not be a key as well.
fn own_cookie(context: &mut Context<'_>, sticky: &Sticky, pin: &WrittenPin) {
    let Some(name) = rules::cookie_name(context, &pin.cookie) else { return };
    let issued = sticky.issue_cookie.iter().map(|issue| &issue.name);
    let keys = sticky.by.iter().filter_map(|key| match &key.value {
        WrittenKey::Cookie(name) => Some(name),
        _ => None,
    });
    if issued.chain(keys).any(|other| other.as_bytes() == &*name) {
        let message = format!("the cookie `{}` is a sticky key already", *pin.cookie);
        context.findings.error(&pin.cookie, "duplicate-name", message, "give the pin a cookie of its own");
    }
}

/// What the pins of an arm are bound to: another run of a rollout deals both its arms anew.
fn epoch(arm: &str, guide: Option<&Guided>, policy: Option<&Policy>, ended: Option<u64>) -> u64 {
    let guide = guide.filter(|guide| guide.from == arm || guide.to == arm);
    let run = guide.map_or(0, |guide| guide.run);
    let version = guide.and(policy).map_or("", |policy| &policy.version);
    xxh64(format!("{version}\0{run}\0{}", ended.unwrap_or(0)).as_bytes(), 0)
}
