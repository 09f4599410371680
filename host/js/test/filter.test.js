/**
 * What a filter does when its instance, its Redis or its host's own code fails, and that nothing of it is without
 * bounds.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import wabt from "wabt";

import { compile, coreModule } from "../src/component.js";
import { applyEdits } from "../src/edits.js";
import { concatenated, spliced } from "../src/held.js";
import { CallFailure, ErrorReply, Filter } from "../src/index.js";
import { isRefused, replyOf } from "../src/redis.js";
import { ioredis } from "../src/ioredis.js";
import { nodeRedis } from "../src/node-redis.js";
import { libraries } from "./libraries.js";
import { RedisServer } from "./redis-server.js";

const IN_REDIS = {
  rule_name: "r",
  global_threshold: { limit: 3, window: "1h" },
  redis: { service_name: "redis.static", timeout: 100 },
};

let trapping, redis;

before(async () => {
  const { parseWat } = await wabt();
  const text = readFileSync(new URL("../../../tests/trapping.wat", import.meta.url), "utf8");
  trapping = await WebAssembly.compile(parseWat("trapping.wat", text, { bulk_memory: true }).toBinary({}).buffer);
  redis = await RedisServer.start();
});

after(() => redis?.stop());

/** A request whose parts may be changed. */
function request(more = {}) {
  return {
    method: "GET",
    path: "/",
    authority: "a.example",
    header: () => undefined,
    headerValues: () => [],
    headers: () => [],
    ...more,
  };
}

/** A Redis whose replies come when the test says so. */
class Awaited {
  calls = [];

  call(words) {
    return new Promise((resolve, reject) => this.calls.push({ words: words.map(String), resolve, reject }));
  }
}

function logged() {
  const lines = [];
  return { lines, log: (level, line) => lines.push(`${level}: ${line}`) };
}

