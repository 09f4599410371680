/**
 * Clients of both libraries, as applications make them; those of tests stand at once, whatever listens at the other
 * end.
 */

import { Redis } from "ioredis";
import { createClient } from "redis";

import { ioredis, ioredisOptions } from "../src/ioredis.js";
import { nodeRedis, nodeRedisOptions } from "../src/node-redis.js";

const HOST = "127.0.0.1";
const RETRY_MS = 20;

/** A client of a filter, and what closes it. */
export const libraries = {
  ioredis: {
    async open({ port, database }) {
      const handshake = { protocol: 2, enableReadyCheck: false, disableClientInfo: true };
      const client = new Redis({
        host: HOST,
        port,
        db: database,
        ...ioredisOptions,
        ...handshake,
        retryStrategy: () => RETRY_MS,
      });
      client.on("error", () => {});
      return opened(ioredis(client), port, () => client.disconnect());
    },
  },
  "node-redis": {
    async open({ port, database }) {
      const socket = { host: HOST, port, reconnectStrategy: () => RETRY_MS };
      const client = createClient({ socket, database, RESP: 2, disableClientInfo: true, ...nodeRedisOptions });
      client.on("error", () => {});
      return opened(nodeRedis(client), port, () => client.destroy());
    },
  },
};

async function opened(client, port, close) {
  const stands = client.ready();
  // Nobody listens there.
  if (port > 1) await stands;
  return { client, close };
}
