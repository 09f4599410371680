// What an application in TypeScript may write; it is compiled, not run.

import { ConfigurationError, Filter } from "slidegate";
import { express } from "slidegate/express";
import { filtered } from "slidegate/fetch";
import { ioredis, ioredisOptions } from "slidegate/ioredis";
import { nodeRedis, nodeRedisOptions } from "slidegate/node-redis";

declare const Redis: new (url: string, options: object) => object;
declare const createClient: (options: object) => object;

export async function start(): Promise<string[]> {
  try {
    const filter = await Filter.start(
      { rule_name: "typed" },
      {
        redis: {
          one: ioredis(new Redis("redis://one", ioredisOptions)),
          two: nodeRedis(createClient({ ...nodeRedisOptions })),
        },
      },
    );
    express(filter, { routeName: () => "shop" });
    filtered(filter, async (request: Request) => new Response(request.url));
    const stream = filter.open({
      method: "GET",
      path: "/",
      authority: "",
      header: () => undefined,
      headerValues: () => [],
      headers: () => [],
    });
    const verdict = await stream.onRequest();
    stream.end("whole");
    return verdict.kind === "respond" ? [String(verdict.response.status)] : verdict.edits.map(({ kind }) => kind);
  } catch (error) {
    if (error instanceof ConfigurationError) return error.mistakes.map(({ path, message }) => `${path}: ${message}`);
    throw error;
  }
}
