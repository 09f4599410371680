import { checkParts, decide, nodeView } from "./node-http.js";
import { completed } from "./node-response.js";

/**
 * A plugin for Fastify, which decides on requests when their headers are there: `app.register(fastify, { filter })`. It
 * is for all routes that are declared after it, in the same context.
 *
 * @param {any} app
 * @param {{filter: import("./filter.js").Filter} & import("./node-http.js").NodeOptions} options
 */
export async function fastify(app, { filter, routeName, serviceName }) {
  checkParts(filter);
  app.addHook("onRequest", async (request, reply) => {
    const view = nodeView(request.raw, {
      path: request.raw.url,
      routeName: routeName?.(request),
      serviceName: serviceName?.(request),
    });
    const outcome = await decide(filter, request.raw, reply.raw, view);
    if (outcome === "pass") return undefined;
    if (outcome === "gone") return reply.hijack();
    reply.code(outcome.status);
    for (const [name, value] of completed(outcome)) reply.header(name, value);
    return reply.send(Buffer.from(outcome.body));
  });
}

// The context of whoever registers it, not one of its own.
fastify[Symbol.for("skip-override")] = true;
