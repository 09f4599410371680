// Sessions of express-session in connect-redis, over HTTP.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.SESSIONS_LIBRARIES + "/node/");
const express = require("express");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");

const versions = ["express-session", "connect-redis"].map((name) => {
  const folder = `${process.env.SESSIONS_LIBRARIES}/node/node_modules/${name}`;
  return `${name} ${JSON.parse(readFileSync(`${folder}/package.json`)).version}`;
});
const client = createClient({ url: `redis://127.0.0.1:${process.env.SESSIONS_REDIS_PORT}` });
await client.connect();

const listening = [];
async function app(options, store = {}) {
  const server = express();
  server.use(express.json());
  server.use(session({ resave: false, saveUninitialized: true, store: new RedisStore({ client, ...store }), ...options }));
  server.post("/", (request, response) => {
    Object.assign(request.session, request.body);
    response.json(request.sessionID);
  });
  server.get("/", (request, response) => {
    const { cookie, ...said } = request.session;
    response.json(said);
  });
  const socket = await new Promise((resolve) => {
    const socket = server.listen(0, "127.0.0.1", () => resolve(socket));
  });
  listening.push(socket);
  return `http://127.0.0.1:${socket.address().port}/`;
}

async function login(url, content) {
  const headers = { "content-type": "application/json" };
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(content) });
  return { id: await response.json(), cookie: response.headers.get("set-cookie").split(";")[0] };
}

const said = async (url, cookie) => (await fetch(url, { headers: { cookie } })).json();

function tell(fields) {
  console.log(JSON.stringify({ format: "express", name: "connect.sid", prefix: "sess:", made_by: versions.join(", "), ...fields }));
}

const contents = JSON.parse(readFileSync(0));
const secret = "keyboard cat";
const url = await app({ secret, cookie: { maxAge: 3_600_000 } });
for (const [name, content] of Object.entries(contents)) {
  const made = await login(url, content);
  tell({ case: name, secrets: [secret], ...made, said: await said(url, made.cookie) });
}

const forever = await app({ secret });
const browser = await login(forever, contents.plain);
tell({ case: "until the browser ends", secrets: [secret], ...browser, said: await said(forever, browser.cookie) });

const dotted = await app({ secret, genid: () => "a.b/c+d" });
const named = await login(dotted, contents.plain);
tell({ case: "dots in the id", secrets: [secret], ...named, said: await said(dotted, named.cookie) });

const lone = await login(url, { user_id: "\ud800", name: "after" });
tell({ case: "half a character", secrets: [secret], ...lone, said: { name: "after" }, nothing: ["user_id"] });

const rotated = await app({ secret: ["neu \u00fc", secret] });
const old = await login(url, contents.plain);
tell({ case: "old secret", secrets: ["neu \u00fc", secret], ...old, said: await said(rotated, old.cookie) });
const fresh = await login(rotated, contents.plain);
tell({ case: "new secret", secrets: ["neu \u00fc", secret], ...fresh, said: await said(rotated, fresh.cookie) });

const strange = await app({ secret: "another" });
if (Object.keys(await said(strange, old.cookie)).length > 0) throw new Error("a foreign secret was accepted");
tell({ case: "another secret", secrets: ["another"], ...old, miss: "wrong_signature" });

// The store moves only the end of the key with each request, and nobody looks at `expires` in the record.
const brief = await app({ secret, cookie: { maxAge: 2000 } });
const active = await login(brief, contents.plain);
for (let second = 0; second < 3; second++) {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await said(brief, active.cookie);
}
tell({ case: "active beyond its first end", secrets: [secret], ...active, now_ms: Date.now(), said: await said(brief, active.cookie) });

listening.forEach((socket) => {
  socket.close();
  socket.closeAllConnections();
});
await client.quit();
