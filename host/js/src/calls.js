/**
 * The Redis commands of one instance that are on their way. Each is answered once: by Redis, or, when its time is over,
 * by `timeout`. Replies that come together are brought to the instance together. When an instance is gone, so is this,
 * and what still comes is for nobody.
 */

import { isRefused, REPLY_BYTES_MAX, replyOf, sizeOf } from "./redis.js";

/** Most commands that wait for an answer. Above it, calls fail as if Redis could not be reached. */
const UNANSWERED_MAX = 65_536;

/** Most replies that are brought in one call. */
const TOGETHER_MAX = 128;

/** Node reads from connections before it does this; elsewhere there is nothing to read from. */
export const nextTurn = globalThis.setImmediate ?? ((act) => act());

/** A Redis of the configuration: who sends, and what is on its way. */
class Service {
  /**
   * When the time of each call is over, in milliseconds of `performance.now`, the earliest first.
   *
   * @type {Map<number, number>}
   */
  deadlines = new Map();
  timer;

  constructor(client, timeoutMs) {
    this.client = client;
    this.timeoutMs = timeoutMs;
  }
}

export class Calls {
  #services;
  #deliver;
  #lastCall = 0;
  #unanswered = 0;
  #made = [];
  #replied = [];
  #isOpen = true;
  #whenIdle = [];

  /**
   * @param {{client: import("./redis.js").RedisClient, timeoutMs: number}[]} services as the configuration numbers them
   * @param {(replies: {call: number, reply: object}[]) => void} deliver
   */
  constructor(services, deliver) {
    this.#services = services.map(({ client, timeoutMs }) => new Service(client, timeoutMs));
    this.#deliver = deliver;
  }

  /** Takes a command, which is sent when the instance has returned. */
  accept(service, words) {
    if (service >= this.#services.length) return { error: "unknown-service" };
    if (isRefused(words)) return { error: "refused" };
    if (this.#unanswered >= UNANSWERED_MAX) return { error: "connect" };
    this.#unanswered += 1;
    const call = ++this.#lastCall;
    this.#made.push({ call, service: this.#services[service], words });
    return { ok: call };
  }

  /** Sends what was accepted. */
  send() {
    if (this.#made.length === 0) return;
    const made = this.#made;
    this.#made = [];
    const now = performance.now();
    for (const { call, service, words } of made) {
      service.deadlines.set(call, now + service.timeoutMs);
      if (service.timer === undefined) this.#await(service, service.timeoutMs);
      this.#ask(service, call, words);
    }
  }

  /** Nobody is there any more who wants replies. */
  close() {
    this.#isOpen = false;
    for (const service of this.#services) clearTimeout(service.timer);
    this.#tellIdle();
  }

  /** When nothing is on its way. @returns {Promise<void>} */
  idle() {
    if (this.#unanswered === 0 || !this.#isOpen) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  #ask(service, call, words) {
    let reply;
    try {
      reply = service.client.call(words);
    } catch (error) {
      reply = Promise.reject(error);
    }
    reply.then(
      (raw) => this.#answer(service, call, replyOf(raw)),
      (error) => this.#answer(service, call, failureOf(error)),
    );
  }

  #answer(service, call, reply) {
    // A call whose time was over has been answered.
    if (!this.#isOpen || !service.deadlines.delete(call)) return;
    this.#replied.push({ call, reply });
    // Behind what else came of the same piece of the connection.
    if (this.#replied.length === 1) queueMicrotask(() => this.#bring());
  }

  #bring() {
    while (this.#isOpen && this.#replied.length > 0) {
      let [count, bytes] = [0, 0];
      while (count < TOGETHER_MAX && count < this.#replied.length) {
        bytes += sizeOf(this.#replied[count].reply);
        if (count > 0 && bytes > REPLY_BYTES_MAX) break;
        count += 1;
      }
      const together = this.#replied.splice(0, count);
      this.#unanswered -= together.length;
      this.#deliver(together);
    }
    if (this.#unanswered === 0) this.#tellIdle();
  }

  #tellIdle() {
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  #await(service, ms) {
    // A reply that has come while others kept the process busy is read first.
    service.timer = setTimeout(() => nextTurn(() => this.#expire(service)), Math.max(1, Math.ceil(ms)));
    // A process need not stay for it.
    service.timer.unref?.();
  }

  #expire(service) {
    service.timer = undefined;
    if (!this.#isOpen) return;
    const now = performance.now();
    for (const [call, deadline] of service.deadlines) {
      if (deadline > now) {
        this.#await(service, deadline - now);
        return;
      }
      this.#answer(service, call, { error: "timeout" });
    }
  }
}

function failureOf(error) {
  if (typeof error?.reply === "string") return { ok: { kind: "error", value: error.reply } };
  return { error: error?.failure ?? "disconnected" };
}
