// What an operator may do, and the dialog that shows exactly what will move before it does.
//
// A dialog holds the generation its reader saw. When the route has moved on meanwhile, it says so
// and does nothing; only moves toward stable go in any case, because they are never too late.

import { h, say, redraw, wide } from "./dom.js";
import { dressed, key } from "./arms.js";
import { name, percent } from "./words.js";
import { Refused, hasToken, routePath, send, setToken } from "./stream.js";

const LIVE = ["PENDING", "SHADOW", "STAGE", "HOLD", "PAUSED", "BAKE"];
const MAX_REASON = 1024;

// `safe`: toward stable, so no generation is needed. `moves`: weights after it, by arm.
const VERBS = {
  weights: { label: "Weights…", title: "Set weights", confirm: "Set these weights", moves: typed, path: "weights", body: (route, form) => ({ weights: typed(route, form) }),
    note: (route) => route.rollout && LIVE.includes(route.rollout.state) ? `This pauses the rollout; 0 for ${name(route.rollout.to)} aborts it.` : "These weights hold until they are reset or the file's split is edited." },
  reset: { label: "Reset weights…", title: "Back to the file's weights", confirm: "Reset the weights", path: "weights", body: () => ({ reset: true }), note: () => "The file's weights, or the rollout's, come back into force." },
  flip: { label: "Flip…", title: "Flip", confirm: "Flip now", tone: "primary", force: true, moves: (route) => slots(route), path: "flip", body: (_, form) => ({ force: form.force }), note: (route) => `${name(route.blueGreen.idle)} is tried first, then serves everybody.` },
  back: { label: "Flip back…", title: "Flip back", confirm: "Flip back now", tone: "danger", safe: true, moves: (route) => slots(route), path: "flip", body: () => ({ back: true }), note: (route) => `${name(route.blueGreen.idle)} serves everybody again, at once.` },
  drain: { label: "Drain…", title: "Drain an arm", confirm: "Drain it", arm: true, moves: drained, path: "drain", body: (_, form) => ({ arm: form.arm }), note: () => "It gets no new users; those who are pinned to it finish there." },
  start: rollout("start", "Start…", "Start the rollout", "Start", "primary", (route) => shares(route, route.rollout.steps[0] / 100)),
  pause: rollout("pause", "Pause…", "Pause the rollout", "Pause", "", null, () => "No weight moves; nothing is decided until it is resumed. A harmful canary still goes back."),
  resume: rollout("resume", "Resume…", "Resume the rollout", "Resume", "primary", null, () => "No weight moves now; the rollout goes on from this step."),
  advance: rollout("advance", "Advance…", "Advance by one step", "Advance", "", (route) => shares(route, (route.rollout.steps[route.rollout.step + 1] ?? 100) / 100), () => "Without waiting for what this step was to show.", true),
  promote: rollout("promote", "Promote…", "Promote", "Promote", "", (route) => shares(route, 1), (route) => `${name(route.rollout.to)} gets all traffic of both arms at once.`, true),
  abort: { ...rollout("abort", "Abort…", "Abort the rollout", "Abort now", "danger", (route) => shares(route, 0), (route) => `All of its traffic goes back to ${name(route.rollout.from)}; pins and overrides to ${name(route.rollout.to)} are void.`), safe: true },
  retry: rollout("retry", "Retry…", "Retry the same version", "Retry", "", (route) => shares(route, route.rollout.steps[0] / 100), () => "From the first step, with evidence of its own.", true),
};

function rollout(verb, label, title, confirm, tone, moves, note, force) {
  return { label, title, confirm, tone, moves, force, note: note ?? (() => ""), path: `rollout/${verb}`,
    body: (route, form) => ({ version: route.rollout.version, ...(form.force ? { force: true } : {}) }) };
}

