/** A filter in front of node:http: what Express and Fastify are made of. */

import { applyEdits, editedName, isSendable } from "./edits.js";

/** An absolute target, as a client sends it to a proxy. */
const ABSOLUTE = /^https?:\/\/([^/?#]*)/i;

/**
 * @typedef {object} NodeOptions
 * @property {(request: any) => string} [routeName] what `_match_route_` is compared with
 * @property {(request: any) => string} [serviceName] what `_match_service_` is compared with
 */

/**
 * Whether a middleware can do what a configuration needs: headers are all that it shows.
 *
 * @param {import("./filter.js").Filter} filter
 * @throws {TypeError}
 */
export function checkParts(filter) {
  const { requestBody, responseHeaders, responseBody } = filter.configuration.uses.parts;
  if (requestBody || responseHeaders || responseBody) {
    throw new TypeError("the configuration looks at bodies or at responses, which this middleware does not show: use `slidegate/fetch`");
  }
}

/**
 * Decides on a request. What is changed in it is changed in place, and what is to stand in its response comes there when its
 * headers are written, whoever writes them.
 *
 * @param {import("./filter.js").Filter} filter
 * @param {any} request an IncomingMessage
 * @param {any} response its ServerResponse
 * @param {import("./component.js").RequestView} view
 * @returns {Promise<import("./stream.js").FilterResponse | "pass" | "gone">} `gone`: the client has left meanwhile
 */
export async function decide(filter, request, response, view) {
  const stream = filter.open(view);
  response.once("close", () => stream.end(response.writableFinished ? "whole" : "client"));
  let verdict = stream.onRequest();
  if (verdict instanceof Promise) verdict = await verdict;
  if (response.destroyed) return "gone";
  if (verdict.kind === "respond") return verdict.response;
  editRequest(verdict.edits.filter(isSendable), request);
  if (stream.responseEdits.length > 0) editHead(stream.responseEdits.filter(isSendable), response);
  return "pass";
}

/**
 * The fields of an answer, with those that HTTP wants of it.
 *
 * @param {import("./stream.js").FilterResponse} response
 * @returns {import("./edits.js").Field[]}
 */
export function completed({ headers, body }) {
  const has = (name) => headers.some(([each]) => each === name);
  const fields = headers.filter(([name]) => name !== "content-length");
  if (body.length > 0 && !has("content-type")) fields.push(["content-type", "text/plain"]);
  return [...fields, ["content-length", String(body.length)]];
}

/**
 * A request of node:http as a filter looks at it.
 *
 * @param {any} request
 * @param {{path: string, routeName?: string, serviceName?: string}} more `path`: as the client sent it
 * @returns {import("./component.js").RequestView}
 */
export function nodeView(request, { path, routeName = "", serviceName = "" }) {
  const { rawHeaders, socket } = request;
  const [origin, host] = ABSOLUTE.exec(path) ?? ["", undefined];
  const rest = path.slice(origin.length);
  const values = (name) => {
    const found = [];
    for (let index = 0; index < rawHeaders.length; index += 2) {
      const each = rawHeaders[index];
      if (each.length === name.length && each.toLowerCase() === name) found.push(rawHeaders[index + 1]);
    }
    return found;
  };
  return {
    method: request.method,
    path: origin && !rest.startsWith("/") ? `/${rest}` : rest,
    // Whoever put credentials before the host did not mean them as part of its name.
    authority: host?.split("@").pop() ?? values(":authority")[0] ?? values("host")[0] ?? "",
    scheme: socket.encrypted ? "https" : "http",
    sourceAddress: address(socket.remoteAddress, socket.remotePort),
    routeName,
    serviceName,
    hasBody: values("transfer-encoding").length > 0 || Number(values("content-length")[0] ?? 0) > 0,
    header(name) {
      const found = values(name);
      return name === "cookie" && found.length > 0 ? found.join("; ") : found[0];
    },
    headerValues: values,
    headers: () => pairs(rawHeaders).filter(([name]) => !name.startsWith(":")),
  };
}

/** @returns {string | undefined} `ip:port`, `[ip]:port` */
export function address(ip, port) {
  if (!ip) return undefined;
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

/** @returns {import("./edits.js").Field[]} */
function pairs(rawHeaders) {
  /** @type {import("./edits.js").Field[]} */
  const fields = [];
  for (let index = 0; index < rawHeaders.length; index += 2) fields.push([rawHeaders[index].toLowerCase(), rawHeaders[index + 1]]);
  return fields;
}

function editRequest(edits, request) {
  if (edits.length === 0) return;
  const fields = applyEdits(edits, pairs(request.rawHeaders));
  request.rawHeaders.splice(0, Infinity, ...fields.flat());
  for (const edit of edits) {
    const name = editedName(edit).toLowerCase();
    const values = fields.filter(([each]) => each === name).map(([, value]) => value);
    if (values.length === 0) delete request.headers[name];
    else request.headers[name] = values.join(name === "cookie" ? "; " : ", ");
  }
  // Made of the raw ones when somebody asks for them.
  request.headersDistinct = undefined;
}

/** Has edits made in a response's headers when they are written. */
function editHead(edits, response) {
  const { writeHead } = response;
  response.writeHead = (status, ...rest) => {
    response.writeHead = writeHead;
    setAll(response, rest.find((each) => typeof each === "object" && each !== null) ?? {});
    for (const { kind, value } of edits) {
      if (kind === "remove") response.removeHeader(value);
      else if (kind === "set") response.setHeader(value.name, value.value);
      else response.appendHeader(value.name, value.value);
    }
    return writeHead.call(response, status, ...rest.filter((each) => typeof each === "string"));
  };
}

/** Fields as `writeHead` takes them: an object, a list of pairs, or names and values in turn. */
function setAll(response, headers) {
  const list = Array.isArray(headers) ? headers : Object.entries(headers);
  const flat = Array.isArray(list[0]) ? list.flatMap(([name, value]) => [name, value]) : list;
  const set = new Set();
  for (let index = 0; index < flat.length; index += 2) {
    const name = String(flat[index]).toLowerCase();
    if (set.has(name)) response.appendHeader(name, flat[index + 1]);
    else response.setHeader(flat[index], flat[index + 1]);
    set.add(name);
  }
}
