/** Servers that turn a Request into a Response: Deno, Bun, Hono, service workers, and frameworks for them. */

import { applyEdits } from "./edits.js";
import { concatenated } from "./held.js";
import { address as joined } from "./node-http.js";
import { completed } from "./node-response.js";

/** Statuses that have no body. */
const BODILESS = [101, 204, 205, 304];

/**
 * @template Rest
 * @typedef {object} FetchOptions
 * @property {(request: Request, ...rest: any[]) => string | undefined} [address] the peer as `ip:port`, from what the
 *   server tells beside the request. By default what Deno tells, `info.remoteAddr`.
 * @property {(request: Request) => string} [routeName] what `_match_route_` is compared with
 * @property {(request: Request) => string} [serviceName] what `_match_service_` is compared with
 */

/**
 * A handler behind a filter. Bodies that the filter wants to see are shown to it: of a request all of it before the
 * handler is called, of a response piece by piece.
 *
 * @param {import("./filter.js").Filter} filter
 * @param {(request: Request, ...rest: any[]) => Response | Promise<Response>} handler
 * @param {FetchOptions<any>} [options]
 * @returns {(request: Request, ...rest: any[]) => Promise<Response>}
 */
export function filtered(filter, handler, { address = peerOfDeno, routeName, serviceName } = {}) {
  return async (request, ...rest) => {
    const view = fetchView(request, {
      sourceAddress: address(request, ...rest),
      routeName: routeName?.(request),
      serviceName: serviceName?.(request),
    });
    const stream = filter.open(view);
    try {
      const verdict = await stream.onRequest();
      if (verdict.kind === "respond") return ended(stream, answer(verdict.response));
      const passed = await readBody(stream, request, verdict.edits);
      if (passed instanceof Response) return ended(stream, passed);
      return await respond(stream, await handler(passed, ...rest));
    } catch (error) {
      stream.end("upstream");
      throw error;
    }
  };
}

/** @returns {import("./component.js").RequestView} */
function fetchView(request, more) {
  const [, scheme, authority, path] = /^(https?):\/\/([^/?#]*)([^#]*)/.exec(request.url) ?? ["", "", "", request.url];
  const { headers } = request;
  return {
    ...more,
    method: request.method,
    path: path.startsWith("/") ? path : `/${path}`,
    authority: authority || (headers.get("host") ?? ""),
    scheme,
    hasBody: request.body !== null,
    header: (name) => headers.get(name) ?? undefined,
    // Headers of fetch does not keep fields of one name apart.
    headerValues: (name) => (headers.has(name) ? [headers.get(name)] : []),
    headers: () => [...headers],
  };
}

/** The request that goes on, or an answer. */
async function readBody(stream, request, edits) {
  if (stream.wants.requestBody === "none") return edits.length === 0 ? request : edited(request, edits);
  const coding = codingOf(request.headers);
  const pieces = [];
  let all = edits;
  const show = async (bytes, end) => {
    let step = stream.onRequestBody(bytes, { end, coding });
    if (step.kind === "wait" && end) step = await stream.released("request");
    if (step.kind === "respond") return answer(step.response);
    if (step.kind === "too-large") return new Response(null, { status: 413 });
    if (step.kind === "no-room") return new Response(null, { status: 503 });
    if (step.kind === "pass") {
      all = [...all, ...step.edits];
      pieces.push(...step.pieces);
    }
    return step.kind === "pass" && step.end;
  };
  for await (const bytes of request.body ?? []) {
    const shown = await show(bytes, false);
    if (shown instanceof Response) return shown;
    if (shown) return edited(request, all, concatenated(pieces));
  }
  const shown = await show(new Uint8Array(0), true);
  return shown instanceof Response ? shown : edited(request, all, request.body && concatenated(pieces));
}

function edited(request, edits, body) {
  const headers = new Headers(applyEdits(edits, [...request.headers]));
  if (body === undefined) return new Request(request, { headers });
  const { method, url, signal, redirect } = request;
  return new Request(url, { method, headers, body, signal, redirect });
}

/** The response as it goes to the client. */
async function respond(stream, response) {
  const end = response.body === null || BODILESS.includes(response.status);
  const before = [...response.headers];
  const verdict = await stream.onResponseHeaders({ status: response.status, origin: "upstream", end }, before);
  if (verdict.kind === "respond") {
    await response.body?.cancel();
    return ended(stream, answer(verdict.response));
  }
  const isShown = !end && stream.wants.responseBody !== "none";
  const after = applyEdits(verdict.edits, before);
  const isHeld = isShown && stream.wants.responseBody === "hold";
  // Nobody knows yet how long it will be.
  const fields = isHeld ? after.filter(([name]) => name !== "content-length") : after;
  if (!isShown) stream.end("whole");
  if (!isShown && fields === before) return response;
  const { status, statusText } = response;
  const body = isShown
    ? new ReadableStream(new ShownBody(stream, response.body, codingOf(response.headers)))
    : response.body;
  return new Response(body, { status, statusText, headers: new Headers(fields) });
}

/** What a filter lets go on of a response's body, as the source of a stream. */
class ShownBody {
  #stream;
  #reader;
  #coding;
  /** @type {Promise<{bytes?: Uint8Array}> | undefined} */ #next;
  #isKept = false;

  constructor(stream, body, coding) {
    this.#stream = stream;
    this.#reader = body.getReader();
    this.#coding = coding;
  }

  async pull(controller) {
    for (;;) {
      const step = await this.#step();
      if (step.kind === "wait") continue;
      for (const piece of step.pieces ?? []) controller.enqueue(piece);
      if (step.kind !== "pass") {
        this.#stream.end("upstream");
        await this.#reader.cancel();
        return controller.error(new Error(`slidegate: the filter keeps too much of the response (${step.kind})`));
      }
      if (step.end) {
        this.#stream.end("whole");
        await this.#reader.cancel();
        return controller.close();
      }
      if (step.pieces.length > 0) return undefined;
    }
  }

  async cancel(reason) {
    this.#stream.end("client");
    await this.#reader.cancel(reason);
  }

  /** What comes first: the next piece, or that what is kept may go on. */
  async #step() {
    this.#next ??= this.#reader.read().then(({ value, done }) => ({ bytes: done ? undefined : value }));
    let bytes;
    try {
      const first = await Promise.race(this.#isKept ? [this.#next, this.#stream.released("response")] : [this.#next]);
      if ("kind" in first) {
        this.#isKept = false;
        return first;
      }
      bytes = first.bytes;
    } catch (error) {
      this.#stream.end("upstream");
      throw error;
    }
    this.#next = undefined;
    const end = bytes === undefined;
    let step = this.#stream.onResponseBody(bytes ?? new Uint8Array(0), { end, coding: this.#coding });
    if (step.kind === "wait" && end) step = await this.#stream.released("response");
    this.#isKept = step.kind === "wait";
    return step;
  }
}

function answer(response) {
  const { status, body } = response;
  const headers = new Headers(completed(response));
  return new Response(BODILESS.includes(status) ? null : body, { status, headers });
}

function ended(stream, response) {
  stream.end("whole");
  return response;
}

function codingOf(headers) {
  return ["identity", null].includes(headers.get("content-encoding")) ? "identity" : "encoded";
}

function peerOfDeno(request, info) {
  return joined(info?.remoteAddr?.hostname, info?.remoteAddr?.port);
}
