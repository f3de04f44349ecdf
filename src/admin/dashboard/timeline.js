// What happened: decisions of rollouts and flips, and what was done by hand or to the file. Who,
// what, why, before and after; the latest first. It is told anew with each connection, so every
// entry has a key and is kept once.

import { h, keyed } from "./dom.js";
import { clock, name, percent, state } from "./words.js";

// Entries kept.
const MOST = 120;

// States of records that are about weights by hand.
const BY_HAND = ["BY_HAND"];

const WHAT = {
  start: "Started", reload: "Configuration loaded", "reload-refused": "Configuration refused",
  "breaker-open": "Breaker opened", "breaker-close": "Breaker closed", "config-rollback": "Earlier configuration brought back",
  weights: "Weights set", "weights-reset": "Weights back to the file's", "weights-ended": "Weights by hand ended",
  drain: "Arm drained", "slots-ended": "Slots ended", "not-heard": "A notice was not heard",
};

export class Timeline {
  constructor(list, none, announce) {
    Object.assign(this, { list, none, announce });
    this.entries = new Map();
    // What happened before the page was opened is not news.
    this.opened = Date.now();
  }

  transition(record) {
    const shown = state(record.to);
    if (BY_HAND.some((one) => [record.from, record.to].includes(one))) return this.byHand(record);
    this.add(`t ${record.route} ${record.id} ${record.at} ${record.from} ${record.to} ${record.code}`, {
      at: new Date(record.at), route: record.route, tone: shown.tone, shape: shown.shape,
      what: record.from === record.to ? shown.text : `${state(record.from).text} → ${shown.text}`,
      version: record.version, who: record.actor, why: record.reason,
      change: record.weights ? shifted(record.weights) : record.before !== record.after && share(record.before, record.after),
      evidence: record.evidence && record.samples && `${record.evidence.verdict}, ${record.samples.canary.e} bad of ${record.samples.canary.n}`,
    });
  }

  // Weights that a person set, or gave back.
  byHand(record) {
    this.add(`h ${record.route} ${record.at} ${record.code}`, {
      at: new Date(record.at), route: record.route, tone: "calm", shape: "✎", what: WHAT[record.code] ?? record.code,
      version: "", who: record.actor, why: record.reason, change: record.weights && shifted(record.weights), evidence: null,
    });
  }

  act(act) {
    const refused = ["reload-refused", "not-heard", "breaker-open"].includes(act.what);
    this.add(`a ${act.atMillis} ${act.number}`, {
      at: new Date(act.atMillis), route: act.route, tone: refused ? "bad" : "calm", shape: refused ? "✕" : "•",
      what: WHAT[act.what] ?? act.what.replaceAll("-", " "), version: act.after?.upstream ?? "", who: act.actor,
      // What refuses a file is a text, and no change.
      ...(act.what === "reload-refused" ? { why: [act.reason, change(act)].filter(Boolean).join(": "), change: "" } : { why: act.reason, change: change(act) }),
      evidence: null,
    });
  }

  add(key, entry) {
    if (this.entries.has(key)) return;
    this.entries.set(key, { key, ...entry });
    if (entry.at.getTime() >= this.opened - 1000) {
      this.announce(`${entry.route ? `${name(entry.route)}: ` : ""}${entry.what}. ${entry.why}`);
    }
    const kept = [...this.entries.values()].sort((one, other) => other.at - one.at).slice(0, MOST);
    this.entries = new Map(kept.map((one) => [one.key, one]));
    this.stale = true;
  }

  draw() {
    if (!this.stale) return;
    this.stale = false;
    this.none.hidden = this.entries.size > 0;
    keyed(this.list, [...this.entries.values()], (one) => one.key, item, () => {});
  }
}

function item(one) {
  return h("li", { "data-tone": one.tone },
    h("span", { class: "glyph", "aria-hidden": "true" }, one.shape),
    h("div", {},
      h("p", { class: "what" }, h("strong", {}, one.what), one.version && ` ${name(one.version)}`),
      one.change && h("p", { class: "change" }, one.change),
      one.why && h("p", { class: "why" }, name(one.why)),
      one.evidence && h("p", { class: "small" }, one.evidence),
      h("p", { class: "small" }, h("time", { datetime: one.at.toISOString() }, clock(one.at)), ` · ${name(one.who)}`, one.route && ` · ${name(one.route)}`)));
}

const step = (value) => (value === null || value === undefined ? "the file's split" : percent(value / 100));

function share(before, after) {
  return `${step(before)} → ${step(after)}`;
}

// Every arm's weight before and after; nothing where none moved.
function shifted({ before, after }) {
  const text = (weights) => Object.entries(weights).map(([arm, weight]) => `${name(arm)} ${weight}`).join(", ");
  return text(before) !== text(after) && `${text(before)} → ${text(after)}`;
}

// What a breaker was and is, and by what it turned.
function breaker({ before, after }) {
  const why = { error_rate: `${after.failed} of ${after.attempts} attempts failed`, half_open: "a request of its trial failed" }[after.why];
  return [before?.breaker && `${before.breaker} → ${after.breaker}`, why].filter(Boolean).join(": ");
}

// Weights are maps, a load is a list of sentences.
function change(act) {
  if (act.after?.breaker) return breaker(act);
  const map = (value) => value && typeof value === "object" && !Array.isArray(value);
  const text = (value) => Object.entries(value).map(([arm, weight]) => `${name(arm)} ${typeof weight === "object" ? JSON.stringify(weight) : weight}`).join(", ");
  if (map(act.before) && map(act.after)) return `${text(act.before)} → ${text(act.after)}`;
  if (Array.isArray(act.after) && act.after.length > 0) return act.after.slice(0, 3).map(name).join("; ") + (act.after.length > 3 ? ` and ${act.after.length - 3} more` : "");
  return "";
}
