import { checkParts, decide, nodeView } from "./node-http.js";
import { completed } from "./node-response.js";

/**
 * Middleware for Express, and for whatever else takes functions of request, response and next of node:http. What it
 * refuses it answers itself. The client is the peer of the connection; `limit_by_per_ip: from-header-...` with
 * `trusted_hops` is for servers behind a proxy, and Express' `trust proxy` changes nothing.
 *
 * @param {import("./filter.js").Filter} filter
 * @param {import("./node-http.js").NodeOptions} [options]
 * @returns {(request: any, response: any, next: (error?: unknown) => void) => void}
 */
export function express(filter, { routeName, serviceName } = {}) {
  checkParts(filter);
  return (request, response, next) => {
    const view = nodeView(request, {
      path: request.originalUrl ?? request.url,
      routeName: routeName?.(request),
      serviceName: serviceName?.(request),
    });
    decide(filter, request, response, view).then((outcome) => {
      if (outcome === "pass") next();
      else if (outcome !== "gone") answer(outcome, response);
    }, next);
  };
}

function answer(refusal, response) {
  for (const [name, value] of completed(refusal)) response.appendHeader(name, value);
  response.writeHead(refusal.status);
  response.end(refusal.body);
}
