// One route: what is configured against what is observed, how each arm does, and everything that
// belongs to it. Built once, then only changed, so that focus and selections survive the ticks.

import { h, say, mark, wide, keyed, redraw } from "./dom.js";
import { dress, dressed, key, shape } from "./arms.js";
import { Chart, SPAN } from "./chart.js";
import { name, percent, millis, rate, whole, span, clock, state } from "./words.js";
import { RolloutPanel } from "./rollout.js";
import { offered } from "./verbs.js";
import { turnLabel, turns } from "./upstreams.js";
import { outageOf } from "./outages.js";

// Points of one arm that are kept.
const POINTS = 190;
// A point that is still being filled says nothing before this.
const FIRST_MILLIS = 900;

let cards = 0;

export class RouteCard {
  constructor(route, doing) {
    this.id = `route-${cards += 1}`;
    this.doing = doing;
    this.past = new Map();
    this.running = new Map();
    this.title = h("h2", { id: this.id }, name(route));
    this.chip = h("span", { class: "chip", hidden: true });
    this.generation = h("span", { class: "generation" });
    this.actions = h("div", { class: "actions", role: "group", "aria-label": `What to do with ${name(route)}` });
    this.configured = bar("Configured");
    this.observed = bar("Observed");
    this.rows = h("tbody");
    this.split = h("section", { class: "split", "aria-label": "Split" }, this.configured.element, this.observed.element,
      h("div", { class: "scroll" }, h("table", { class: "arms" },
        h("caption", { class: "sr" }, "Arms, the last minute"),
        h("thead", {}, h("tr", {}, ...["Arm", "Configured", "Observed", "Requests/s", "Errors", "p50", "p95", "p99", "In flight", "Endpoints"].map((text) => h("th", { scope: "col" }, text)))),
        this.rows)));
    this.charts = [
      new Chart("Share", percent, { least: 0.05, most: 1, note: "dashed: configured" }),
      new Chart("Rate", (value) => `${rate(value)}/s`, { least: 1 }),
      new Chart("Errors", percent, { least: 0.01, most: 1 }),
      new Chart("Duration", millis, { least: 1, note: "p95, thin: p50" }),
    ];
    this.figures = h("section", { class: "charts", "aria-label": "The last 15 minutes" }, ...this.charts.map((chart) => chart.element));
    this.rollout = new RolloutPanel();
    this.more = h("div", { class: "more" });
    this.plain = h("p", { class: "empty", hidden: true }, "No arms: a filter answers here.");
    this.element = h("article", { class: "route", "aria-labelledby": this.id },
      h("header", {}, this.title, this.chip, this.generation, this.actions),
      this.plain, this.split, this.rollout.element, this.figures, this.more);
  }

  // --- what is known ---

  // The past as the server kept it; what came meanwhile is newer and stays.
  recall(arms) {
    for (const [arm, points] of Object.entries(arms)) {
      const known = this.past.get(arm) ?? [];
      const first = known[0]?.atMillis ?? Infinity;
      this.past.set(arm, [...points.filter((point) => point.atMillis < first), ...known]);
    }
  }

  note(points) {
    for (const [arm, [whole, running]] of Object.entries(points ?? {}).map(([arm, list]) => [arm, list.length > 1 ? list : [null, list[0]]])) {
      const known = this.past.get(arm) ?? [];
      if (whole && whole.atMillis > (known.at(-1)?.atMillis ?? 0)) known.push(whole);
      if (known.length > POINTS) known.splice(0, known.length - POINTS);
      this.past.set(arm, known);
      this.running.set(arm, running);
    }
  }

  pointsOf(arm, now) {
    const known = (this.past.get(arm) ?? []).filter((point) => point.atMillis > now - SPAN);
    const running = this.running.get(arm);
    const fresh = running && running.millis >= FIRST_MILLIS && running.atMillis > (known.at(-1)?.atMillis ?? 0);
    return fresh && (running.requests > 0 || known.length > 0) ? [...known, running] : known;
  }

  // --- what is shown ---