// What can be done to a route now, the way to safety last and always at the same place.
export function offered(route) {
  if (route.arms.length === 0) return [];
  const verbs = [];
  const state = route.rollout?.state;
  if (state === "IDLE") verbs.push("start");
  if (state === "PAUSED") verbs.push("resume");
  if (["REVERTED", "ABORTED"].includes(state)) verbs.push("retry");
  if (["STAGE", "HOLD", "BAKE", "SHADOW", "PENDING"].includes(state)) verbs.push("pause");
  if (["STAGE", "HOLD", "PAUSED"].includes(state)) verbs.push("advance");
  if (["STAGE", "HOLD", "PAUSED", "BAKE"].includes(state)) verbs.push("promote");
  if (route.blueGreen) verbs.push("flip");
  else if (route.arms.length > 1) verbs.push("weights");
  if (!route.blueGreen && route.arms.filter((arm) => arm.weight > 0).length > 1) verbs.push("drain");
  if (route.arms.some((arm) => arm.source === "operator" && !arm.drain)) verbs.push("reset");
  if (route.blueGreen?.wayBack) verbs.push("back");
  if (LIVE.includes(state)) verbs.push("abort");
  return verbs.map((verb) => ({ verb, label: VERBS[verb].label, tone: VERBS[verb].tone }));
}

// --- what will move ---

const weightsOf = (route) => Object.fromEntries(route.arms.map((arm) => [arm.name, arm.weight]));

function typed(route, form) {
  return Object.fromEntries(route.arms.map((arm) => [arm.name, form.weights[arm.name] ?? arm.weight]));
}

function slots(route) {
  return { ...weightsOf(route), [route.blueGreen.active]: 0, [route.blueGreen.idle]: 100 };
}

function drained(route, form) {
  return { ...weightsOf(route), [form.arm]: 0 };
}

// Both arms of a rollout share what they have together; other arms keep theirs.
function shares(route, share) {
  const { from, to } = route.rollout;
  const weights = weightsOf(route);
  const both = (weights[from] ?? 0) + (weights[to] ?? 0);
  return { ...weights, [from]: both * (1 - share), [to]: both * share };
}

function parts(weights, route) {
  const total = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
  return route.arms.map((arm) => (total ? (weights[arm.name] ?? 0) / total : 0));
}

function moves(route, after) {
  const [was, will] = [parts(weightsOf(route), route), parts(after, route)];
  return h("table", { class: "moves" },
    h("caption", {}, "What moves"),
    h("thead", {}, h("tr", {}, ...["Arm", "Now", "After", ""].map((text) => text ? h("th", { scope: "col" }, text) : h("td")))),
    h("tbody", {}, ...dressed(route.arms).map((arm) => {
      const { index, hue } = arm;
      const by = will[index] - was[index];
      const track = h("div", { class: "shift", "aria-hidden": "true" }, h("div", { "data-arm": hue, class: "after" }), h("div", { class: "before" }));
      wide(track.firstChild, will[index]);
      track.lastChild.style.left = `${was[index] * 100}%`;
      return h("tr", { "data-moves": Math.abs(by) > 1e-6 },
        h("th", { scope: "row" }, key(arm), ` ${name(arm.name)}`),
        h("td", {}, percent(was[index])),
        h("td", {}, h("strong", {}, percent(will[index])), h("small", {}, Math.abs(by) < 1e-6 ? " stays" : ` ${by > 0 ? "▲ +" : "▼ −"}${percent(Math.abs(by))}`)),
        h("td", { class: "shift-cell" }, track));
    })));
}

// What somebody may not have meant: nobody served, and arms at 0 that were not set to it. `fields`
// is what was typed by arm, where weights are typed.
function warnings(route, after, fields) {
  const texts = [];
  if (Object.values(after).every((weight) => weight === 0)) texts.push("✕ No arm keeps any weight: everybody gets 503.");
  if (!fields) return texts;
  const at = (test) => route.arms.filter((arm) => after[arm.name] === 0 && test(fields[arm.name])).map((arm) => name(arm.name)).join(", ");
  const [left, emptied] = [at((text) => text === undefined), at((text) => text === "")];
  if (left) texts.push(`▲ Left at 0, as before: ${left}. New users are not sent there.`);
  if (emptied) texts.push(`▲ Empty counts as 0: ${emptied}.`);
  return texts;
}

