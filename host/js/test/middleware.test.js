/** The package as npm packs it, installed elsewhere, in an application that is driven by real HTTP. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request as send } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

import { RedisServer } from "./redis-server.js";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
const KINDS = ["express", "fastify", "fetch"];
const BY_KEY = { limit_by_per_header: "x-key", limit_keys: [{ key: "*", limit: 2, window: "1h" }] };
const LOCAL = {
  rule_name: "local",
  rule_items: [BY_KEY],
  show_limit_quota_header: true,
  rejected_msg: "slower",
  rejected_code: 429,
};
const quiet = { log: () => {} };

let folder, application, redis;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "slidegate-js-"));
  const npm = (...words) =>
    execFileSync("npm", [...words, "--silent", "--offline", "--no-audit", "--no-fund"], { cwd: folder });
  execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: PACKAGE });
  const [tarball] = readdirSync(folder).filter((file) => file.endsWith(".tgz"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  npm("install", `./${tarball}`);
  for (const name of ["express", "fastify", "ioredis"]) {
    symlinkSync(join(PACKAGE, "node_modules", name), join(folder, "node_modules", name));
  }
  cpSync(join(PACKAGE, "test/application"), folder, { recursive: true });
  application = await import(pathToFileURL(join(folder, "servers.mjs")).href);
  redis = await RedisServer.start();
});

after(async () => {
  await redis?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

async function serving(kind, config, options, use) {
  const filter = await application.Filter.start(config, { ...quiet, ...options });
  const server = await application.servers[kind](filter, options?.respond);
  try {
    await use(server.port, filter);
  } finally {
    await server.close();
    await filter.close();
  }
}

function get(port, { path = "/", headers = {}, method = "GET", body } = {}) {
  return new Promise((resolve, reject) => {
    const request = send({ port, host: "127.0.0.1", path, headers, method, agent: false }, (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("end", () =>
        resolve({
          status: response.statusCode,
          headers: response.headers,
          body: String(Buffer.concat(pieces)),
          message: response.statusMessage,
        }),
      );
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** A client of the application's ioredis, as its documentation says. */
async function withRedis(use) {
  const client = new application.Redis(redis.url, application.ioredisOptions);
  client.on("error", () => {});
  await once(client, "ready");
  try {
    await use({ redis: application.ioredis(client) }, client);
  } finally {
    client.disconnect();
  }
}

test("the package brings no dependencies, and what it names is there", () => {
  const installed = readdirSync(join(folder, "node_modules")).filter((name) => !name.startsWith("."));
  assert.deepEqual(installed.sort(), ["express", "fastify", "ioredis", "slidegate"]);
  assert.deepEqual(readdirSync(join(folder, "node_modules/slidegate")).sort(), [
    "README.md",
    "dist",
    "package.json",
    "src",
  ]);
  const packed = readdirSync(join(folder, "node_modules/slidegate/dist")).sort();
  assert.deepEqual(packed, ["LICENSE", "slidegate.wasm", "types"]);
});

test("its types are those of what it exports", () => {
  const tsc = join(PACKAGE, "node_modules/.bin/tsc");
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext"];
  execFileSync(tsc, [...options, "types.ts"], { cwd: folder, stdio: "inherit" });
});

