/** A real Redis of a test's own, on a free port, which keeps nothing on disk. */

import { spawn } from "node:child_process";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

const BINARY = process.env.SLIDEGATE_REDIS_SERVER ?? "redis-server";
const PATIENCE_MS = 30_000;

// Many may be there at once.
process.setMaxListeners(0);

export class RedisServer {
  #process;

  constructor(child, port) {
    this.#process = child;
    process.once("exit", () => child.kill("SIGKILL"));
    this.port = port;
  }

  /** @param {string[]} [more] arguments */
  static async start(more = []) {
    const port = await freePort();
    const options = [
      "--port",
      port,
      "--bind",
      "127.0.0.1",
      "--save",
      "",
      "--appendonly",
      "no",
      "--dir",
      tmpdir(),
      ...more,
    ];
    const server = new RedisServer(spawn(BINARY, options.map(String), { stdio: "ignore" }), port);
    for (const began = Date.now(); !(await answers(port)); await sleep(20)) {
      if (Date.now() - began > PATIENCE_MS) throw new Error(`${BINARY} does not answer`);
    }
    return server;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Stops it in its tracks: connections stand, and nothing is answered. */
  pause() {
    this.#process.kill("SIGSTOP");
  }

  async stop() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
  }
}

/** What listens where Redis should, and is none: it answers always the same, or hangs up. */
export async function impostor(answer) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => (answer === undefined ? socket.destroy() : socket.write(answer)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  server.unref();
  return server.address().port;
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"));
    socket.setTimeout(1_000, () => socket.destroy());
    socket.on("data", (data) => {
      resolve(data.toString().startsWith("+PONG"));
      socket.destroy();
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(false));
  });
}
