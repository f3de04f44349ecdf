// The stage of the browser tests: origins that fail when told to, the real binary in front of them,
// and users. Loopback only; everything ends with `close`.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";

// How long anything is waited for.
export const PATIENCE = 40_000;
const PAUSE = 25;
// Users, each with a key of its own, and the time between two requests of a lane.
const USERS = 5000;
const LANES = 4;
const PACE = 8;

// Waits until something holds; what it gave is the answer.
export async function until(what, holds) {
  const over = Date.now() + PATIENCE;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > over) throw new Error(`never: ${what}`);
    await new Promise((wake) => setTimeout(wake, PAUSE));
  }
}

// An origin whose answers can be broken: every so many of them fails, all take this long.
async function origin(label) {
  const origin = { failsEvery: 0, slow: 0, served: 0 };
  const server = http.createServer((request, response) => {
    origin.served += 1;
    const bad = origin.failsEvery > 0 && origin.served % origin.failsEvery === 0;
    setTimeout(() => {
      response.writeHead(bad ? 500 : 200, { "content-type": "application/json" });
      response.end(JSON.stringify({ origin: label, price: label === "shadow" ? "12.00" : "11.00" }));
    }, origin.slow + Math.random() * 6);
  });
  origin.url = await listen(server);
  origin.close = () => { server.closeAllConnections(); server.close(); };
  return origin;
}

function listen(server) {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`)));
}

async function freePort() {
  const server = http.createServer();
  const url = await listen(server);
  await new Promise((closed) => server.close(closed));
  return new URL(url).port;
}

// Starts everything. `text` gets the origins' addresses and gives the configuration without ports.
export async function open(binary, text, hosts) {
  const folder = await mkdtemp(path.join(tmpdir(), "switchback-e2e-"));
  const origins = { stable: await origin("stable"), canary: await origin("canary"), shadow: await origin("shadow"), shaky: await origin("shaky"), flaky: await origin("flaky") };
  const [web, admin] = [await freePort(), await freePort()];
  const file = path.join(folder, "switchback.yaml");
  const whole = (version) => `listeners: [{ name: web, address: "127.0.0.1:${web}" }]\nadmin: { address: "127.0.0.1:${admin}", viewerTokenFile: viewer.token }\nstateDir: state\n${text(origins, version)}`;
  const put = async (content) => {
    await writeFile(`${file}.new`, content);
    await rename(`${file}.new`, file);
  };
  const write = (version) => put(whole(version));
  const viewer = "a-token-for-those-who-only-look";
  await writeFile(path.join(folder, "viewer.token"), `${viewer}\n`);
  await write("");
  let said = "";
  const child = spawn(binary, ["run", "-c", file], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => { said = (said + data).slice(-20_000); });
  const url = `http://127.0.0.1:${admin}`;
  const read = async (at) => (await fetch(url + at)).json();
  const ready = () => fetch(`${url}/readyz`).then((answer) => answer.ok, () => false);
  await until("the proxy is ready", () => { if (child.exitCode !== null) throw new Error(`the proxy ended: ${said}`); return ready(); });
  const token = (await readFile(path.join(folder, "state/admin.token"), "utf8")).trim();
  const crowd = users(web, hosts);
  const close = async () => {
    crowd.stop();
    // It may have ended by itself already.
    const gone = child.exitCode !== null || child.signalCode !== null || new Promise((ended) => child.on("exit", ended));
    child.kill("SIGKILL");
    await gone;
    Object.values(origins).forEach((one) => one.close());
    await rm(folder, { recursive: true, force: true });
  };
  const post = (at, body) => fetch(url + at, { method: "POST", headers: { authorization: `Bearer ${token}`, "content-type": "application/json", "if-match": "*" }, body: JSON.stringify(body) }).then((answer) => answer.json());
  return { url, token, viewer, origins, read, post, deploy: write, break: (version, from, to) => put(whole(version).replace(from, to)), close, stop: () => child.kill("SIGTERM"), said: () => said };
}

// A bounded stream of users over keep-alive connections; hosts take turns.
function users(port, hosts) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: LANES });
  let [user, over] = [0, false];
  const ask = (host) => new Promise((done) => {
    user = (user + 1) % USERS;
    const request = http.get({ port, host: "127.0.0.1", path: "/", agent, headers: { host, "x-user": `u${user}` } }, (response) => {
      response.resume();
      response.on("close", done);
    });
    request.on("error", done);
  });
  const lane = async () => {
    for (let turn = 0; !over; turn += 1) {
      await ask(hosts[turn % hosts.length]);
      await new Promise((wake) => setTimeout(wake, PACE));
    }
  };
  for (let at = 0; at < LANES; at += 1) lane();
  return { stop: () => { over = true; agent.destroy(); } };
}
