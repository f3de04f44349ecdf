// Talking to the proxy: reads, verbs, and the answer that does not end. The browser's EventSource
// can send no token, so the stream is read by hand. The token is kept in this variable alone: not in
// storage, not in a cookie, and gone with the page.

let token = "";

export const hasToken = () => token !== "";
export const setToken = (text) => { token = text.trim(); };

function headers(more) {
  return token ? { authorization: `Bearer ${token}`, ...more } : { ...more };
}

export const routePath = (route) => `/api/v1/routes/${encodeURIComponent(route)}`;

export class Refused extends Error {
  constructor(status, body) {
    super(body.message ?? `the proxy answered ${status}`);
    this.status = status;
    this.code = body.code ?? "";
    this.hint = body.hint ?? "";
    this.diagnostics = body.diagnostics ?? [];
  }
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

export async function read(path) {
  return answer(await fetch(path, { headers: headers(), cache: "no-store" }));
}

// A verb. `generation` is what the page showed when its reader decided; moves toward stable go
// without it, because they are never too late.
export async function send(path, body, generation) {
  const more = { "content-type": "application/json" };
  if (generation !== null) more["if-match"] = `"${generation}"`;
  return answer(await fetch(path, { method: "POST", headers: headers(more), body: JSON.stringify(body) }));
}

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 10_000;

// Follows events for ever: `on` has a function per kind of event, and `state` for how it goes.
export async function follow(on) {
  let wait = FIRST_WAIT;
  for (;;) {
    try {
      const response = await fetch("/api/v1/events", { headers: headers(), cache: "no-store" });
      if (response.status === 401 || response.status === 403) {
        on.state("locked");
        await on.unlocked();
        continue;
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      wait = FIRST_WAIT;
      await consume(response.body.getReader(), on);
      on.state("lost");
    } catch (error) {
      on.state("lost");
      wait = Math.min(wait * 2, LONGEST_WAIT);
    }
    await new Promise((wake) => setTimeout(wake, wait));
  }
}

// Longest line that is waited for; what is longer is no event of ours.
const MAX_TEXT = 32 << 20;

async function consume(reader, on) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    if (text.length > MAX_TEXT) throw new Error("an event without end");
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) dispatch(event, on);
  }
}

function dispatch(event, on) {
  const field = (name) => event.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  const [kind, data] = [field("event"), field("data")];
  if (kind && data && on[kind]) on[kind](JSON.parse(data));
}
