// A rollout: where it is on its way, what speaks against it, and what it waits for.

import { h, redraw, wide } from "./dom.js";
import { name, percent, rate, span, state, times, verdict, whole } from "./words.js";

// Evidence is drawn to this many times its threshold, both as logarithms.
const BEYOND = 1.25;
// Kinds of failures shown.
const FAILING = 4;

const OVER = ["PROMOTED", "FINISHED", "REVERTED", "ABORTED", "SUPERSEDED", "REVERTING"];
const BACK = ["REVERTED", "ABORTED", "REVERTING"];

export class RolloutPanel {
  constructor() {
    this.track = h("ol", { class: "track" });
    this.facts = h("div", { class: "facts" });
    this.element = h("section", { class: "rollout", "aria-label": "Rollout", hidden: true }, this.track, this.facts);
  }

  update(rollout) {
    this.element.hidden = !rollout;
    if (!rollout) return;
    redraw(this.track, [rollout.steps, rollout.step, rollout.state, rollout.to, rollout.back, rollout.bakeShare], () => stops(rollout));
    // Seconds of its age change every tick and are shown in no fact.
    redraw(this.facts, { ...rollout, durationSeconds: 0, endedSeconds: 0 }, () => [h("div", { class: "beside" }, decision(rollout), failing(rollout), checks(rollout)), evidence(rollout)]);
  }
}

// --- the way ---

function stops(rollout) {
  const list = rollout.steps.map((weight, at) => ({ text: weight < 100 ? `${weight} %` : `bake ${percent(rollout.bakeShare)}`, at: where(rollout, at) }));
  const done = ["PROMOTED", "FINISHED"].includes(rollout.state);
  list.push({ text: rollout.back ? "back" : "promoted", at: done ? "passed" : "ahead", end: true });
  return list.map((stop) => h("li", { "data-at": stop.at, "aria-current": stop.at === "here" ? "step" : null },
    h("span", { class: "stop", "aria-hidden": "true" }, { passed: "✓", here: rollout.state === "PAUSED" ? "❚❚" : "", stopped: "↩", ahead: "" }[stop.at]),
    h("span", { class: "stop-text" }, stop.text),
    h("span", { class: "sr" }, { passed: ", passed", here: ", here now", stopped: ", taken back here", ahead: ", ahead" }[stop.at])));
}

function where(rollout, at) {
  if (["PROMOTED", "FINISHED"].includes(rollout.state)) return "passed";
  if (BACK.includes(rollout.state) && at === rollout.step) return "stopped";
  if (["IDLE", "PENDING", "SUPERSEDED"].includes(rollout.state)) return "ahead";
  if (at < rollout.step) return "passed";
  return at === rollout.step && !OVER.includes(rollout.state) ? "here" : "ahead";
}

// --- what comes next ---

function next(rollout) {
  const { step, steps, state: at } = rollout;
  const weight = steps[step + 1];
  if (at === "PAUSED") return "Paused by a person: nothing moves until it is resumed.";
  if (at === "IDLE") return "Waits to be started.";
  if (at === "REVERTING") return "All traffic goes back.";
  if (["PROMOTED", ...BACK].includes(at) && (rollout.share ?? null) === null) return "Over: weights set by hand rule.";
  if (BACK.includes(at)) return `Over: everybody is on ${name(rollout.from)} again.`;
  if (at === "PROMOTED") return `Over: everybody is on ${name(rollout.to)}.`;
  if (OVER.includes(at)) return rollout.next ? `Over; ${name(rollout.next)} comes next.` : "Over: nothing is decided any more.";
  const soon = rollout.eta === null || rollout.eta === undefined ? "" : rollout.eta < 1 ? ", any moment now" : `, in about ${span(rollout.eta)}`;
  if (at === "BAKE" || weight === undefined) return `Next: promote${soon}.`;
  return weight >= 100 ? `Next: bake at ${percent(rollout.bakeShare)}${soon}.` : `Next: ${weight} %${soon}.`;
}

function decision(rollout) {
  const waits = rollout.waitingFor ?? [];
  const share = rollout.share === null || rollout.share === undefined ? null : percent(rollout.share);
  return h("div", { class: "fact decision" },
    h("h3", {}, `${name(rollout.version)}: ${name(rollout.from)} → ${name(rollout.to)}`),
    h("p", { class: "reason" }, rollout.reason),
    h("p", { class: "next" }, next(rollout)),
    waits.length > 0 && h("div", {}, h("p", { class: "small" }, "It waits for"), h("ul", { class: "waits" }, ...waits.map((text) => h("li", {}, text)))),
    h("p", { class: "small" }, [share && `${share} of both arms`, rollout.confidence && `confidence ${rollout.confidence}`, `${rate(rollout.rate)} requests/s`].filter(Boolean).join(" · ")));
}

// --- evidence ---

