// The page of the operator: follows the proxy's events and keeps what is shown true.

import { h, say, mark, keyed, redraw } from "./dom.js";
import { follow, hasToken, read, routePath, setToken } from "./stream.js";
import { drawOutages, outages } from "./outages.js";
import { RouteCard } from "./route.js";
import { Timeline } from "./timeline.js";
import { barred, learn, role } from "./access.js";
import { Dialog } from "./dialog.js";
import { reloadQuestion } from "./reload.js";
import { breakerQuestion } from "./upstreams.js";
import { routeQuestion } from "./verbs.js";
import { name, span, whole } from "./words.js";

const at = (id) => document.getElementById(id);

// Routes from which on one may search.
const SEARCHABLE = 5;

const cards = new Map();
let tick = null;
let unlock = () => {};

const announce = (text) => say(at("announce"), text);
const timeline = new Timeline(at("events"), at("no-events"), announce);
const find = (route) => tick?.routes.find((one) => one.name === route);
const dialog = new Dialog(at("dialog"), announce);

// Every button that does something ends here: whoever may only read is told so.
function ask(question) {
  if (barred()) return announce(barred());
  dialog.ask(question());
}

const doing = {
  route: (route, verb) => ask(() => routeQuestion(route, verb, find)),
  breaker: (upstream, turn) => ask(() => breakerQuestion(upstream, turn, () => tick)),
};

// Acts that the history tells too, and over a restart.
const TOLD = ["rollout", "flip", "weights", "weights-reset", "weights-ended", "drain"];

// --- what comes ---

follow({
  tick(next) {
    tick = next;
    connection("live");
    draw();
  },
  transition: (record) => timeline.transition(record),
  config(act) {
    if (!TOLD.includes(act.what)) timeline.act(act);
  },
  difference: (found) => cards.get(found.route)?.noteDifferences(found),
  state: (state) => connection(state),
  unlocked: () => new Promise((resolve) => { unlock = resolve; askToken(); }),
});

const STATES = { live: "Live", lost: "No connection: what you see may be old", locked: "A token is needed" };

function connection(state) {
  mark(at("live"), "data-state", state);
  mark(document.body, "data-live", state);
  if (at("live-text").textContent !== STATES[state] && state !== "live") announce(STATES[state]);
  say(at("live-text"), STATES[state]);
}

// --- what is shown ---

function draw() {
  drawInstance();
  drawNotices();
  const out = outages(tick);
  drawOutages(at("outages"), out, tick, doing.breaker);
  drawAccess();
  const wanted = at("filter").value.trim().toLowerCase();
  const routes = tick.routes.filter((route) => route.name.toLowerCase().includes(wanted));
  at("filter-bar").hidden = tick.total < SEARCHABLE;
  say(at("filter-count"), `${whole(routes.length)} of ${whole(tick.total)} routes${tick.total > tick.routes.length ? "; the rest is in the API" : ""}`);
  at("waiting")?.remove();
  at("no-routes").hidden = routes.length > 0;
  say(at("no-routes"), tick.total === 0 ? "No routes are configured: everything is answered with 404." : `No route is named like “${wanted}”.`);
  keyed(at("route-list"), routes, (route) => route.name, card, (element, route) => {
    cards.get(route.name).update(route, tick.points[route.name], tick.atMillis, out);
  });
  timeline.draw();
  dialog.tick();
}

function card(route) {
  const known = cards.get(route.name) ?? new RouteCard(route.name, doing);
  if (!cards.has(route.name)) {
    cards.set(route.name, known);
    // What is not there yet comes with the ticks.
    if (route.arms.length > 0) read(`${routePath(route.name)}/past`).then((past) => {
      known.recall(past.arms);
      draw();
    }, () => {});
  }
  return known.element;
}

function drawInstance() {
  const shape = { ready: "✓", draining: "▼", starting: "◔" }[tick.status] ?? "•";
  say(at("instance"), `${shape} ${tick.status} · ${whole(tick.total)} ${tick.total === 1 ? "route" : "routes"} · generation ${tick.generation} · up ${span(tick.uptimeSeconds)} · ${tick.version}`);
  mark(at("instance"), "data-status", tick.status);
}

// A reader who may do nothing sees that, and why, before trying.
function drawAccess() {
  const why = barred();
  at("access").hidden = !why;
  say(at("access"), why ? `View only: ${why}` : "");
  for (const button of document.querySelectorAll(".does")) {
    mark(button, "aria-disabled", why ? "true" : null);
    mark(button, "aria-describedby", why ? "access" : null);
    mark(button, "title", why || null);
  }
  drawToken();
}

function drawNotices() {
  const wrong = Object.entries(tick.checks).filter(([, text]) => text !== "ok");
  const load = tick.lastReload;
  redraw(at("notices"), [wrong, load.ok ? 0 : load], () => [
    ...wrong.map(([part, text]) => h("p", { class: "notice" }, h("strong", {}, `▲ ${part}: `), text)),
    !load.ok && h("details", { class: "notice" }, h("summary", {}, "What refuses the configuration"),
      h("ul", {}, ...load.diagnostics.slice(0, 10).map((one) => h("li", {}, h("code", {}, name(`${one.file}:${one.line}:${one.column}`)), ` ${one.message}`, one.hint && h("small", {}, ` ${one.hint}`))))),
  ]);
}

at("filter").addEventListener("input", () => tick && draw());

// --- token ---

function askToken() {
  const input = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const problem = h("div", { class: "problem", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    setToken(input.value);
    try {
      await learn();
    } catch (error) {
      problem.replaceChildren(h("p", {}, h("strong", {}, error.message)), error.hint ? h("p", {}, error.hint) : "");
      return input.select();
    }
    at("dialog").close();
    if (tick) draw();
    unlock();
  };
  const forget = () => {
    setToken("");
    at("dialog").close();
    learn().catch(() => {}).then(() => tick && draw());
  };
  at("dialog").replaceChildren(h("form", { onsubmit: submit },
    h("h2", { id: "dialog-title" }, "Token"),
    h("p", { class: "note" }, "It is kept in this page's memory alone and is gone when the page is."),
    h("div", { class: "field" }, h("label", { for: "token" }, "Token"), input),
    problem,
    h("div", { class: "buttons" },
      h("button", { type: "button", onclick: () => at("dialog").close() }, "Cancel"),
      hasToken() && h("button", { type: "button", onclick: forget }, "Forget it"),
      h("button", { type: "submit", class: "primary" }, "Use it"))));
  if (!at("dialog").open) at("dialog").showModal();
}

function drawToken() {
  say(at("token-button"), !hasToken() ? "Token" : role() === "viewer" ? "Token: viewer" : "Token ✓");
}

at("token-button").addEventListener("click", askToken);
at("reload-button").addEventListener("click", () => tick && ask(() => reloadQuestion(() => tick)));
at("dialog").addEventListener("close", drawToken);

// --- light and dark ---

const THEMES = ["system", "light", "dark"];
let theme = 0;

at("theme-button").addEventListener("click", () => {
  theme = (theme + 1) % THEMES.length;
  mark(document.documentElement, "data-theme", theme === 0 ? null : THEMES[theme]);
  say(at("theme-button"), `Theme: ${THEMES[theme]}`);
});