  update(route, points, now, outages) {
    this.route = route;
    this.note(points);
    const [rollout, pair] = [route.rollout, route.blueGreen];
    const shown = rollout ? state(rollout.state) : pair ? state(pair.state) : null;
    this.chip.hidden = !shown;
    if (shown) {
      say(this.chip, `${shown.shape} ${shown.text}${rollout ? ` ${name(rollout.version)}` : ""}`);
      mark(this.chip, "data-tone", shown.tone);
    }
    say(this.generation, `generation ${route.generation}`);
    this.drawActions(route);
    const empty = route.arms.length === 0;
    for (const part of [this.split, this.figures]) part.hidden = empty;
    this.plain.hidden = !empty;
    if (!empty) this.drawArms(route, now, outages);
    this.rollout.update(rollout);
    this.drawMore(route);
  }

  drawActions(route) {
    keyed(this.actions, offered(route), (one) => one.verb,
      (one) => h("button", { type: "button", class: `does ${one.tone ?? ""}`, onclick: () => this.doing.route(this.route, one.verb) }, one.label),
      (button, one) => say(button, one.label));
  }

  drawArms(route, now, outages) {
    const total = route.arms.reduce((sum, arm) => sum + arm.weight, 0);
    const arms = dressed(route.arms).map((arm) => ({ ...arm, share: total ? arm.weight / total : 0, points: this.pointsOf(arm.name, now), outage: outageOf(arm.upstream, outages) }));
    fillBar(this.configured, arms, (arm) => arm.share);
    fillBar(this.observed, arms, (arm) => arm.observed);
    keyed(this.rows, arms, (arm) => arm.name, (arm) => armRow(arm, this.doing), updateArm);
    this.drawCharts(route, arms, now);
  }

  drawCharts(route, arms, now) {
    const [share, rates, errors, durations] = this.charts;
    const totals = new Map();
    for (const arm of arms) for (const point of arm.points) totals.set(point.atMillis, (totals.get(point.atMillis) ?? 0) + point.requests);
    const line = (arm, value, more) => ({ arm: arm.name, index: arm.index, hue: arm.hue, points: arm.points.map((point) => [point.atMillis, value(point)]), ...more });
    // Of two arms one share says both.
    const from = route.rollout?.from ?? "stable";
    const shown = arms.length === 2 && arms.some((arm) => arm.name === from) ? arms.filter((arm) => arm.name !== from) : arms;
    share.draw(shown.flatMap((arm) => [
      line(arm, (point) => point.share, { dashed: true }),
      line(arm, (point) => (totals.get(point.atMillis) ? point.requests / totals.get(point.atMillis) : null)),
    ]), now);
    rates.draw(arms.map((arm) => line(arm, (point) => point.requests / (point.millis / 1000))), now);
    errors.draw(arms.map((arm) => line(arm, (point) => (point.requests ? point.errors / point.requests : null))), now);
    durations.draw(arms.flatMap((arm) => [line(arm, (point) => point.p50Ms, { faint: true }), line(arm, (point) => point.p95Ms)]), now);
  }

  noteDifferences(found) {
    this.differences = found;
    if (this.route) this.drawMore(this.route);
  }

  drawMore(route) {
    redraw(this.more, [route.slo, route.blueGreen, route.mirrors, this.differences, route.overrides], () => [
      route.blueGreen && slots(route.blueGreen),
      route.slo?.length && objectives(route.slo),
      route.mirrors?.length && mirrors(route.mirrors, this.differences),
      route.overrides?.length && overrides(route.overrides),
    ]);
  }
}

// --- split ---

function bar(label) {
  const track = h("div", { class: "bar", "data-kind": label.toLowerCase() });
  return { track, element: h("div", { class: "bar-row" }, h("span", { class: "bar-label" }, label), track) };
}

function fillBar({ track }, arms, share) {
  keyed(track, arms, (arm) => arm.name,
    () => h("div", { class: "piece" }, h("span")),
    (piece, arm) => {
      const value = share(arm) ?? 0;
      mark(piece, "data-arm", arm.hue);
      wide(piece, value);
      piece.hidden = value === 0;
      mark(piece, "title", `${name(arm.name)} ${percent(value)}`);
      say(piece.firstChild, label(arm, value, track.clientWidth));
    });
  const nothing = arms.every((arm) => !share(arm));
  mark(track, "data-empty", nothing ? "nothing in the last minute" : null);
}

