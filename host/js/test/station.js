/**
 * The Redis of a service of a case, whose clock is the case's, and which can be disturbed. Commands go by a client of
 * the library under test, and are changed only in that the script is told the clock.
 */

import { setImmediate as nextTurn } from "node:timers/promises";

import { ErrorReply } from "../src/redis.js";

/** Moods that all who use a server would notice. */
const OF_THE_SERVER = ["forgetful", "read-only", "full", "no-auth"];

/** One library answers nothing when what comes is no reply. */
const NEVER_ANSWERING = ["silent", "garbage"];

/** A port that nobody listens on, since it takes a privilege to. */
const DEAD_PORT = 1;

export class Station {
  calls = 0;
  #places;
  #clock;
  #clients = new Map();
  #store = "up";
  #texts = new Set();
  /** What is not answered yet. */
  #pending = new Set();

  /**
   * @param {{open: (address: {port: number, database: number}) => Promise<object>}} library
   * @param {{well: object, ownServer?: object, silent?: number, hangsUp: number, garbage: number}} places
   */
  constructor(library, places, clock) {
    this.library = library;
    this.#places = places;
    this.#clock = clock;
  }

  static isOfTheServer(store) {
    return OF_THE_SERVER.includes(store);
  }

  /** The client that a filter gets. */
  get client() {
    const call = (words) => {
      const reply = this.#call(words);
      // Whoever may never answer is not waited for.
      if (NEVER_ANSWERING.includes(this.#store)) return reply;
      this.#pending.add(reply);
      const forget = () => this.#pending.delete(reply);
      reply.then(forget, forget);
      return reply;
    };
    return { call, ready: async () => void (await this.#client(this.#places.well)) };
  }

  async set(store) {
    await this.#mend();
    this.#store = store;
    if (store === "read-only") await this.say("REPLICAOF", "127.0.0.1", "1");
    if (store === "full") await this.say("CONFIG", "SET", "maxmemory", "1");
    if (store === "no-auth") {
      await this.say("CONFIG", "SET", "requirepass", "secret");
      // Whoever is in stays in.
      await this.say("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes");
    }
    const place = this.#place();
    if (place) await (await this.#client(place)).client.ready();
  }

  /** Whether something is on its way; when that is answered, there may be more. */
  async isBusy() {
    if (this.#pending.size === 0) return false;
    await Promise.allSettled(this.#pending);
    await nextTurn();
    return true;
  }

  /** Somebody else says this. */
  async say(...words) {
    const { client } = await this.#client({ ...this.#places.well, purpose: "to look on" });
    return client.call(words.map((word) => Buffer.from(word)));
  }

  async close() {
    await this.#mend();
    for (const client of this.#clients.values()) (await client).close();
  }

  /** The server is well again, and the keys that were made texts are gone. */
  async #mend() {
    if (this.#places.ownServer) {
      await this.say("REPLICAOF", "NO", "ONE");
      await this.say("CONFIG", "SET", "maxmemory", "0");
      await this.say("CONFIG", "SET", "requirepass", "");
    }
    for (const key of this.#texts) await this.say("DEL", Buffer.from(key, "latin1"));
    this.#texts.clear();
  }

  #client(place) {
    const key = JSON.stringify(place);
    if (!this.#clients.has(key)) this.#clients.set(key, this.library.open(place));
    return this.#clients.get(key);
  }

  #place() {
    const { well, silent, hangsUp, garbage } = this.#places;
    const at = (port) => ({ port, database: 0 });
    if (this.#store === "down") return undefined;
    return { silent: at(silent), "hangs-up": at(hangsUp), garbage: at(garbage) }[this.#store] ?? well;
  }

  async #call(words) {
    this.calls += 1;
    try {
      if (this.#store.reply !== undefined) return scripted(this.#store.reply);
      const place = this.#place();
      if (!place) return await (await this.#client({ port: DEAD_PORT, database: 0 })).client.call(words);
      const { client } = await this.#client(place);
      return place === this.#places.well ? await this.#callWell(client, words) : await client.call(words);
    } catch (error) {
      // A script that Redis does not know is sent again: that is one call.
      if (error.reply?.startsWith("NOSCRIPT")) this.calls -= 1;
      throw error;
    }
  }

  /**
   * Sends the command between others that make the server what the case needs, all in one go. Keys are made to stay:
   * Redis would drop them by its own clock, while it is the case's that says when their windows are over.
   */
  async #callWell(client, sent) {
    const words = sent.map((word) => Buffer.from(word));
    const keys = setClock(words, this.#clock.us);
    const others = [];
    const say = (...other) => others.push(client.call(other.map((word) => Buffer.from(word))));
    if (this.#store === "forgetful" && String(words[0]) === "EVALSHA") say("SCRIPT", "FLUSH");
    if (this.#store === "wrong-type") {
      for (const key of keys) {
        say("SET", key, "text");
        this.#texts.add(key.toString("latin1"));
      }
    }
    const reply = client.call(words);
    for (const key of keys) say("PERSIST", key);
    await Promise.allSettled([reply, ...others]);
    return reply;
  }
}

/** Puts a clock into a command of the windows' scripts; returns its keys. */
function setClock(words, us) {
  if (!["EVALSHA", "EVAL"].includes(String(words[0]))) return [];
  const count = Number(words[2]);
  const keys = words.slice(3, 3 + count);
  // A cache goes by its host's clock.
  if (String(keys[0]).startsWith("slidegate:c:")) return [];
  words.push(Buffer.from(String(us)));
  return keys;
}

/** What a case says that Redis replies. */
function scripted(reply) {
  if (reply?.error !== undefined) throw new ErrorReply(reply.error);
  const element = (value) => {
    if (value?.hex !== undefined) return Buffer.from(value.hex.replaceAll(" ", ""), "hex");
    return typeof value === "string" ? Buffer.from(value) : value;
  };
  return Array.isArray(reply) ? reply.map(element) : element(reply);
}