// --- the dialog ---

export class Dialog {
  // `find` gives a route as it is now; `refresh` is called after something was done.
  constructor(element, find, announce) {
    Object.assign(this, { element, find, announce, actor: "" });
    element.addEventListener("close", () => { this.open = null; });
  }

  ask(route, verb) {
    this.open = { route, verb, rule: VERBS[verb], form: { weights: {}, typed: {}, arm: smallest(route), force: false }, stale: false, done: false };
    this.build();
    this.element.showModal();
  }

  build() {
    const { route, rule } = this.open;
    this.preview = h("div", { class: "preview" });
    this.warning = h("div", { class: "warning", role: "status" });
    this.problem = h("div", { class: "problem", role: "alert" });
    this.confirm = h("button", { type: "submit", class: rule.tone === "danger" ? "danger" : "primary" }, rule.confirm);
    this.again = h("button", { type: "button", hidden: true, onclick: () => this.lookAgain() }, "Show what is now");
    this.cancel = h("button", { type: "button", onclick: () => this.element.close() }, "Cancel");
    this.reason = h("textarea", { id: "reason", rows: "2", maxlength: MAX_REASON, required: !rule.safe });
    this.actorField = h("input", { id: "actor", autocomplete: "off", maxlength: "128", value: this.actor, placeholder: "your name" });
    this.tokenField = hasToken() ? null : h("input", { id: "token", type: "password", autocomplete: "off", required: true });
    this.element.replaceChildren(h("form", { onsubmit: (event) => this.submit(event) },
      h("h2", { id: "dialog-title" }, `${rule.title}: ${name(route.name)}`),
      h("p", { class: "small", id: "dialog-generation" }, `As of generation ${route.generation}`),
      rule.path === "weights" && rule.moves && this.weightFields(),
      rule.arm && this.armField(),
      this.preview,
      this.warning,
      h("p", { class: "note" }, rule.note(route)),
      field("Why", this.reason, rule.safe ? "may be empty: stopping comes first" : "lands in the history"),
      field("Who", this.actorField, "lands in the history; empty is “admin”"),
      this.tokenField && field("Operator token", this.tokenField, "admin.token of the state folder; kept in this page's memory alone"),
      rule.force && h("label", { class: "check" }, h("input", { type: "checkbox", checked: this.open.form.force, onchange: (event) => { this.open.form.force = event.target.checked; } }), " Despite what speaks against it"),
      this.problem,
      h("div", { class: "buttons" }, this.cancel, this.again, this.confirm)));
    this.draw();
  }

  weightFields() {
    const { route, form } = this.open;
    return h("fieldset", { class: "weights" }, h("legend", {}, "Weights"), ...dressed(route.arms).map((arm) => {
      const set = (event) => { form.typed[arm.name] = event.target.value.trim(); form.weights[arm.name] = Math.max(0, Math.round(Number(event.target.value) || 0)); this.draw(); };
      const input = h("input", { type: "number", min: "0", max: "1000000", step: "1", required: true, value: form.weights[arm.name] ?? arm.weight, oninput: set });
      return h("label", {}, h("span", {}, key(arm), ` ${name(arm.name)}`), input);
    }));
  }

  armField() {
    const { route, form } = this.open;
    const options = route.arms.filter((arm) => arm.weight > 0).map((arm) => h("option", { value: arm.name, selected: arm.name === form.arm }, name(arm.name)));
    return field("Arm", h("select", { id: "arm", onchange: (event) => { form.arm = event.target.value; this.draw(); } }, ...options), "");
  }

  draw() {
    const { route, rule, form } = this.open;
    const after = rule.moves ? rule.moves(route, form) : null;
    redraw(this.preview, [after, weightsOf(route)], () => [after ? moves(route, after) : h("p", { class: "nothing" }, "No weight is named here; what comes into force is shown as soon as it is.")]);
    const warned = after ? warnings(route, after, rule.moves === typed ? form.typed : null) : [];
    redraw(this.warning, warned, () => warned.map((text) => h("p", {}, text)));
    if (!after && rule.path.startsWith("rollout/")) this.preview.replaceChildren(h("p", { class: "nothing" }, "No weight moves."));
  }

