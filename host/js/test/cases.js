/**
 * Cases of `tests/cases` as data: what is written there, with its defaults. What the fields mean is said in
 * `tests/engine/src/case.rs`.
 */

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { crc32 } from "node:zlib";
import { isScalar, parseDocument, visit } from "yaml";

const ROOT = new URL("../../../tests/", import.meta.url);
const DOCUMENTED = new URL("engine/src/documented.rs", ROOT);

/** What answers are charged to: more than any takes. */
const TOKENS_MAX = 1n << 42n;

const STEP_FIELDS = [
  "at",
  "times",
  "every",
  "method",
  "path",
  "host",
  "headers",
  "from",
  "route",
  "service",
  "body",
  "answer",
  "upstream",
  "calls",
  "pass",
  "refuse",
  "store",
  "redis",
  "of",
];

/** Every case, with its name. */
export function allCases() {
  return texts("cases/").map(([name, text]) => readCase(name, text));
}

/** A case for each answer of a language model in `tests/answers`: it is charged what it tells, and passes as it is. */
export function answerCases() {
  const answers = texts("answers/").flatMap(([file, text]) => fromYaml(text).map((answer) => [file, answer]));
  return answers.map(([file, answer], number) => answerCase(`answers/${file}: ${answer.name}`, answer, number));
}

/** The files of a folder of tests, by their names without an ending. */
function texts(name) {
  const folder = new URL(name, ROOT);
  const files = readdirSync(fileURLToPath(folder), { recursive: true }).map(String);
  const wanted = files.filter((file) => file.endsWith(".yaml")).sort();
  return wanted.map((file) => [file.slice(0, -".yaml".length), readFileSync(new URL(file, folder), "utf8")]);
}

function answerCase(name, { body, line_end: lineEnd = "\n", messages, wrapped = false, usage = {} }, number) {
  const whole = messages ? eventStream(messages, wrapped) : Buffer.from(body.replaceAll("\n", lineEnd));
  const { input = 0n, cached_read: read = 0n, cache_write: write = 0n, output = 0n } = usage;
  const billed = input + read + write + output;
  // In pieces of some length that has nothing to do with where its events end.
  const length = [3, 64, 1_000][number % 3];
  const pieces = Array.from({ length: Math.ceil(whole.length / length) }, (_, index) => ({
    hex: whole.subarray(index * length, (index + 1) * length).toString("hex"),
  }));
  const request = { method: "POST", path: "/v1/chat/completions", from: "", body: "{}" };
  const left = {
    "x-ratelimit-limit-tokens": TOKENS_MAX,
    "x-ratelimit-remaining-tokens": TOKENS_MAX - billed - 1n,
    "x-ratelimit-reset-tokens": "24h0m0s",
  };
  const steps = [
    { ...request, at: 0n, answer: { body: pieces }, pass: {} },
    // A Redis that has to be told the script of settlements decides on this one meanwhile.
    { ...request, at: 1_000n, pass: {} },
    { ...request, at: 2_000n, pass: { headers: left } },
  ];
  const config = {
    rule_name: "answers",
    reserve: 1,
    headers: ["x-ratelimit-tokens"],
    global_threshold: { token_per_day: TOKENS_MAX },
    redis: { service_name: "redis.static" },
  };
  return { name, about: `${billed} tokens are charged`, config, skip: {}, steps: readSteps(steps, name) };
}

/** Messages as an event stream of Amazon's has them, each with one header. */
function eventStream(messages, wrapped) {
  const inner = (text) => (wrapped ? JSON.stringify({ bytes: btoa(text), p: "abcdefghijk" }) : text);
  return Buffer.concat(messages.map((text) => message(Buffer.from(inner(text)))));
}

function message(payload) {
  const header = Buffer.from("\x0d:content-type\x07\x00\x10application/json", "latin1");
  const bytes = Buffer.alloc(16 + header.length + payload.length);
  bytes.writeUInt32BE(bytes.length, 0);
  bytes.writeUInt32BE(header.length, 4);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 8)), 8);
  header.copy(bytes, 12);
  payload.copy(bytes, 12 + header.length);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

/** Fields in each policy that counts in Redis and does not set them itself. */
export function withFields(config, fields) {
  const copy = structuredClone(config);
  forEachPolicy(copy, (policy) => {
    if ("redis" in policy) Object.assign(policy, { ...fields, ...policy });
  });
  return copy;
}

/** The services that a configuration names, each a Redis of its own. */
export function servicesOf(config) {
  const services = new Set();
  forEachPolicy(config, (policy) => {
    for (const part of [policy, policy.session, policy.cookie_vault, policy.cache]) {
      if (typeof part?.redis?.service_name === "string") services.add(part.redis.service_name);
    }
  });
  return [...services].sort();
}

/** JSON in which whole numbers stand as they were written, whatever their size. */
export function jsonOf(value) {
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return `[${value.map(jsonOf).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value)
    .map(([name, each]) => `${JSON.stringify(name)}:${jsonOf(each)}`)
    .join(",")}}`;
}

