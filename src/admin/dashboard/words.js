// Numbers and states as people read them.

const NUMBERS = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const whole = (value) => NUMBERS.format(Math.round(value));

// A share from 0 to 1. Small shares keep a digit: 0.4 % is not 0 %.
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "–";
  const value = share * 100;
  const digits = value === 0 || value >= 10 || Number.isInteger(Number(value.toFixed(2))) ? 0 : value >= 1 ? 1 : 2;
  const text = value >= 10 && !Number.isInteger(Number(value.toFixed(1))) ? value.toFixed(1) : value.toFixed(digits);
  return `${text} %`;
}

export function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${(value / 1000).toFixed(0)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return value >= 10 ? `${Math.round(value)} ms` : `${value.toFixed(1)} ms`;
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${(value / 1000).toFixed(1)}k`;
  return value >= 100 ? whole(value) : value >= 10 ? value.toFixed(0) : value.toFixed(value === 0 ? 0 : 1);
}

export function span(seconds) {
  const total = Math.max(0, Math.round(seconds));
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const at = units.findIndex(([, length]) => total >= length);
  if (at < 0) return "0 s";
  const [unit, length] = units[at];
  const first = `${Math.floor(total / length)} ${unit}`;
  const rest = total % length;
  const next = units[at + 1];
  if (!next || rest < next[1]) return first;
  return `${first} ${Math.floor(rest / next[1])} ${next[0]}`;
}

// A moment as the clock on the wall shows it; with its day when that is another one.
export function clock(at) {
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.toLocaleDateString("en-CA")} `;
  return day + at.toLocaleTimeString("en-GB");
}

// Evidence of `ln E`: how many times likelier the data is if the canary is worse.
export function times(log) {
  const value = Math.exp(Math.min(log, 600));
  if (value >= 1e12) return `10^${Math.floor(log / Math.LN10)}`;
  if (value >= 1e4) return COMPACT.format(value);
  if (value >= 100) return whole(value);
  return value >= 10 ? value.toFixed(0) : value.toFixed(value >= 1 ? 1 : 2);
}

// State to word, shape and tone: what colour says is said by shape and text as well.
const STATES = {
  IDLE: ["Ready to start", "○", "calm"],
  PENDING: ["Pending", "◔", "busy"],
  SHADOW: ["In the shadow", "◑", "busy"],
  STAGE: ["Rolling out", "▶", "busy"],
  HOLD: ["On hold", "◼", "warn"],
  PAUSED: ["Paused", "❚❚", "warn"],
  BAKE: ["Baking", "◕", "busy"],
  REVERTING: ["Reverting", "↩", "bad"],
  PROMOTED: ["Promoted", "✓", "good"],
  REVERTED: ["Reverted", "↩", "bad"],
  ABORTED: ["Aborted", "✕", "warn"],
  SUPERSEDED: ["Superseded", "»", "calm"],
  FINISHED: ["Finished", "✓", "calm"],
  STEADY: ["Steady", "●", "good"],
  SMOKE: ["Smoke test", "◔", "busy"],
  VERIFYING: ["Verifying", "◑", "busy"],
  FLIPPED_BACK: ["Flipped back", "↩", "bad"],
};

export function state(name) {
  const [text, shape, tone] = STATES[name] ?? [name, "•", "calm"];
  return { text, shape, tone };
}

const VERDICTS = {
  healthy: ["Healthy", "✓", "good"],
  undecided: ["Undecided", "…", "calm"],
  suspect: ["Suspect", "▲", "warn"],
  harmful: ["Harmful", "✕", "bad"],
};

export function verdict(name) {
  const [text, shape, tone] = VERDICTS[name] ?? [name, "•", "calm"];
  return { text, shape, tone };
}

// A name as a label: control characters would be invisible, or worse in a copy to a terminal.
export function name(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}
