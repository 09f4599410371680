/** Every case of `tests/cases` on this host and a real Redis. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";

import { applyEdits, Filter } from "../src/index.js";
import { compile } from "../src/component.js";
import { concatenated } from "../src/held.js";
import { allCases, answerCases, jsonOf, servicesOf, withFields } from "./cases.js";
import { impostor, RedisServer } from "./redis-server.js";
import { libraries } from "./libraries.js";
import { Station } from "./station.js";

/** The clock of every case starts here, in microseconds: as in the tests of the other hosts. */
const START_US = 20_777n * 86_400n * 1_000_000n;
const DATABASES = 4_096;
const TIMEOUT_MS = 120_000;

/** What is switched off, by a suffix of the test's name. */
const COMBINATIONS = {
  "": {},
  "-asking": { remember_refusals: false },
  "-apart": { coalesce: false },
  "-asking-apart": { remember_refusals: false, coalesce: false },
};

/** A busy machine is no silent Redis: calls have at least this time, in milliseconds. */
const PATIENCE_MS = 500;

/** Cases that do not run here, each with the reason. */
const SKIPPED = new Map([]);

let server, silent, hangsUp, garbage, component;
let databases = 0;

before(async () => {
  component = await compile(readFileSync(new URL("../dist/slidegate.wasm", import.meta.url)));
  server = await RedisServer.start(["--databases", DATABASES]);
  silent = await RedisServer.start();
  silent.pause();
  hangsUp = await impostor(undefined);
  garbage = await impostor("hello\r\n");
});

after(async () => {
  await server?.stop();
  await silent?.stop();
});

const cases = allCases();
const answers = answerCases();

test("there are cases, and those that are skipped are some of them", () => {
  assert.ok(cases.length > 180 && answers.length > 30, `${cases.length}, ${answers.length}`);
  for (const [name, reason] of SKIPPED) assert.ok(reason && cases.some((each) => each.name === name), name);
  for (const { name, skip } of cases) assert.ok(!("js" in skip), `${name} is to be skipped in the list here`);
});

for (const [library, combinations] of Object.entries({ ioredis: Object.keys(COMBINATIONS), "node-redis": [""] })) {
  for (const suffix of combinations) {
    describe(`${library}${suffix}`, { concurrency: 8 }, () => {
      for (const each of suffix === "" ? [...cases, ...answers] : cases) {
        test(each.name, { skip: SKIPPED.get(each.name), timeout: TIMEOUT_MS }, () =>
          run(each, patient(withFields(each.config, COMBINATIONS[suffix])), libraries[library]),
        );
      }
    });
  }
}

/** The same with more time for each call that has little. */
function patient(value) {
  if (value === null || typeof value !== "object") return value;
  for (const [name, each] of Object.entries(value)) {
    if (name === "timeout" && each < PATIENCE_MS) value.timeout = PATIENCE_MS;
    else patient(each);
  }
  return value;
}

async function run(each, config, library) {
  const session = await Session.start(each, config, library);
  try {
    for (const [index, step] of each.steps.entries()) await session.step(step, `${each.about}\nstep ${index + 1}`);
  } finally {
    await session.close();
  }
}

class Session {
  #filter;
  #stations;
  #clock;
  #ownServers;

  static async start(each, config, library) {
    const session = new Session();
    const clock = { us: 0n };
    const lines = [];
    session.#clock = clock;
    session.#ownServers = [];
    const stations = await Promise.all(
      servicesOf(config).map(async (service) => [service, await session.#station(each, service, library)]),
    );
    session.#stations = new Map(stations);
    session.#filter = await Filter.start(jsonOf(config), {
      component,
      redis: Object.fromEntries(stations.map(([service, station]) => [service, station.client])),
      clock: () => ({ monotonic: clock.us * 1_000n, wall: clock.us * 1_000n }),
      log: (level, line) => lines.push(`${level} ${line}`),
    });
    return session;
  }

  async #station(each, service, library) {
    const moods = each.steps
      .filter((step) => step.kind === "store" && [undefined, service].includes(step.of))
      .map(({ store }) => store);
    const ownServer = moods.some(Station.isOfTheServer) ? await RedisServer.start() : undefined;
    if (ownServer) this.#ownServers.push(ownServer);
    const database = ownServer ? 0 : databases++;
    assert.ok(database < DATABASES);
    const places = {
      well: { port: (ownServer ?? server).port, database },
      ownServer,
      silent: silent.port,
      hangsUp,
      garbage,
    };
    return new Station(library, places, this.#clock);
  }

