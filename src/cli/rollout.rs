//! Verbs about rollouts, asked of a running proxy: moves, waiting for the end, the plan, history.
//!
//! They speak the admin API. `wait` is made for pipelines: its exit code is the answer. It must
//! never decide whether a version is good; it repeats what the proxy says.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::look::Look;
use super::remote::{AdminArgs, Failed, Outcome, Remote, finish, pretty, route_path, say};
use super::remote_text::clean;
use super::why::{Based, Why};
use super::{Exit, plan_text, postmortem, rollout_text};
use crate::wire;

/// Time between two looks of `rollout wait`.
const LOOK: Duration = Duration::from_millis(500);

/// How long a route may be without any rollout: a file written the moment before is loaded by then.
const LOADED: Duration = Duration::from_secs(2);

/// What is asked of a rollout.
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Begin what `autoStart: false` left waiting
    Start(MoveArgs),
    /// Wait for a person; the weight stays
    Pause(MoveArgs),
    /// Go on
    Resume(MoveArgs),
    /// Take the next step now
    Advance(MoveArgs),
    /// Give it everything: the last step, or the end of its bake
    Promote(MoveArgs),
    /// Walk traffic back to the `from` arm, which has the new version by now
    Finish(MoveArgs),
    /// Put it back to weight 0
    #[command(visible_alias = "rollback")]
    Abort(MoveArgs),
    /// Begin again a version that was put back; needs --reason
    Retry(MoveArgs),
    /// Wait for the end: exit 0 promoted, 3 reverted or aborted, 4 undecided at the timeout
    Wait(WaitArgs),
    /// Say what each step needs and how long it takes at the measured rate
    Plan(PlanArgs),
}