// Width of a letter, and of the room around a label, in pixels; about right is right enough.
const [LETTER, ROOM] = [8.6, 16];

// What fits into a piece: half a name helps nobody, and the table says it in full.
function label(arm, share, width) {
  const texts = [`${shape(arm.index)} ${name(arm.name)} ${percent(share)}`, percent(share)];
  return texts.find((text) => text.length * LETTER + ROOM <= share * width) ?? "";
}

const COLUMNS = ["Configured", "Observed", "Requests/s", "Errors", "p50", "p95", "p99", "In flight"];

function armRow(arm, doing) {
  const cells = COLUMNS.map((label) => h("td", { "data-label": label }));
  const row = h("tr", {},
    h("th", { scope: "row" }, key(arm), h("span", { class: "arm-name" }, name(arm.name)), h("span", { class: "chip arm-out", "data-tone": "bad", hidden: true }), h("small", { class: "arm-more" }), h("span", { class: "turns" })),
    ...cells,
    h("td", { "data-label": "Endpoints", class: "endpoints" }, h("ul")));
  row.turn = doing.breaker;
  return row;
}

function updateArm(row, arm) {
  const running = arm.points.at(-1);
  const perSecond = running ? running.requests / (running.millis / 1000) : null;
  const errors = arm.requests ? arm.errors / arm.requests : null;
  const values = [
    percent(arm.share), percent(arm.observed), rate(perSecond),
    errors === null ? "–" : arm.errors === 0 ? "0" : `${percent(errors)} (${whole(arm.errors)})`,
    millis(arm.p50Ms), millis(arm.p95Ms), millis(arm.p99Ms), whole(arm.inFlight),
  ];
  values.forEach((text, at) => say(row.cells[at + 1], text));
  dress(row.cells[0].querySelector(".key"), arm);
  mark(row.cells[4], "data-bad", arm.errors > 0);
  const out = row.cells[0].querySelector(".arm-out");
  out.hidden = !arm.outage;
  say(out, arm.outage ? `${arm.outage.shape} ${arm.outage.badge}` : "");
  mark(out, "data-tone", arm.outage?.tone ?? null);
  const more = [arm.upstream !== arm.name && `→ ${name(arm.upstream)}`,
    arm.source === "operator" && "set by hand", arm.source === "rollout" && "by the rollout",
    arm.pinned !== undefined && `${whole(arm.pinned)} pinned`,
    arm.drain && (arm.drain.state === "drained" ? "drained" : "draining")].filter(Boolean);
  say(row.cells[0].querySelector(".arm-more"), more.join(", "));
  keyed(row.cells[0].querySelector(".turns"), turns(arm.breaker), (turn) => turn,
    (turn) => h("button", { type: "button", class: "does tiny", onclick: () => row.turn(arm.upstream, turn) }, h("span"), h("span", { class: "sr" }, ` ${name(arm.upstream)}`)),
    (button, turn) => say(button.firstChild, turnLabel(turn, arm.breaker)));
  keyed(row.cells[9].firstChild, arm.endpoints, (one) => one.address, () => h("li"), (item, one) => {
    mark(item, "data-tone", one.healthy ? "good" : "bad");
    say(item, `${one.healthy ? "✓" : "✕ down:"} ${name(one.address.replace(/^http:\/\//, ""))}`);
  });
}

// --- the rest ---

function panel(title, ...children) {
  return h("section", { class: "panel" }, h("h3", {}, title), ...children);
}

