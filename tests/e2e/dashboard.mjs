// The operator's page in a real browser, under traffic: what it shows becomes true as the proxy
// does it, and what it does is what it showed. Run by tests/it/dashboard.rs.
//
// Everything is awaited as a condition. Pictures are kept in the folder that E2E_OUT names.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

import { HOSTILE, HOSTS, config } from "./config.mjs";
import { PATIENCE, open, until } from "./stage.mjs";

const { E2E_MODULES: modules, E2E_OUT: out, E2E_BROWSER: program, E2E_BINARY: binary } = process.env;
const load = createRequire(path.join(modules, "package.json"));
const { chromium } = load("playwright-core");
const axe = readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");

const DESKTOP = { width: 1440, height: 1000 };
const MIDDLE = { width: 1200, height: 1600 };
const PHONE = { width: 390, height: 844 };

// All of it takes a minute; a machine that is busy with other things may take longer.
const WHOLE = 240_000;

mkdirSync(out, { recursive: true });
const began = Date.now();
const stage = await open(binary, config, HOSTS);
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const wrong = [];

const step = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(5)} s  ${text}`);

// A tab of its own, as another person's would be. What a step expects to be refused is `allowed`.
async function tab({ allowed = [], ...options } = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("console", (message) => {
    const text = `${message.type()}: ${message.text()}`;
    if (["error", "warning"].includes(message.type()) && !allowed.some((one) => text.includes(one))) wrong.push(text);
  });
  page.on("pageerror", (error) => wrong.push(`page error: ${error.stack}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(stage.url)) wrong.push(`it asked elsewhere: ${request.url()}`);
  });
  await page.goto(stage.url);
  await page.waitForSelector("article.route");
  return page;
}

const route = (page, name = "checkout") => page.locator("article.route").filter({ has: page.getByRole("heading", { level: 2, name, exact: true }) });
const picture = (page, name, more = {}) => page.screenshot({ path: path.join(out, `${name}.png`), animations: "disabled", ...more });
const share = (text) => Number.parseFloat(text) / 100;

// A cell of an arm's row as the page shows it.
const cell = async (page, arm, label) => (await route(page).locator("tbody tr").filter({ hasText: arm }).locator(`td[data-label="${label}"]`).textContent()).trim();

// Fills the open dialog and confirms it.
async function confirm(page, button, reason) {
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Why").fill(reason);
  await dialog.getByLabel("Who").fill("ada");
  const token = dialog.getByLabel("Operator token");
  if (await token.count()) await token.fill(stage.token);
  await dialog.getByRole("button", { name: button }).click();
}

async function done(page) {
  await page.getByRole("dialog").getByText("Done").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).click();
}

