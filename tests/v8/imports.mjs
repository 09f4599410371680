// The gateway's host calls, module `env`, with the statuses that it gives for what is not there.

import { BAD_ARGUMENT, NOT_FOUND, OK, readPairs, Refusal, writePairs } from "./memory.mjs";

const REQUEST_HEADERS = 0;
const RESPONSE_HEADERS = 2;
const HEADER_MAPS = 8;
const RESPONSE_BODY = 1;
const PLUGIN_CONFIGURATION = 7;
const REDIS_REPLY = 9;
const INFO = 2;

// What these plugins link and never call. A call ends the plugin as a trap would.
const NEVER_CALLED = [
  "close_stream", "get_status", "grpc_call", "grpc_cancel", "grpc_close", "grpc_send", "grpc_stream", "http_call", "done",
  "register_shared_queue", "resolve_shared_queue", "enqueue_shared_queue", "dequeue_shared_queue",
];

export function env(plugin) {
  const parts = [local(plugin), fields(plugin), stream(plugin), redis(plugin), statistics(plugin)];
  const never = NEVER_CALLED.map((name) => [
    name,
    () => {
      throw new Error(`proxy_${name} was called, which this gateway does not have`);
    },
  ]);
  const calls = [...Object.entries(Object.assign({}, ...parts)), ...never];
  return Object.fromEntries(calls.map(([name, call]) => [`proxy_${name}`, guarded(call)]));
}

function guarded(call) {
  return (...args) => {
    try {
      return call(...args);
    } catch (error) {
      if (error instanceof Refusal) return error.status;
      throw error;
    }
  };
}

function local(plugin) {
  const { memory, shared } = plugin;
  return {
    log(level, at, size) {
      if (level > 5) return BAD_ARGUMENT;
      plugin.log(level, memory.text(at, size));
      return OK;
    },
    get_log_level(out) {
      memory.writeU32(out, INFO);
      return OK;
    },
    get_current_time_nanoseconds(out) {
      memory.writeU64(out, BigInt(Date.now()) * 1_000_000n);
      return OK;
    },
    set_tick_period_milliseconds(period) {
      plugin.tickMs = period;
      return OK;
    },
    get_shared_data(key, keySize, out, sizeOut, casOut) {
      const entry = shared.get(memory.text(key, keySize));
      if (!entry) return NOT_FOUND;
      memory.give(entry.value, out, sizeOut);
      memory.writeU32(casOut, entry.cas);
      return OK;
    },
    set_shared_data(key, keySize, at, size, cas) {
      const name = memory.text(key, keySize);
      const held = shared.get(name);
      if (held && cas !== 0 && cas !== held.cas) return 8;
      shared.set(name, { value: memory.read(at, size), cas: (held?.cas ?? 0) + 1 });
      return OK;
    },
    call_foreign_function(name, nameSize, _args, _argsSize, out, sizeOut) {
      if (memory.text(name, nameSize) !== "get_log_level") return NOT_FOUND;
      return out === 0 ? OK : memory.give(Buffer.from([INFO, 0, 0, 0]), out, sizeOut);
    },
  };
}

function fields(plugin) {
  const { memory } = plugin;
  const map = (type) => {
    if (type >= HEADER_MAPS) throw new Refusal(BAD_ARGUMENT);
    const fields = plugin.stream?.fields(type === REQUEST_HEADERS, type === RESPONSE_HEADERS);
    if (!fields) throw new Refusal(BAD_ARGUMENT);
    return fields;
  };
  const remove = (pairs, name) => {
    for (let at = pairs.length - 1; at >= 0; at -= 1) if (pairs[at][0] === name) pairs.splice(at, 1);
  };
  const name = (at, size) => memory.text(at, size).toLowerCase();
  return {
    get_header_map_value(type, key, keySize, out, sizeOut) {
      const wanted = name(key, keySize);
      const pair = map(type).find(([each]) => each === wanted);
      return pair ? memory.give(pair[1], out, sizeOut) : NOT_FOUND;
    },
    get_header_map_pairs(type, out, sizeOut) {
      return memory.give(writePairs(map(type)), out, sizeOut);
    },
    set_header_map_pairs(type, at, size) {
      const pairs = map(type);
      pairs.splice(0, pairs.length, ...readPairs(memory.read(at, size)));
      return OK;
    },
    add_header_map_value(type, key, keySize, at, size) {
      map(type).push([name(key, keySize), memory.text(at, size)]);
      return OK;
    },
    replace_header_map_value(type, key, keySize, at, size) {
      const [pairs, wanted] = [map(type), name(key, keySize)];
      remove(pairs, wanted);
      pairs.push([wanted, memory.text(at, size)]);
      return OK;
    },
    remove_header_map_value(type, key, keySize) {
      remove(map(type), name(key, keySize));
      return OK;
    },
  };
}

