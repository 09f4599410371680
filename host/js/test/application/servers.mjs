// An application of the package, as somebody else would write it: it is copied beside an installed package, and run
// there.

import { createServer } from "node:http";
import { once } from "node:events";
import { Readable } from "node:stream";

import express from "express";
import Fastify from "fastify";
import { Redis } from "ioredis";
import { ConfigurationError, Filter } from "slidegate";
import { express as limitExpress } from "slidegate/express";
import { fastify as limitFastify } from "slidegate/fastify";
import { filtered } from "slidegate/fetch";
import { ioredis, ioredisOptions } from "slidegate/ioredis";

export { ConfigurationError, Filter, ioredis, ioredisOptions, Redis };

/** What the application says of a request: what it was told, and a header of its own that a filter may replace. */
const seen = (headers) => JSON.stringify({ user: headers["x-user"] ?? null, custom: headers["x-custom"] ?? null });

export const servers = {
  async express(filter, heard = () => {}) {
    const app = express();
    app.use("/", limitExpress(filter, { routeName: () => "shop" }));
    app.get("/head", (request, response) => {
      response.writeHead(201, "Made", { "X-RateLimit-Limit": "application", "x-own": "1" });
      response.end(seen(request.headers));
    });
    app.get("/token", (request, response) => {
      response.setHeader("set-cookie", ["token=secret; Path=/", "other=1"]);
      response.write("piece by ");
      response.write("piece");
      response.end();
    });
    app.get("/cookies", (request, response) => response.send(request.headers.cookie ?? "none"));
    app.get("/{*rest}", (request, response) => {
      heard();
      response.set("x-ratelimit-limit", "application").send(seen(request.headers));
    });
    const server = app.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { port: server.address().port, close: () => closed(server) };
  },

  async fastify(filter) {
    const app = Fastify();
    await app.register(limitFastify, { filter, routeName: () => "shop" });
    app.get("/token", (request, reply) =>
      reply.header("set-cookie", ["token=secret; Path=/", "other=1"]).send(Readable.from(["piece by ", "piece"])),
    );
    app.get("/cookies", (request, reply) => reply.send(request.headers.cookie ?? "none"));
    app.get("/*", (request, reply) => reply.header("x-ratelimit-limit", "application").send(seen(request.headers)));
    await app.listen({ port: 0, host: "127.0.0.1" });
    return { port: app.server.address().port, close: () => app.close() };
  },

  async fetch(
    filter,
    respond = (request) =>
      new Response(seen(Object.fromEntries(request.headers)), { headers: { "x-ratelimit-limit": "application" } }),
  ) {
    const handle = filtered(filter, respond, {
      routeName: () => "shop",
      address: (request, { socket }) => `${socket.remoteAddress}:${socket.remotePort}`,
    });
    const server = createServer(async (incoming, outgoing) => {
      const { method, url, rawHeaders, headers } = incoming;
      const fields = new Headers();
      for (let index = 0; index < rawHeaders.length; index += 2)
        fields.append(rawHeaders[index], rawHeaders[index + 1]);
      const body = ["GET", "HEAD"].includes(method) ? undefined : Readable.toWeb(incoming);
      const target = url.startsWith("/") ? `http://${headers.host}${url}` : url;
      const response = await handle(new Request(target, { method, headers: fields, body, duplex: "half" }), incoming);
      outgoing.writeHead(response.status, [...response.headers].flat());
      if (response.body) Readable.fromWeb(response.body).pipe(outgoing);
      else outgoing.end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { port: server.address().port, close: () => closed(server) };
  },
};

async function closed(server) {
  server.closeAllConnections();
  server.close();
  await once(server, "close");
}