describe("an instance that traps", () => {
  const config = (mode) => new TextEncoder().encode(`{"m":"${mode}"}`);

  test("is replaced, and whom it knew gets what the configuration says", async () => {
    for (const [mode, kind] of [
      ["p", "pass"],
      ["r", "respond"],
    ]) {
      const { lines, log } = logged();
      const filter = await Filter.start(config(mode), { component: trapping, log });
      const held = filter.open(request({ path: "/h" }));
      assert.equal((await held.onRequest()).kind, "pass");
      assert.equal(held.wants.requestBody, "hold");
      const verdict = await filter.open(request({ path: "/t" })).onRequest();
      assert.equal(verdict.kind, kind);
      if (kind === "respond")
        assert.deepEqual([verdict.response.status, verdict.response.details], [503, "slidegate.component_failed"]);
      // By what it holds the instance was to decide.
      const step = held.onRequestBody(Buffer.from("kept"), { end: true });
      assert.equal(step.kind, kind);
      if (kind === "pass") assert.equal(String(Buffer.from(concatenated(step.pieces))), "kept");
      held.end("whole");
      assert.equal(filter.traps, 1);
      assert.match(
        lines.join("\n"),
        /error: the filter component failed: RuntimeError: unreachable; its instance is replaced/,
      );
      assert.equal((await filter.open(request({ path: "/a" })).onRequest()).kind, "pass");
      assert.equal(filter.traps, 1);
    }
  });

  test("in the response's headers decides for that response alone", async () => {
    const filter = await Filter.start(config("r"), { component: trapping, log: () => {} });
    const [one, other] = [filter.open(request({ path: "/a" })), filter.open(request({ path: "/a" }))];
    for (const stream of [one, other]) assert.equal((await stream.onRequest()).kind, "pass");
    const head = { origin: "upstream", end: false };
    assert.equal((await one.onResponseHeaders({ ...head, status: 418 }, [])).kind, "respond");
    // The instance that wanted to see this is gone.
    assert.equal((await other.onResponseHeaders({ ...head, status: 200 }, [])).kind, "respond");
  });

  test("is replaced ten times a second and no oftener", async () => {
    const filter = await Filter.start(config("p"), { component: trapping, log: () => {} });
    for (let count = 0; count < 50; count += 1)
      assert.equal((await filter.open(request({ path: "/t" })).onRequest()).kind, "pass");
    assert.ok(filter.traps >= 11 && filter.traps < 50, `${filter.traps}`);
  });

  test("gets no replies to what the one before it asked", async () => {
    const client = new Awaited();
    const { lines, log } = logged();
    const broken = Object.defineProperty(request(), "authority", {
      get() {
        throw new Error("the application's");
      },
    });
    const rules = { _rules_: [{ ...IN_REDIS, failure_mode: "closed", _match_domain_: ["a.example"] }] };
    const filter = await Filter.start(rules, { redis: client, log });
    const first = filter.open(request()).onRequest();
    assert.ok(first instanceof Promise);
    // What a host's own code throws goes through the instance, which is not trusted any more.
    for (const verdict of [await filter.open(broken).onRequest(), await first])
      assert.equal(verdict.response.status, 503);
    assert.equal(filter.traps, 1);
    assert.match(lines.join("\n"), /the application's; .* 1 waiting requests/);
    const again = filter.open(request()).onRequest();
    client.calls[0].reject(new ErrorReply("LOADING late"));
    await sleep(5);
    assert.equal(client.calls.length, 2, "the fresh instance has asked for itself");
    client.calls[1].reject(new CallFailure("connect"));
    assert.deepEqual([(await again).response.status, filter.traps], [503, 1]);
  });
});

describe("Redis", () => {
  test("that does not answer has its time, and what comes later is for nobody", async () => {
    const client = new Awaited();
    const filter = await Filter.start({ ...IN_REDIS, failure_mode: "closed" }, { redis: client, log: () => {} });
    const began = performance.now();
    const verdict = await filter.open(request()).onRequest();
    assert.deepEqual([verdict.kind, verdict.response.status], ["respond", 503]);
    assert.ok(performance.now() - began >= 99);
    client.calls[0].resolve(Buffer.from("late"));
    await sleep(5);
    assert.equal(filter.traps, 0);
  });

  test("that has answered while the process was busy has answered", async () => {
    const { client, close } = await libraries.ioredis.open({ port: redis.port, database: 0 });
    const config = {
      ...IN_REDIS,
      rule_name: "busy",
      failure_mode: "closed",
      redis: { ...IN_REDIS.redis, timeout: 30 },
    };
    const filter = await Filter.start(config, { redis: client, log: () => {} });
    // The script is known then.
    await filter.open(request()).onRequest();
    const waits = filter.open(request()).onRequest();
    setImmediate(() => {
      for (const began = performance.now(); performance.now() - began < 100; );
    });
    assert.equal((await waits).kind, "pass");
    await filter.close();
    close();
  });

  test("is not asked by more than may wait", async () => {
    const client = new Awaited();
    const filter = await Filter.start(IN_REDIS, { redis: client, log: () => {}, waitingMax: 2 });
    const waiting = [filter.open(request()).onRequest(), filter.open(request()).onRequest()];
    assert.ok(waiting.every((each) => each instanceof Promise));
    const beyond = filter.open(request()).onRequest();
    assert.equal(beyond.kind, "pass");
    await Promise.all(waiting);
    assert.ok(filter.open(request()).onRequest() instanceof Promise, "there is room again");
  });

  test("that does not know the script is told it once for all who wait", async () => {
    const replies = [];
    const client = {
      call: async (words) => (
        replies.push(String(Buffer.from(words[0]))),
        Promise.reject(new ErrorReply("NOSCRIPT unknown"))
      ),
    };
    const filter = await Filter.start(
      { ...IN_REDIS, coalesce: false, global_threshold: { limit: 100, window: "1h" } },
      { redis: client, log: () => {} },
    );
    await Promise.all(Array.from({ length: 3 }, () => filter.open(request()).onRequest()));
    assert.deepEqual(replies.slice(0, 4), ["EVALSHA", "EVALSHA", "EVALSHA", "EVAL"]);
  });

  test("is refused what would change a connection that others use", () => {
    for (const line of ["SUBSCRIBE a", "monitor", "Multi", "SELECT 1", "BLPOP a 0", "XREAD BLOCK 0"]) {
      assert.ok(isRefused(line.split(" ").map(Buffer.from)), line);
    }
    for (const line of ["EVALSHA a 0", "GET SELECT", "PING", "EVAL x 0"])
      assert.ok(!isRefused(line.split(" ").map(Buffer.from)), line);
  });

  test("replies are said in the contract's terms, or are none", () => {
    const single = (value) => ({ ok: { kind: "single", value } });
    assert.deepEqual(replyOf(null), single({ kind: "nil", value: undefined }));
    assert.deepEqual(replyOf("OK"), single({ kind: "status", value: "OK" }));
    assert.deepEqual(replyOf(-5), single({ kind: "integer", value: -5 }));
    assert.deepEqual(replyOf([1, null]).ok.kind, "many");
    assert.deepEqual(
      [replyOf([[1]]), replyOf({}), replyOf(true)],
      [{ error: "protocol" }, { error: "protocol" }, { error: "protocol" }],
    );
    assert.deepEqual(replyOf(Buffer.alloc(2 << 20)), { error: "too-large" });
  });

  test("of a client that may send a command twice is none", () => {
    assert.throws(() => ioredis({ options: { enableOfflineQueue: true } }), /`enableOfflineQueue` has to be false/);
    const right = { enableOfflineQueue: false, autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 };
    assert.throws(() => ioredis({ options: { ...right, keyPrefix: "a:" } }), /`keyPrefix`/);
    assert.throws(() => ioredis({ isCluster: true, options: right }), /cluster/);
    assert.throws(() => nodeRedis({ options: {} }), /`disableOfflineQueue` has to be true/);
  });

  for (const [name, library] of Object.entries(libraries)) {
    test(`by ${name} tells its errors with their codes, and simple strings from others`, async () => {
      const { client, close } = await library.open({ port: redis.port, database: 0 });
      const call = (...words) => client.call(words.map((word) => Buffer.from(word)));
      await assert.rejects(call("EVALSHA", "0".repeat(40), "0"), (error) => error.reply.startsWith("NOSCRIPT "));
      await assert.rejects(call("EVAL", "return redis.error_reply('MINE is mine')", "0"), (error) =>
        error.reply.startsWith("MINE "),
      );
      assert.equal(await call("SET", "k", "\xff"), "OK");
      assert.deepEqual(await call("SET", "k", "b", "GET"), Buffer.from("\xff"));
      assert.equal(await call("SET", "k", "b", "NX"), null);
      assert.deepEqual(await call("EVAL", "return {1, 'a', false}", "0"), [1, Buffer.from("a"), null]);
      assert.deepEqual(await call("HSET", `h-${name}`, "a", "1"), 1);
      assert.deepEqual(await call("HGETALL", `h-${name}`), [Buffer.from("a"), Buffer.from("1")]);
      close();
    });

    test(`by ${name} is asked by explain, which counts nothing`, async () => {
      const { client, close } = await library.open({ port: redis.port, database: 0 });
      const filter = await Filter.start(
        { ...IN_REDIS, rule_name: `explained-${name}` },
        { redis: client, log: () => {} },
      );
      await filter.open(request()).onRequest();
      for (let count = 0; count < 2; count += 1) {
        const { filters, questions } = await filter.explain(request());
        assert.deepEqual([questions, filters[0].verdict], [[], "pass"]);
        const { used, left, roomAfterUs } = filters[0].rules[0].limits[0].state;
        assert.deepEqual([used, left, roomAfterUs], [1, 2, 0]);
      }
      await filter.close();
      close();
    });

    test(`by ${name} that is killed while it is asked is no more, and is asked at most once`, async () => {
      const own = await RedisServer.start();
      const { client, close } = await library.open({ port: own.port, database: 0 });
      const filter = await Filter.start(
        { ...IN_REDIS, redis: { ...IN_REDIS.redis, timeout: 5_000 }, headers: ["x-slidegate-degraded"] },
        { redis: client, log: () => {} },
      );
      assert.equal((await filter.open(request()).onRequest()).kind, "pass");
      own.pause();
      const stream = filter.open(request());
      const waits = stream.onRequest();
      await sleep(20);
      await own.stop();
      assert.equal((await waits).kind, "pass");
      const degraded = stream.responseEdits.find(({ value }) => value.name === "x-slidegate-degraded");
      assert.equal(degraded.value.value, "open;cause=connect");
      await filter.close();
      close();
    });
  }
});

test("a filter that is closed has settled what was used, and decides no more", async () => {
  const { client, close } = await libraries.ioredis.open({ port: redis.port, database: 0 });
  const tokens = { rule_name: "closed", global_threshold: { token_per_hour: 1_000 }, redis: IN_REDIS.redis };
  const filter = await Filter.start(tokens, { redis: client, log: () => {} });
  const completion = request({ method: "POST", path: "/v1/chat/completions", hasBody: false });
  const stream = filter.open(completion);
  await stream.onRequest();
  await stream.onResponseHeaders({ status: 200, origin: "upstream", end: false }, [
    ["content-type", "application/json"],
  ]);
  stream.onResponseBody(Buffer.from('{"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'), {
    end: true,
  });
  stream.end("whole");
  await filter.close();
  const other = await Filter.start(tokens, { redis: client, log: () => {} });
  assert.equal((await other.explain(completion)).filters[0].rules[0].limits[0].state.used, 3);
  const waits = filter.open(request()).onRequest();
  assert.deepEqual([waits.kind, await filter.explain(request())], ["pass", undefined]);
  await other.close();
  close();
});

test("metrics are Prometheus' text", async () => {
  const filter = await Filter.start(
    { ...IN_REDIS, rule_name: 'quo"te' },
    { redis: { call: async () => null }, log: () => {} },
  );
  await filter.open(request()).onRequest();
  const text = filter.metrics();
  for (const line of text.trimEnd().split("\n"))
    assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="([^"\\]|\\.)*",?)*\})? -?[\d.e+-]+)$/);
  assert.match(text, /slidegate_decisions_total\{rule="quo\\"te",decision="/);
  const [, count] = /slidegate_redis_call_seconds_count[^ ]* (\d+)/.exec(text) ?? /_count\{[^}]*\} (\d+)/.exec(text);
  assert.ok(Number(count) >= 1, text);
  assert.ok(filter.memoryBytes > 1 << 20, `${filter.memoryBytes}`);
  await filter.close();
});