for (const kind of KINDS) {
  describe(kind, () => {
    test("quota stands on what passes, in place of the application's, and refusals are the filter's", async () => {
      await serving(kind, LOCAL, {}, async (port) => {
        for (const remaining of ["1", "0"]) {
          const { status, headers, body } = await get(port, { path: "/a", headers: { "x-key": "a" } });
          assert.deepEqual(
            [status, headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]],
            [200, "2", remaining],
          );
          assert.equal(body, '{"user":null,"custom":null}');
        }
        const { status, headers, body } = await get(port, { path: "/a", headers: { "x-key": "a" } });
        assert.deepEqual(
          [status, body, headers["content-length"], headers["content-type"]],
          [429, "slower", "6", "text/plain"],
        );
        assert.deepEqual([headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]], ["2", "0"]);
        assert.equal((await get(port, { headers: { "x-key": "b" } })).status, 200);
        assert.equal((await get(port)).headers["x-ratelimit-limit"], "application");
      });
    });

    test("whoever sends other bytes is another, and repeated fields are what they are", async () => {
      const config = { ...LOCAL, rule_items: [{ ...BY_KEY, limit_keys: [{ key: "*", limit: 1, window: "1h" }] }] };
      await serving(kind, config, {}, async (port) => {
        for (const value of ["\xff\xfe", "\xff\xff", "\xe4"]) {
          assert.deepEqual(
            [await get(port, { headers: { "x-key": value } }), await get(port, { headers: { "x-key": value } })].map(
              ({ status }) => status,
            ),
            [200, 429],
          );
        }
      });
    });

    test("the peer's address, the route and the path are told", async () => {
      const one = { key: "*", limit: 1, window: "1h" };
      const rule = (name, item, more) => ({ rule_name: name, rule_items: [item], ...more });
      const byPeer = { limit_by_per_ip: "from-remote-addr", limit_keys: [{ ...one, key: "127.0.0.0/8" }] };
      const byParam = { limit_by_per_param: "k", limit_keys: [one] };
      const statuses = async (config, paths) => {
        const seen = [];
        await serving(kind, config, {}, async (port) => {
          for (const path of paths) seen.push((await get(port, { path })).status);
        });
        return seen;
      };
      assert.deepEqual(await statuses(rule("peer", byPeer), ["/", "/"]), [200, 429]);
      assert.deepEqual(await statuses(rule("param", byParam), ["/?k=a", "/b?k=a", "/?k=b"]), [200, 429, 200]);
      assert.deepEqual(await statuses(rule("absolute", byParam), ["/?k=a", "http://example.com/b?k=a"]), [200, 429]);
      const ofRoute = { _rules_: [{ ...rule("route", byParam), _match_route_: ["shop"] }] };
      assert.deepEqual(await statuses(ofRoute, ["/?k=a", "/?k=a"]), [200, 429]);
    });

    test("a session's user is told to the application, and the client cannot tell it", async () => {
      const session = {
        format: "json",
        cookie: "sid",
        key_prefix: "app:",
        fields: { user: "x-user" },
        redis: { service_name: "redis.static" },
      };
      await withRedis(async (options, client) => {
        await client.set("app:a", '{"user": "alice"}');
        await serving(kind, { session }, options, async (port) => {
          const told = async (headers) => JSON.parse((await get(port, { headers })).body);
          assert.deepEqual(await told({ cookie: "sid=a", "x-user": "root", "x-custom": "c" }), {
            user: "alice",
            custom: "c",
          });
          assert.deepEqual(await told({ "x-user": "root" }), { user: null, custom: null });
        });
      });
    });

    test("a limit in Redis is one for all processes, and holds when requests come together", async () => {
      const config = {
        rule_name: `shared-${kind}`,
        global_threshold: { limit: 10, window: "1h" },
        redis: { service_name: "redis.static" },
      };
      await withRedis(async (options) => {
        await serving(kind, config, options, async (one) => {
          await serving(kind, config, options, async (other) => {
            const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => get(index % 2 ? one : other)));
            assert.equal(answers.filter(({ status }) => status === 200).length, 10);
            assert.equal(answers.filter(({ status }) => status === 429).length, 30);
          });
        });
      });
    });
  });
}

test("heads that are written whole, and their reasons, are edited too", async () => {
  await serving("express", LOCAL, {}, async (port) => {
    const { status, message, headers } = await get(port, { path: "/head", headers: { "x-key": "a" } });
    assert.deepEqual([status, message, headers["x-own"], headers["x-ratelimit-limit"]], [201, "Made", "1", "2"]);
  });
});

test("a response waits for what the filter does in Redis by its headers", async () => {
  const config = {
    cookie_vault: { cookies: ["token"], secrets: ["hush"], key_prefix: "v:", redis: { service_name: "redis.static" } },
  };
  for (const kind of ["express", "fastify"]) {
    await withRedis(async (options) => {
      await serving(kind, config, options, async (port) => {
        const { status, headers, body } = await get(port, { path: "/token" });
        assert.deepEqual([status, body], [200, "piece by piece"]);
        const kept = headers["set-cookie"].find((cookie) => cookie.startsWith("token="));
        assert.match(kept, /^token=[\w-]{43}; Path=\/$/);
        assert.ok(headers["set-cookie"].includes("other=1"));
        assert.equal(
          (await get(port, { path: "/cookies", headers: { cookie: kept.split(";")[0] } })).body,
          "token=secret",
        );
        assert.equal((await get(port, { path: "/cookies", headers: { cookie: "token=secret" } })).body, "none");
      });
    });
  }
});