function readCase(name, text) {
  const { about, config, documented, skip = {}, steps, ...rest } = fromYaml(text);
  known(rest, [], name);
  return { name, about, config: config ?? fromYaml(documentedText(documented)), skip, steps: readSteps(steps, name) };
}

function readSteps(steps, name) {
  let nowMs = 0;
  return steps.map((step) => {
    const [read, now] = readStep(step, nowMs, name);
    nowMs = now;
    return read;
  });
}

function readStep(step, nowMs, name) {
  known(step, STEP_FIELDS, name);
  if (step.store !== undefined) return [{ kind: "store", store: step.store, of: step.of }, nowMs];
  if (step.redis !== undefined) {
    return [{ kind: "redis", commands: step.redis.map((words) => words.map(bytes)), of: step.of }, nowMs];
  }
  const [times, every, at] = [Number(step.times ?? 1), Number(step.every ?? 0), Number(step.at ?? nowMs)];
  const answer = readAnswer(step.answer ?? {}, fieldsOf(step.upstream));
  const pauses = answer.body.reduce((sum, part) => sum + (part.pause ?? 0), 0);
  const request = {
    method: step.method ?? "GET",
    path: byteString(step.path ?? "/"),
    host: byteString(step.host ?? "example.com"),
    headers: fieldsOf(step.headers),
    from: step.from === "" ? undefined : (step.from ?? "192.0.2.1:40000"),
    route: step.route ?? "",
    service: step.service ?? "",
    body: step.body === undefined ? [] : [step.body].flat().map(bytes),
  };
  const requests = {
    kind: "requests",
    at,
    times,
    every,
    request,
    answer,
    expected: readExpected(step),
    calls: step.calls,
  };
  return [requests, at + (times - 1) * every + pauses];
}

function readAnswer({ status = 200n, body = [], cut, ...rest }, headers) {
  known(rest, [], "answer");
  const parts = [body]
    .flat()
    .map((part) => (typeof part?.pause === "bigint" ? { pause: Number(part.pause) } : { bytes: bytes(part) }));
  // The end of it comes behind the pause.
  if (parts.at(-1)?.pause !== undefined) parts.push({ bytes: Buffer.alloc(0) });
  return { status: Number(status), headers, body: parts, cut };
}

function readExpected({ pass, refuse }) {
  if (pass) {
    const { headers, body, sent, told = {}, ...rest } = pass;
    known(rest, [], "pass");
    const optional = (value) => (value === undefined ? undefined : bytes(value));
    return {
      kind: "pass",
      headers: headers && wantedFields(headers),
      body: optional(body),
      sent: optional(sent),
      told: wantedFields(told),
    };
  }
  const { status = 429n, body = "Too many requests", headers, ...rest } = refuse;
  known(rest, [], "refuse");
  return { kind: "refuse", status: Number(status), body: Buffer.from(body), headers: headers && wantedFields(headers) };
}

/** What a field is to hold, by its repetition. */
function wantedFields(fields) {
  const wanted = (value) => {
    if (value?.down_from !== undefined) return { text: (repetition) => String(Number(value.down_from) - repetition) };
    if (value?.begins !== undefined) return { text: () => byteString(value.begins), begins: byteString(value.begins) };
    return { text: () => byteString(value) };
  };
  return new Map(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), wanted(value)]));
}

function fieldsOf(fields = {}) {
  return Object.entries(fields).flatMap(([name, values]) =>
    [values].flat().map((value) => [name.toLowerCase(), byteString(value)]),
  );
}

export function bytes(value) {
  if (typeof value === "bigint") return Buffer.from(String(value));
  if (typeof value === "string") return Buffer.from(value);
  if (value.hex !== undefined) return Buffer.from(value.hex.replaceAll(" ", ""), "hex");
  return Buffer.from(value.text.repeat(Number(value.times)));
}

function byteString(value) {
  return bytes(value).toString("latin1");
}

/** YAML as the gateway reads it: what has leading zeros is a text. */
function fromYaml(text) {
  const document = parseDocument(text, { intAsBigInt: true });
  if (document.errors.length > 0) throw document.errors[0];
  visit(document, {
    Scalar(key, node) {
      if (isScalar(node) && typeof node.value === "bigint" && /^[-+]?0\d/.test(node.source ?? ""))
        node.value = node.source;
    },
  });
  return document.toJS();
}

/** An example of the documentation of Higress' own plugin. */
function documentedText(name) {
  const source = readFileSync(DOCUMENTED, "utf8");
  const constant = source.match(new RegExp(`\\("${name}", ([A-Z_]+)\\)`))?.[1];
  const text = source.match(new RegExp(`pub const ${constant}: &str = r#"([^]*?)"#;`))?.[1];
  if (!text) throw new Error(`\`${name}\` is no documented configuration`);
  return text;
}

function known(object, fields, where) {
  const unknown = Object.keys(object).filter((field) => !fields.includes(field));
  if (unknown.length > 0) throw new Error(`${where}: nobody reads ${unknown.join(", ")}`);
}

function forEachPolicy(document, act) {
  act(document);
  for (const list of [document._rules_, document.filters]) for (const each of list ?? []) forEachPolicy(each, act);
}