function slots(pair) {
  const shown = state(pair.state);
  return panel("Blue and green",
    h("p", {}, h("span", { class: "chip", "data-tone": shown.tone }, `${shown.shape} ${shown.text}`), ` ${name(pair.active)} serves, ${name(pair.idle)} is idle.`),
    pair.reason && h("p", { class: "quote" }, pair.reason),
    pair.watchedFor !== undefined && h("p", {}, `Watched for another ${span(pair.watchedFor)}.`),
    pair.waitingFor?.length > 0 && h("div", {}, h("p", { class: "small" }, "It waits for"), h("ul", { class: "waits" }, ...pair.waitingFor.map((text) => h("li", {}, text)))),
    pair.draining > 0 && h("p", {}, `${whole(pair.draining)} exchanges of ${name(pair.idle)} are waited for.`));
}

function objectives(list) {
  return panel("Error budget", h("ul", { class: "budgets" }, ...list.map((one) => {
    const left = one.budgetRemaining;
    const tone = one.alarm || left < 0 ? "bad" : left < 0.25 ? "warn" : "good";
    const track = h("div", { class: "meter", "data-tone": tone }, h("div"));
    wide(track.firstChild, Math.max(0, left));
    const text = left < 0 ? `overspent by ${percent(-left)}` : `${percent(left)} left`;
    return h("li", {},
      h("div", { class: "line" }, h("strong", {}, `${name(one.objective)} ${percent(one.target)}`), h("span", {}, `${text} of ${one.window}`)),
      track,
      h("small", {}, `Burn ${one.burn.map((burn) => `${burn.rate.toFixed(1)}× over ${burn.window}`).join(", ")}`),
      one.alarm && h("p", { class: "alarm" }, `▲ Burning ${one.alarm}`),
      one.frozen && h("p", { class: "alarm" }, "▲ Frozen: no weight of a rollout rises"));
  })));
}

const PLACES = 6;

function mirrors(list, found) {
  return panel("Mirror", ...list.map((one) => {
    const dropped = Object.values(one.dropped ?? {}).reduce((sum, count) => sum + count, 0);
    return h("p", {}, `${percent(one.percent / 100)} copied to ${name(one.to)}: ${whole(one.sent)} sent, ${whole(dropped)} dropped, p99 ${millis(one.p99Ms)}.`);
  }), ...(found?.mirrors ?? []).map(compared));
}

function compared(mirror) {
  const { bothGood, primaryBad, shadowBad, bothBad } = mirror.failures;
  const places = mirror.differences.slice(0, PLACES);
  return h("div", { class: "compared" },
    h("p", {}, `${whole(mirror.pairs)} pairs: ${whole(bothGood)} both good, ${whole(primaryBad)} only the primary bad, ${whole(shadowBad)} only ${name(mirror.to)} bad, ${whole(bothBad)} both bad.`),
    places.length > 0 && h("div", { class: "scroll" }, h("table", { class: "places" },
      h("caption", {}, "Where answers differ"),
      h("thead", {}, h("tr", {}, ...["Standing", "Kind", "Where", "Pairs", "Noise"].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, ...places.map((one) => h("tr", {},
        h("td", { "data-tone": one.standing === "confirmed" ? "bad" : "calm" }, `${one.standing === "confirmed" ? "✕" : "…"} ${one.standing}`),
        h("td", {}, one.kind), h("td", {}, h("code", {}, name(one.path) || "–")), h("td", {}, percent(one.share)), h("td", {}, percent(one.noiseShare))))))),
    mirror.samples.length > 0 && h("details", {}, h("summary", {}, "Examples"), h("ul", { class: "samples" }, ...mirror.samples.slice(0, PLACES).map((one) =>
      h("li", {}, h("code", {}, `${name(one.method)} ${name(one.target)}`), ` ${one.kind} ${name(one.path)}: `, h("code", {}, name(one.primary)), " → ", h("code", {}, name(one.shadow)), h("small", {}, ` ${clock(new Date(one.atMillis))}`))))));
}

function overrides(list) {
  return panel("Overrides", h("ul", { class: "overrides" }, ...list.map((one) => h("li", {},
    h("strong", {}, name(one.name)), ` → ${one.arm ? name(one.arm) : "a split"}, ${one.state}; ${whole(one.hits)} requests, ${whole(one.lastMinute)} in the last minute`,
    one.owner && ` (${name(one.owner)})`, one.stale && h("em", {}, `, ${one.stale}`)))));
}
