// Prints how long plugins run in V8 for a request, as JSON: the topic `v8` of `just bench` makes a table of it.
//
// usage: node bench.mjs SLIDEGATE.wasm GPUSTACK_RATE_LIMIT.wasm MINIMAL.wasm WARM_UP ROUNDS PER_ROUND
//
// Each plugin has one limit that asks Redis, and every request is admitted: Redis' answers are ready-made, since only the plugin is
// timed. The plugins take turns, so that a busy moment meets them alike. What a request takes is the sum over all its calls into the
// plugin: context, request headers, Redis' reply, response headers, log, done, delete. The gateway's own functions are left out by
// stopping the clock whenever the plugin calls one. Reading the clock is not left out; the minimal module shows how much that is.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { Gateway } from "./gateway.mjs";

const [ours, theirs, least, ...efforts] = process.argv.slice(2);
const [warmUp, rounds, perRound] = efforts.map(Number);

// The guest's time, in milliseconds.
class Stopwatch {
  guest = 0;
  hostCalls = 0;
  #isGuest = false;
  #since = 0;

  #switch(isGuest) {
    const [before, now] = [this.#isGuest, performance.now()];
    if (before) this.guest += now - this.#since;
    this.#since = now;
    this.#isGuest = isGuest;
    return before;
  }

  toGuest() {
    return this.#switch(true);
  }

  toHost() {
    this.hostCalls += 1;
    return this.#switch(false);
  }

  back(before) {
    this.#switch(before);
  }
}

// As the script replies: most significant byte first.
function doubles(...numbers) {
  const bytes = Buffer.alloc(8 * numbers.length);
  numbers.forEach((number, at) => bytes.writeDoubleBE(number, 8 * at));
  return bytes;
}

const limitKeys = [{ key: "c1", query_per_minute: 1_000_000 }];
const match = [{ type: "limit_by_header", source: "header", name: "x-mse-consumer", value: "c1" }];
const contestants = [
  {
    name: "slidegate-higress",
    bytes: readFileSync(ours),
    clusters: ["outbound|6379||redis.dns"],
    config: {
      rule_name: "r",
      rule_items: [{ limit_by_header: "x-mse-consumer", limit_keys: limitKeys }],
      redis: { service_name: "redis.dns" },
    },
    reply: Buffer.concat([Buffer.from("$40\r\n"), doubles(1, 0, 1000, 60_000_000, 0), Buffer.from("\r\n")]),
  },
  {
    name: "gpustack-rate-limit 1.0.1 (Go)",
    bytes: readFileSync(theirs),
    clusters: ["outbound|80||redis.static"],
    config: {
      rule_name: "r",
      redis: { service_name: "redis.static" },
      limit_combinations: [{ name: "a", match, query_limits: { per_minute: 1_000_000 } }],
    },
    reply: "*2\r\n$7\r\nSUCCESS\r\n$0\r\n\r\n",
  },
  { name: "minimal module (Rust, asks for one header)", bytes: readFileSync(least), clusters: [], config: {} },
];

const headers = () => [
  [":authority", "example.com"],
  [":path", "/v1/chat/completions?stream=true"],
  [":method", "POST"],
  [":scheme", "https"],
  ["user-agent", "curl/8.0"],
  ["accept", "*/*"],
  ["content-type", "application/json"],
  ["x-request-id", "5f1c7f2e-3a0e-4a7e-9d55-0d5e8a7b6c11"],
  ["x-mse-consumer", "c1"],
];

function start({ name, bytes, clusters, config, reply }) {
  const stopwatch = new Stopwatch();
  const gateway = new Gateway(new WebAssembly.Module(bytes), { clusters, stopwatch });
  assert.ok(gateway.configure(JSON.stringify(config)), `${name}: ${gateway.lines.join("\n")}`);
  return { name, gateway, stopwatch, reply: reply && Buffer.from(reply), samples: [] };
}

// One request, admitted, from its headers to its end.
function request({ name, gateway, stopwatch, reply }) {
  stopwatch.guest = 0;
  stopwatch.hostCalls = 0;
  const stream = gateway.open(headers());
  const calls = gateway.takeCalls();
  assert.equal(calls.length, reply ? 1 : 0, `${name}: ${gateway.lines.join("\n")}`);
  calls.forEach(({ token }) => gateway.reply(token, 0, reply));
  gateway.respond(stream, [[":status", "200"], ["content-type", "application/json"]]);
  gateway.close(stream);
  gateway.takeLines();
  return stopwatch.guest * 1_000;
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}

const running = contestants.map(start);
for (const each of running) for (let turn = 0; turn < warmUp; turn += 1) request(each);
for (let round = 0; round < rounds; round += 1) {
  for (const each of running) for (let turn = 0; turn < perRound; turn += 1) each.samples.push(request(each));
}

const rows = running.map(({ name, samples, stopwatch, gateway }) => {
  samples.sort((one, other) => one - other);
  const [medianUs, p99Us] = [quantile(samples, 0.5), quantile(samples, 0.99)];
  return { name, medianUs, p99Us, hostCalls: stopwatch.hostCalls, memoryMib: gateway.memory.size / (1 << 20) };
});
console.log(JSON.stringify({ v8: process.versions.v8, rows }));