/// Arguments of the verbs that move a rollout.
#[derive(Clone, Debug, Args)]
pub struct MoveArgs {
    /// The route
    pub route: String,
    /// Refuse unless the rollout is of this version
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// Why.
    #[command(flatten)]
    pub why: Why,
    /// Despite what speaks against it; needs --reason
    #[arg(long)]
    pub force: bool,
    /// On what it is based.
    #[command(flatten)]
    pub based: Based,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `rollout wait`.
#[derive(Clone, Debug, Args)]
pub struct WaitArgs {
    /// The route
    pub route: String,
    /// The version to wait for; default: the one under way
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Print the evidence as Markdown, for a pipeline's summary
    #[arg(long, conflicts_with = "json")]
    pub markdown: bool,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `rollout plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The route
    pub route: String,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Only this route
    pub route: Option<String>,
    /// Print the postmortem of one run as Markdown; the id is in every line of the history
    #[arg(long, value_name = "ID", requires = "route", conflicts_with = "json")]
    pub postmortem: Option<String>,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl RolloutCommand {
    /// Asks the proxy.
    #[must_use]
    pub fn run(&self) -> Exit {
        match self {
            Self::Start(args) => go("start", args),
            Self::Pause(args) => go("pause", args),
            Self::Resume(args) => go("resume", args),
            Self::Advance(args) => go("advance", args),
            Self::Promote(args) => go("promote", args),
            Self::Finish(args) => go("finish", args),
            Self::Abort(args) => go("abort", args),
            Self::Retry(args) => go("retry", args),
            Self::Wait(args) => wait(args),
            Self::Plan(args) => plan(args),
        }
    }
}

fn go(verb: &str, args: &MoveArgs) -> Exit {
    let moved = || -> Outcome {
        let asked = args.why.asked(wire::Move { version: args.version.clone(), force: args.force });
        let path = format!("{}/rollout/{verb}", route_path(&args.route));
        let done: wire::RolloutMoved =
            Remote::open(&args.admin)?.post(&path, &asked, &args.based.expected())?;
        if args.admin.json { pretty(&done) } else { Ok(rollout_text::moved(&args.route, verb, &done)) }
    };
    finish(moved())
}

fn plan(args: &PlanArgs) -> Exit {
    let shown = || -> Outcome {
        let path = format!("{}/rollout/plan", route_path(&args.route));
        let plan: wire::RolloutPlan = Remote::open(&args.admin)?.get(&path)?;
        if args.admin.json { pretty(&plan) } else { Ok(plan_text::plan(&args.route, &plan, Look::here())) }
    };
    finish(shown())
}

/// What was decided, of one route or of all.
#[must_use]
pub fn history(args: &HistoryArgs) -> Exit {
    let shown = || -> Outcome {
        let remote = Remote::open(&args.admin)?;
        if let (Some(id), Some(route)) = (&args.postmortem, &args.route) {
            let history: wire::History = remote.get(&format!("{}/history", route_path(route)))?;
            return postmortem::postmortem(route, &history, id).map_err(|known| no_run(route, id, &known));
        }
        let names = match &args.route {
            Some(route) => vec![route.clone()],
            None => {
                let routes: wire::Routes = remote.get("/api/v1/routes")?;
                routes.routes.into_iter().map(|route| route.name).collect()
            }
        };
        let mut all = wire::History::default();
        let mut figures = Vec::new();
        for name in names {
            let one: wire::History = remote.get(&format!("{}/history", route_path(&name)))?;
            // Figures of several routes have no sum.
            all.dora = one.dora.filter(|_| args.route.is_some());
            figures.extend(one.dora.filter(|_| !one.records.is_empty()).map(|dora| (name, dora)));
            all.records.extend(one.records);
        }
        in_order(&mut all.records);
        if args.admin.json {
            return pretty(&all);
        }
        let figures = figures.iter().map(|(route, dora)| rollout_text::dora(route, dora));
        Ok(rollout_text::history(&all.records) + &figures.collect::<String>())
    };
    finish(shown())
}

/// Records of several routes by their moments; those of one stay in the order of their numbers.
fn in_order(records: &mut [wire::Record]) {
    if records.iter().any(|one| records.first().is_some_and(|first| first.route != one.route)) {
        records.sort_by_cached_key(|one| one.at.parse::<jiff::Timestamp>().unwrap_or_default());
    }
}

fn no_run(route: &str, id: &str, known: &[String]) -> Failed {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failed(Exit::Refused, format!("route `{route}` has no run `{id}`; known: {known}"))
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Promoted,
    PutBack,
}

/// Whether a rollout has come to an end that the caller waits for. `seen`: the version was looked at
/// before.
fn ended(rollout: &wire::Rollout, version: Option<&str>, seen: bool) -> Option<Ended> {
    if version.is_some_and(|version| version != rollout.version) {
        // Another took its place; before it was there, it may still come.
        return seen.then_some(Ended::PutBack);
    }
    match rollout.state.as_str() {
        "PROMOTED" | "FINISHED" => Some(Ended::Promoted),
        "REVERTED" | "ABORTED" => Some(Ended::PutBack),
        "SUPERSEDED" if rollout.next.as_ref() != Some(&rollout.version) => Some(Ended::PutBack),
        _ => None,
    }
}

fn wait(args: &WaitArgs) -> Exit {
    let remote = match Remote::open(&args.admin) {
        Ok(remote) => remote,
        Err(failed) => return finish(Err(failed)),
    };
    let (begun, path) = (Instant::now(), route_path(&args.route));
    let until = begun + args.timeout;
    let mut version = args.version.clone();
    let mut last: Option<wire::Rollout> = None;
    loop {
        match remote.get::<wire::Route>(&path) {
            Ok(route) => match route.rollout {
                Some(rollout) => {
                    let seen = last.as_ref().is_some_and(|last| Some(&last.version) == version.as_ref());
                    if let Some(ended) = ended(&rollout, version.as_deref(), seen) {
                        return tell(args, &as_ended(rollout, last, version.as_deref()), Some(ended));
                    }
                    version.get_or_insert_with(|| rollout.version.clone());
                    last = Some(rollout);
                }
                None if version.is_none() => {
                    let why = format!("route `{}` has no rollout", args.route);
                    return finish(Err(Failed(Exit::Refused, why)));
                }
                None if last.is_none() && begun.elapsed() >= LOADED.min(args.timeout) => {
                    let version = version.unwrap_or_default();
                    return finish(Err(no_rollout(
                        &args.route,
                        unseen(&remote, args, &version, &wire::Rollout::default()),
                    )));
                }
                None => {}
            },
            // A proxy that restarts in between is waited for.
            Err(Failed(Exit::Usage, _)) if last.is_some() => {}
            Err(failed) => return finish(Err(failed)),
        }
        if Instant::now() >= until {
            let last = last.unwrap_or_default();
            return match version.filter(|version| *version != last.version) {
                Some(version) => finish(Err(unseen(&remote, args, &version, &last))),
                None => tell(args, &last, None),
            };
        }
        std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
    }
}

/// The rollout that ended: when another took its place, as it was before, with that for a reason.
fn as_ended(now: wire::Rollout, last: Option<wire::Rollout>, version: Option<&str>) -> wire::Rollout {
    match last.filter(|last| version.is_some_and(|version| version != now.version && version == last.version))
    {
        Some(last) => wire::Rollout {
            state: "SUPERSEDED".to_owned(),
            reason: format!("{} took its place", now.version),
            waiting_for: Vec::new(),
            eta: None,
            ..last
        },
        None => now,
    }
}

/// The same where there is nothing that a version could come up in.
fn no_rollout(route: &str, Failed(exit, why): Failed) -> Failed {
    Failed(exit, format!("route `{}` has no rollout: {why}", clean(route)))
}

/// Why a version was never there: the file was refused, it has another, or it was put back before.
fn unseen(remote: &Remote, args: &WaitArgs, version: &str, last: &wire::Rollout) -> Failed {
    let history: wire::History =
        remote.get(&format!("{}/history", route_path(&args.route))).unwrap_or_default();
    let status: wire::Status = remote.get("/api/v1/status").unwrap_or_default();
    missed(version, last, &history.records, &status.config.last_reload)
}

fn missed(version: &str, last: &wire::Rollout, records: &[wire::Record], reload: &wire::Load) -> Failed {
    let before = records.iter().rev().find(|record| record.version == version);
    if let Some(end) = before.filter(|end| ["REVERTED", "ABORTED", "SUPERSEDED"].contains(&&*end.to)) {
        let why = format!("{version} is {} since {}: {}", end.to, end.at, end.reason);
        return Failed(Exit::PutBack, clean(&why));
    }
    let has = if last.version.is_empty() { "no version" } else { &*last.version };
    let mut why = clean(&format!("the proxy never saw version {version}; the file has {has}"));
    // Before the first reload there was none that could have been refused.
    if !reload.ok && reload.at_millis > 0 {
        why.push_str("\nthe last reload was refused, and the old configuration is in force:");
        for finding in &reload.diagnostics {
            why.push_str("\n  ");
            why.push_str(&clean(&finding.to_string()));
        }
    }
    Failed(Exit::Undecided, why)
}

/// Prints the evidence; the exit code says how it ended.
fn tell(args: &WaitArgs, rollout: &wire::Rollout, ended: Option<Ended>) -> Exit {
    let word = match ended {
        Some(_) => rollout.state.clone(),
        None => format!("undecided after {}", humantime::format_duration(args.timeout)),
    };
    let shown = if args.admin.json {
        pretty(rollout)
    } else if args.markdown {
        Ok(rollout_text::markdown(&args.route, rollout, &word))
    } else {
        Ok(rollout_text::verdict(&args.route, rollout, &word))
    };
    if let Err(exit) = say(shown) {
        return exit;
    }
    match ended {
        Some(Ended::Promoted) => Exit::Ok,
        Some(Ended::PutBack) => Exit::PutBack,
        None => Exit::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Rollout {
        #[command(subcommand)]
        command: RolloutCommand,
    }

    fn parsed(line: &str) -> Result<RolloutCommand, clap::Error> {
        Rollout::try_parse_from(line.split(' ')).map(|parsed| parsed.command)
    }

    #[test]
    fn verbs_take_a_version_a_reason_and_notes() {
        let line =
            "rollout retry all --version v2 --reason fixed --annotate build=42 --annotate a=b=c --force";
        let Ok(RolloutCommand::Retry(args)) = parsed(line) else { panic!("{line}") };
        let notes = [("build", "42"), ("a", "b=c")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!((args.version.as_deref(), &*args.why.reason, args.force), (Some("v2"), "fixed", true));
        assert_eq!(args.why.annotate, notes);
        assert!(matches!(parsed("rollout rollback all"), Ok(RolloutCommand::Abort(_))));
        let Ok(RolloutCommand::Wait(args)) = parsed("rollout wait all --timeout 90s") else { panic!("wait") };
        assert_eq!(args.timeout, Duration::from_secs(90));
        for wrong in
            ["rollout", "rollout pause", "rollout pause all --annotate x", "rollout wait all --timeout 5"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_version_that_was_never_seen_is_told_apart_from_an_undecided_one() {
        let file = wire::Rollout { version: "v1".to_owned(), ..wire::Rollout::default() };
        let record = |to: &str| wire::Record {
            version: "v2".to_owned(),
            to: to.to_owned(),
            at: "2026-01-01T00:00:00Z".to_owned(),
            reason: "errors".to_owned(),
            ..wire::Record::default()
        };
        let refused = wire::Load { at_millis: 1, ok: false, ..wire::Load::default() };
        let fine = wire::Load { ok: true, ..refused.clone() };
        let none = wire::Rollout::default();
        let rows = [
            (&file, vec![], &fine, Exit::Undecided, "never saw version v2; the file has v1"),
            (&none, vec![], &fine, Exit::Undecided, "the file has no version"),
            (&file, vec![], &refused, Exit::Undecided, "the last reload was refused"),
            (&file, vec![record("REVERTED")], &fine, Exit::PutBack, "v2 is REVERTED since 2026"),
            (&file, vec![record("REVERTED"), record("STAGE")], &fine, Exit::Undecided, "never saw"),
        ];
        for (last, records, reload, exit, part) in rows {
            let Failed(code, why) = missed("v2", last, &records, reload);
            assert!(code == exit && why.contains(part), "{part}: {why}");
        }
    }

    #[test]
    fn what_was_put_back_before_is_so_without_a_rollout_too() {
        let back = || Failed(Exit::PutBack, "v2 is REVERTED".to_owned());
        let Failed(exit, why) = no_rollout("all", back());
        assert_eq!((exit, &*why), (Exit::PutBack, "route `all` has no rollout: v2 is REVERTED"));
    }

    #[test]
    fn waiting_ends_with_the_version_it_was_about() {
        let rollout = |version: &str, state: &str| wire::Rollout {
            version: version.to_owned(),
            state: state.to_owned(),
            ..wire::Rollout::default()
        };
        let (up, back) = (Some(Ended::Promoted), Some(Ended::PutBack));
        let rows = [
            ("v2", "STAGE", None, false, None),
            ("v2", "PAUSED", Some("v2"), true, None),
            ("v2", "REVERTING", Some("v2"), true, None),
            ("v2", "PROMOTED", None, false, up),
            ("v2", "FINISHED", Some("v2"), true, up),
            ("v2", "REVERTED", Some("v2"), false, back),
            ("v2", "ABORTED", None, false, back),
            ("v2", "SUPERSEDED", None, true, back),
            ("v1", "PROMOTED", Some("v2"), false, None),
            ("v3", "STAGE", Some("v2"), true, back),
        ];
        for (version, state, wanted, seen, expected) in rows {
            assert_eq!(
                ended(&rollout(version, state), wanted, seen),
                expected,
                "{version} {state} {wanted:?}"
            );
        }
        let last = Some(rollout("v2", "STAGE"));
        let over = as_ended(rollout("v3", "PENDING"), last, Some("v2"));
        assert_eq!((&*over.version, &*over.state, &*over.reason), ("v2", "SUPERSEDED", "v3 took its place"));
        let again = wire::Rollout { next: Some("v2".to_owned()), ..rollout("v2", "SUPERSEDED") };
        assert_eq!(ended(&again, None, true), None, "it begins again");
    }

    #[test]
    fn records_are_in_the_order_of_their_moments_and_numbers() {
        let record = |route: &str, at: &str| wire::Record {
            route: route.to_owned(),
            at: at.to_owned(),
            ..wire::Record::default()
        };
        let ordered = |rows: &[(&str, &str)]| -> Vec<String> {
            let mut records: Vec<_> = rows.iter().map(|(route, at)| record(route, at)).collect();
            in_order(&mut records);
            records.into_iter().map(|one| one.at).collect()
        };
        let (early, late) = ("2026-01-01T07:46:13.2Z", "2026-01-01T07:46:13.207Z");
        assert_eq!(ordered(&[("a", late), ("b", early)]), [early, late]);
        assert_eq!(ordered(&[("a", late), ("a", early)]), [late, early], "a clock that stepped back");
    }
}
