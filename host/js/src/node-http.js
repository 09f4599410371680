/** A filter in front of node:http: what Express and Fastify are made of. */

import { applyEdits, editedName, isSendable } from "./edits.js";
import { editHead, showHead } from "./node-response.js";

/** An absolute target, as a client sends it to a proxy. */
const ABSOLUTE = /^https?:\/\/([^/?#]*)/i;

/**
 * @typedef {object} NodeOptions
 * @property {(request: any) => string} [routeName] what `_match_route_` is compared with
 * @property {(request: any) => string} [serviceName] what `_match_service_` is compared with
 */

/**
 * Whether a middleware can do what a configuration needs: it shows no bodies.
 *
 * @param {import("./filter.js").Filter} filter
 * @throws {TypeError}
 */
export function checkParts(filter) {
  const { requestBody, responseBody } = filter.configuration.uses.parts;
  if (requestBody || responseBody) {
    throw new TypeError(
      "the configuration looks at bodies, which this middleware does not show: use `slidegate/fetch`",
    );
  }
}

/**
 * Decides on a request. What is changed in it is changed in place, and what is to stand in its response comes there
 * when its headers are written, whoever writes them.
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
  if (stream.wants.responseHeaders) showHead(stream, response);
  else if (stream.responseEdits.length > 0) editHead(stream.responseEdits, response);
  return "pass";
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
  for (let index = 0; index < rawHeaders.length; index += 2)
    fields.push([rawHeaders[index].toLowerCase(), rawHeaders[index + 1]]);
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
