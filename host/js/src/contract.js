/**
 * The types of the contract, package `slidegate:filter`, as they lie in memory. What they mean is said in `wit/`; a
 * test holds the two to each other. Names are as there, in camel case.
 */

import {
  bool,
  byteString,
  bytes,
  enumeration,
  f64,
  flags,
  list,
  option,
  record,
  result,
  s64,
  string,
  tuple,
  u16,
  u32,
  u64,
  variant,
} from "./abi.js";

/** Of the package that these are types of. */
export const PACKAGE = "slidegate:filter";
export const VERSION = "0.2.0";

// types

export const header = record({ name: byteString, value: byteString });
export const headerEdit = variant({ set: header, append: header, remove: byteString });
export const response = record({ status: u16, headers: list(header), body: bytes, details: string });
export const interest = enumeration("none", "watch", "hold", "copy");
export const wants = record({ requestBody: interest, responseHeaders: bool, responseBody: interest, done: bool });
export const splice = record({ at: u32, removed: u32, bytes });
export const bodyChange = variant({ keep: null, replace: bytes, end: bytes, splice });
export const pass = record({
  requestEdits: list(headerEdit),
  responseEdits: list(headerEdit),
  body: bodyChange,
  wants,
});
export const step = variant({ pass: option(pass), wait: null, respond: null });
export const passing = record({ stream: u64, pass: option(pass) });

/** Enums that cross as a number, in the order of their cases. */
export const coding = ["identity", "decoded", "encoded"];
export const ending = ["whole", "client", "upstream"];
export const origin = ["upstream", "host"];
export const level = ["debug", "info", "warn", "error"];

// redis

export const callError = enumeration(
  "connect",
  "timeout",
  "disconnected",
  "protocol",
  "unknown-service",
  "refused",
  "too-large",
);
export const value = variant({ nil: null, integer: s64, bulk: bytes, status: string });
export const reply = variant({ single: value, many: list(value), error: string });
export const callReply = record({ call: u64, reply: result(reply, callError) });
export const command = record({ bytes, lengths: list(u32) });

// filter

export const redisService = record({
  serviceName: string,
  port: u16,
  username: string,
  password: string,
  timeoutMs: u32,
  database: u32,
});
export const parts = flags(
  "method",
  "path",
  "authority",
  "sourceAddress",
  "routeName",
  "serviceName",
  "requestBody",
  "requestEdits",
  "responseHeaders",
  "responseBody",
  "responseEdits",
  "scheme",
  "hasBody",
);
export const headerNames = variant({ all: null, named: list(string) });
export const uses = record({ parts, headers: headerNames });
export const onTrap = enumeration("pass", "respond");
export const configuration = record({
  redis: list(redisService),
  uses,
  onTrap,
  localWindows: bool,
  warnings: list(string),
});
export const configError = record({ path: string, message: string });

// metrics

export const kind = variant({ counter: null, gauge: null, histogram: list(f64) });
export const metric = record({ kind, name: string, help: string, labels: list(tuple(string, string)) });
export const bucket = record({ count: u64, sum: f64 });
export const change = variant({ counter: u64, gauge: f64, histogram: list(bucket) });

// explanation

export const question = record({ service: u32, command });
export const verdict = enumeration("pass", "respond", "depend");
export const limitState = record({ used: u64, left: u64, roomAfterUs: u64 });
export const limitMet = record({
  limit: u64,
  windowUs: u64,
  slotUs: u64,
  cost: u64,
  enforced: bool,
  service: option(u32),
  key: byteString,
  state: option(limitState),
});
export const ruleOutcome = variant({ applies: string, skipped: string, frees: string, refuses: string });
export const ruleMet = record({ path: string, about: string, outcome: ruleOutcome, limits: list(limitMet) });
export const filterMet = record({
  path: string,
  kind: string,
  policy: option(string),
  name: string,
  verdict,
  reason: string,
  rules: list(ruleMet),
});
export const explanation = record({ filters: list(filterMet), questions: list(question) });
