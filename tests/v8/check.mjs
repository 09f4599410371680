// Runs the Higress plugin in V8, the engine that the gateway runs it in, with a real Redis. Exit code 1 if anything is not as it
// should be.
//
// usage: node check.mjs PLUGIN.wasm REDIS_PORT

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { Gateway } from "./gateway.mjs";
import { command, Redis, words } from "./redis.mjs";

const CLUSTER = "outbound|6379||redis.dns";
const MIB = 1 << 20;
const PATIENCE_MS = 300_000;
const [file, port] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(file));
const redis = await Redis.open(Number(port));

function config(limit, more = {}) {
  return JSON.stringify({
    rule_name: "v8",
    rule_items: [{ limit_by_per_header: "x-key", limit_keys: [{ key: "*", ...limit }] }],
    redis: { service_name: "redis.dns", timeout: 1000 },
    ...more,
  });
}

function start(text, options = { clusters: [CLUSTER] }) {
  const gateway = new Gateway(module, options);
  assert.ok(gateway.configure(text), gateway.lines.join("\n"));
  return gateway;
}

const get = (key) => [[":authority", "example.com"], [":path", "/"], [":method", "GET"], [":scheme", "http"], ["x-key", key]];

// Takes what the plugin wants to ask to Redis, until it asks no more; `change` may put another reply in a reply's place.
async function carry(gateway, change = (reply) => reply) {
  const sent = [];
  for (let calls = gateway.takeCalls(); calls.length > 0; calls = gateway.takeCalls()) {
    const replies = await Promise.all(calls.map(({ query }) => redis.send(query)));
    calls.forEach(({ token, query }, index) => {
      sent.push(words(query)[0]);
      gateway.reply(token, 0, change(replies[index]));
    });
  }
  return sent;
}

// Answers those that passed, ends them all, and returns the statuses that clients saw.
function finish(gateway, streams) {
  return streams.map((stream) => {
    assert.notEqual(stream.state, "waiting");
    if (stream.state === "passed") gateway.respond(stream);
    gateway.close(stream);
    return stream.status;
  });
}

async function statuses(gateway, keys, change) {
  const streams = keys.map((key) => gateway.open(get(key)));
  await carry(gateway, change);
  return finish(gateway, streams);
}

const counted = (gateway, ending) =>
  [...gateway.metrics.values].filter(([name]) => name.endsWith(ending)).reduce((sum, [, value]) => sum + value, 0n);