test("a client that leaves while Redis is silent ends its stream, and the application hears nothing", async () => {
  const own = await RedisServer.start();
  const client = new application.Redis(own.url, application.ioredisOptions);
  client.on("error", () => {});
  const config = {
    rule_name: "left",
    global_threshold: { query_per_hour: 5 },
    redis: { service_name: "redis.static", timeout: 400 },
  };
  const filter = await application.Filter.start(config, { ...quiet, redis: application.ioredis(client) });
  let handled = 0;
  let heard = 0;
  const server = await application.servers.fetch(filter, () => new Response(String(++handled)));
  const other = await application.servers.express(filter, () => (heard += 1));
  try {
    assert.equal((await get(other.port)).status, 200);
    own.pause();
    const socket = connect(other.port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    await sleep(100);
    socket.destroy();
    // Its time is over, and by default requests pass then.
    assert.equal((await get(server.port)).status, 200);
    assert.equal(handled, 1);
    assert.equal(heard, 1, "what was answered before is all that it heard");
    assert.match(filter.metrics(), /slidegate_degraded_decisions_total\{rule="left",mode="open"\} [12]\n/);
  } finally {
    await server.close();
    await other.close();
    await filter.close();
    client.disconnect();
    await own.stop();
  }
});

test("what needs bodies is refused by middleware that does not show them, and done by fetch's", async () => {
  const config = { rule_name: "tokens", global_threshold: { token_per_hour: 10 } };
  for (const kind of ["express", "fastify"]) {
    const filter = await application.Filter.start(config, quiet);
    await assert.rejects(application.servers[kind](filter), /use `slidegate\/fetch`/);
    await filter.close();
  }
  const usage = JSON.stringify({ choices: [], usage: { prompt_tokens: 4, completion_tokens: 8, total_tokens: 12 } });
  const respond = () => new Response(usage, { headers: { "content-type": "application/json" } });
  await serving("fetch", config, { respond }, async (port) => {
    const ask = () =>
      get(port, {
        method: "POST",
        path: "/v1/chat/completions",
        headers: { "content-type": "application/json" },
        body: '{"model":"m"}',
      });
    const first = await ask();
    assert.deepEqual([first.status, first.body], [200, usage]);
    assert.equal((await ask()).status, 429);
  });
});

test("a request whose body a filter changes does not say how long it was", async () => {
  const config = { rule_name: "usage", request_usage: true, global_threshold: { token_per_hour: 1_000 } };
  const respond = async (request) => {
    return Response.json({ length: request.headers.get("content-length"), sent: await request.text() });
  };
  await serving("fetch", config, { respond }, async (port) => {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ model: "m", stream: true, messages: [] });
    const answer = await get(port, { method: "POST", path: "/v1/chat/completions", headers, body });
    const { length, sent } = JSON.parse(answer.body);
    assert.deepEqual([length, JSON.parse(sent).stream_options], [null, { include_usage: true }]);
  });
});

test("the example of the README is one", async () => {
  const [, code] = /```js\n([^]*?)```/.exec(readFileSync(join(PACKAGE, "README.md"), "utf8"));
  const example = code.replace("redis://127.0.0.1:6379", redis.url);
  writeFileSync(join(folder, "example.mjs"), `${example}\nexport { app, client, filter };\n`);
  const { app, client, filter } = await import(pathToFileURL(join(folder, "example.mjs")).href);
  app.get("/", (request, response) => response.send("ok"));
  const server = app.listen(0, "127.0.0.1");
  await once(server, "listening");
  const answers = [];
  for (let count = 0; count < 101; count += 1) {
    answers.push(await get(server.address().port, { headers: { "x-api-key": "a" } }));
  }
  assert.deepEqual(
    answers.slice(99).map(({ status }) => status),
    [200, 429],
  );
  assert.equal(answers[0].headers["x-ratelimit-remaining"], "99");
  server.close();
  await filter.close();
  client.disconnect();
});

test("a configuration with mistakes tells where they are", async () => {
  const wrong = {
    rule_name: "a",
    rule_items: [{ limit_by_per_header: "x", limit_keys: [{ key: "*", query_per_secnd: 1 }] }],
  };
  await assert.rejects(application.Filter.start(wrong, quiet), (error) => {
    assert.ok(error instanceof application.ConfigurationError);
    assert.equal(error.mistakes[0].path, "rule_items[0].limit_keys[0].query_per_secnd");
    assert.match(error.message, /query_per_second/);
    return true;
  });
  const noClient = {
    rule_name: "a",
    global_threshold: { query_per_second: 1 },
    redis: { service_name: "redis.static" },
  };
  await assert.rejects(application.Filter.start(noClient, quiet), /`redis.static`, for which there is no client/);
});
