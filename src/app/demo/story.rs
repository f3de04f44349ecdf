//! The three acts: a good version, one that fails, one that is slow, and what became of each.
//!
//! It must never call an act good that did not end as it should, nor forgive a failure that no bad
//! version made.

use std::io;
use std::time::{Duration, Instant};

use super::elsewhere::{Measured, elsewhere};
use super::origin::{Build, SLOW};
use super::screen::Screen;
use super::stage::{SHORTENED, Stage};
use super::tally::{Did, Tally};
use super::users::{CONNECTIONS, USERS};
use super::watch::{End, PATIENCE, Telling, Watch};

/// Requests v1 serves before the first rollout.
const QUIET: u64 = 400;
/// Of v3 every this many answers one is a 500.
const FAILS_EVERY: u64 = 20;
/// Of v4 every this many answers one is slow.
const SLOW_EVERY: u64 = 10;

/// One version's fate.
pub(super) struct Act {
    version: usize,
    what: String,
    end: End,
    did: Did,
    good: bool,
}

/// Says what is where.
pub(super) fn open(stage: &Stage, screen: &mut Screen) {
    screen.say(&format!(
        "switchback demo: two origins, the proxy that `run` starts, {USERS} users on {CONNECTIONS} keep-alive connections"
    ));
    screen.say(&format!("  proxy http://{}/   admin http://{}/", stage.web, stage.admin));
    screen.say(&format!("  configuration {}", stage.file.display()));
    screen.say(&format!("  {SHORTENED}"));
}

