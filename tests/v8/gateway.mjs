// A worker of a gateway for proxy-wasm plugins, on V8: one plugin in one virtual machine, its contexts and its streams, in the
// order in which the gateway calls them. What goes to Redis is kept for whoever runs this to carry there.

import { env } from "./imports.mjs";
import { Memory } from "./memory.mjs";
import { wasi } from "./wasi.mjs";

const VERSIONS = ["proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1", "proxy_abi_version_0_2_100"];
const ALLOCATORS = ["malloc", "proxy_on_memory_allocate"];

// One request and its answer, as the plugin sees them.
class Stream {
  state = "new"; // then "waiting", "passed" or "answered"
  requestReadable = true;
  isAnswering = false;
  isOver = false;
  properties = new Map();
  answerHeaders = undefined;
  answerBody = undefined;
  details = undefined;

  constructor(id, headers) {
    this.id = id;
    this.headers = headers;
  }

  fields(ofRequest, ofResponse) {
    if (ofRequest) return this.requestReadable ? this.headers : undefined;
    return ofResponse ? this.answerHeaders : undefined;
  }

  get status() {
    return Number(this.header(":status"));
  }

  header(name) {
    return this.answerHeaders?.find(([each]) => each === name)?.[1];
  }
}

export class Gateway {
  memory = new Memory();
  contexts = new Map(); // by id: a stream, or null for a root
  effective = undefined;
  shared = new Map();
  metrics = { names: new Map(), values: new Map() };
  lines = [];
  inits = [];
  calls = [];
  actions = [];
  tickMs = 0;
  configuration = undefined;
  redisReply = undefined;
  root = 0;
  #exports;
  #nextId = 1;
  #nextToken = 7;
  #stopwatch;

