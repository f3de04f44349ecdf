// What an operator may do to a route, and the questions that ask before it is done.
//
// A question holds the generation its reader saw. When the route has moved on meanwhile, it says so
// and does nothing; only moves toward stable go in any case, because they are never too late.

import { h, wide } from "./dom.js";
import { dressed, key } from "./arms.js";
import { field } from "./dialog.js";
import { name, percent } from "./words.js";
import { routePath, send } from "./stream.js";

const LIVE = ["PENDING", "SHADOW", "STAGE", "HOLD", "PAUSED", "BAKE"];

// What `force` overrules, where something can be overruled.
const DESPITE = { label: "Despite what speaks against it", needed: false };
const NOBODY = { label: "Everybody gets 503 then, and that is meant", needed: true };

// `safe`: toward stable, so no generation is needed. `moves`: weights after it, by arm. `force`: what
// may, or must, be ticked.
const VERBS = {
  weights: { label: "Weights…", title: "Set weights", confirm: "Set these weights", moves: typed, path: "weights", body: (route, form) => ({ weights: typed(route, form) }),
    force: (route, form) => (Object.values(typed(route, form)).every((weight) => weight === 0) ? NOBODY : null),
    note: (route) => route.rollout && LIVE.includes(route.rollout.state) ? `This pauses the rollout; 0 for ${name(route.rollout.to)} aborts it.` : "These weights hold until they are reset or the file's split is edited." },
  reset: { label: "Reset weights…", title: "Back to the file's weights", confirm: "Reset the weights", path: "weights", body: () => ({ reset: true }), note: () => "The file's weights, or the rollout's, come back into force." },
  flip: { label: "Flip…", title: "Flip", confirm: "Flip now", tone: "primary", force: () => ({ label: `Untried, whether or not anybody answers there`, needed: false }), moves: (route) => slots(route), path: "flip", body: () => ({}), note: (route) => `${name(route.blueGreen.idle)} is tried first, then serves everybody.` },
  back: { label: "Flip back…", title: "Flip back", confirm: "Flip back now", tone: "danger", safe: true, moves: (route) => slots(route), path: "flip", body: () => ({ back: true }), note: (route) => `${name(route.blueGreen.idle)} serves everybody again, at once.` },
  callOff: { label: "Call the flip off…", title: "Call the flip off", confirm: "Call it off", tone: "danger", safe: true, path: "flip", body: () => ({ back: true }), note: (route) => `${name(route.blueGreen.active)} goes on; ${name(route.blueGreen.idle)} is no longer tried.` },
  drain: { label: "Drain…", title: "Drain an arm", confirm: "Drain it", arm: true, moves: drained, path: "drain", body: (_, form) => ({ arm: form.arm }), note: () => "It gets no new users; those who are pinned to it finish there." },
  start: rollout("start", "Start…", "Start the rollout", "Start", "primary", (route) => shares(route, part(route, 0)), null, true),
  pause: rollout("pause", "Pause…", "Pause the rollout", "Pause", "", null, () => "No weight moves; nothing is decided until it is resumed. A harmful canary still goes back."),
  resume: rollout("resume", "Resume…", "Resume the rollout", "Resume", "primary", null, () => "No weight moves now; the rollout goes on from this step.", true),
  advance: rollout("advance", "Advance…", "Advance by one step", "Advance", "", (route) => shares(route, part(route, route.rollout.step + 1)), () => "Without waiting for what this step was to show.", true),
  promote: rollout("promote", "Promote…", "Promote", "Promote", "", (route) => shares(route, promoted(route)), (route) => `${name(heir(route))} gets the traffic of both arms at once${promoted(route) % 1 ? ", but for what is compared with" : ""}.`, true),
  finish: rollout("finish", "Finish…", "Finish: walk traffic back", "Finish", "", (route) => shares(route, 1 - route.rollout.steps[0] / 100),
    (route) => `Once ${name(route.rollout.from)} has ${name(route.rollout.version)} too: traffic walks back to it step by step, judged as on its way here. This is its first step.`),
  abort: { ...rollout("abort", "Abort…", "Abort the rollout", "Abort now", "danger", (route) => shares(route, route.rollout.back ? 1 : 0),
    (route) => route.rollout.back ? `All of its traffic stays with ${name(route.rollout.to)}.` : `All of its traffic goes back to ${name(route.rollout.from)}; pins and overrides to ${name(route.rollout.to)} are void.`), safe: true },
  undo: { ...rollout("abort", "Roll back…", "Roll back what was promoted", "Roll back now", "danger", (route) => shares(route, 0),
    (route) => `Everybody goes back to ${name(route.rollout.from)}, whatever version that has.`), safe: true },
  overrule: { ...rollout("start", "Overrule…", "Overrule the window and the error budget", "Go on all the same", "", null, () => "They hold nothing back any more in this run; hooks, gates and the analysis still do."),
    path: (route) => `rollout/${route.rollout.state === "PENDING" ? "start" : "resume"}`, force: () => ({ label: "Despite the window or the budget", needed: true }) },
  retry: rollout("retry", "Retry…", "Retry the same version", "Retry", "", (route) => shares(route, part(route, 0)), () => "From the first step, with evidence of its own."),
};

