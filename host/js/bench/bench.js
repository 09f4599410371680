// Prints what a decision takes in Node beside others' libraries on the same Redis, as a Markdown table. All take turns,
// so that a busy moment meets them alike; every request of the first group passes, and each of a thousand clients has a
// window of its own.
//
// usage: node bench/bench.js [--quick]

import assert from "node:assert/strict";
import { cpus } from "node:os";

import { rateLimit } from "express-rate-limit";
import { Redis } from "ioredis";
import { RateLimiterMemory, RateLimiterRedis } from "rate-limiter-flexible";
import { RedisStore } from "rate-limit-redis";
import { createClient } from "redis";

import { Filter } from "../src/index.js";
import { ioredis, ioredisOptions } from "../src/ioredis.js";
import { nodeRedis, nodeRedisOptions } from "../src/node-redis.js";
import { RedisServer } from "../test/redis-server.js";

const quick = process.argv.includes("--quick");
const [ROUNDS, ALONE, TOGETHER] = quick ? [3, 500, 2_000] : [15, 4_000, 20_000];
const CLIENTS = 1_000;
const REFUSED_CLIENTS = 20;
const IN_FLIGHT = 64;
const LIMIT = 1e9;
const WINDOW_MS = 3_600_000;
const HEAD = { status: 200, origin: "upstream", end: false };

const server = await RedisServer.start();
const one = new Redis(server.url, ioredisOptions);
const other = await createClient({ url: server.url, ...nodeRedisOptions }).connect();

const names = Array.from({ length: CLIENTS }, (_, index) => `client-${index}`);
const rule = (limit) => ({
  rule_items: [{ limit_by_per_header: "x-key", limit_keys: [{ key: "*", limit, window: "1h" }] }],
});
const inRedis = (name, limit) => ({ rule_name: name, ...rule(limit), redis: { service_name: "redis" } });

function view(key) {
  const value = (name) => (name === "x-key" ? key : undefined);
  return {
    method: "GET",
    path: "/orders?page=1",
    authority: "shop.example",
    sourceAddress: "192.0.2.1:40000",
    header: value,
    headerValues: (name) => (name === "x-key" ? [key] : []),
    headers: () => [["x-key", key]],
  };
}

const views = names.map(view);

/** A request and its response's headers through a filter. */
async function filtered(config, redis, kind = "pass", clients = CLIENTS) {
  const filter = await Filter.start(config, { redis });
  const finish = (stream, verdict) => {
    assert.equal(verdict.kind, kind);
    if (kind === "pass") stream.onResponseHeaders(HEAD, []);
    stream.end("whole");
  };
  return (index) => {
    const stream = filter.open(views[index % clients]);
    const verdict = stream.onRequest();
    return verdict instanceof Promise ? verdict.then((later) => finish(stream, later)) : finish(stream, verdict);
  };
}

/** A limiter that says no by a rejection. */
function flexible(limiter) {
  return (index) => limiter.consume(names[index % CLIENTS]);
}

function middleware(store) {
  const limit = rateLimit({
    windowMs: WINDOW_MS,
    limit: LIMIT,
    store,
    legacyHeaders: false,
    validate: false,
    keyGenerator: (request) => request.key,
  });
  const response = { setHeader() {}, headersSent: false };
  return (index) =>
    new Promise((resolve, reject) => {
      limit({ key: names[index % CLIENTS], headers: {}, app: {} }, response, (error) =>
        error ? reject(error) : resolve(),
      );
    });
}

const admitting = await filtered(inRedis("refused", 1), ioredis(one));
for (let index = 0; index < REFUSED_CLIENTS; index += 1) await admitting(index);

const contenders = {
  "Redis alone: PING, ioredis": () => one.ping(),
  "slidegate, no rule met": await filtered({
    rule_name: "none",
    rule_items: [{ limit_by_header: "x-other", limit_keys: [{ key: "a", limit: 1, window: "1h" }] }],
  }),
  "slidegate, windows in memory": await filtered({ rule_name: "memory", ...rule(LIMIT) }),
  "slidegate, windows in memory, quota headers": await filtered({
    rule_name: "quota",
    ...rule(LIMIT),
    show_limit_quota_header: true,
  }),
  "rate-limiter-flexible, memory": flexible(new RateLimiterMemory({ points: LIMIT, duration: WINDOW_MS / 1_000 })),
  "express-rate-limit, memory": middleware(undefined),
  "slidegate, ioredis": await filtered(inRedis("ioredis", LIMIT), ioredis(one)),
  "slidegate, node-redis": await filtered(inRedis("node-redis", LIMIT), nodeRedis(other)),
  "rate-limiter-flexible, ioredis": flexible(
    new RateLimiterRedis({ storeClient: one, points: LIMIT, duration: WINDOW_MS / 1_000 }),
  ),
  "express-rate-limit, rate-limit-redis, ioredis": middleware(
    new RedisStore({ sendCommand: (...words) => one.call(...words) }),
  ),
  "slidegate, ioredis, refusal that is known": await filtered(
    inRedis("refused", 1),
    ioredis(one),
    "respond",
    REFUSED_CLIENTS,
  ),
};

const figures = new Map(Object.keys(contenders).map((name) => [name, { alone: [], rate: [], cpu: [] }]));
for (let round = -1; round < ROUNDS; round += 1) {
  for (const [name, ask] of Object.entries(contenders)) {
    const alone = await timedAlone(ask);
    const { rate, cpu } = await timedTogether(ask);
    // The first is to warm up.
    if (round < 0) continue;
    const figure = figures.get(name);
    figure.alone.push(...alone);
    figure.rate.push(rate);
    figure.cpu.push(cpu);
  }
}

console.log(`Node ${process.version}, ${cpus().length} x ${cpus()[0].model}\n`);
console.log("| | µs alone, p50 | thousand/s, 64 in flight | µs of CPU each |\n| --- | --: | --: | --: |");
for (const [name, { alone, rate, cpu }] of figures) {
  const figure = [alone, rate, cpu].map((values) => quantile(values, 0.5));
  console.log(`| ${[name, ...figure.map((each) => each.toFixed(each < 100 ? 1 : 0))].join(" | ")} |`);
}

one.disconnect();
other.destroy();
await server.stop();
process.exit(0);

/** One after the other; what is done at once is timed by the hundred, as a clock is not for less. */
async function timedAlone(ask) {
  const took = [];
  const isAtOnce = !(ask(0) instanceof Promise);
  const group = isAtOnce ? 100 : 1;
  for (let index = 0; index < ALONE; index += group) {
    const began = performance.now();
    for (let each = index; each < index + group; each += 1) {
      const asked = ask(each);
      if (!isAtOnce) await asked;
    }
    took.push(((performance.now() - began) * 1_000) / group);
  }
  return took;
}

async function timedTogether(ask) {
  let next = 0;
  const began = performance.now();
  const before = process.cpuUsage();
  const lane = async () => {
    while (next < TOGETHER) await ask(next++);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  const { user, system } = process.cpuUsage(before);
  return { rate: TOGETHER / (performance.now() - began), cpu: (user + system) / TOGETHER };
}

function quantile(values, share) {
  return values.sort((a, b) => a - b)[Math.floor((values.length - 1) * share)];
}
