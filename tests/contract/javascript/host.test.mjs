// The worked host in JavaScript for what it means, with a real Redis. SLIDEGATE_WORKED_HOST is where it is, with what it needs and the component.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { after, before, beforeEach, test } from "node:test";

const folder = process.env.SLIDEGATE_WORKED_HOST;
const processes = [];
let redis;
let port;

async function freePort() {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address();
    server.close();
    return port;
}

/** Starts a program and waits for a line with this text. */
async function start(program, words, text, options = {}) {
    const started = spawn(program, words, { stdio: ["ignore", "pipe", "inherit"], ...options });
    processes.push(started);
    let told = "";
    for await (const piece of started.stdout) {
        told += piece;
        if (told.includes(text)) {
            started.stdout.resume();
            return started;
        }
    }
    throw new Error(`${program} ended: ${told}`);
}

const get = headers => fetch(`http://127.0.0.1:${port}/orders?page=1`, { headers });
const statuses = async (count, headers) => {
    const found = [];
    for (let request = 0; request < count; request += 1) {
        found.push((await get(headers)).status);
    }
    return found;
};

async function command(...words) {
    const cli = spawn("redis-cli", ["-p", redis, ...words], { stdio: ["ignore", "pipe", "inherit"] });
    let told = "";
    for await (const piece of cli.stdout) {
        told += piece;
    }
    return told;
}

before(async () => {
    [redis, port] = [String(await freePort()), String(await freePort())];
    await start("redis-server", ["--port", redis, "--save", "", "--bind", "127.0.0.1"], "Ready to accept connections", { cwd: tmpdir() });
    await start(process.execPath, ["examples/host.mjs", "component", port, `redis://127.0.0.1:${redis}`], "listening", { cwd: folder });
});

after(() => processes.forEach(process => process.kill()));

beforeEach(() => command("FLUSHALL"));

test("a limit holds for each key, one after the other and at once", async () => {
    assert.deepEqual(await statuses(4, { "x-api-key": "alice" }), [200, 200, 200, 429]);
    const answers = await Promise.all(Array.from({ length: 32 }, () => get({ "x-api-key": "bob" })));
    assert.equal(answers.filter(({ status }) => status === 200).length, 3);
    assert.deepEqual(await statuses(4, {}), [200, 200, 200, 200]);
});

test("quota and refusals are told", async () => {
    const headers = { "x-api-key": "carol" };
    const passed = await get(headers);
    assert.deepEqual([passed.headers.get("x-ratelimit-limit"), passed.headers.get("x-ratelimit-remaining")], ["3", "2"]);
    assert.equal(await passed.text(), "orders\n");
    await statuses(2, headers);
    const refused = await get(headers);
    assert.equal(refused.status, 429);
    assert.match(refused.headers.get("x-ratelimit-reset"), /^([1-9]|10)$/);
    assert.equal(await refused.text(), "Too many requests");
});

test("a script that Redis forgot is sent again", async () => {
    const headers = { "x-api-key": "dave" };
    assert.deepEqual(await statuses(1, headers), [200]);
    await command("SCRIPT", "FLUSH");
    await command("CONFIG", "RESETSTAT");
    assert.deepEqual(await statuses(3, headers), [200, 200, 429]);
    assert.match(await command("INFO", "commandstats"), /cmdstat_eval:calls=1,/);
});
