// Loading the configuration again: what the file would change is asked of the proxy and shown first,
// and asked again before it is done, so that what comes into force is what was shown.

import { h } from "./dom.js";
import { send } from "./stream.js";
import { name, percent } from "./words.js";

// Changes and findings shown.
const SHOWN = 20;

const words = (done) => JSON.stringify([done.changed, done.warnings.map((one) => [one.file, one.line, one.message])]);

// `find` gives the tick as it is now.
export function reloadQuestion(find) {
  let would = null;
  const dry = (said) => send("/api/v1/reload?dryRun=true", said, question.generation);
  const question = {
    title: "Load the configuration again",
    confirm: "Load it",
    tone: "primary",
    generation: find().generation,
    note: "",
    unseen: true,
    preview: () => ({ shown: would, draw: () => shown(would) }),
    now() {
      const tick = find();
      if (tick.generation === question.generation) return {};
      return { changed: `The configuration changed while you were deciding: generation ${question.generation} is now ${tick.generation}. Nothing was done.` };
    },
    again: () => reloadQuestion(find),
    async look(said) {
      would = await dry({ ...said, reason: said.reason || "look" });
      question.unseen = false;
    },
    async send(said) {
      const before = words(would);
      would = await dry(said);
      if (words(would) !== before) throw { text: "The file was edited meanwhile: this is what it would change now. Nothing was done.", hint: "Read it, then load it." };
      return send("/api/v1/reload", said, question.generation);
    },
    done: (done) => ({ text: done.changed.length ? `${done.changed.length} ${done.changed.length === 1 ? "change is" : "changes are"} in force.` : "It was loaded; nothing changed.", generation: done.generation }),
  };
  return question;
}

function shown(would) {
  if (!would) return [h("p", { class: "nothing" }, "The file is read and compared with what is in force; nothing is applied yet.")];
  const [changes, warned] = [would.changed, would.warnings];
  return [
    changes.length === 0 ? h("p", { class: "nothing" }, "Nothing would change.") : h("div", {},
      h("p", { class: "caption" }, "What would change"),
      h("ul", { class: "changes" }, ...changes.slice(0, SHOWN).map((one) => h("li", {}, one.route && h("strong", {}, `${name(one.route)}: `), name(one.text),
        one.movedPercent > 0 && h("small", {}, ` ${percent(one.movedPercent / 100)} of sticky users move`)))),
      changes.length > SHOWN && h("p", { class: "small" }, `and ${changes.length - SHOWN} more`)),
    warned.length > 0 && h("ul", { class: "findings" }, ...warned.slice(0, SHOWN).map((one) => h("li", {}, h("code", {}, name(`${one.file}:${one.line}`)), ` ${one.message}`))),
  ];
}
