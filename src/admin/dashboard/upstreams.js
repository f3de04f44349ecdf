// The breaker of an upstream by hand: whose requests it stops, and who answers them meanwhile.

import { h } from "./dom.js";
import { dressed, key } from "./arms.js";
import { send } from "./stream.js";
import { name, percent } from "./words.js";

const WORDS = { closed: "closed", open: "open", half_open: "half open, on trial", held: "held open by hand" };

// What can be done to a breaker in a state.
export function turns(state) {
  if (state === undefined || state === null) return [];
  if (state === "closed") return ["open"];
  return state === "held" ? ["close"] : ["open", "close"];
}

export const turnLabel = (turn, state) => (turn === "close" ? "Close breaker…" : state === "closed" ? "Open breaker…" : "Hold open…");

// `find` gives the tick as it is now.
export function breakerQuestion(upstream, turn, find) {
  const seen = find();
  const opens = turn === "open";
  const question = {
    title: opens ? `Open the breaker: ${name(upstream)}` : `Close the breaker: ${name(upstream)}`,
    confirm: opens ? "Open it" : "Close it",
    tone: opens ? "danger" : "primary",
    safe: opens,
    generation: seen.generation,
    note: opens ? "It stays open until it is closed here or by `switchback breaker close`, over reloads, not over a restart." : "What was counted before is forgotten; it opens again by itself when its requests fail.",
    preview: () => ({ shown: users(find(), upstream).map(({ route, arm }) => [route.name, arm.name, arm.observed, arm.whenOpen, arm.breaker]), draw: () => moves(find(), upstream, opens) }),
    now() {
      const tick = find();
      const state = stateOf(tick, upstream);
      if (state === undefined) return { changed: "This upstream, or its breaker, is gone." };
      if (opens ? state === "held" : state === "closed") return { changed: `It is ${WORDS[state]} already. Nothing was done.` };
      if (!opens && tick.generation !== question.generation) return { changed: `The configuration changed while you were deciding: generation ${question.generation} is now ${tick.generation}. Nothing was done.` };
      if (opens) question.generation = tick.generation;
      return {};
    },
    again: () => (turns(stateOf(find(), upstream)).includes(turn) ? breakerQuestion(upstream, turn, find) : null),
    send: ({ reason, actor }) => send(`/api/v1/upstreams/${encodeURIComponent(upstream)}/breaker`, { state: turn, reason, ...(actor ? { actor } : {}) }, opens ? null : question.generation),
    done: (done) => ({ text: `The breaker of ${name(upstream)} was ${WORDS[done.before] ?? done.before} and is ${done.state === "open" ? "held open" : done.state}.`, generation: done.generation }),
  };
  return question;
}

const users = (tick, upstream) => tick.routes.flatMap((route) => dressed(route.arms).filter((arm) => arm.upstream === upstream).map((arm) => ({ route, arm })));

function stateOf(tick, upstream) {
  return users(tick, upstream).map(({ arm }) => arm.breaker).find((state) => state) ?? tick.breakers?.[upstream];
}

function moves(tick, upstream, opens) {
  const list = users(tick, upstream);
  if (list.length === 0) return [h("p", { class: "nothing" }, "No arm shown here uses it; copies and fallbacks may.")];
  return [h("table", { class: "moves" },
    h("caption", {}, "What moves"),
    h("thead", {}, h("tr", {}, ...["Route and arm", "Of its requests now", "After"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...list.map(({ route, arm }) => h("tr", {},
      h("th", { scope: "row" }, key(arm), ` ${name(route.name)}: ${name(arm.name)}`),
      h("td", {}, percent(arm.observed)),
      h("td", {}, h("strong", {}, opens ? answers(arm.whenOpen) : "asked again"))))))];
}

function answers(whenOpen) {
  const [kind, what] = (whenOpen ?? "fail").split(/ (.*)/s);
  return { upstream: `answered by ${name(what ?? "")}`, respond: `a fixed ${what}`, others: "answered by the other arms", fail: "503" }[kind] ?? whenOpen;
}
