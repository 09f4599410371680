/** A filter behind node:http: what it changes in a response's headers, when they are written, whoever writes them. */

import { isSendable } from "./edits.js";

/** Statuses that have no body. */
const BODILESS = [204, 304];

/**
 * The fields of an answer, with those that HTTP wants of it.
 *
 * @param {import("./stream.js").FilterResponse} response
 * @returns {import("./edits.js").Field[]}
 */
export function completed({ headers, body }) {
  const has = (name) => headers.some(([each]) => each === name);
  const fields = headers.filter(([name]) => name !== "content-length");
  // What was kept is as its upstream said it, be it without a type.
  const mayLackType = body.length === 0 || has("age");
  if (!mayLackType && !has("content-type")) fields.push(["content-type", "text/plain"]);
  return [...fields, ["content-length", String(body.length)]];
}

/**
 * Has edits made in a response's headers.
 *
 * @param {import("./edits.js").HeaderEdit[]} edits
 * @param {any} response a ServerResponse
 */
export function editHead(edits, response) {
  const { writeHead } = response;
  response.writeHead = (status, ...rest) => {
    if (response.headersSent) return writeHead.call(response, status, ...rest);
    const reason = takeHead(response, rest);
    edit(edits, response);
    return writeHead.call(response, status, ...reason);
  };
}

/**
 * Shows a response's headers to a filter, which may take its time: until then what is written waits, and it may be
 * something else that goes to the client.
 *
 * @param {import("./stream.js").Stream} stream
 * @param {any} response a ServerResponse
 */
export function showHead(stream, response) {
  const { writeHead, write, end, flushHeaders } = response;
  /** @type {"new" | "waiting" | "open" | "answered"} */
  let state = "new";
  const written = [];

  const open = (status, reason, verdict) => {
    if (verdict.kind === "respond") {
      state = "answered";
      for (const name of response.getHeaderNames()) response.removeHeader(name);
      for (const [name, value] of completed(verdict.response)) response.appendHeader(name, value);
      writeHead.call(response, verdict.response.status);
      end.call(response, verdict.response.body);
      return;
    }
    edit(verdict.edits, response);
    writeHead.call(response, status, ...reason);
    state = "open";
    for (const again of written.splice(0)) again();
    if (!response.writableEnded && !response.writableNeedDrain) response.emit("drain");
  };
  const arrive = (status, rest) => {
    const reason = takeHead(response, rest);
    const head = { status, origin: "upstream", end: response.req?.method === "HEAD" || BODILESS.includes(status) };
    state = "waiting";
    const verdict = stream.onResponseHeaders(/** @type {any} */ (head), fieldsOf(response));
    if (verdict instanceof Promise) verdict.then((later) => open(status, reason, later));
    else open(status, reason, verdict);
  };
  const behindHead =
    (act, otherwise) =>
    (...piece) => {
      if (state === "new") arrive(response.statusCode, []);
      if (state === "waiting") written.push(() => act.apply(response, piece));
      return state === "open" ? act.apply(response, piece) : otherwise();
    };

  response.writeHead = (status, ...rest) => {
    if (state === "new") arrive(status, rest);
    return response;
  };
  response.write = behindHead(write, () => state === "answered");
  response.end = behindHead(end, () => response);
  response.flushHeaders = behindHead(flushHeaders, () => undefined);
}

function edit(edits, response) {
  for (const { kind, value } of edits.filter(isSendable)) {
    if (kind === "remove") response.removeHeader(value);
    else if (kind === "set") response.setHeader(value.name, value.value);
    else response.appendHeader(value.name, value.value);
  }
}

/** @returns {import("./edits.js").Field[]} */
function fieldsOf(response) {
  return Object.entries(response.getHeaders()).flatMap(([name, value]) =>
    [value].flat().map((each) => /** @type {[string, string]} */ ([name, String(each)])),
  );
}

/**
 * Takes the fields of what stands behind a status in a call of `writeHead`: an object, a list of pairs, or names and
 * values in turn. Returns the reason, if there is one.
 */
function takeHead(response, rest) {
  const headers = rest.find((each) => typeof each === "object" && each !== null) ?? {};
  const list = Array.isArray(headers) ? headers : Object.entries(headers);
  const flat = Array.isArray(list[0]) ? list.flatMap(([name, value]) => [name, value]) : list;
  const set = new Set();
  for (let index = 0; index < flat.length; index += 2) {
    const name = String(flat[index]).toLowerCase();
    if (set.has(name)) response.appendHeader(name, flat[index + 1]);
    else response.setHeader(flat[index], flat[index + 1]);
    set.add(name);
  }
  return rest.filter((each) => typeof each === "string");
}