function stream(plugin) {
  const { memory } = plugin;
  const buffer = (type) => {
    if (type === PLUGIN_CONFIGURATION) return plugin.configuration;
    if (type === REDIS_REPLY) return plugin.redisReply;
    return type === RESPONSE_BODY ? plugin.stream?.answerBody : undefined;
  };
  return {
    get_property(path, size, out, sizeOut) {
      const value = plugin.property(memory.text(path, size));
      return value === undefined ? NOT_FOUND : memory.give(value, out, sizeOut);
    },
    set_property(path, size, at, valueSize) {
      if (!plugin.stream) return NOT_FOUND;
      plugin.stream.properties.set(memory.text(path, size), memory.read(at, valueSize));
      return OK;
    },
    get_buffer_bytes(type, start, max, out, sizeOut) {
      const bytes = buffer(type);
      return bytes ? memory.give(bytes.subarray(start >>> 0, (start >>> 0) + (max >>> 0)), out, sizeOut) : NOT_FOUND;
    },
    set_buffer_bytes(type, start, max, at, size) {
      if (type !== RESPONSE_BODY || !plugin.stream?.answerBody) return BAD_ARGUMENT;
      const body = plugin.stream.answerBody;
      const added = memory.read(at, size);
      if (start === 0) plugin.stream.answerBody = Buffer.concat([added, body.subarray(max >>> 0)]);
      else if (start >>> 0 >= body.length) plugin.stream.answerBody = Buffer.concat([body, added]);
      else return BAD_ARGUMENT;
      return OK;
    },
    set_effective_context(id) {
      if (!plugin.contexts.has(id)) return BAD_ARGUMENT;
      plugin.effective = id;
      return OK;
    },
    // Queued until the guest returns, but its headers are out of reach at once. Neither does anything on a root.
    continue_stream(type) {
      const at = plugin.stream;
      if (at && type === 0) {
        at.requestReadable = false;
        plugin.actions.push(() => plugin.resume(at));
      }
      return OK;
    },
    send_local_response(status, details, detailsSize, body, bodySize, headers, headersSize, grpcStatus) {
      const answer = {
        status,
        details: memory.text(details, detailsSize).replace(/\s/g, "_"),
        body: memory.read(body, bodySize),
        headers: readPairs(memory.read(headers, headersSize)),
        grpcStatus,
      };
      const at = plugin.stream;
      if (at && !at.isAnswering) {
        at.isAnswering = true;
        plugin.actions.push(() => plugin.answer(at, answer));
      }
      return OK;
    },
  };
}

// The host keeps commands for whoever runs the gateway, who takes them to a Redis and brings what it says.
function redis(plugin) {
  const { memory } = plugin;
  const isKnown = (name) => plugin.clusters.has(name.split("?", 1)[0]);
  return {
    redis_init(cluster, clusterSize, user, userSize, password, passwordSize, timeoutMs) {
      const name = memory.text(cluster, clusterSize);
      if (!isKnown(name)) return BAD_ARGUMENT;
      plugin.inits.push({ name, user: memory.text(user, userSize), password: memory.text(password, passwordSize), timeoutMs });
      return OK;
    },
    redis_call(cluster, clusterSize, query, querySize, tokenOut) {
      memory.writeU32(tokenOut, 0);
      if (!isKnown(memory.text(cluster, clusterSize))) return BAD_ARGUMENT;
      const token = plugin.newToken();
      memory.writeU32(tokenOut, token);
      plugin.calls.push({ token, query: memory.read(query, querySize) });
      return OK;
    },
  };
}

function statistics(plugin) {
  const { memory, metrics } = plugin;
  return {
    // The low two bits are the kind; the same name twice is one statistic with two ids.
    define_metric(kind, at, size, out) {
      if (kind > 2) return BAD_ARGUMENT;
      const id = (metrics.names.size + 1) * 4 + kind;
      const name = memory.text(at, size);
      metrics.names.set(id, name);
      if (!metrics.values.has(name)) metrics.values.set(name, 0n);
      memory.writeU32(out, id);
      return OK;
    },
    increment_metric(id, delta) {
      const name = metrics.names.get(id);
      if (name === undefined) return NOT_FOUND;
      if ((id & 3) === 2 || ((id & 3) === 0 && delta <= 0n)) return BAD_ARGUMENT;
      metrics.values.set(name, metrics.values.get(name) + delta);
      return OK;
    },
    record_metric(id, value) {
      const name = metrics.names.get(id);
      if (name === undefined) return NOT_FOUND;
      metrics.values.set(name, (id & 3) === 0 ? metrics.values.get(name) + value : value);
      return OK;
    },
  };
}
