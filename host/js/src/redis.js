/**
 * Redis as a filter needs it, whatever library speaks to it: one command, one reply, at most once.
 *
 * @typedef {object} RedisClient
 * @property {(words: Uint8Array[]) => Promise<Raw>} call sends one command, without trying again. Rejects with an
 *   `ErrorReply` or a `CallFailure`; anything else is taken for a connection that was lost.
 * @property {() => Promise<void>} [ready] resolves when the connection stands
 *
 * @typedef {null | number | bigint | string | Uint8Array} RawValue texts are simple strings, bytes bulk strings
 * @typedef {RawValue | RawValue[]} Raw a reply; one that is nested deeper is none for a filter
 */

/** Largest reply that is brought to an instance, in bytes. */
export const REPLY_BYTES_MAX = 1 << 20;

/** What an element of a list takes beside its bytes. */
const ELEMENT_BYTES = 16;

/**
 * Commands that change a connection, keep it, or turn its replies into something else than one for each command: the
 * application may use the same connection.
 */
const REFUSED = new Set([
  "ASKING",
  "AUTH",
  "BLMOVE",
  "BLMPOP",
  "BLPOP",
  "BRPOP",
  "BRPOPLPUSH",
  "BZMPOP",
  "BZPOPMAX",
  "BZPOPMIN",
  "CLIENT",
  "DISCARD",
  "EXEC",
  "HELLO",
  "MONITOR",
  "MULTI",
  "PSUBSCRIBE",
  "PSYNC",
  "PUNSUBSCRIBE",
  "QUIT",
  "READONLY",
  "READWRITE",
  "REPLCONF",
  "RESET",
  "SELECT",
  "SSUBSCRIBE",
  "SUBSCRIBE",
  "SUNSUBSCRIBE",
  "SYNC",
  "UNSUBSCRIBE",
  "UNWATCH",
  "WAIT",
  "WAITAOF",
  "WATCH",
  // They may block, and no filter of ours sends them.
  "XREAD",
  "XREADGROUP",
]);

const decoder = new TextDecoder();

/** An error reply, as Redis wrote it, with its code first. */
export class ErrorReply extends Error {
  /** @param {string} reply */
  constructor(reply) {
    super(reply);
    this.name = "ErrorReply";
    this.reply = reply;
  }
}

/** Why a command got no reply. */
export class CallFailure extends Error {
  /**
   * @param {"connect" | "timeout" | "disconnected" | "protocol"} failure `connect`: the command did not run
   * @param {ErrorOptions} [options]
   */
  constructor(failure, options) {
    super(`no reply of Redis: ${failure}`, options);
    this.name = "CallFailure";
    this.failure = failure;
  }
}

export function isRefused([name]) {
  // Nearly all are EVALSHA, and nothing that is refused looks like it.
  if (name.length === 7 && name[0] === 0x45) return false;
  return REFUSED.has(decoder.decode(name).toUpperCase());
}

/** A reply as the contract has it, or why it cannot be said there. @param {Raw} raw */
export function replyOf(raw) {
  const elements = Array.isArray(raw) ? raw.map(element) : [element(raw)];
  if (elements.includes(undefined)) return { error: "protocol" };
  const reply = { ok: Array.isArray(raw) ? { kind: "many", value: elements } : { kind: "single", value: elements[0] } };
  return sizeOf(reply) > REPLY_BYTES_MAX ? { error: "too-large" } : reply;
}

/** How many bytes a reply takes, about. */
export function sizeOf(reply) {
  const { kind, value } = reply.ok ?? {};
  if (kind === "single") return elementSize(value);
  return kind === "many" ? value.reduce((sum, each) => sum + ELEMENT_BYTES + elementSize(each), 0) : 0;
}

const NIL = Object.freeze({ kind: "nil", value: undefined });

function element(raw) {
  if (raw === null) return NIL;
  if (raw instanceof Uint8Array) return { kind: "bulk", value: raw };
  if (typeof raw === "string") return { kind: "status", value: raw };
  return typeof raw === "number" || typeof raw === "bigint" ? { kind: "integer", value: raw } : undefined;
}

function elementSize({ kind, value }) {
  return kind === "bulk" || kind === "status" ? value.length : 0;
}

/** The same bytes as the libraries take them. */
export function buffer(word) {
  return Buffer.from(word.buffer, word.byteOffset, word.byteLength);
}