  // `module`: a WebAssembly.Module. `clusters`: what the gateway knows of Redis. `stopwatch`: counts the guest's own time.
  constructor(module, { clusters = [], stopwatch } = {}) {
    this.clusters = new Set(clusters);
    this.#stopwatch = stopwatch;
    const imports = { env: this.#timed(env(this)), wasi_snapshot_preview1: this.#timed(wasi(this)) };
    // A name that is not there fails here, as in the gateway.
    this.#exports = new WebAssembly.Instance(module, imports).exports;
    const allocator = ALLOCATORS.find((name) => this.#exports[name]);
    if (!allocator || !VERSIONS.some((name) => this.#exports[name])) throw new Error("no proxy-wasm plugin");
    this.memory.attach(this.#exports.memory, (size) => this.#guest(allocator, [size]));
    this.#enter(undefined, "_initialize");
  }

  // Makes a root with this configuration. False if the plugin refuses it.
  configure(text) {
    this.configuration = Buffer.from(text);
    const root = this.#nextId++;
    this.contexts.set(root, null);
    this.#enter(root, "proxy_on_context_create", root, 0);
    const isStarted = this.root !== 0 || this.#enter(root, "proxy_on_vm_start", root, 0) !== 0;
    const isConfigured = isStarted && this.#enter(root, "proxy_on_configure", root, this.configuration.length) !== 0;
    this.configuration = undefined;
    if (this.root !== 0) this.#retire(isConfigured ? this.root : root);
    if (isConfigured || this.root === 0) this.root = root;
    return isConfigured;
  }

  // A request without a body arrives.
  open(headers) {
    const stream = new Stream(this.#nextId++, headers);
    this.contexts.set(stream.id, stream);
    this.#enter(stream.id, "proxy_on_context_create", stream.id, this.root);
    const action = this.#enter(stream.id, "proxy_on_request_headers", stream.id, headers.length, 1) ?? 0;
    if (stream.state === "new") {
      stream.state = action === 0 ? "passed" : "waiting";
      stream.requestReadable = action !== 0;
    }
    return stream;
  }

  // What Redis said to a call: status 0 with a reply, or 1 without.
  reply(token, status, bytes = Buffer.alloc(0)) {
    this.redisReply = bytes;
    this.#enter(this.root, "proxy_on_redis_call_response", this.root, token, status, bytes.length);
    this.redisReply = undefined;
  }

  // The upstream answers a request that passed.
  respond(stream, headers = [[":status", "200"]]) {
    if (stream.state !== "passed") throw new Error(`the request is ${stream.state}`);
    stream.details = "via_upstream";
    this.#respond(stream, headers, Buffer.alloc(0));
  }

  // The stream is over, answered or not.
  close(stream) {
    stream.isOver = true;
    stream.requestReadable = true;
    for (const hook of ["proxy_on_log", "proxy_on_done", "proxy_on_delete"]) this.#enter(stream.id, hook, stream.id);
    this.contexts.delete(stream.id);
  }

  tick() {
    this.#enter(this.root, "proxy_on_tick", this.root);
  }

  // Commands for Redis since this was last asked.
  takeCalls() {
    return this.calls.splice(0);
  }

  takeLines() {
    return this.lines.splice(0);
  }

  // === for host calls ===

  get stream() {
    return this.contexts.get(this.effective) ?? undefined;
  }

  log(level, text) {
    this.lines.push(`${level} ${text}`);
  }

  newToken() {
    const token = this.#nextToken;
    this.#nextToken += 4;
    return token;
  }

  resume(stream) {
    if (stream.isOver || stream.state === "answered") return;
    if (stream.state !== "waiting") throw new Error(`a request that is ${stream.state} is resumed`);
    stream.state = "passed";
  }

  answer(stream, { status, details, body, headers }) {
    if (stream.isOver) return;
    if (stream.state !== "new" && stream.state !== "waiting") throw new Error(`a request that is ${stream.state} is answered`);
    stream.state = "answered";
    stream.requestReadable = false;
    stream.details = details;
    const content = body.length === 0 ? [] : [["content-length", `${body.length}`], ["content-type", "text/plain"]];
    const given = content.filter(([name]) => !headers.some(([each]) => each === name));
    this.#respond(stream, [[":status", `${status}`], ...headers, ...given], body);
  }

  property(path) {
    if (path === "plugin_vm_memory") {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(this.memory.size));
      return bytes;
    }
    if (path === "plugin_name" || path === "plugin_root_id") return "plugin";
    const { stream } = this;
    switch (stream && path) {
      case "route_name":
        return "route";
      case "cluster_name":
        return "outbound|80||upstream.dns";
      case "source\0address":
        return "192.0.2.1:40000";
      case "response\0code_details":
        return stream.details;
      default:
        return stream?.properties.get(path);
    }
  }

  // === the guest ===

  // The plugin sees its own answers too.
  #respond(stream, headers, body) {
    stream.answerHeaders = headers;
    stream.answerBody = body;
    this.#enter(stream.id, "proxy_on_response_headers", stream.id, headers.length, body.length === 0 ? 1 : 0);
    if (body.length > 0) this.#enter(stream.id, "proxy_on_response_body", stream.id, body.length, 1);
  }

  #retire(root) {
    if (this.#enter(root, "proxy_on_done", root) !== 0) this.#enter(root, "proxy_on_delete", root);
    this.contexts.delete(root);
  }

  // Calls a hook, if the plugin has it; then carries out what it asked for.
  #enter(context, name, ...args) {
    if (!this.#exports[name]) return undefined;
    this.effective = context;
    const result = this.#guest(name, args);
    this.effective = undefined;
    for (const action of this.actions.splice(0)) action();
    return result;
  }

  #guest(name, args) {
    if (!this.#stopwatch) return this.#exports[name](...args);
    const call = this.#exports[name];
    const before = this.#stopwatch.toGuest();
    const result = call(...args);
    this.#stopwatch.back(before);
    return result;
  }

  #timed(calls) {
    const stopwatch = this.#stopwatch;
    if (!stopwatch) return calls;
    const timed = (call) => (...args) => {
      const before = stopwatch.toHost();
      const result = call(...args);
      stopwatch.back(before);
      return result;
    };
    return Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, timed(call)]));
  }
}
