// The dialog that shows exactly what will move before it does. What it is about is a question:
//
//   title, confirm, tone, note    its words; `safe` goes toward stable and needs no generation
//   generation                    what its reader saw
//   fields(draw)                  what can be chosen, as elements
//   preview()                     what will move: { shown, draw }
//   warnings()                    what somebody may not have meant
//   force()                       what must be ticked, or may be: { label, needed }, or nothing
//   now()                         { gone | changed: why } when it is no longer about what is
//   again()                       the same question about what is now, or nothing
//   look(said)                    what must be asked of the proxy first, where something must
//   send(said)                    does it; done(answer) tells it

import { h, say, redraw } from "./dom.js";
import { learn } from "./access.js";
import { Refused, hasToken, setToken } from "./stream.js";

const MAX_REASON = 1024;

export class Dialog {
  constructor(element, announce) {
    Object.assign(this, { element, announce, actor: "" });
    element.addEventListener("close", () => { this.open = null; });
  }

  ask(question) {
    this.open = { question, stale: false, done: false, force: false };
    this.build();
    if (!this.element.open) this.element.showModal();
    if (hasToken()) this.look();
  }

  build() {
    const { question } = this.open;
    this.preview = h("div", { class: "preview" });
    this.warning = h("div", { class: "warning", role: "status" });
    this.forceField = h("div");
    this.problem = h("div", { class: "problem", role: "alert" });
    this.confirm = h("button", { type: "submit", class: question.tone === "danger" ? "danger" : "primary" });
    this.again = h("button", { type: "button", hidden: true, onclick: () => this.lookAgain() }, "Show what is now");
    this.cancel = h("button", { type: "button", onclick: () => this.element.close() }, "Cancel");
    this.reason = h("textarea", { id: "reason", rows: "2", maxlength: MAX_REASON, required: !question.safe && !question.look });
    this.actorField = h("input", { id: "actor", autocomplete: "off", maxlength: "128", value: this.actor, placeholder: "your name" });
    this.tokenField = hasToken() ? null : h("input", { id: "token", type: "password", autocomplete: "off", required: true });
    this.element.replaceChildren(h("form", { onsubmit: (event) => this.submit(event) },
      h("div", { class: "head" }, h("h2", { id: "dialog-title" }, question.title), h("p", { class: "small", id: "dialog-generation" }, `As of generation ${question.generation}`)),
      question.fields?.(() => this.draw()),
      this.preview,
      this.warning,
      question.note && h("p", { class: "note" }, question.note),
      field("Why", this.reason, question.safe ? "may be empty: stopping comes first" : "lands in the history"),
      field("Who", this.actorField, "lands in the history; empty is “admin”"),
      this.tokenField && field("Operator token", this.tokenField, "admin.token of the state folder; kept in this page's memory alone"),
      this.forceField,
      this.problem,
      h("div", { class: "buttons" }, this.cancel, this.again, this.confirm)));
    this.draw();
  }

  draw() {
    const { question, stale } = this.open;
    const { shown, draw } = question.preview();
    redraw(this.preview, shown, draw);
    const warned = question.warnings?.() ?? [];
    redraw(this.warning, warned, () => warned.map((text) => h("p", {}, text)));
    const force = question.force?.() ?? null;
    if (!force) this.open.force = false;
    redraw(this.forceField, force, () => (force ? [this.forceBox(force)] : []));
    say(this.confirm, question.unseen ? "Show what would change" : question.confirm);
    this.confirm.disabled = stale || question.nothing === true;
  }

  forceBox({ label, needed }) {
    const tick = (event) => { this.open.force = event.target.checked; };
    return h("label", { class: "check" }, h("input", { type: "checkbox", required: needed, checked: this.open.force, onchange: tick }), ` ${label}`);
  }

