// One small line chart over the last fifteen minutes, drawn as SVG. The drawing stretches with its
// box, so lines keep their width (non-scaling-stroke) and every text is HTML beside it.

import { h, s, say, mark } from "./dom.js";
import { key } from "./arms.js";

export const SPAN = 15 * 60 * 1000;
const [WIDTH, HEIGHT] = [600, 100];
// Spans the axis may have, in minutes: a process that just began fills its charts as well.
const SPANS = [3, 6, 15];
// A hole longer than this is a time without traffic, not a line between two points.
const HOLE = 12_000;

// A round number at or above a value, so that the scale does not jump with every point.
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 0.999) ?? 10 * power;
}

export class Chart {
  // `format` writes a value; `least` is the lowest top of the scale, `most` the highest.
  constructor(title, format, { least = 1, most = Infinity, note = "" } = {}) {
    Object.assign(this, { title, format, least, most, series: [], now: 0, at: null });
    this.readout = h("span", { class: "readout" });
    this.top = h("span", { class: "top-label" });
    this.drawing = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.ends = h("div", { class: "ends", "aria-hidden": "true" });
    this.cross = h("div", { class: "cross", hidden: true });
    this.plot = h("div", {
      class: "plot", role: "img", tabindex: "0",
      onpointermove: (event) => this.point(event), onpointerleave: () => this.look(null),
      onkeydown: (event) => this.step(event), onblur: () => this.look(null),
    }, this.drawing, this.ends, this.cross, this.top);
    this.axis = h("div", { class: "axis", "aria-hidden": "true" }, ...[0, 1, 2].map(() => h("span")), h("span", {}, "now"));
    this.element = h("figure", { class: "chart" },
      h("figcaption", {}, h("span", { class: "chart-title" }, title, note && h("small", {}, ` ${note}`)), this.readout),
      this.plot,
      this.axis);
  }