// A bar on a logarithmic scale from 1 (nothing speaks against it) past the threshold.
function scale(log, threshold, small) {
  const share = (value) => Math.max(0, value) / (threshold * BEYOND);
  const tone = log >= threshold ? "bad" : log >= threshold / 2 ? "warn" : "calm";
  const track = h("div", { class: `scale${small ? " thin" : ""}`, "data-tone": tone, "aria-hidden": "true" }, h("b"), h("div"), h("i"));
  const [beyond, bar, mark] = track.children;
  beyond.style.left = `${share(threshold) * 100}%`;
  wide(bar, Math.max(share(log), log > 0 ? 0.005 : 0));
  mark.style.left = `${share(threshold) * 100}%`;
  return track;
}

function evidence(rollout) {
  const { evidence: known, samples } = rollout;
  const shown = rollout.verdict ? verdict(rollout.verdict) : null;
  const chip = shown && h("span", { class: "chip", "data-tone": shown.tone }, `${shown.shape} ${shown.text}`);
  const detectable = rollout.detectableRatio;
  return h("div", { class: "fact evidence" },
    h("h3", {}, "Evidence of harm", chip),
    known && known.threshold > 0 ? [
      h("p", { class: "evidence-text" }, `${times(known.log ?? 0)} of ${times(known.threshold)}`, h("small", {}, `how many times likelier this is if ${name(rollout.to)} is worse`)),
      scale(known.log ?? 0, known.threshold),
      h("div", { class: "scale-axis", "aria-hidden": "true" }, h("span", {}, "1 says nothing"), h("span", {}, `from ${times(known.threshold)} it goes back`)),
      ...byMetric(known),
    ] : h("p", { class: "small" }, known ? "The rule that spoke goes by no evidence: it is certain." : "Nothing was judged yet."),
    h("p", { class: "detectable" }, detectable ? `By now a regression of ${detectable.toFixed(detectable < 10 ? 1 : 0)}× would have shown.` : "No regression could be seen yet."),
    samples && h("dl", { class: "samples" }, ...["stable", "canary"].flatMap((arm) => [h("dt", {}, arm === "stable" ? name(rollout.from) : name(rollout.to)), h("dd", {}, `${whole(samples[arm].e)} bad of ${whole(samples[arm].n)}`)])));
}

// Metrics that speak against it have a bar; the others are only named.
function byMetric(known) {
  const unjudged = known.notJudged ?? [];
  const metrics = Object.entries(known.byMetric ?? {}).filter(([metric]) => !unjudged.includes(metric)).sort(([, one], [, other]) => other - one);
  const [loud, quiet] = [metrics.filter(([, log]) => log > 0), metrics.filter(([, log]) => log <= 0)];
  return [
    loud.length > 0 && h("ul", { class: "metrics" }, ...loud.map(([metric, log]) => h("li", {},
      h("span", {}, words(metric)), scale(log, known.threshold, true), h("span", { class: "number" }, times(log))))),
    unjudged.length > 0 && h("p", { class: "quiet-metrics" }, `Below 1 ms, not judged: ${unjudged.map(words).join(", ")}.`),
    quiet.length > 0 && h("p", { class: "quiet-metrics" }, `Nothing from ${quiet.map(([metric]) => words(metric)).join(", ")}.`),
  ];
}

const words = (metric) => metric.replace(/([A-Z])/g, " $1").toLowerCase();

// --- what fails, and numbers from outside ---

function failing(rollout) {
  const list = (rollout.failing ?? []).slice(0, FAILING);
  return list.length > 0 && h("div", { class: "fact" }, h("h3", {}, "What fails in this step"),
    h("ul", { class: "failing" }, ...list.map((one) => h("li", {},
      h("strong", {}, `${whole(one.count)}×`), ` ${one.arm === "canary" ? name(rollout.to) : name(rollout.from)}: ${one.status ?? one.cause ?? "failed"} on `, h("code", {}, `${name(one.method)} ${name(one.match)}`),
      one.endpoint && h("small", {}, ` ${name(one.endpoint)}`),
      one.requestIds.length > 0 && h("small", {}, ` e.g. ${name(one.requestIds[0])}`)))));
}

const CHECKS = { fine: ["✓", "good"], waiting: ["…", "calm"], silent: ["?", "warn"], failing: ["✕", "bad"] };

function checks(rollout) {
  const list = rollout.checks ?? [];
  return list.length > 0 && h("div", { class: "fact" }, h("h3", {}, "Numbers from outside"),
    h("ul", { class: "checks" }, ...list.map((one) => {
      const [shape, tone] = CHECKS[one.state] ?? ["•", "calm"];
      return h("li", { "data-tone": tone }, `${shape} ${name(one.name)}: ${one.value ?? "–"} (${one.state})`, one.why && h("small", {}, ` ${one.why}`));
    })));
}
