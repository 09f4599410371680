// @ts-check
// A host in JavaScript: a server whose answers are limited, counted in Redis.
//
//     jco transpile slidegate.wasm -o component --name slidegate --instantiation async
//     node host.mjs component 8080 redis://127.0.0.1:6379
//
// A trap ends it. A host for more than a try instantiates anew then, as the one in Python does.
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { resolve } from "node:path";
import { ErrorReply, RESP_TYPES, createClient } from "redis";

/** @import { Exports, Imports, Result, redis, types } from "../slidegate.d.ts" */

/**
 * A request that the filter may know.
 * @typedef {object} Stream
 * @property {import("node:http").IncomingMessage} request
 * @property {types.Response} [answer]
 * @property {(passed?: types.Pass) => void} goOn
 */

const [folder, port, url] = process.argv.slice(2);

const CONFIG = {
    rule_name: "embedded",
    rule_items: [{ limit_by_per_header: "x-api-key", limit_keys: [{ key: "*", limit: 3, window: "10s" }] }],
    show_limit_quota_header: true,
    redis: { service_name: "limits", timeout: 500 },
};

// A command that may have run is not sent again; and texts of Redis are bytes.
const client = createClient({
    url,
    disableOfflineQueue: true,
    commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
});
client.on("error", error => console.error(`redis: ${error.message}`));
await client.connect();

/** @type {Map<bigint, Stream>} */
const streams = new Map();
let ids = 0n;

const bytes = (/** @type {string | undefined} */ text) => Buffer.from(text ?? "", "latin1");
const now = () => ({ monotonic: process.hrtime.bigint(), wall: BigInt(Date.now()) * 1_000_000n });

/** @param {bigint} id @param {string} name */
const values = (id, name) => (streams.get(id)?.request.headersDistinct[name] ?? []).map(bytes);

/** @type {Imports} */
const imports = {
    "slidegate:filter/http": {
        method: id => bytes(streams.get(id)?.request.method),
        path: id => bytes(streams.get(id)?.request.url),
        authority: id => bytes(streams.get(id)?.request.headers.host),
        scheme: () => "http",
        header: (id, name) => (name === "cookie" ? joined(values(id, name)) : values(id, name)[0]),
        headerValues: values,
        headers: id => Object.keys(streams.get(id)?.request.headersDistinct ?? {}).flatMap(name => values(id, name).map(value => ({ name, value }))),
        hasBody: id => ["content-length", "transfer-encoding"].some(name => values(id, name).length > 0),
        sourceAddress: id => address(streams.get(id)?.request.socket),
        routeName: () => "",
        serviceName: () => "",
        responseHeader: () => undefined,
        responseHeaders: () => [],
        httpResponse: (id, response) => settle(id, undefined, response),
        annotate: () => {},
    },
    "slidegate:filter/redis": { redisCall },
    "slidegate:filter/system": {
        log: (level, message) => console.error(`${level}: ${message}`),
        wakeAt: at => void setTimeout(wake, Math.max(1, Number(at - process.hrtime.bigint()) / 1e6)).unref(),
        randomBytes,
    },
};

/** @param {Buffer[]} cookies */
function joined(cookies) {
    return cookies.length ? Buffer.from(cookies.join("; "), "latin1") : undefined;
}

/** @param {import("node:net").Socket | undefined} socket */
function address(socket) {
    const host = socket?.remoteAddress;
    return host && `${host.includes(":") ? `[${host}]` : host}:${socket.remotePort}`;
}

/** @param {number} service @param {redis.Command} command */
function redisCall(service, command) {
    const call = ++ids;
    let at = 0;
    const words = Array.from(command.lengths, length => Buffer.from(command.bytes.subarray(at, (at += length))));
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const late = new Promise((_, reject) => (timer = setTimeout(reject, configuration.redis[service].timeoutMs, "timeout")));
    Promise.race([client.sendCommand(words), late])
        .then(answered, failed)
        .then(reply => {
            clearTimeout(timer);
            goOn(filter.onRedisReplies([{ call, reply }], now()));
        });
    return call;
}

/** @param {types.Passing[]} passings */
function goOn(passings) {
    passings.forEach(passing => settle(passing.stream, passing.pass));
}

/** @param {any} answer @returns {Result<redis.Reply, redis.CallError>} */
function answered(answer) {
    if (!Array.isArray(answer)) {
        return { tag: "ok", val: { tag: "single", val: value(answer) } };
    }
    return answer.some(Array.isArray) ? { tag: "err", val: "protocol" } : { tag: "ok", val: { tag: "many", val: answer.map(value) } };
}

/** @param {any} answer @returns {redis.Value} */
function value(answer) {
    if (answer === null) {
        return { tag: "nil" };
    }
    if (typeof answer === "number") {
        return { tag: "integer", val: BigInt(answer) };
    }
    return Buffer.isBuffer(answer) ? { tag: "bulk", val: answer } : { tag: "status", val: answer };
}

/** @param {any} error @returns {Result<redis.Reply, redis.CallError>} */
function failed(error) {
    if (error instanceof ErrorReply) {
        return { tag: "ok", val: { tag: "error", val: error.message } };
    }
    return { tag: "err", val: error === "timeout" ? "timeout" : client.isReady ? "disconnected" : "connect" };
}

/** @param {bigint} id @param {types.Pass} [passed] @param {types.Response} [answer] */
function settle(id, passed, answer) {
    const stream = streams.get(id);
    if (stream) {
        stream.answer ??= answer;
        stream.goOn(passed);
    }
}

function wake() {
    goOn(filter.onWake(now()));
}

/** @type {(file: string) => Promise<WebAssembly.Module>} */
const core = async file => WebAssembly.compile(await readFile(resolve(folder, file)));
const component = await import(resolve(folder, "slidegate.js"));
/** @type {Exports} */
const { filter } = await component.instantiate(core, imports);

const configuration = filter.configure(bytes(JSON.stringify(CONFIG)), now());
const { requestBody, responseBody, responseHeaders } = configuration.uses.parts;
if (requestBody || responseBody || responseHeaders) {
    throw new Error("the configuration needs what this host does not show");
}

const server = createServer(async (request, response) => {
    const id = ++ids;
    /** @type {Promise<types.Pass | undefined>} */
    const settled = new Promise(goOn => streams.set(id, { request, goOn }));
    const step = filter.onRequest(id, now());
    const passed = step.tag === "pass" ? step.val : await settled;
    const answer = streams.get(id)?.answer;
    streams.delete(id);
    if (answer) {
        answer.headers.forEach(({ name, value }) => response.appendHeader(name, Buffer.from(value).toString("latin1")));
        response.writeHead(answer.status).end(answer.body);
        return;
    }
    for (const edit of passed?.responseEdits ?? []) {
        if (edit.tag === "remove") {
            response.removeHeader(edit.val);
        } else {
            const change = edit.tag === "set" ? "setHeader" : "appendHeader";
            response[change](edit.val.name, Buffer.from(edit.val.value).toString("latin1"));
        }
    }
    response.end("orders\n");
});
server.listen(Number(port), "127.0.0.1", () => console.log("listening"));