  // Series are `{ arm, index, hue, points: [[at, value | null], …], faint, dashed }`.
  draw(series, now) {
    this.series = series;
    this.now = now;
    this.scale();
    let high = this.least;
    for (const one of series) for (const [, value] of one.points) if (value > high) high = value;
    this.high = Math.min(this.most, round(high));
    say(this.top, this.format(this.high));
    this.drawing.replaceChildren(
      ...[0.5, 1].map((share) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * (1 - share) + 0.5, y2: HEIGHT * (1 - share) + 0.5 })),
      ...[1, 2].map((thirds) => s("line", { class: "grid", x1: WIDTH * thirds / 3, x2: WIDTH * thirds / 3, y1: 0, y2: HEIGHT })),
      ...series.filter((one) => !one.faint && !one.dashed).map((one) => s("path", { class: "area", "data-arm": one.hue, d: this.area(one) })),
      ...series.map((one) => s("path", { class: `line${one.faint ? " faint" : ""}${one.dashed ? " dashed" : ""}`, "data-arm": one.hue, d: this.path(one) })),
      ...series.map((one) => this.dots(one)).filter(Boolean));
    this.drawEnds();
    this.look(this.at);
    mark(this.plot, "aria-label", this.summary());
    const nothing = series.every((one) => one.points.every(([, value]) => value === null || value === undefined));
    mark(this.plot, "data-empty", nothing ? "no requests yet" : null);
  }

  // The shortest span that holds everything.
  scale() {
    const first = Math.min(this.now, ...this.series.map((one) => one.points[0]?.[0] ?? this.now));
    const minutes = SPANS.find((minutes) => this.now - first <= minutes * 60_000) ?? SPANS.at(-1);
    this.span = minutes * 60_000;
    [3, 2, 1].forEach((thirds, at) => say(this.axis.children[at], at === 0 ? `${minutes} min ago` : minutes * thirds / 3));
  }

  x(at) { return WIDTH * (1 - (this.now - at) / this.span); }
  y(value) { return HEIGHT * (1 - Math.min(1, value / this.high)); }

  path({ points, dashed }) {
    let text = "";
    let last = null;
    for (const [at, value] of points) {
      if (value === null || value === undefined) { last = null; continue; }
      const [x, y] = [this.x(at).toFixed(1), this.y(value).toFixed(2)];
      // What is configured changes at once, what is measured does not.
      if (last === null || at - last > HOLE) text += `M${x} ${y}`;
      else text += dashed ? `H${x}V${y}` : `L${x} ${y}`;
      last = at;
    }
    return text;
  }

  // What lies under a line, down to nothing.
  area({ points }) {
    const parts = [];
    let last = null;
    for (const [at, value] of points) {
      if (value === null || value === undefined) { last = null; continue; }
      if (last === null || at - last > HOLE) parts.push([]);
      parts.at(-1).push([this.x(at).toFixed(1), this.y(value).toFixed(2)]);
      last = at;
    }
    return parts.filter((part) => part.length > 1).map((part) => `M${part[0][0]} ${HEIGHT}${part.map(([x, y]) => `L${x} ${y}`).join("")}L${part.at(-1)[0]} ${HEIGHT}Z`).join("");
  }

  // A point without a neighbour makes no line and would not be seen: it is drawn as a dot.
  dots({ points, hue, faint }) {
    const known = (point) => point?.[1] !== null && point?.[1] !== undefined;
    const near = (one, other) => known(other) && Math.abs(one[0] - other[0]) <= HOLE;
    const lone = points.filter((point, at) => known(point) && !near(point, points[at - 1]) && !near(point, points[at + 1]));
    if (lone.length === 0) return null;
    return s("path", { class: `lone${faint ? " faint" : ""}`, "data-arm": hue, d: lone.map(([at, value]) => `M${this.x(at).toFixed(1)} ${this.y(value).toFixed(2)}h0.01`).join("") });
  }

  drawEnds() {
    const ends = this.series.filter((one) => !one.faint && !one.dashed).map((one) => {
      const last = one.points.at(-1);
      if (!last || last[1] === null || this.now - last[0] > HOLE) return null;
      const end = key(one);
      end.style.top = `${this.y(last[1]) / HEIGHT * 100}%`;
      return end;
    });
    this.ends.replaceChildren(...ends.filter(Boolean));
  }

  summary() {
    const texts = this.series.filter((one) => !one.faint && !one.dashed).map((one) => {
      const values = one.points.map(([, value]) => value).filter((value) => value !== null && value !== undefined);
      if (values.length === 0) return `${one.arm}: nothing`;
      return `${one.arm}: now ${this.format(values.at(-1))}, at most ${this.format(Math.max(...values))}`;
    });
    return `${this.title}, the last 15 minutes. ${texts.join("; ")}`;
  }

  // --- looking at one moment ---

  point(event) {
    const box = this.plot.getBoundingClientRect();
    this.look(this.now - this.span * (1 - (event.clientX - box.left) / box.width));
  }

  step(event) {
    const by = { ArrowLeft: -5000, ArrowRight: 5000, PageUp: -60_000, PageDown: 60_000 }[event.key];
    if (!by) return;
    event.preventDefault();
    this.look(Math.min(this.now, Math.max(this.now - this.span, (this.at ?? this.now) + by)));
  }

  look(at) {
    this.at = at === null ? null : Math.max(at, this.now - this.span);
    this.cross.hidden = this.at === null;
    const shown = this.series.filter((one) => !one.faint && !one.dashed).map((one) => {
      const point = this.at === null ? one.points.at(-1) : nearest(one.points, this.at);
      const value = point?.[1];
      return h("span", {}, key(one), ` ${value === null || value === undefined ? "–" : this.format(value)}`);
    });
    if (this.at !== null) {
      this.cross.style.left = `${this.x(this.at) / WIDTH * 100}%`;
      shown.unshift(h("span", { class: "when" }, new Date(this.at).toLocaleTimeString("en-GB")));
    }
    this.readout.replaceChildren(...shown);
  }
}

function nearest(points, at) {
  let best = null;
  for (const point of points) {
    if (Math.abs(point[0] - at) <= HOLE && (!best || Math.abs(point[0] - at) < Math.abs(best[0] - at))) best = point;
  }
  return best;
}
