// What the reader may do. A token that may only read makes every button say so instead of leading
// into a dialog whose end would be refused.

import { read, setToken } from "./stream.js";

let known = { role: "none", verbs: false, why: "" };

export const role = () => known.role;

// Why nothing can be done from here; empty when the reader is an operator, or may yet become one.
export const barred = () => (known.role === "viewer" ? known.why : "");

// Asks what a token is good for; a wrong one is forgotten, and the refusal is the caller's to show.
export async function learn() {
  try {
    known = await read("/api/v1/access");
  } catch (error) {
    known = { role: "none", verbs: false, why: "" };
    if (error.status === 401) setToken("");
    throw error;
  }
}
