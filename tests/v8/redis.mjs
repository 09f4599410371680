// A connection to a Redis: commands go out as they are, replies come back as they are, in the order of the commands.

import { connect } from "node:net";

// Where the reply that begins at `at` ends; undefined if it has not all arrived.
export function replyEnd(bytes, at) {
  const line = bytes.indexOf("\r\n", at);
  if (line < 0) return undefined;
  const next = line + 2;
  const count = Number(bytes.latin1Slice(at + 1, line));
  switch (String.fromCharCode(bytes[at])) {
    case "+":
    case "-":
    case ":":
      return next;
    case "$": {
      const end = count < 0 ? next : next + count + 2;
      return end <= bytes.length ? end : undefined;
    }
    case "*": {
      let end = next;
      for (let index = 0; index < count && end !== undefined; index += 1) end = replyEnd(bytes, end);
      return end;
    }
    default:
      throw new Error(`no reply begins with ${bytes.latin1Slice(at, at + 20)}`);
  }
}

export function command(...words) {
  return Buffer.from(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`);
}

// The words of a command.
export function words(query) {
  const text = query.latin1Slice();
  const found = [];
  let at = text.indexOf("\r\n") + 2;
  while (at < text.length) {
    const line = text.indexOf("\r\n", at);
    const size = Number(text.slice(at + 1, line));
    found.push(text.slice(line + 2, line + 2 + size));
    at = line + size + 4;
  }
  return found;
}

export class Redis {
  #socket;
  #received = Buffer.alloc(0);
  #waiting = [];
  #failure;

  static async open(port) {
    const redis = new Redis();
    const socket = connect({ host: "127.0.0.1", port, noDelay: true });
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    socket.on("data", (bytes) => redis.#take(bytes));
    socket.on("error", (error) => redis.#fail(error));
    socket.on("close", () => redis.#fail(new Error("Redis closed the connection")));
    redis.#socket = socket;
    return redis;
  }

  // Sends one command; the promise is its reply.
  send(query) {
    return new Promise((resolve, reject) => {
      if (this.#failure) reject(this.#failure);
      this.#waiting.push({ resolve, reject });
      this.#socket.write(query);
    });
  }

  close() {
    this.#failure = new Error("closed");
    this.#socket.destroy();
  }

  #take(bytes) {
    this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes]);
    let at = 0;
    for (let end; at < this.#received.length && (end = replyEnd(this.#received, at)) !== undefined; at = end) {
      this.#waiting.shift().resolve(this.#received.subarray(at, end));
    }
    this.#received = this.#received.subarray(at);
  }

  #fail(error) {
    this.#failure ??= error;
    this.#waiting.splice(0).forEach(({ reject }) => reject(this.#failure));
  }
}