  // Called with every tick.
  tick() {
    if (!this.open || this.open.done || this.open.stale || this.open.busy) return;
    const found = this.open.question.now();
    if (found.changed) return this.outdated(found.changed);
    say(this.element.querySelector("#dialog-generation"), `As of generation ${this.open.question.generation}`);
    this.draw();
  }

  outdated(text) {
    this.open.stale = true;
    this.confirm.disabled = true;
    this.again.hidden = false;
    this.tell(text, "");
  }

  // The same question about what is now.
  lookAgain() {
    const kept = this.reason.value;
    const question = this.open.question.again();
    if (!question) return this.tell("This can no longer be done here.", "Close this and look at the page.");
    this.ask(question);
    this.reason.value = kept;
    this.reason.focus();
  }

  tell(text, hint, diagnostics = []) {
    this.problem.replaceChildren(h("p", {}, h("strong", {}, text)), hint ? h("p", {}, hint) : "",
      diagnostics.length ? h("ul", { class: "findings" }, ...diagnostics.slice(0, 10).map((one) => h("li", {}, h("code", {}, `${one.file}:${one.line}`), ` ${one.message}`))) : "");
  }

  // What a question must know before it can show anything.
  async look() {
    const { question } = this.open;
    if (!question.look) return true;
    return this.busy(() => question.look(this.said()).then(() => this.open?.question === question && this.draw()));
  }

  said() {
    this.actor = this.actorField.value.trim();
    return { reason: this.reason.value.trim(), ...(this.actor ? { actor: this.actor } : {}) };
  }

  // Does something that takes a moment; whether it went well.
  async busy(what) {
    const { open } = this;
    open.busy = true;
    this.confirm.disabled = true;
    try {
      await what();
      return true;
    } catch (error) {
      if (this.open === open) this.refused(error);
      return false;
    } finally {
      open.busy = false;
      if (this.open === open && !open.stale && !open.done) this.confirm.disabled = open.question.nothing === true;
    }
  }

  async submit(event) {
    event.preventDefault();
    const { question, stale } = this.open;
    if (stale) return;
    if (this.tokenField) {
      setToken(this.tokenField.value);
      if (!await this.busy(learn)) return;
      this.tokenField.closest(".field").remove();
      this.tokenField = null;
    }
    if (question.unseen) return this.look();
    if (!question.safe && !this.reason.value.trim()) {
      this.reason.required = true;
      return this.reason.reportValidity();
    }
    const said = { ...this.said(), ...(this.open.force ? { force: true } : {}) };
    await this.busy(async () => this.finish(question.done(await question.send(said))));
  }

  refused(error) {
    if (!(error instanceof Refused)) return this.tell(error.text ?? "The proxy cannot be reached.", error.hint ?? "Nothing is known of what became of it; look at the page.");
    if (error.status === 401) {
      setToken("");
      const why = this.reason.value;
      this.build();
      this.reason.value = why;
      return this.tell(error.message, "Give the operator's token: it is in admin.token of the state folder.");
    }
    const stale = error.status === 409 && /stale|generation/.test(`${error.code} ${error.message}`);
    if (stale) this.outdated(`Refused: this page showed an older state. ${error.message}`);
    else this.tell(error.message, error.hint, error.diagnostics);
  }

  finish({ text, more = [], generation }) {
    if (!this.open) return;
    this.open.done = true;
    this.announce(`Done. ${text}`);
    const close = h("button", { type: "button", class: "primary", onclick: () => this.element.close() }, "Close");
    this.element.replaceChildren(h("div", { class: "done" }, h("h2", { id: "dialog-title" }, "✓ Done"), h("p", {}, text), ...more.map((one) => h("p", { class: "note" }, one)), h("p", { class: "small" }, `Generation ${generation}`), h("div", { class: "buttons" }, close)));
    close.focus();
  }
}

export function field(label, input, hint) {
  const id = `${input.id}-hint`;
  if (hint) input.setAttribute("aria-describedby", id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint && h("small", { id }, hint));
}