/// Plays all acts.
///
/// # Errors
/// One did not end, or something could not be written.
pub(super) async fn play(stage: &Stage, screen: &mut Screen) -> io::Result<Vec<Act>> {
    let waiting = Instant::now();
    while stage.crowd.look(|tally| tally.requests) < QUIET {
        if waiting.elapsed() > PATIENCE {
            return Err(io::Error::other("v1 did not serve its first users"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut acts = vec![healthy(stage, screen).await?];
    let failing = Build { version: 3, fails_every: FAILS_EVERY, slow_every: 0 };
    let what = format!("{} % of its answers are errors", 100 / FAILS_EVERY);
    acts.push(bad(stage, screen, failing, what, &["errors", "guard"]).await?);
    let slow = Build { version: 4, fails_every: 0, slow_every: SLOW_EVERY };
    let what = format!("{} % of its answers take {} ms more", 100 / SLOW_EVERY, SLOW.as_millis());
    acts.push(bad(stage, screen, slow, what, &["latency-p50", "latency-p90", "latency-p99"]).await?);
    Ok(acts)
}

/// v2 climbs, is promoted, and traffic walks back to the arm it came from.
async fn healthy(stage: &Stage, screen: &mut Screen) -> io::Result<Act> {
    screen.say(
        "\nAct 1: v2 is deployed to the canary and `version: v2` is written into the file. It is healthy.",
    );
    let watch = Watch::new(stage);
    stage.roll_out(Build::healthy(2))?;
    let end = watch.follow(screen, Telling::Decisions).await?;
    let good = end.state == "PROMOTED";
    if good {
        stage.crowd.promoted(2);
    }
    screen.keep();
    if good {
        stage.stable.deploy(Build::healthy(2));
        screen.say("  Stable gets v2 too, and `rollout finish` walks traffic back in steps of [50, 100], judged as before:");
        let watch = Watch::new(stage);
        stage.finish(2).await?;
        let back = watch.follow(screen, Telling::End).await?;
        screen.draw(Vec::new());
        if back.state != "FINISHED" {
            return Err(io::Error::other(format!("traffic did not walk back: {}", back.reason)));
        }
    }
    let did = stage.crowd.look(|tally| tally.of(2));
    Ok(Act { version: 2, what: "healthy".to_owned(), end, did, good })
}

/// A version that must be put back by one of these rules.
async fn bad(
    stage: &Stage,
    screen: &mut Screen,
    build: Build,
    what: String,
    rules: &[&str],
) -> io::Result<Act> {
    let version = build.version;
    let number = version - 1;
    screen.say(&format!("\nAct {number}: v{version} is deployed: {what}. `version: v{version}` is written."));
    let watch = Watch::new(stage);
    let before = stage.crowd.look(|tally| tally.of(2));
    stage.roll_out(build)?;
    let end = watch.follow(screen, Telling::Seconds).await?;
    screen.keep();
    let (did, after) = stage.crowd.look(|tally| (tally.of(version), tally.of(2)));
    hurt(screen, version, &did, &end);
    let seconds = end.on_trial.0.zip(end.on_trial.1).map(|(from, to)| to.duration_since(from));
    let measured = Measured {
        stable: (after.requests - before.requests, after.failed - before.failed),
        canary: (did.requests, did.failed),
        bad: did.failed + did.slow,
        seconds: seconds.unwrap_or(end.took).as_secs_f64(),
    };
    compare(screen, &measured);
    let good = end.state == "REVERTED" && rules.contains(&&*end.rule);
    Ok(Act { version, what, end, did, good })
}

/// Says who was hurt, and for how long.
fn hurt(screen: &mut Screen, version: usize, did: &Did, end: &End) {
    screen.say(&format!("  v{version} {} by `{}`", end.state, end.rule));
    let after = did.first_hurt.zip(end.on_trial.1).map(|(from, to)| to.saturating_duration_since(from));
    let after = after.map(|after| format!("; weight 0 came {:.1} s after the first", after.as_secs_f64()));
    screen.say(&format!(
        "  {} of its {} requests failed, {} were slow, {} of {USERS} users were hurt{}",
        did.failed,
        did.requests,
        did.slow,
        did.hurt.len(),
        after.unwrap_or_default()
    ));
}

fn compare(screen: &mut Screen, measured: &Measured) {
    screen.say("  Defaults of others at the same rates and weight, computed:");
    for one in elsewhere(measured) {
        screen.say(&format!("    {}", one.text()));
    }
    screen.say(&format!(
        "    switchback, just now: {:.1} s, {} bad answers, with warm-ups 13 s (errors) and 57 s (latency) shorter than its defaults",
        measured.seconds, measured.bad
    ));
}

/// Says how everything ended; true when it ended as it should.
pub(super) fn close(screen: &mut Screen, acts: &[Act], tally: &Tally) -> bool {
    screen.say(&format!(
        "\n{:<8} {:<38} {:<9} {:<12} {:>7} {:>16} {:>11}",
        "version", "what it was", "verdict", "rule", "seconds", "requests failed", "users hurt"
    ));
    for act in acts {
        screen.say(&format!(
            "v{:<7} {:<38} {:<9} {:<12} {:>7.1} {:>16} {:>11}",
            act.version,
            act.what,
            act.end.state,
            act.end.rule,
            act.end.took.as_secs_f64(),
            act.did.failed,
            act.did.hurt.len()
        ));
    }
    let own = tally.of(3).failed;
    // A version that must not fail failed by something else than itself.
    let foreign = tally.foreign + tally.failed() - own;
    screen.say(&format!(
        "{} requests from {} users: {foreign} failed because of switchback, {} connections were closed",
        tally.requests,
        tally.users(),
        tally.closed
    ));
    screen.say(&format!(
        "{} answers older than what was promoted, {} users thrown back and forth",
        tally.older, tally.flapped
    ));
    let quiet = foreign == 0 && tally.closed == 0 && tally.older == 0 && tally.flapped == 0;
    for act in acts.iter().filter(|act| !act.good) {
        screen.say(&format!("v{} should not have ended {} ({})", act.version, act.end.state, act.end.reason));
    }
    quiet && acts.iter().all(|act| act.good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::demo::tally::Answer;

    fn acts(good: bool) -> Vec<Act> {
        let end = |state, rule: &str| End {
            state,
            rule: rule.to_owned(),
            reason: String::new(),
            took: Duration::ZERO,
            on_trial: (None, None),
        };
        let act = |version, end, good| Act { version, what: String::new(), end, did: Did::default(), good };
        vec![
            act(2, end("PROMOTED", "-"), true),
            act(3, end("REVERTED", "errors"), true),
            act(4, end("REVERTED", "latency-p99"), good),
        ]
    }

    #[test]
    fn only_the_bad_version_may_fail_and_every_act_must_end_as_it_should() {
        let answered = |version, good| {
            let mut tally = Tally::default();
            tally.note(1, Answer { version, good, slow: false }, 0);
            tally
        };
        let with = |what: fn(&mut Tally)| {
            let mut tally = Tally::default();
            what(&mut tally);
            tally
        };
        let rows = [
            (answered(2, true), true, true),
            (answered(3, false), true, true),
            (answered(3, false), false, false),
            (answered(1, false), true, false),
            (answered(4, false), true, false),
            (with(|tally| tally.foreign = 1), true, false),
            (with(|tally| tally.closed = 1), true, false),
            (with(|tally| tally.older = 1), true, false),
            (with(|tally| tally.flapped = 1), true, false),
        ];
        for (tally, acts_good, good) in rows {
            assert_eq!(close(&mut Screen::new(false), &acts(acts_good), &tally), good, "{tally:?}");
        }
    }
}
