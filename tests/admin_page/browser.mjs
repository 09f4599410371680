// The admin page in a real browser, of a real gateway with a real Redis: `just admin-page`. Prints each thing that holds, and
// ends with 1 if one does not.
//
// Arguments: the gateway's program, a folder with the libraries, and, if pictures are wanted, a folder for them.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [gateway, libraries, pictures] = process.argv.slice(2);
const { chromium } = createRequire(resolve(libraries, "node") + "/")("playwright-core");
const folder = mkdtempSync(join(tmpdir(), "slidegate-page-"));
const running = [];
const TOKEN = "a-token-of-the-page";
const PATIENCE = { timeout: 20_000 };

function start(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "ignore"] });
  running.push(child);
  return child;
}

async function listening(handler) {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

async function freePort() {
  const server = await listening();
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function holds(what, is, found) {
  console.log(`${is ? "holds" : "FAILS"}: ${what}${is ? "" : `: ${JSON.stringify(found)}`}`);
  if (!is) process.exitCode = 1;
}

async function answers(url) {
  for (let left = 200; left > 0; left -= 1) {
    try {
      return await fetch(url);
    } catch {
      await new Promise((later) => setTimeout(later, 50));
    }
  }
  throw new Error(`nobody answers at ${url}`);
}

const upstream = await listening((_, response) => response.end("hello\n"));
const redisPort = await freePort();
const serveRedis = () => start("redis-server", ["--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--dir", folder]);

async function served(name, token) {
  const [port, admin] = [await freePort(), await freePort()];
  const file = join(folder, `${name}.yaml`);
  writeFileSync(file, `listen: 127.0.0.1:${port}
admin: {listen: 127.0.0.1:${admin}${token}}
routes: [{name: shop, upstream: "http://127.0.0.1:${upstream.address().port}"}]
redis: {names: {redis.static: "redis://127.0.0.1:${redisPort}"}}
log: {access: false}
filter:
  rule_name: api keys
  rule_items:
    - {limit_by_per_header: x-api-key, limit_keys: [{key: "*", query_per_minute: 20}]}
    - {limit_by_per_ip: from-remote-addr, limit_keys: [{key: "0.0.0.0/0", query_per_minute: 500}]}
  redis: {service_name: redis.static}
`);
  start(gateway, ["serve", file]);
  await answers(`http://127.0.0.1:${admin}/healthz`);
  return { url: `http://127.0.0.1:${port}/`, page: `http://127.0.0.1:${admin}/` };
}

let browser;
try {
  const redis = serveRedis();
  const open = await served("open", "");
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1_100, height: 1_000 } });
  const page = await context.newPage();
  const said = [];
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(open.page);
  await page.waitForSelector("#all:not([hidden])", PATIENCE);

  const ask = async (key) => (await fetch(open.url, { headers: { "x-api-key": key } })).status;
  const statuses = [];
  for (let round = 0; round < 30; round += 1) statuses.push(await ask("a"), await ask("b"));
  const refused = statuses.filter((status) => status === 429).length;
  holds("the limits hold", refused === 20, refused);

  const cell = (column) => page.textContent(`#rules tr:first-child > :nth-child(${column})`);
  await page.waitForFunction(() => document.querySelector("#rules tr > :nth-child(7)")?.textContent === "20", null, PATIENCE);
  const rule = [await cell(1), await cell(6), await cell(7)];
  holds("what curl caused is shown", JSON.stringify(rule) === '["api keys","40","20"]', rule);
  const said1 = await page.textContent("#said");
  holds("the gateway and its Redis answer", said1 === "The gateway and its Redis answer.", said1);
  await page.waitForFunction(() => /^40 admitted, 20 refused/.test(document.querySelector("#sums").textContent), null, PATIENCE);
  holds("the last five minutes tell of it", true);
  const described = await page.getAttribute("#chart", "aria-label");
  holds("the chart is told in words", described.includes("40 admitted, 20 refused"), described);
  const understood = await page.textContent("#understood");
  holds("the configuration is told", understood.includes("20 per 1m"), understood);
  const route = await page.textContent("#requests");
  holds("requests are told by route", /shop.*20/.test(route), route);

  if (pictures) {
    const load = setInterval(() => void Promise.all(["a", "b", "c", "d"].map(ask)).catch(() => {}), 60);
    await new Promise((later) => setTimeout(later, 45_000));
    await page.screenshot({ path: join(pictures, "admin-page.png"), fullPage: true });
    clearInterval(load);
  }

  redis.kill("SIGKILL");
  await page.waitForFunction(() => /does not answer/.test(document.querySelector("#said").textContent), null, PATIENCE);
  holds("a Redis that is away is told", true);
  await ask("a");
  await page.waitForFunction(() => /down: /.test(document.querySelector("#redis").textContent), null, PATIENCE);
  serveRedis();
  await page.waitForFunction(() => document.querySelector("#said").className === "good", null, PATIENCE);
  holds("and that it is back", true);

  for (const width of [360, 1_100]) {
    await page.setViewportSize({ width, height: 800 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    holds(`nothing is cut off at a width of ${width}`, wide <= 0, wide);
  }
  const contrast = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    contrast.push(...(await page.evaluate(() => {
      const light = (text) => {
        const [r, g, b] = text.match(/[\d.]+/g).slice(0, 3).map((part) => {
          const share = part / 255;
          return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const paper = light(getComputedStyle(document.documentElement).backgroundColor);
      return [...document.querySelectorAll("h1, .faint, .good, .bad, th, td, pre")].map((element) => {
        const ink = light(getComputedStyle(element).color);
        return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
      });
    })));
  }
  holds("every text is legible, in light and dark", Math.min(...contrast) >= 4.5, Math.min(...contrast));
  await page.emulateMedia({ colorScheme: "light" });

  const outside = asked.filter((url) => !url.startsWith(open.page) && !url.startsWith("data:"));
  holds("nobody else is asked", outside.length === 0, outside);
  holds("the console has no errors", said.length === 0, said);
  const before = asked.length;
  await page.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
  });
  await new Promise((later) => setTimeout(later, 5_000));
  holds("a page that nobody sees does not ask", asked.length <= before + 1, asked.length - before);

  const secret = await served("secret", `, token: ${TOKEN}`);
  const guarded = await context.newPage();
  await guarded.goto(secret.page);
  await guarded.waitForSelector("#token:not([hidden])", PATIENCE);
  await guarded.fill("#shown-token", "not-the-token-of-it");
  await guarded.press("#shown-token", "Enter");
  await guarded.waitForFunction(() => document.querySelector("#said").textContent === "That is not the token.", null, PATIENCE);
  await guarded.fill("#shown-token", TOKEN);
  await guarded.press("#shown-token", "Enter");
  await guarded.waitForSelector("#all:not([hidden])", PATIENCE);
  holds("with a token the page asks for it, by the keyboard", await guarded.isHidden("#token"));
} catch (error) {
  console.log(`FAILS: ${error.stack}`);
  process.exitCode = 1;
} finally {
  await browser?.close();
  running.forEach((child) => child.kill("SIGKILL"));
  upstream.close();
  rmSync(folder, { recursive: true, force: true });
}