async function accessible(name, dialogs, options) {
  // The page's policy forbids foreign code, axe as well: this tab alone is let off.
  const page = await tab({ ...options, bypassCSP: true });
  await page.evaluate(axe);
  const look = async (at, part, least) => {
    const found = await page.evaluate((part) => globalThis.axe.run(part ?? document, { runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"] }), part);
    const serious = found.violations.filter((one) => ["serious", "critical"].includes(one.impact));
    assert.deepEqual(serious.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`), [], `${name}, ${at}`);
    assert.ok(found.passes.length > least, "axe looked at something");
  };
  await look("the page", null, 10);
  for (const button of dialogs) {
    await page.getByRole("button", { name: button }).first().click();
    await look(button, "dialog", 5);
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  }
  await page.context().close();
}

async function observedFollowsWeights(page) {
  await until("both arms are observed", async () => share(await cell(page, "stable", "Observed")) > 0.5);
  await route(page).getByRole("button", { name: "Weights…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("canary").fill("60");
  await dialog.getByLabel("stable").fill("40");
  const moves = await dialog.locator(".moves tbody tr").allTextContents();
  assert.deepEqual(moves.map((text) => text.replace(/\s+/g, " ").trim()), ["● canary5 %60 % ▲ +55 %", "■ stable95 %40 % ▼ −55 %"]);
  await picture(page, "dialog-weights");
  await confirm(page, "Set these weights", "try it </script><b>bold</b>\n\u001b[31mred");
  await done(page);
  await until("the table shows what is configured", async () => (await cell(page, "canary", "Configured")) === "60 %");
  await until("what is observed follows", async () => share(await cell(page, "canary", "Observed")) > 0.2);
  const why = page.locator("#events li", { hasText: "Weights set" }).first();
  await why.waitFor();
  assert.match(await why.textContent(), /canary 5, stable 95 → canary 60, stable 40.*<\/script><b>bold<\/b>.*ada/s);
  assert.equal(await page.locator("#events b, #events script").count(), 0, "a reason is text");
  await route(page).getByRole("button", { name: "Reset weights…" }).click();
  await confirm(page, "Reset the weights", "enough");
  await done(page);
  await until("the file's weights are back", async () => (await cell(page, "canary", "Configured")) === "5 %");
}

async function staleTabIsRefused(page) {
  // One that is told of the change at once, and one that hears nothing any more.
  const told = await tab();
  const deaf = await tab({ allowed: ["409", "ERR_FAILED"] });
  for (const other of [told, deaf]) {
    await route(other).getByRole("button", { name: "Weights…" }).click();
    await other.getByRole("dialog").getByLabel("canary").fill("50");
  }
  const { generation } = await stage.read("/api/v1/routes/checkout");
  // The deaf tab's own knowledge stops here: its ticks are frozen as a sleeping laptop's would be.
  await deaf.evaluate(() => { JSON.parse = () => { throw new Error("asleep"); }; });
  await deaf.locator("#live[data-state=lost]").waitFor();
  await stage.post("/api/v1/routes/checkout/weights", { weights: { stable: 90, canary: 10 }, reason: "somebody else" });
  const alert = told.getByRole("dialog").getByRole("alert");
  await alert.getByText(`generation ${generation} is now ${generation + 1}`).waitFor().catch(async () => assert.match(await alert.textContent(), /changed while you were deciding/));
  assert.ok(await told.getByRole("button", { name: "Set these weights" }).isDisabled());
  await told.getByRole("button", { name: "Show what is now" }).click();
  assert.equal(await told.getByRole("dialog").getByLabel("canary").inputValue(), "10");
  const answered = deaf.waitForResponse((response) => response.request().method() === "POST");
  await confirm(deaf, "Set these weights", "too late");
  assert.equal((await answered).status(), 409);
  await deaf.getByRole("dialog").getByText("Refused: this page showed an older state.").waitFor();
  assert.equal((await stage.read("/api/v1/routes/checkout")).arms[0].weight, 10, "nothing moved");
  await Promise.all([told, deaf].map((other) => other.context().close()));
  await stage.post("/api/v1/routes/checkout/weights", { reset: true });
  await until("the file's weights are back", async () => (await cell(page, "canary", "Configured")) === "5 %");
}

async function rolloutReverts(page) {
  await stage.deploy("v2");
  await route(page).getByText("Rolling out v2").waitFor();
  await until("the first step is shown", async () => (await cell(page, "canary", "Configured")) === "10 %");
  assert.match(await route(page).locator(".track [aria-current=step]").textContent(), /10 %/);
  await until("the canary is observed", async () => share(await cell(page, "canary", "Requests/s")) > 0);
  await picture(page, "desktop-light");
  stage.origins.canary.failsEvery = 8;
  const bar = route(page).locator(".evidence > .scale > div");
  const width = async () => ((await bar.count()) ? Number.parseFloat(await bar.evaluate((element) => element.style.width)) : 0);
  await until("evidence grows", async () => (await width()) > 0);
  await route(page).getByText("Reverted v2").waitFor();
  assert.ok((await width()) > 75, "it went past its threshold");
  assert.match(await route(page).locator(".evidence").textContent(), /Harmful/);
  assert.match(await route(page).locator(".facts").textContent(), /canary: 500 on/);
  await until("no weight is left", async () => (await cell(page, "canary", "Configured")) === "0 %");
  const told = page.locator("#events li", { hasText: "→ Reverting" }).first();
  assert.match(await told.textContent(), /10 % → 0 %.*analyzer/s);
  assert.match(await page.locator("#announce").textContent(), /Revert/, "a screen reader hears it");
  await picture(page, "desktop-reverted");
}

async function abortByHand(page) {
  stage.origins.canary.failsEvery = 0;
  await stage.deploy("v3");
  await route(page).getByText("Rolling out v3").waitFor();
  await until("the first step is shown", async () => (await cell(page, "canary", "Configured")) === "10 %");
  await route(page).getByRole("button", { name: "Pause…" }).click();
  await confirm(page, "Pause", "look at it");
  await done(page);
  await route(page).getByText("Paused v3").waitFor();
  // With the keyboard alone, as one does in a hurry.
  await route(page).getByRole("button", { name: "Abort…" }).focus();
  await page.keyboard.press("Enter");
  assert.match((await page.getByRole("dialog").locator(".moves").textContent()).replace(/\s+/g, " "), /canary10 %0 % ▼ −10 %.*stable90 %100 % ▲ \+10 %/);
  await picture(page, "dialog-abort");
  await page.getByRole("dialog").getByRole("button", { name: "Abort now" }).focus();
  await page.keyboard.press("Enter");
  await done(page);
  await route(page).getByText("Aborted v3").waitFor();
  const { rollout, arms } = await stage.read("/api/v1/routes/checkout");
  assert.deepEqual([rollout.state, arms[0].weight], ["ABORTED", 0]);
}

async function hostileNames(page) {
  const card = page.locator("article.route").last();
  assert.equal(await card.getByRole("heading", { level: 2 }).textContent(), HOSTILE);
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  await card.getByRole("figure").first().waitFor();
  await until("its past is there", async () => (await card.locator(".plot path.line").count()) > 0);
}

// A window that is closed now holds a version back, until somebody says that it cannot wait.
async function overrules(page) {
  const [soon, later] = [6, 7].map((hours) => `${String((new Date().getUTCHours() + hours) % 24).padStart(2, "0")}:00`);
  await stage.break("v5", "bake: 1h", `windows: [{ days: [mon, tue, wed, thu, fri, sat, sun], between: ["${soon}", "${later}"] }], bake: 1h`);
  await route(page).getByText("Pending v5").waitFor();
  await route(page).locator(".waits", { hasText: "window: opens" }).waitFor();
  await route(page).getByRole("button", { name: "Overrule…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("No weight moves.").waitFor();
  await dialog.getByLabel("Despite the window or the budget").check();
  await confirm(page, "Go on all the same", "it cannot wait");
  await done(page);
  await route(page).getByText("Rolling out v5").waitFor();
  await until("the first step is shown", async () => (await cell(page, "canary", "Configured")) === "10 %");
}

async function everythingElse(page) {
  await route(page, "web").getByRole("button", { name: "Flip…" }).click();
  await confirm(page, "Flip now", "green it is");
  await done(page);
  await route(page, "web").getByText("green serves, blue is idle").waitFor();
  const slots = route(page, "web").locator(".panel", { hasText: "Blue and green" });
  await slots.getByText("It waits for").waitFor();
  assert.match(await slots.textContent(), /request.* to green/);
  assert.equal(await route(page, "web").getByRole("button", { name: "Flip…", exact: true }).count(), 0, "no second flip while one is watched");
  await route(page, "search").getByText("Where answers differ").waitFor();
  await route(page, "search").getByText("$.price").first().waitFor();
  await route(page).getByText("availability").waitFor();
  const { arms } = await stage.read("/api/v1/routes/checkout/past");
  const fresh = await tab();
  const line = route(fresh).locator(".chart:nth-child(2) path.line[data-arm='1']");
  await until("a fresh page shows all of the past", async () => (await line.getAttribute("d")).split("L").length >= arms.stable.length);
  await fresh.context().close();
}

async function pictures() {
  const looks = [["desktop-dark", DESKTOP, "dark"], ["phone-light", PHONE, "light"], ["phone-dark", PHONE, "dark"]];
  for (const [name, viewport, colorScheme] of looks) {
    const page = await tab({ viewport, colorScheme });
    await page.locator("#events li").first().waitFor();
    await until("its past is drawn", async () => (await route(page).locator(".chart:nth-child(2) path.line[data-arm='1']").getAttribute("d")).split("L").length > 3);
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(wider, 0, `${name} scrolls sideways`);
    await picture(page, name, { fullPage: name.startsWith("phone") });
    await page.context().close();
  }
}

// Between desktop and phone the arms' table once lost its last columns and squeezed its first.
async function everyWidth() {
  const page = await tab({ viewport: MIDDLE });
  await page.locator(".arm-name").first().waitFor();
  for (const width of [360, 640, 800, 1000, 1100, 1200, 1281, 1440, 1900]) {
    await page.setViewportSize({ ...MIDDLE, width });
    const found = await page.evaluate(() => {
      const wider = (element) => element.scrollWidth - element.clientWidth;
      const letter = (element) => Number.parseFloat(getComputedStyle(element).fontSize) / 2;
      const arms = [...document.querySelectorAll(".arms tbody th")];
      return {
        page: wider(document.documentElement),
        tables: [...document.querySelectorAll(".split .scroll")].map(wider).filter((by) => by > 0),
        squeezed: arms.filter((arm) => arm.getBoundingClientRect().width <= 6 * letter(arm)).map((arm) => arm.textContent),
        wrapped: [...document.querySelectorAll(".arm-name")].filter((arm) => arm.getClientRects().length > 1).map((arm) => arm.textContent),
      };
    });
    assert.deepEqual(found, { page: 0, tables: [], squeezed: [], wrapped: [] }, `at a width of ${width}`);
    if (width === MIDDLE.width) await picture(page, "middle-light");
  }
  await page.context().close();
}

// Many routes are searched, and nothing found is said.
async function routesAreFound(page) {
  const box = page.getByLabel("Find a route");
  await box.fill("EDG");
  await until("only it is left", async () => (await page.locator("article.route").count()) === 1);
  assert.match(await page.locator("#filter-count").textContent(), /1 of 5 routes/);
  await box.fill("nothing like it");
  await page.getByText("No route is named like “nothing like it”.").waitFor();
  await box.fill("");
  await until("all are back", async () => (await page.locator("article.route").count()) === 5);
}

// One bad moment long ago, with nothing before or after it.
async function lonePointIsSeen() {
  const page = await tab();
  const point = { atMillis: Date.now() - 300_000, millis: 5000, requests: 4, errors: 2, p50Ms: 3, p95Ms: 5, p99Ms: 5, share: 0.95 };
  await page.route("**/api/v1/routes/checkout/past", (asked) => asked.fulfill({ json: { route: "checkout", spanMillis: 900_000, arms: { stable: [point] } } }));
  await page.goto(stage.url);
  const dot = route(page).getByRole("figure").filter({ hasText: "Errors" }).locator("path.lone[data-arm='1']");
  await dot.waitFor({ state: "attached" });
  const { d, cap, width } = await dot.evaluate((element) => ({ d: element.getAttribute("d"), cap: getComputedStyle(element).strokeLinecap, width: Number.parseFloat(getComputedStyle(element).strokeWidth) }));
  assert.match(d, /^M[\d.]+ [\d.]+h/, "it is there");
  assert.ok(cap === "round" && width >= 4, "it is large enough to see");
  await page.context().close();
}

// Opens and closes a breaker by hand, from the arm's row and from the banner.
async function breakersTurn(page) {
  const card = route(page, "web");
  assert.deepEqual(await card.locator(".arms .key").evaluateAll((keys) => keys.map((key) => key.dataset.arm)), ["1", "2"], "blue is blue, green is green");
  await card.getByRole("button", { name: "Open breaker… green" }).click();
  const dialog = page.getByRole("dialog");
  assert.match((await dialog.locator(".moves").textContent()).replace(/\s+/g, " "), /web: green.*(0 %|–).*(503|other arms)/);
  await picture(page, "dialog-breaker");
  await confirm(page, "Open it", "try it");
  await done(page);
  await page.locator("#outages[role=status]").getByText("an operator holds its breaker open").waitFor();
  assert.match(await page.locator("#outages").textContent(), /green: .*Concerns web/);
  assert.match(await card.locator(".arms tbody tr", { hasText: "green" }).textContent(), /breaker held open/);
  assert.equal(await card.locator(".arms .arm-out:visible").count(), 1, "the other arm is well");
  await picture(page, "outage");
  // Closing lets requests in again: a page that is behind may not.
  await page.locator("#outages").getByRole("button", { name: "Close breaker…" }).click();
  await stage.post("/api/v1/upstreams/green/breaker", { state: "close", reason: "somebody was faster" });
  await dialog.getByRole("alert").getByText("It is closed already. Nothing was done.").waitFor();
  assert.ok(await dialog.getByRole("button", { name: "Close it" }).isDisabled());
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await card.getByRole("button", { name: "Open breaker… green" }).click();
  await confirm(page, "Open it", "try it again");
  await done(page);
  await page.locator("#outages").getByRole("button", { name: "Close breaker…" }).click();
  await confirm(page, "Close it", "enough");
  await done(page);
  await until("the banner goes", async () => !(await page.locator("#outages").textContent()).includes("green"));
  const told = page.locator("#events li", { hasText: "Breaker closed" }).first();
  assert.match(await told.textContent(), /green.*open → closed.*enough.*ada/s);
}

// Upstreams that really fail: probes that find nothing, requests that fail, and a trial.
async function upstreamsFail(page) {
  const { shaky, flaky } = stage.origins;
  const [card, banner] = [route(page, "edge"), page.locator("#outages[role=status]")];
  shaky.failsEvery = 1;
  flaky.failsEvery = 1;
  await banner.getByText("all of its endpoints are out").waitFor();
  assert.match(await banner.textContent(), /shaky: .*Concerns edge/);
  await until("its arm says so", async () => /all endpoints out/.test(await card.locator("tbody tr", { hasText: "shaky" }).textContent()));
  await until("its endpoint is down", async () => /✕ down/.test(await card.locator("tbody tr", { hasText: "shaky" }).locator(".endpoints").textContent()));
  await banner.getByText("its breaker is open, so it gets no requests").waitFor();
  await picture(page, "outages-real");
  // Its trial takes so long that it is seen.
  Object.assign(flaky, { failsEvery: 0, slow: 1500 });
  await banner.getByText("its breaker is half open").waitFor();
  await card.getByText("breaker on trial").waitFor();
  flaky.slow = 0;
  shaky.failsEvery = 0;
  await until("all is well again", async () => (await banner.textContent()) === "");
  const told = page.locator("#events li", { hasText: "Breaker opened" }).filter({ hasText: "flaky" });
  assert.match(await told.first().textContent(), /flaky.*(attempts failed|trial failed).*breaker/s);
}

// Whoever may only look sees every button, and why it is none for them.
async function viewersLook() {
  const page = await tab({ allowed: ["401"] });
  const dialog = page.getByRole("dialog");
  await page.getByRole("button", { name: "Token" }).click();
  await dialog.getByLabel("Token").fill("no such token is known here");
  await dialog.getByRole("button", { name: "Use it" }).click();
  await dialog.getByRole("alert").getByText("the token is wrong").waitFor();
  await dialog.getByLabel("Token").fill(stage.viewer);
  await dialog.getByRole("button", { name: "Use it" }).click();
  await page.getByText("View only: this token may only read").waitFor();
  const buttons = page.locator("button.does");
  const said = await buttons.evaluateAll((all) => all.map((one) => [one.getAttribute("aria-disabled"), one.title, document.getElementById(one.getAttribute("aria-describedby"))?.textContent]));
  assert.ok(said.length > 5, "there are buttons");
  for (const one of said) assert.deepEqual(one, ["true", "this token may only read", "View only: this token may only read"]);
  // By the keyboard and by the mouse, which go where the browser lets them.
  await route(page).getByRole("button", { name: "Weights…" }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Reload…" }).click({ force: true });
  await until("a screen reader hears why", async () => (await page.locator("#announce").textContent()) === "this token may only read");
  assert.equal(await dialog.isVisible(), false, "no dialog opens");
  await picture(page, "viewer");
  // An operator's token opens them.
  await page.getByRole("button", { name: "Token: viewer" }).click();
  await dialog.getByLabel("Token").fill(stage.token);
  await dialog.getByRole("button", { name: "Use it" }).click();
  await until("buttons work", async () => (await page.locator("button.does[aria-disabled]").count()) === 0);
  await page.context().close();
}

// The file differs from what serves: what a load would change is shown before it is done.
async function reloads(page) {
  const [button, dialog] = [page.getByRole("button", { name: "Reload…" }), page.getByRole("dialog")];
  const serves = async () => (await stage.read("/api/v1/status")).generation;
  const before = await serves();
  await stage.break("", "split: { stable: 95, canary: 5 }", "split: { stable: 93, canary: 7 }");
  await until("the file is loaded", async () => (await cell(page, "canary", "Configured")) === "7 %");
  await stage.post("/api/v1/config/rollback", { generation: before, reason: "not yet" });
  await until("the one before serves", async () => (await cell(page, "canary", "Configured")) === "5 %");
  await until("the page knows", async () => (await page.locator("#instance").textContent()).includes(`generation ${await serves()} `));
  await button.click();
  const changes = dialog.locator(".changes");
  await changes.getByText("checkout").first().waitFor();
  assert.match(await changes.textContent(), /canary.*5.*7.*2(\.0+)? % of sticky users move/s);
  assert.equal(await cell(page, "canary", "Configured"), "5 %", "nothing is applied yet");
  await picture(page, "dialog-reload");
  await confirm(page, "Load it", "now it may");
  await done(page);
  await until("it is in force", async () => (await cell(page, "canary", "Configured")) === "7 %");
  // A file that is refused says what is wrong with it, and nothing can be confirmed.
  await stage.break("", "hostnames: [web.test]", "hostnames: [web.test]\n    nonsense: 1");
  await page.getByText("What refuses the configuration").waitFor();
  await button.click();
  await dialog.getByRole("alert").getByText("the configuration has errors").waitFor();
  assert.match(await dialog.getByRole("alert").textContent(), /unknown key `nonsense`/);
  assert.equal(await dialog.getByRole("button", { name: "Load it" }).count(), 0);
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await stage.deploy("");
  await until("the file's weights are back", async () => (await cell(page, "canary", "Configured")) === "5 %");
}

// Promoted by hand, then walked back by one step, and stopped.
async function finishes(page) {
  await stage.deploy("v4");
  await route(page).getByText("Rolling out v4").waitFor();
  await until("the first step is shown", async () => (await cell(page, "canary", "Configured")) === "10 %");
  for (const share of ["95 %", "100 %"]) {
    await route(page).getByRole("button", { name: "Promote…" }).click();
    const dialog = page.getByRole("dialog");
    assert.ok((await dialog.locator(".moves").textContent()).replace(/\s+/g, " ").includes(`%${share} ▲`), "what is shown is what comes");
    await dialog.getByLabel("Despite what speaks against it").check();
    await confirm(page, "Promote", "it is good");
    await done(page);
    await until("it has everything", async () => (await cell(page, "canary", "Configured")) === share);
  }
  await route(page).getByText("Promoted v4").waitFor();
  await picture(page, "desktop-promoted");
  await route(page).getByRole("button", { name: "Finish…" }).click();
  const dialog = page.getByRole("dialog");
  assert.match((await dialog.locator(".moves").textContent()).replace(/\s+/g, " "), /canary100 %90 % ▼ −10 %.*stable0 %10 % ▲ \+10 %/);
  await confirm(page, "Finish", "stable has it too");
  await done(page);
  await until("traffic walks back", async () => (await cell(page, "stable", "Configured")) === "10 %");
  await route(page).getByRole("button", { name: "Abort…" }).click();
  assert.match((await dialog.locator(".moves").textContent()).replace(/\s+/g, " "), /canary90 %100 % ▲ \+10 %.*stable10 %0 % ▼ −10 %/);
  await confirm(page, "Abort now", "enough of it");
  await done(page);
  await until("it stays where it was", async () => (await cell(page, "canary", "Configured")) === "100 %");
  await route(page).getByRole("button", { name: "Roll back…" }).click();
  await confirm(page, "Roll back now", "the old one, then");
  await done(page);
  await until("nobody is left on it", async () => (await cell(page, "canary", "Configured")) === "0 %");
}

async function zeroIsWarnedOf(page) {
  await route(page, "search").getByRole("button", { name: "Weights…" }).click();
  const dialog = page.getByRole("dialog");
  const warning = dialog.locator(".warning");
  assert.equal(await warning.textContent(), "");
  for (const arm of ["stable", "canary"]) await dialog.getByLabel(arm).fill("0");
  assert.equal(await warning.textContent(), "", "what is typed is meant");
  await dialog.getByLabel("third").fill("");
  assert.match(await warning.textContent(), /everybody gets 503.*Empty counts as 0: third/s);
  await dialog.getByLabel("third").fill("0");
  const meant = dialog.getByLabel("Everybody gets 503 then, and that is meant");
  assert.equal(await meant.evaluate((box) => box.required && !box.checked), true, "it must be said");
  await picture(page, "dialog-zero");
  await dialog.getByLabel("third").fill("1");
  assert.equal(await meant.count(), 0, "only where nobody is left");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  const refused = await stage.post("/api/v1/routes/search/weights", { weights: { stable: 0 } });
  assert.equal(refused.code, "no-weight-left");
}

async function drains(page) {
  const last = page.locator("#instance[data-status=draining]");
  stage.stop();
  await Promise.race([last.waitFor(), page.locator("#live[data-state=lost]").waitFor()]);
}

// A browser that hangs must not leave a proxy behind.
const late = setTimeout(() => browser.close(), WHOLE);

try {
  const page = await tab({ allowed: ["422", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE"] });
  const acts = { hostileNames, everyWidth, routesAreFound, lonePointIsSeen, breakersTurn, upstreamsFail, viewersLook, zeroIsWarnedOf, observedFollowsWeights, staleTabIsRefused, reloads, rolloutReverts, abortByHand, finishes, overrules, everythingElse };
  for (const [name, act] of Object.entries(acts)) {
    await act(page);
    step(name);
  }
  await pictures();
  step("pictures");
  await accessible("light", ["Open breaker… green", "Reload…"], { colorScheme: "light" });
  await accessible("dark, narrow", ["Flip back…"], { colorScheme: "dark", viewport: PHONE });
  step("accessible");
  await drains(page);
  step("drains");
  assert.deepEqual(wrong, [], "the console");
} catch (error) {
  console.error(`${error.stack}\nconsole: ${wrong.join("\n")}\nproxy: ${stage.said().slice(-3000)}`);
  const pages = browser.contexts().flatMap((context) => context.pages());
  await Promise.all(pages.map((page, at) => picture(page, `failed-${at}`).catch(() => {})));
  process.exitCode = 1;
} finally {
  clearTimeout(late);
  await browser.close();
  await stage.close();
}
