/** Redis by a client of the package `redis`. */

import { buffer, CallFailure, ErrorReply } from "./redis.js";

/**
 * What a client has to be made with, so that a command runs at most once and nobody waits for a Redis that is away:
 * `createClient({ url, ...nodeRedisOptions })`.
 */
export const nodeRedisOptions = Object.freeze({ disableOfflineQueue: true });

/**
 * Bulk strings, which are 36 in RESP, as bytes. A call has its time in the filter; to make a signal of the library's
 * for each would take longer than all else.
 */
const OPTIONS = { typeMapping: { 36: Buffer }, timeout: undefined };

/** An error reply begins with a code; the library's own errors with a word. */
const CODE = /^[A-Z][A-Z0-9_]+( |$)/;

/**
 * A client of `redis` as a filter takes it.
 *
 * @param {any} client made with `nodeRedisOptions`, and connected or connecting
 * @returns {import("./redis.js").RedisClient}
 */
export function nodeRedis(client) {
  if (!client.options?.disableOfflineQueue) {
    throw new TypeError("the client's option `disableOfflineQueue` has to be true: make it with `nodeRedisOptions`");
  }
  return {
    async call(words) {
      if (!client.isReady) throw new CallFailure("connect");
      try {
        return await client.sendCommand(words.map(buffer), OPTIONS);
      } catch (error) {
        throw CODE.test(error.message)
          ? new ErrorReply(error.message)
          : new CallFailure("disconnected", { cause: error });
      }
    },
    async ready() {
      if (!client.isOpen) client.connect().catch(() => {});
      if (!client.isReady) await new Promise((resolve) => client.once("ready", resolve));
    },
  };
}
