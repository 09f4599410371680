/**
 * The component in JavaScript's own WebAssembly, which knows core modules only: its core module is taken out of it, and
 * what the component's types say is done by hand. An instance is `Guest`; what it asks of its host are the methods of
 * `Imports`.
 */

import * as types from "./contract.js";
import { byteString, Heap, list, option, result, string, tuple, u32, u64 } from "./abi.js";

/** The first bytes of a component: the magic number, then version and layer. */
const COMPONENT = [0x00, 0x61, 0x73, 0x6d, 0x0d, 0x00, 0x01, 0x00];
const CORE_MODULE = 1;

/** What the contract says of lengths that no host need take; so much is taken of a guest. */
const COMMAND_BYTES_MAX = 16 << 20;
const COMMAND_WORDS_MAX = 65_536;
const RANDOM_BYTES_MAX = 1_024;

const interfaceName = (name) => `${types.PACKAGE}/${name}@${types.VERSION}`;

/**
 * @typedef {object} Moment both clocks, in nanoseconds
 * @property {bigint} monotonic
 * @property {bigint} wall since 1970; 0 if nobody knows
 */

/**
 * What a guest may ask while it runs. Streams are named by their number, texts of HTTP are byte strings.
 *
 * @typedef {object} Imports
 * @property {(stream: number) => RequestView | undefined} request of a stream whose request's headers are undecided
 * @property {(stream: number) => [string, string][] | undefined} responseHeaders while those are undecided
 * @property {(stream: number, response: object) => void} respond
 * @property {(stream: number, fields: [string, string][]) => void} annotate
 * @property {(service: number, words: Uint8Array[]) => {ok: number} | {error: string}} redisCall
 * @property {(level: string, message: string) => void} log
 * @property {(at: bigint) => void} wakeAt
 * @property {(length: number) => Uint8Array} random
 */

/**
 * A request as a filter may look at it. Everything is a byte string; names of headers are in lower case.
 *
 * @typedef {object} RequestView
 * @property {string} method
 * @property {string} path with its query, as received
 * @property {string} authority the host, with its port if there is one; empty for none
 * @property {string} [scheme] `https` or `http`; empty if nobody knows
 * @property {string} [sourceAddress] `ip:port` or `[ip]:port` of the peer
 * @property {string} [routeName] for `_match_route_`
 * @property {string} [serviceName] for `_match_service_`
 * @property {boolean} [hasBody] true unless said
 * @property {(name: string) => string | undefined} header the first of this name; all of `cookie`, joined by `; `
 * @property {(name: string) => string[]} headerValues all of this name
 * @property {() => [string, string][]} headers all there are
 */

/**
 * The core module of a component.
 *
 * @param {Uint8Array} component
 * @returns {Uint8Array}
 */
export function coreModule(component) {
  if (COMPONENT.some((byte, index) => component[index] !== byte))
    throw new TypeError("this is no WebAssembly component");
  let at = COMPONENT.length;
  const leb = () => {
    let [value, shift, byte] = [0, 0, 0x80];
    while (byte & 0x80) {
      byte = component[at++];
      value |= (byte & 0x7f) << shift;
      shift += 7;
    }
    return value >>> 0;
  };
  /** @type {Uint8Array | undefined} */
  let core;
  while (at < component.length) {
    const id = component[at++];
    const size = leb();
    // The others are small, and only join this one to what the component imports.
    if (id === CORE_MODULE && size > (core?.length ?? 0)) core = component.subarray(at, at + size);
    at += size;
  }
  if (!core) throw new TypeError("there is no core module in this component");
  return core;
}

/**
 * Compiles a component.
 *
 * @param {Uint8Array} component
 * @returns {Promise<WebAssembly.Module>} its core module, which keeps this contract
 */
export async function compile(component) {
  const module = await WebAssembly.compile(/** @type {BufferSource} */ (coreModule(component)));
  const filter = interfaceName("filter");
  if (!WebAssembly.Module.exports(module).some(({ name }) => name === `${filter}#on-request`)) {
    throw new TypeError(`this component does not export ${filter}`);
  }
  return module;
}

