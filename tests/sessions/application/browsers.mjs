// A real application behind the gateway, and real browsers before it: `just session-browsers`. Prints each thing that
// holds, and ends with 1 if one does not.
//
// Arguments: the gateway's program, a folder with the libraries, and, if a picture is wanted, its file.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const [gateway, libraries, picture] = process.argv.slice(2);
const require = createRequire(resolve(libraries, "node") + "/");
const { chromium } = require("playwright-core");
const here = import.meta.dirname;
const folder = mkdtempSync(join(tmpdir(), "slidegate-browsers-"));
const running = [];

function start(program, args, environment = {}) {
  const child = spawn(program, args, { env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "inherit"] });
  running.push(child);
  return child;
}

/** The first line that a program prints of which something is made. */
async function line(child, make) {
  for await (const text of createInterface({ input: child.stdout })) {
    const made = make(text);
    if (made) {
      child.stdout.resume();
      return made;
    }
  }
  throw new Error("a program ended that was to go on");
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function holds(what, found, expected) {
  const is = JSON.stringify(found) === JSON.stringify(expected);
  console.log(`${is ? "holds" : "FAILS"}: ${what}${is ? "" : `: ${JSON.stringify(found)} and not ${JSON.stringify(expected)}`}`);
  if (!is) process.exitCode = 1;
}

try {
  const redisPort = await freePort();
  const redis = `redis://127.0.0.1:${redisPort}`;
  const server = start("redis-server", ["--port", redisPort, "--bind", "127.0.0.1", "--save", "", "--dir", folder]);
  await line(server, (text) => text.includes("Ready to accept connections"));
  const application = start(process.execPath, [join(here, "application.mjs")], {
    SESSIONS_LIBRARIES: resolve(libraries),
    SESSIONS_REDIS: redis,
  });
  const upstream = await line(application, Number);
  const [port, admin] = [await freePort(), await freePort()];
  const settings = join(folder, "gateway.yaml");
  writeFileSync(settings, `listen: 127.0.0.1:${port}
admin: 127.0.0.1:${admin}
routes:
  - {name: assets, path_prefix: /assets, upstream: "http://127.0.0.1:${upstream}"}
  - {name: icon, path_prefix: /favicon.ico, upstream: "http://127.0.0.1:${upstream}"}
  - {name: pages, upstream: "http://127.0.0.1:${upstream}"}
redis: ${redis}
workers: 1
filters:
  - session:
      format: express
      secrets: keyboard cat
      fields: {user.id: x-user-id}
      on_missing: {redirect: /login}
      public: ["/assets/*"]
      remember: 1m
  - rule_name: users
    exempt: {routes: [assets, icon]}
    rule_items:
      - {limit_by_per_session: user.id, limit_keys: [{key: "*", query_per_hour: 6}]}
`);
  start(gateway, ["serve", settings]);
  const origin = `http://127.0.0.1:${port}`;
  for (;;) {
    const health = await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => null);
    if (health?.ok) break;
    await new Promise((soon) => setTimeout(soon, 50));
  }

  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  // A context has cookies of its own, as another browser.
  const open = async () => {
    const context = await browser.newContext({ viewport: { width: 720, height: 320 }, deviceScaleFactor: 2 });
    return context.newPage();
  };
  const login = async (page, name) => {
    await page.goto(origin + "/login");
    await page.fill("input[name=name]", name);
    const [response] = await Promise.all([page.waitForNavigation(), page.click("button")]);
    return response.status();
  };
  const seen = async (page) => [await page.textContent("#own"), await page.textContent("#told")];
  const status = async (page) => (await page.goto(origin + "/")).status();

  const first = await open();
  await first.goto(origin + "/");
  holds("who has not logged in is sent to the page to log in", new URL(first.url()).pathname, "/login");
  const font = await first.evaluate(() => getComputedStyle(document.body).fontFamily);
  holds("what that page needs is there too", font.includes("DejaVu"), true);
  await login(first, "alice");
  holds("who logs in is known, to the application and to the gateway", await seen(first), ["alice", "alice"]);
  if (picture) await first.screenshot({ path: picture });

  const second = await open();
  await login(second, "alice");
  holds("in another browser too", await seen(second), ["alice", "alice"]);
  const third = await open();
  await login(third, "bob");
  holds("another user is another one", await seen(third), ["bob", "bob"]);

  // Each has been at `/` once since the log-in.
  holds("both browsers of a user share a limit", [await status(first), await status(second), await status(first), await status(second), await status(first), await status(second)], [200, 200, 200, 200, 429, 429]);
  holds("which another user does not", await status(third), 200);

  await Promise.all([third.waitForNavigation(), third.click("button")]);
  holds("who logs out is sent to the page to log in", new URL(third.url()).pathname, "/login");
  await third.goto(origin + "/");
  holds("and is nobody at once", new URL(third.url()).pathname, "/login");

  const claims = await fetch(origin + "/", { headers: { "x-user-id": "alice", x_user_id: "alice", accept: "*/*" } });
  holds("who only claims to be somebody is nobody, and a program gets 401", claims.status, 401);
  const invented = await fetch(origin + "/", { headers: { cookie: "connect.sid=s%3Aabc.def", accept: "text/html" }, redirect: "manual" });
  holds("an invented cookie is no session", [invented.status, invented.headers.get("location")], [302, "/login"]);
  await browser.close();
} finally {
  for (const child of running.reverse()) {
    child.kill();
    if (child.exitCode === null) await once(child, "exit");
  }
  rmSync(folder, { recursive: true });
}
