/**
 * Cases of `tests/cases` as data: what is written there, with its defaults. What the fields mean is said in
 * `tests/engine/src/case.rs`.
 */

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { isScalar, parseDocument, visit } from "yaml";

const ROOT = new URL("../../../tests/", import.meta.url);
const DOCUMENTED = new URL("engine/src/documented.rs", ROOT);

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
  const folder = new URL("cases/", ROOT);
  const files = readdirSync(fileURLToPath(folder), { recursive: true })
    .map(String)
    .filter((file) => file.endsWith(".yaml"));
  return files
    .sort()
    .map((file) => readCase(file.slice(0, -".yaml".length), readFileSync(new URL(file, folder), "utf8")));
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
  let nowMs = 0;
  const read = steps.map((step) => {
    const [stepRead, now] = readStep(step, nowMs, name);
    nowMs = now;
    return stepRead;
  });
  return { name, about, config: config ?? fromYaml(documentedText(documented)), skip, steps: read };
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