const passings = list(types.passing);
const metrics = list(types.metric);
const changes = list(tuple(u32, types.change));
const configured = result(types.configuration, list(types.configError));
const reply = result(types.reply, types.callError);
const called = result(u64, types.callError);
const values = list(byteString);
const headers = list(types.header);
const annotation = tuple(string, string);
const optionalByteString = option(byteString);
const optionalString = option(string);

/** What hooks return most: it goes on as it is. */
const PASSES = Object.freeze({ kind: "pass", value: undefined });

/** One instance of the component. Calls into it throw when it traps; it must not be used after that. */
export class Guest {
  #heap;
  #exports;
  /** What frees what an export returned, by the export's name. */
  #post = {};

  /**
   * @param {WebAssembly.Module} module of `compile`
   * @param {Imports} host
   */
  constructor(module, host) {
    const linked = linkedImports(() => this.#heap, host);
    const instance = new WebAssembly.Instance(module, linked);
    const found = /** @type {Record<string, any>} */ (instance.exports);
    const filter = `${interfaceName("filter")}#`;
    this.#exports = Object.fromEntries(
      Object.keys(found)
        .filter((name) => name.startsWith(filter))
        .map((name) => [name.slice(filter.length), found[name]]),
    );
    for (const name of Object.keys(this.#exports)) this.#post[name] = found[`cabi_post_${filter}${name}`] ?? (() => {});
    this.#heap = new Heap(found.memory, found.cabi_realloc);
    found._initialize?.();
  }

  /** How much memory it has, in bytes. It never shrinks. */
  get memoryBytes() {
    this.#heap.look();
    return this.#heap.u8.length;
  }

  configure(json, now) {
    const [at, length] = this.#lent(json);
    return this.#loaded("configure", configured, this.#exports.configure(at, length, now.monotonic, now.wall));
  }

  describe() {
    return this.#loaded("describe", string, this.#exports.describe());
  }

  onRequest(stream, now) {
    return this.#step("on-request", this.#exports["on-request"](BigInt(stream), now.monotonic, now.wall));
  }

  onRequestBody(stream, piece, coding, end, now) {
    return this.#onBody("on-request-body", stream, piece, coding, end, now);
  }

  onResponseHeaders(stream, { status, origin, end }, now) {
    const on = this.#exports["on-response-headers"];
    const at = on(BigInt(stream), status, types.origin.indexOf(origin), end ? 1 : 0, now.monotonic, now.wall);
    return this.#step("on-response-headers", at);
  }

  onResponseBody(stream, piece, coding, end, now) {
    return this.#onBody("on-response-body", stream, piece, coding, end, now);
  }

  onRedisReplies(answered, now) {
    this.#heap.look();
    const at = this.#heap.lowered(types.callReply, answered);
    const on = this.#exports["on-redis-replies"];
    return this.#loaded("on-redis-replies", passings, on(at, answered.length, now.monotonic, now.wall));
  }

  onWake(now) {
    return this.#loaded("on-wake", passings, this.#exports["on-wake"](now.monotonic, now.wall));
  }

  onDone(stream, ending, now) {
    this.#exports["on-done"](BigInt(stream), types.ending.indexOf(ending), now.monotonic, now.wall);
  }

  onRetire(now) {
    this.#exports["on-retire"](now.monotonic, now.wall);
  }

  metrics() {
    return this.#loaded("metrics", metrics, this.#exports.metrics());
  }

  takeMetrics() {
    return this.#loaded("take-metrics", changes, this.#exports["take-metrics"]());
  }

  explain(stream, answered, now) {
    this.#heap.look();
    const at = this.#heap.lowered(reply, answered);
    const explained = this.#exports.explain(BigInt(stream), at, answered.length, now.monotonic, now.wall);
    return this.#loaded("explain", types.explanation, explained);
  }

  #onBody(name, stream, piece, coding, end, now) {
    const [at, length] = this.#lent(piece);
    const kind = types.coding.indexOf(coding);
    return this.#step(
      name,
      this.#exports[name](BigInt(stream), at, length, kind, end ? 1 : 0, now.monotonic, now.wall),
    );
  }

