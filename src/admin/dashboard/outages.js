// Upstreams that get nothing now: the breaker is open, or every endpoint is out. Said at the top of
// the page and at each arm they serve.

import { h, redraw } from "./dom.js";
import { name } from "./words.js";

// Upstreams named in the banner; the rest is counted.
const NAMED = 8;

const BREAKERS = {
  open: { badge: "breaker open", shape: "✕", tone: "bad", says: "its breaker is open, so it gets no requests", closes: true },
  held: { badge: "breaker held open", shape: "✕", tone: "bad", says: "an operator holds its breaker open, so it gets no requests", closes: true },
  half_open: { badge: "breaker on trial", shape: "◑", tone: "warn", says: "its breaker is half open, so it gets a few requests on trial" },
};
const ALL_OUT = { badge: "all endpoints out", shape: "✕", tone: "bad", says: "all of its endpoints are out; where nothing else may answer, requests go to them all the same" };

// By upstream, what is wrong with it; a tick without it says nothing is.
export function outages({ breakers = {}, allOut = [] }) {
  const found = new Map();
  for (const [upstream, state] of Object.entries(breakers)) if (Object.hasOwn(BREAKERS, state)) found.set(upstream, [BREAKERS[state]]);
  for (const upstream of allOut) found.set(upstream, [ALL_OUT, ...(found.get(upstream) ?? [])]);
  return found;
}

// What an arm's badge says of its upstream; nothing when it is well.
export function outageOf(upstream, found) {
  const wrong = found?.get(upstream);
  if (!wrong) return null;
  const tone = wrong.some((one) => one.tone === "bad") ? "bad" : "warn";
  return { tone, shape: wrong[0].shape, badge: wrong.map((one) => one.badge).join(", ") };
}

// `turn` is called with an upstream and what its breaker shall be.
export function drawOutages(element, found, { routes }, turn) {
  const users = (upstream) => routes.filter((route) => route.arms.some((arm) => arm.upstream === upstream)).map((route) => route.name);
  const list = [...found].map(([upstream, wrong]) => ({ upstream, tone: outageOf(upstream, found).tone, shape: wrong[0].shape, says: wrong.map((one) => one.says).join("; "), closes: wrong.some((one) => one.closes), routes: users(upstream) }));
  redraw(element, list, () => [
    ...list.slice(0, NAMED).map((one) => h("p", { class: "notice", "data-tone": one.tone },
      h("strong", {}, `${one.shape} ${name(one.upstream)}: `), `${one.says}.`,
      one.routes.length > 0 && h("small", {}, ` Concerns ${one.routes.slice(0, NAMED).map(name).join(", ")}${one.routes.length > NAMED ? " and others" : ""}.`),
      one.closes && h("button", { type: "button", class: "does", onclick: () => turn(one.upstream, "close") }, "Close breaker…"))),
    list.length > NAMED && h("p", { class: "notice", "data-tone": "bad" }, `✕ And ${list.length - NAMED} more upstreams.`),
  ]);
}