function rollout(verb, label, title, confirm, tone, moves, note, force) {
  return { label, title, confirm, tone, moves, force: force ? () => DESPITE : undefined, note: note ?? (() => ""), path: `rollout/${verb}`,
    body: (route) => ({ version: route.rollout.version }) };
}

// What can be done to a route now, the way to safety last and always at the same place.
export function offered(route) {
  if (route.arms.length === 0) return [];
  const verbs = [];
  const state = route.rollout?.state;
  const [pair, guided] = [route.blueGreen, LIVE.includes(state) || state === "REVERTING"];
  if (state === "IDLE" || (state === "SUPERSEDED" && route.rollout.next)) verbs.push("start");
  if (state === "PAUSED") verbs.push("resume");
  if (["REVERTED", "ABORTED"].includes(state)) verbs.push("retry");
  if (["PENDING", "HOLD"].includes(state) && route.rollout.waitingFor.some((text) => /^(window|error budget)/.test(text))) verbs.push("overrule");
  if (["STAGE", "HOLD", "BAKE", "SHADOW", "PENDING"].includes(state)) verbs.push("pause");
  if (["STAGE", "HOLD", "PAUSED"].includes(state)) verbs.push("advance");
  if (["STAGE", "HOLD", "PAUSED", "BAKE"].includes(state)) verbs.push("promote");
  if (state === "PROMOTED" && !pair) verbs.push("finish");
  if (pair && !guided && !["SMOKE", "VERIFYING"].includes(pair.state)) verbs.push("flip");
  else if (!pair && route.arms.length > 1) verbs.push("weights");
  if (!pair && route.arms.filter((arm) => arm.weight > 0).length > 1) verbs.push("drain");
  if (route.arms.some((arm) => arm.source === "operator" && !arm.drain)) verbs.push("reset");
  if (pair?.state === "SMOKE") verbs.push("callOff");
  else if (pair?.wayBack && !guided) verbs.push("back");
  if (state === "PROMOTED" && !pair) verbs.push("undo");
  if (guided) verbs.push("abort");
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

// The part of both arms that the one it goes to has at a step, whichever way it walks. The last step
// leaves a little where it was, to compare with.
function part(route, step) {
  const { steps, bakeShare, back } = route.rollout;
  const share = (steps[step] ?? 100) >= 100 ? bakeShare : steps[step] / 100;
  return back ? 1 - share : share;
}

// What promoting gives: the last step, and from there everything.
function promoted(route) {
  const { state, step, steps, back } = route.rollout;
  const baking = state === "BAKE" || step >= steps.length - 1;
  return baking ? (back ? 0 : 1) : part(route, steps.length - 1);
}

const heir = (route) => (route.rollout.back ? route.rollout.from : route.rollout.to);

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

// --- the question ---

// `find` gives a route as it is now.
export function routeQuestion(route, verb, find) {
  const rule = VERBS[verb];
  const form = { weights: {}, typed: {}, arm: smallest(route) };
  const path = typeof rule.path === "function" ? rule.path(route) : rule.path;
  const question = {
    title: `${rule.title}: ${name(route.name)}`,
    confirm: rule.confirm,
    tone: rule.tone,
    safe: rule.safe,
    generation: route.generation,
    note: rule.note(route),
    fields: (draw) => [rule.moves === typed && weightFields(route, form, draw), rule.arm && armField(route, form, draw)].filter(Boolean),
    preview() {
      const after = rule.moves ? rule.moves(route, form) : null;
      const none = path.startsWith("rollout/") || verb === "callOff" ? "No weight moves." : "No weight is named here; what comes into force is shown as soon as it is.";
      return { shown: [after, weightsOf(route)], draw: () => [after ? moves(route, after) : h("p", { class: "nothing" }, none)] };
    },
    warnings() {
      const after = rule.moves ? rule.moves(route, form) : null;
      return after ? warnings(route, after, rule.moves === typed ? form.typed : null) : [];
    },
    force: () => rule.force?.(route, form) ?? null,
    now() {
      const now = find(route.name);
      if (!now) return { changed: "This route is gone." };
      if (rule.safe && now.rollout?.version === route.rollout?.version && now.blueGreen?.idle === route.blueGreen?.idle) {
        [route, question.generation] = [now, now.generation];
        return {};
      }
      const moved = now.generation !== route.generation || now.rollout?.version !== route.rollout?.version || now.blueGreen?.idle !== route.blueGreen?.idle;
      return moved ? { changed: `This route changed while you were deciding: generation ${route.generation} is now ${now.generation}. Nothing was done.` } : {};
    },
    again() {
      const now = find(route.name);
      return now && offered(now).some((one) => one.verb === verb) ? routeQuestion(now, verb, find) : null;
    },
    send: (said) => send(`${routePath(route.name)}/${path}`, { ...rule.body(route, form), ...said }, rule.safe ? null : route.generation),
    done(done) {
      const moved = (done.changed ?? []).map((one) => `${name(one.arm)} ${one.before} → ${one.after}`);
      const more = [done.text, ...(done.waitingFor ?? []).map((one) => `It waits for: ${one}.`)].filter(Boolean);
      return { text: moved.length > 0 ? moved.join(", ") : "No weight moved yet.", more, generation: done.generation };
    },
  };
  return question;
}

function weightFields(route, form, draw) {
  return h("fieldset", { class: "weights" }, h("legend", {}, "Weights"), ...dressed(route.arms).map((arm) => {
    const set = (event) => { form.typed[arm.name] = event.target.value.trim(); form.weights[arm.name] = Math.max(0, Math.round(Number(event.target.value) || 0)); draw(); };
    const input = h("input", { type: "number", min: "0", max: "1000000", step: "1", required: true, value: arm.weight, oninput: set });
    return h("label", {}, h("span", {}, key(arm), ` ${name(arm.name)}`), input);
  }));
}

function armField(route, form, draw) {
  const options = route.arms.filter((arm) => arm.weight > 0).map((arm) => h("option", { value: arm.name, selected: arm.name === form.arm }, name(arm.name)));
  return field("Arm", h("select", { id: "arm", onchange: (event) => { form.arm = event.target.value; draw(); } }, ...options), "");
}

// The arm that is meant when somebody drains: the one with the least weight.
function smallest(route) {
  const arms = route.arms.filter((arm) => arm.weight > 0).sort((one, other) => one.weight - other.weight);
  return arms[0]?.name ?? "";
}