  async close() {
    await this.#filter.close();
    for (const station of this.#stations.values()) await station.close();
    for (const ownServer of this.#ownServers) await ownServer.stop();
  }

  async step(step, about) {
    const meant = [...this.#stations]
      .filter(([service]) => [undefined, service].includes(step.of))
      .map(([, station]) => station);
    if (step.kind === "store") for (const station of meant) await station.set(step.store);
    if (step.kind === "redis")
      for (const station of meant) for (const words of step.commands) await station.say(...words);
    if (step.kind === "requests") await this.#requests(step, about);
  }

  async #requests({ at, times, every, request, answer, expected, calls }, about) {
    const before = this.#calls();
    for (let repetition = 0; repetition < times; repetition += 1) {
      const ms = at + repetition * every;
      this.#clock.us = START_US + BigInt(ms) * 1_000n;
      const stream = this.#filter.open(shown(request));
      const seen = await this.#exchange(stream, request, answer);
      assert.equal(this.#filter.traps, 0, `${about}: the component trapped`);
      const where = `${about}, request ${repetition + 1} of ${times} at ${ms} ms (${request.path.slice(0, 200)})`;
      compare(expected, seen, { request, answer, repetition, where });
    }
    const made = Object.fromEntries(
      Object.entries(this.#calls()).map(([service, count]) => [service, count - before[service]]),
    );
    if (typeof calls === "bigint")
      assert.equal(
        Object.values(made).reduce((sum, each) => sum + each, 0),
        Number(calls),
        `${about}: calls`,
      );
    else
      for (const [service, count] of Object.entries(calls ?? {}))
        assert.equal(made[service], Number(count), `${about}: calls of ${service}`);
  }

  #calls() {
    return Object.fromEntries([...this.#stations].map(([service, station]) => [service, station.calls]));
  }

  /** A request and its response, as a gateway leads them through the filter. */
  async #exchange(stream, request, answer) {
    const seen = await this.#lead(stream, request, answer);
    stream.end(answer.cut ?? "whole");
    // The next request comes when Redis has all of this one: a script that it has to be told once more is told
    // meanwhile.
    for (const station of this.#stations.values()) while (await station.isBusy());
    return seen;
  }

  async #lead(stream, request, answer) {
    const verdict = await stream.onRequest();
    if (verdict.kind === "respond") return refused(verdict.response);
    const told = applyEdits(verdict.edits, request.headers);
    const isShownEmpty = request.body.length === 0 && stream.wants.requestBody === "hold";
    const pieces = (isShownEmpty ? [Buffer.alloc(0)] : request.body).map((bytes) => ({ bytes }));
    const sent = await this.#body(stream, "request", pieces, true);
    if (sent.response) return refused(sent.response);
    const isBodiless = answer.body.length === 0 && !answer.cut;
    const head = { status: answer.status, origin: "upstream", end: isBodiless };
    const passed = await stream.onResponseHeaders(head, answer.headers);
    if (passed.kind === "respond") return refused(passed.response);
    const body = await this.#body(stream, "response", answer.body, !answer.cut);
    return {
      kind: "pass",
      headers: applyEdits(passed.edits, answer.headers),
      body: body.bytes,
      sent: sent.bytes,
      told,
    };
  }

  async #body(stream, side, parts, isWhole) {
    const gone = [];
    for (const [index, { pause, bytes }] of parts.entries()) {
      if (pause !== undefined) {
        this.#clock.us += BigInt(pause) * 1_000n;
        continue;
      }
      const end = isWhole && index + 1 === parts.length;
      let step = side === "request" ? stream.onRequestBody(bytes, { end }) : stream.onResponseBody(bytes, { end });
      if (step.kind === "wait" && end) step = await stream.released(side);
      if (step.kind === "respond") return { response: step.response };
      if (step.kind === "wait") continue;
      assert.equal(step.kind, "pass");
      gone.push(...step.pieces);
      if (step.end) break;
    }
    return { bytes: Buffer.from(concatenated(gone)) };
  }
}

/** A request of a case, as a host shows it. */
function shown({ method, path, host, headers, from, route, service, body }) {
  const headerValues = (name) => headers.filter(([each]) => each === name).map(([, value]) => value);
  return {
    method,
    path,
    authority: host,
    sourceAddress: from,
    routeName: route,
    serviceName: service,
    hasBody: body.length > 0,
    headerValues,
    header: (name) =>
      name === "cookie" && headerValues(name).length > 0 ? headerValues(name).join("; ") : headerValues(name)[0],
    headers: () => headers,
  };
}

function refused({ status, headers, body }) {
  return { kind: "refuse", status, headers, body: Buffer.from(body) };
}

function compare(expected, seen, { request, answer, repetition, where }) {
  const saw = `${where}: saw ${seen.kind} ${seen.status ?? ""} ${seen.body} ${JSON.stringify(seen.headers)}`;
  assert.equal(seen.kind, expected.kind, saw);
  if (expected.kind === "refuse") {
    assert.equal(seen.status, expected.status, saw);
    assert.equal(seen.body.toString("latin1"), expected.body.toString("latin1"), where);
    if (expected.headers) compareFields(expected.headers, seen.headers, [], repetition, where);
    return;
  }
  // What a gateway asks of upstreams so that it can read their answers is no news to them.
  const told = seen.told.filter(([name, value]) => name !== "accept-encoding" || value !== "identity");
  compareFields(expected.told, told, request.headers, repetition, `${where}: upstream`);
  const whole = Buffer.concat(answer.body.map(({ bytes }) => bytes ?? Buffer.alloc(0)));
  const body = expected.body ?? (answer.cut ? undefined : whole);
  if (body) assert.equal(seen.body.toString("latin1"), body.toString("latin1"), `${where}: the client's body`);
  assert.equal(
    seen.sent.toString("latin1"),
    (expected.sent ?? Buffer.concat(request.body)).toString("latin1"),
    `${where}: the upstream's body`,
  );
  if (expected.headers) compareFields(expected.headers, seen.headers, answer.headers, repetition, where);
}

/** Fields that are wanted stand in place of those of the same name, empty ones for none; the rest are as they were. */
function compareFields(wanted, seen, others, repetition, where) {
  const added = [...wanted].map(([name, { text }]) => [name, text(repetition)]).filter(([, value]) => value !== "");
  const expected = [...others.filter(([name]) => !wanted.has(name)), ...added];
  const known = ([name, value]) => {
    const begins = wanted.get(name)?.begins;
    return [name, begins !== undefined && value.startsWith(begins) ? begins : value];
  };
  assert.deepEqual(seen.map(known).sort(), expected.sort(), where);
}
