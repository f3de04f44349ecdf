// How an arm looks everywhere on the page: a shape by its place, and a colour. Colour alone would
// leave some readers out, and a colour that contradicts a name would mislead the rest.

import { h, say } from "./dom.js";

const SHAPES = ["●", "■", "▲", "◆", "★", "✚"];

// Colours as the style sheet numbers them, the neutral one last.
const HUES = 6;
const NEUTRAL = HUES - 1;
const NAMED = {
  orange: 0, amber: 0, blue: 1, azure: 1, green: 2, teal: 2, purple: 3, violet: 3, pink: 3, magenta: 3, yellow: 4, gold: 4,
  red: NEUTRAL, grey: NEUTRAL, gray: NEUTRAL, black: NEUTRAL, white: NEUTRAL, silver: NEUTRAL,
};

export const shape = (index) => SHAPES[index % SHAPES.length];

// The colour a name speaks of: `blue`, `checkout-blue`, `green2`.
function spoken(name) {
  const word = name.toLowerCase().split(/[^a-z]+/).find((one) => Object.hasOwn(NAMED, one));
  return word === undefined ? null : NAMED[word];
}

// Colours by place: an arm named after a colour has it, or a neutral one when it is taken or is not
// among ours; the others have what nobody is named after.
export function hues(names) {
  const named = names.map(spoken);
  const free = [...Array(HUES).keys()].filter((hue) => !named.includes(hue));
  let next = 0;
  return named.map((hue, index) => {
    if (hue !== null) return named.indexOf(hue) === index ? hue : NEUTRAL;
    if (free.length === HUES) return index % HUES;
    next += 1;
    return free[(next - 1) % free.length] ?? NEUTRAL;
  });
}

// Arms with how they look: `{ …arm, index, hue }`.
export function dressed(arms) {
  const colours = hues(arms.map((arm) => arm.name));
  return arms.map((arm, index) => ({ ...arm, index, hue: colours[index] }));
}

// What a mark shows may change with the arms beside it.
export function dress(mark, { index, hue }) {
  mark.dataset.arm = hue;
  say(mark, shape(index));
}

export function key({ index, hue }) {
  return h("span", { class: "key", "data-arm": hue, "aria-hidden": "true" }, shape(index));
}