  // Called with every tick.
  tick() {
    if (!this.open || this.open.done || this.open.stale) return;
    const { route, rule } = this.open;
    const now = this.find(route.name);
    if (!now) return this.outdated("This route is gone.");
    if (rule.safe && now.rollout?.version === route.rollout?.version && Boolean(now.blueGreen) === Boolean(route.blueGreen)) {
      this.open.route = now;
      say(this.element.querySelector("#dialog-generation"), `As of generation ${now.generation}`);
      return this.draw();
    }
    const moved = now.generation !== route.generation || now.rollout?.version !== route.rollout?.version;
    if (moved) this.outdated(`This route changed while you were deciding: generation ${route.generation} is now ${now.generation}. Nothing was done.`);
  }

  outdated(text) {
    this.open.stale = true;
    this.confirm.disabled = true;
    this.again.hidden = false;
    this.tell(text, "");
  }

  // The same question about the route as it is now.
  lookAgain() {
    const { route, verb } = this.open;
    const now = this.find(route.name);
    const kept = this.reason.value;
    if (!now || !offered(now).some((one) => one.verb === verb)) {
      this.tell("This can no longer be done here.", "Close this and look at the route.");
      return;
    }
    this.open = { ...this.open, route: now, form: { weights: {}, typed: {}, arm: smallest(now), force: false }, stale: false };
    this.build();
    this.reason.value = kept;
    this.reason.focus();
  }

  tell(text, hint) {
    this.problem.replaceChildren(h("p", {}, h("strong", {}, text)), hint && h("p", {}, hint));
  }

  async submit(event) {
    event.preventDefault();
    const { route, rule, form, stale } = this.open;
    if (stale) return;
    this.actor = this.actorField.value.trim();
    if (this.tokenField) setToken(this.tokenField.value);
    const body = { ...rule.body(route, form), reason: this.reason.value.trim(), ...(this.actor ? { actor: this.actor } : {}) };
    this.confirm.disabled = true;
    try {
      const done = await send(`${routePath(route.name)}/${rule.path}`, body, rule.safe ? null : route.generation);
      this.finish(done);
    } catch (error) {
      this.confirm.disabled = false;
      this.refused(error);
    }
  }

  refused(error) {
    if (!(error instanceof Refused)) return this.tell("The proxy cannot be reached.", "Nothing is known of what became of it; look at the route.");
    if (error.status === 401) {
      setToken("");
      const why = this.reason.value;
      this.build();
      this.reason.value = why;
      this.tell(error.message, "Give the operator's token: it is in admin.token of the state folder.");
      return;
    }
    const stale = error.status === 409 && /stale|generation/.test(`${error.code} ${error.message}`);
    if (stale) this.outdated(`Refused: this page showed an older state. ${error.message}`);
    else this.tell(error.message, error.hint);
  }

  finish(done) {
    if (!this.open) return;
    this.open.done = true;
    const moved = (done.changed ?? []).map((one) => `${name(one.arm)} ${one.before} → ${one.after}`);
    const text = moved.length > 0 ? moved.join(", ") : "No weight moved yet.";
    this.announce(`Done. ${text}`);
    const close = h("button", { type: "button", class: "primary", onclick: () => this.element.close() }, "Close");
    this.element.replaceChildren(h("div", { class: "done" }, h("h2", { id: "dialog-title" }, "✓ Done"), h("p", {}, text), h("p", { class: "small" }, `Generation ${done.generation}`), h("div", { class: "buttons" }, close)));
    close.focus();
  }
}

// The arm that is meant when somebody drains: the one with the least weight.
function smallest(route) {
  const arms = route.arms.filter((arm) => arm.weight > 0).sort((one, other) => one.weight - other.weight);
  return arms[0]?.name ?? "";
}

function field(label, input, hint) {
  const id = `${input.id}-hint`;
  if (hint) input.setAttribute("aria-describedby", id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint && h("small", { id }, hint));
}
