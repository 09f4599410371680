import { compile } from "./component.js";
import { Core } from "./core.js";
import { Stream } from "./stream.js";

/** Requests that wait for Redis at once, unless the options say otherwise. */
const WAITING_MAX = 65_536;

/** How long to wait at the start for a connection that does not come. */
const READY_MS = 2_000;

/** A configuration has mistakes: each with its place, as in `rule_items[0].limit_keys[2].key`. */
export class ConfigurationError extends Error {
  /** @param {{path: string, message: string}[]} mistakes */
  constructor(mistakes) {
    super(mistakes.map(({ path, message }) => (path ? `${path}: ${message}` : message)).join("\n"));
    this.name = "ConfigurationError";
    this.mistakes = mistakes;
  }
}

/**
 * @typedef {object} FilterOptions
 * @property {Record<string, import("./redis.js").RedisClient> | import("./redis.js").RedisClient} [redis] the client of
 *   each `service_name` of the configuration, or one for all
 * @property {WebAssembly.Module | Uint8Array} [component] another one than the package's
 * @property {() => import("./component.js").Moment} [clock] by default the machine's
 * @property {(level: "debug" | "info" | "warn" | "error", line: string) => void} [log] by default the console, without
 *   `debug`
 * @property {number} [waitingMax] how many requests may wait for Redis at once; those beyond get what the configuration
 *   says of a filter that cannot decide
 */

/**
 * A configured filter, ready for requests. It keeps one instance of the component, and with it one set of local windows
 * and one memory of known refusals.
 */
export class Filter {
  #core;
  #description;

  /** @param {Core} core */
  constructor(core) {
    this.#core = core;
    this.#description = core.describe();
  }

  /**
   * Makes an instance and configures it.
   *
   * @param {object | string | Uint8Array} config the document that a Higress WasmPlugin carries: as an object, or as
   *   JSON
   * @param {FilterOptions} [options]
   * @returns {Promise<Filter>}
   * @throws {ConfigurationError}
   */
  static async start(config, options = {}) {
    const { redis = {}, component, clock = machineClock, log = toConsole, waitingMax = WAITING_MAX } = options;
    const module =
      component instanceof WebAssembly.Module ? component : await (component ? compile(component) : packaged());
    const core = new Core(module, json(config), { clock, log, waitingMax });
    const mistakes = core.start(({ redis: services }) => services.map((service) => connected(service, redis)));
    if (mistakes.length > 0) throw new ConfigurationError(mistakes);
    for (const warning of core.configuration.warnings) log("warn", warning);
    await Promise.all(core.clients.map(whenReady));
    return new Filter(core);
  }

  /** What the component made of the configuration. */
  get configuration() {
    return this.#core.configuration;
  }

  /** The configuration as it was understood, for people: lines of text. */
  describe() {
    return this.#description;
  }

  /**
   * Begins a stream for a request. Nothing happens before its `onRequest`.
   *
   * @param {import("./component.js").RequestView} request
   */
  open(request) {
    return new Stream(this.#core, request);
  }

  /**
   * What the filter would say of a request: which policies, rules, entries and limits it meets, and how those stand.
   * Nothing is decided or counted.
   *
   * @param {import("./component.js").RequestView} request
   * @returns {Promise<any>} `explanation` of the contract; undefined if the filter cannot be asked
   */
  async explain(request) {
    const replies = [];
    for (;;) {
      const explanation = this.#core.explain(request, replies);
      if (!explanation || explanation.questions.length === 0) return explanation;
      const asked = explanation.questions.map(({ service, command }) => this.#core.ask(service, words(command)));
      replies.push(...(await Promise.all(asked)));
    }
  }

  /** What was counted, in Prometheus' text format. */
  metrics() {
    return this.#core.metricsText();
  }

  /** How many instances have trapped. */
  get traps() {
    return this.#core.traps;
  }

  /** How much memory the instance has, in bytes. */
  get memoryBytes() {
    return this.#core.memoryBytes;
  }

  /** Has the filter send what it put off, and waits until Redis has answered. Clients stay as they are. */
  async close() {
    await this.#core.retire();
  }
}

let module;

/** The package's own component, compiled once. */
function packaged() {
  module ??= read(new URL("../dist/slidegate.wasm", import.meta.url)).then(compile);
  return module;
}

async function read(url) {
  if (url.protocol !== "file:") return new Uint8Array(await (await fetch(url)).arrayBuffer());
  const { readFile } = await import("node:fs/promises");
  return readFile(url);
}

function json(config) {
  if (config instanceof Uint8Array) return config;
  return new TextEncoder().encode(typeof config === "string" ? config : JSON.stringify(config));
}

function connected({ serviceName, timeoutMs }, redis) {
  const client = typeof redis.call === "function" ? redis : redis[serviceName];
  if (!client)
    throw new TypeError(`the configuration names the Redis service \`${serviceName}\`, for which there is no client`);
  return { client, timeoutMs };
}

/** A connection that does not come is no reason not to start: the filter decides without it. */
async function whenReady(client) {
  if (!client.ready) return;
  let timer;
  const patience = new Promise((resolve) => (timer = setTimeout(resolve, READY_MS)));
  await Promise.race([client.ready().catch(() => {}), patience]);
  clearTimeout(timer);
}

function words({ bytes, lengths }) {
  let end = 0;
  return lengths.map((length) => bytes.subarray(end, (end += length)));
}

let [wallMs, wall] = [0, 0n];

/** @returns {import("./component.js").Moment} */
function machineClock() {
  const now = Date.now();
  if (now !== wallMs) [wallMs, wall] = [now, BigInt(now) * 1_000_000n];
  return { monotonic: BigInt(Math.round(performance.now() * 1e6)), wall };
}

function toConsole(level, line) {
  if (level !== "debug") console[level](`slidegate: ${line}`);
}
