/** Redis by a client of the package `ioredis`. */

import { buffer, CallFailure, ErrorReply } from "./redis.js";

/**
 * What a client has to be made with, so that a command runs at most once and nobody waits for a Redis that is away:
 * `new Redis(url, ioredisOptions)`.
 */
export const ioredisOptions = Object.freeze({
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
});

/** What else would change commands, or send them elsewhere. */
const FORBIDDEN = ["keyPrefix", "commandTimeout", "reconnectOnError"];

/** What the library adds to the message of bytes that are no reply. */
const NO_REPLY = "Please report this.";

/**
 * A client of `ioredis` as a filter takes it.
 *
 * @param {any} client made with `ioredisOptions`
 * @returns {import("./redis.js").RedisClient}
 */
export function ioredis(client) {
  if (client.isCluster) throw new TypeError("a cluster's client may send a command twice: it is none for a filter");
  const wrong = Object.entries(ioredisOptions).find(([name, value]) => client.options?.[name] !== value);
  if (wrong)
    throw new TypeError(`the client's option \`${wrong[0]}\` has to be ${wrong[1]}: make it with \`ioredisOptions\``);
  const forbidden = FORBIDDEN.find((name) => client.options[name]);
  if (forbidden)
    throw new TypeError(`the client has the option \`${forbidden}\`, with which it is no client for a filter`);
  /** Sends what is written in one turn together: the library writes each command by itself. */
  let corked;
  const uncork = () => {
    corked.uncork();
    corked = undefined;
  };
  return {
    async call(words) {
      if (client.status !== "ready") throw new CallFailure("connect");
      if (!corked && client.stream?.cork) {
        corked = client.stream;
        corked.cork();
        process.nextTick(uncork);
      }
      const [name, ...rest] = words.map(buffer);
      try {
        const reply = await client.callBuffer(name.toString("latin1").toUpperCase(), ...rest);
        return isStatus(name, rest, reply) ? reply.toString("latin1") : reply;
      } catch (error) {
        throw failure(error);
      }
    },
    async ready() {
      if (client.status === "ready") return;
      if (client.status === "wait") client.connect().catch(() => {});
      await new Promise((resolve) => client.once("ready", resolve));
    },
  };
}

/**
 * The library does not tell simple strings from others. Of the commands that a filter sends, SET is answered with one.
 */
function isStatus(name, rest, reply) {
  return (
    name.length === 3 && name.toString("latin1").toUpperCase() === "SET" && reply instanceof Buffer && !hasGet(rest)
  );
}

function hasGet(words) {
  return words.slice(2).some((word) => word.toString("latin1").toUpperCase() === "GET");
}

function failure(error) {
  if (error.name === "ReplyError") return new ErrorReply(error.message);
  return new CallFailure(error.message?.endsWith(NO_REPLY) ? "protocol" : "disconnected", { cause: error });
}