test("edits apply in their order, and what cannot be sent is left out", () => {
  const set = (name, value) => ({ kind: "set", value: { name, value } });
  const append = (name, value) => ({ kind: "append", value: { name, value } });
  const fields = [
    ["x-a", "1"],
    ["x-a", "2"],
    ["x-gone", "1"],
  ];
  const edits = [
    set("X-A", "3"),
    append("x-a", "\xff"),
    append("bad name", "1"),
    set("x-split", "a\r\nb: c"),
    set("x-zero", "a\0"),
    { kind: "remove", value: "x-gone" },
    { kind: "remove", value: "x-never" },
  ];
  assert.deepEqual(applyEdits(edits, fields), [
    ["x-a", "3"],
    ["x-a", "\xff"],
  ]);
});

test("a change at one place is the same whatever pieces are kept", () => {
  for (const pieces of [["abcde"], ["a", "bcd", "e"], ["a", "b", "c", "d", "e"]]) {
    for (let at = 0; at < 8; at += 1) {
      for (let removed = 0; removed < 8; removed += 1) {
        const changed = spliced(
          pieces.map((piece) => Buffer.from(piece)),
          { at, removed, bytes: Buffer.from("XY") },
        );
        assert.equal(
          String(Buffer.from(concatenated(changed))),
          `${"abcde".slice(0, at)}XY${"abcde".slice(at + removed)}`,
        );
      }
    }
  }
});

test("what is no component, or another one, is refused by name", async () => {
  assert.throws(() => coreModule(Buffer.from("hello")), /no WebAssembly component/);
  await assert.rejects(compile(Buffer.from([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0])), /no core module/);
});

test("the package has the version of the crates", () => {
  const version = /^version = "(.+)"$/m.exec(readFileSync(new URL("../../../Cargo.toml", import.meta.url), "utf8"))[1];
  assert.equal(JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).version, version);
});