  /** Bytes in the guest's memory, which are the guest's then. */
  #lent(bytes) {
    this.#heap.look();
    const at = this.#heap.allocate(bytes.length, 1);
    this.#heap.u8.set(bytes, at);
    return [at, bytes.length];
  }

  #step(name, at) {
    const heap = this.#heap;
    heap.look();
    const isBare = heap.u8[at] === 0 && heap.u8[at + types.step.align] === 0;
    const step = isBare ? PASSES : types.step.load(heap, at);
    this.#post[name](at);
    return step;
  }

  #loaded(name, type, at) {
    this.#heap.look();
    const value = type.load(this.#heap, at);
    this.#post[name](at);
    return value;
  }
}

/** Fields as the contract has them. */
function records(fields = []) {
  return fields.map(([name, value]) => ({ name, value }));
}

/** A field as hosts have it. @returns {[string, string]} */
function field({ name, value }) {
  return [name, value];
}

/** The functions that a core module imports. The heap is there only when they are called. */
function linkedImports(currentHeap, host) {
  const seen = () => {
    const heap = currentHeap();
    heap.look();
    return heap;
  };
  const of = (stream) => host.request(Number(stream));
  const part = (get) => (stream, out) => seen().setByteString(out, get(of(stream)) ?? "");
  const textPart = (get) => (stream, out) => string.store(seen(), out, get(of(stream)) ?? "");
  const http = {
    method: part((request) => request?.method),
    path: part((request) => request?.path),
    authority: part((request) => request?.authority),
    scheme: textPart((request) => request?.scheme),
    header(stream, at, length, out) {
      const name = seen().text(at, length);
      optionalByteString.store(seen(), out, of(stream)?.header(name));
    },
    "header-values"(stream, at, length, out) {
      const name = seen().text(at, length);
      values.store(seen(), out, of(stream)?.headerValues(name) ?? []);
    },
    headers(stream, out) {
      headers.store(seen(), out, records(of(stream)?.headers()));
    },
    "has-body"(stream) {
      const request = of(stream);
      return request && request.hasBody !== false ? 1 : 0;
    },
    "source-address": (stream, out) => optionalString.store(seen(), out, of(stream)?.sourceAddress),
    "route-name": textPart((request) => request?.routeName),
    "service-name": textPart((request) => request?.serviceName),
    "response-header"(stream, at, length, out) {
      const name = seen().text(at, length);
      const found = host.responseHeaders(Number(stream))?.find((field) => field[0] === name);
      optionalByteString.store(seen(), out, found?.[1]);
    },
    "response-headers"(stream, out) {
      headers.store(seen(), out, records(host.responseHeaders(Number(stream))));
    },
    "http-response"(stream, status, headersAt, headerCount, bodyAt, bodyLength, detailsAt, detailsLength) {
      const heap = seen();
      host.respond(Number(stream), {
        status: status & 0xffff,
        headers: heap.items(types.header, headersAt, headerCount).map(field),
        body: heap.bytes(bodyAt, bodyLength),
        details: heap.text(detailsAt, detailsLength),
      });
    },
    annotate(stream, at, length) {
      host.annotate(Number(stream), seen().items(annotation, at, length));
    },
  };
  const redis = {
    "redis-call"(service, bytesAt, bytesLength, lengthsAt, count, out) {
      const heap = seen();
      if (count === 0 || count > COMMAND_WORDS_MAX || bytesLength > COMMAND_BYTES_MAX) {
        throw new RangeError(`a Redis command of ${count} words and ${bytesLength} bytes`);
      }
      const all = heap.bytes(bytesAt, bytesLength);
      const words = new Array(count);
      let end = 0;
      for (let index = 0; index < count; index += 1) {
        const from = end;
        end += heap.u32(lengthsAt + index * 4);
        words[index] = all.subarray(from, end);
      }
      if (end !== bytesLength) throw new RangeError("a Redis command whose words are not as long as they are together");
      called.store(heap, out, host.redisCall(service, words));
    },
  };
  const system = {
    log: (level, at, length) => host.log(types.level[level], seen().text(at, length)),
    "wake-at": (at) => host.wakeAt(BigInt.asUintN(64, at)),
    "random-bytes"(length, out) {
      if (length >>> 0 > RANDOM_BYTES_MAX) throw new RangeError(`more than ${RANDOM_BYTES_MAX} random bytes at once`);
      seen().setBytes(out, host.random(length));
    },
  };
  return {
    [interfaceName("http")]: http,
    [interfaceName("redis")]: redis,
    [interfaceName("system")]: system,
  };
}