const checks = {
  "a configuration starts, starts again, and one that is wrong is refused with the reason"() {
    const gateway = start(config({ query_per_minute: 1 }));
    assert.ok(gateway.configure(config({ query_per_minute: 2 })), "a second time");
    const init = { name: `${CLUSTER}?buffer_flush_timeout=0&max_buffer_size_before_flush=0`, user: "", password: "", timeoutMs: 1000 };
    assert.deepEqual(gateway.inits, [init, init]);
    assert.ok(gateway.tickMs > 0);
    gateway.takeLines();
    for (const wrong of ["", "{", "[]", config({}), config({ query_per_minute: -1 }), '{"rule_name":"v8"}']) {
      assert.ok(!gateway.configure(wrong), wrong);
      assert.match(gateway.takeLines().join("\n"), /^4 .*configuration refused: ./m);
    }
    assert.equal(gateway.contexts.size, 1, "one root is left");
  },

  async "admits, refuses, and admits after the window, among streams that wait together"() {
    const gateway = start(config({ query_per_second: 2 }, { show_limit_quota_header: true, rejected_msg: "slower" }));
    const streams = ["a", "a", "b", "a", "b", "b"].map((key) => gateway.open(get(key)));
    assert.ok(streams.every(({ state }) => state === "waiting"));
    await carry(gateway);
    assert.deepEqual(finish(gateway, streams), [200, 200, 200, 429, 200, 429]);
    assert.deepEqual(streams.slice(0, 2).map((stream) => stream.header("x-ratelimit-remaining")), ["1", "0"]);
    const refused = streams[3];
    assert.deepEqual([refused.details, `${refused.answerBody}`], ["cluster-key-rate-limit.rejected", "slower"]);
    assert.deepEqual([refused.header("x-ratelimit-reset"), refused.header("content-length")], ["1", "6"]);
    await sleep(1_100);
    assert.deepEqual(await statuses(gateway, ["a", "b"]), [200, 200]);
    gateway.tick();
    assert.deepEqual(["admitted", "refused"].map((word) => counted(gateway, `decision.${word}.metric.slidegate_decisions_total`)), [6n, 2n]);
  },

  async "sends the script's text once, when Redis does not know it"() {
    await redis.send(command("SCRIPT", "FLUSH"));
    const gateway = start(config({ query_per_hour: 1 }));
    const sent = [];
    for (const key of ["text", "sha", "text"]) {
      const stream = gateway.open(get(key));
      sent.push([...(await carry(gateway)), ...finish(gateway, [stream])]);
    }
    assert.deepEqual(sent, [["EVALSHA", "EVAL", 200], ["EVALSHA", 200], [429]], "and none for who is known to be refused");
  },

  async "decides by its failure mode when a reply is garbage or there is none, and says why"() {
    const garbage = ["", "hello", "+OK\r\n", "$-1\r\n", "*0\r\n", "$8\r\n12345678\r\n", "*2147483647\r\n:1\r\n", "*1\r\n".repeat(50_000), "\xff\0"];
    for (const [mode, status] of [["open", 200], ["closed", 503]]) {
      // Each has a gateway of its own, so that none is kept from Redis by the failures before.
      for (const reply of garbage) {
        const gateway = start(config({ query_per_hour: 1 }, { failure_mode: mode }));
        assert.deepEqual(await statuses(gateway, ["garbage"], () => Buffer.from(reply, "latin1")), [status], `${mode} ${reply.slice(0, 40)}`);
        assert.match(gateway.takeLines().join("\n"), /^3 .*redis\.dns.*reply/m);
        gateway.tick();
      }
      const another = start(config({ query_per_hour: 1 }, { failure_mode: mode }));
      const stream = another.open(get("lost"));
      another.reply(another.takeCalls()[0].token, 1);
      assert.deepEqual(finish(another, [stream]), [status], "no reply");
    }
    const gateway = start(config({ query_per_hour: 1 }), { clusters: [] });
    assert.deepEqual(await statuses(gateway, ["nowhere"]), [200], "an unknown cluster");
    assert.match(gateway.takeLines().join("\n"), /knows no cluster/);
  },

  async "takes no harm from a reply whose stream is gone, nor from one that nobody asked for"() {
    const gateway = start(config({ query_per_hour: 2 }));
    const [gone, waiting] = [gateway.open(get("gone")), gateway.open(get("gone"))];
    gateway.close(gone);
    await carry(gateway);
    assert.equal(gone.state, "waiting", "nothing is done to it");
    assert.deepEqual(finish(gateway, [waiting]), [200]);
    for (const token of [0, 3, 7, 4_294_967_295]) gateway.reply(token >>> 0, 0, Buffer.from(`$40\r\n${"\0".repeat(40)}\r\n`));
    assert.deepEqual(await statuses(gateway, ["gone"]), [429], "what was asked for the gone stream counts");
    assert.equal(gateway.contexts.size, 1);
  },

  async "stays below 4 MiB over 100,000 requests on 10,000 keys, and loses none"() {
    const [requests, keys, together, limit] = [100_000, 10_000, 100, 5];
    const gateway = start(config({ query_per_day: limit }));
    const before = gateway.memory.size;
    const seen = { 200: 0, 429: 0 };
    for (let at = 0; at < requests; at += together) {
      const burst = Array.from({ length: together }, (_, index) => `many-${(at + index) % keys}`);
      for (const status of await statuses(gateway, burst)) seen[status] += 1;
    }
    assert.deepEqual(seen, { 200: keys * limit, 429: requests - keys * limit });
    assert.ok(gateway.memory.size <= 4 * MIB, `${gateway.memory.size} bytes`);
    return `${before / MIB} MiB once configured, ${gateway.memory.size / MIB} MiB after`;
  },

  async "keeps windows of its own for 100,000 keys while Redis is away, and no more memory for 50,000 others"() {
    const gateway = start(config({ query_per_day: 1 }, { failure_mode: "local" }), { clusters: [] });
    const meet = async (from, to) => {
      for (let at = from; at < to; at += 1) assert.deepEqual(await statuses(gateway, [`alone-${at}`]), [200]);
      return gateway.memory.size;
    };
    const full = await meet(0, 100_000);
    const more = await meet(100_000, 150_000);
    // A tree of other keys has a few nodes more or less.
    assert.ok(more <= full * 1.02, `${more} bytes after ${full}`);
    assert.ok(full <= 64 * MIB, `${full} bytes`);
    assert.deepEqual(await statuses(gateway, ["alone-149999"]), [429]);
    return `${full / MIB} MiB`;
  },
};

// A Redis that says nothing shall not keep this waiting for ever.
setTimeout(() => {
  console.log(`FAILED  not done within ${PATIENCE_MS / 1_000} seconds`);
  process.exit(1);
}, PATIENCE_MS).unref();

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    const note = await check();
    console.log(`ok      ${name}${note ? ` (${note})` : ""}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
redis.close();
console.log(`V8 ${process.versions.v8}: ${failed === 0 ? "all as it should be" : `${failed} failed`}`);
process.exitCode = failed === 0 ? 0 : 1;
