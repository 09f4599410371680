// OpenAI's client for Node: `clients.mjs ACTION URL`, with the actions of clients.py.
import assert from "node:assert";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const installed = createRequire(pathToFileURL(process.env.CLIENTS + "/"));
const { default: OpenAI } = await import(pathToFileURL(installed.resolve("openai")));

const [action, url] = process.argv.slice(2);
const manner = { stream: "tokens=30;split=7", refused: "tokens=30", cancelled: "tokens=10000;pause=10" }[action];
const asking = (limit) => {
  const defaultHeaders = { "x-model": manner, "x-limited": limit };
  const client = new OpenAI({ baseURL: url + "/v1", apiKey: "k", maxRetries: 0, defaultHeaders });
  return () =>
    client.chat.completions.create({
      model: "stand-in",
      messages: [{ role: "user", content: "Say some words." }],
      stream: true,
      stream_options: { include_usage: true },
    });
};

async function read(ask) {
  let text = "";
  let usage;
  for await (const chunk of await ask()) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, Array.from({ length: 30 }, (_, index) => `word${index} `).join(""));
  assert.equal(usage.total_tokens, 40);
}

if (action === "cancelled") {
  const stream = await asking("no")();
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) break;
  }
} else if (action === "stream") {
  await read(asking("no"));
} else {
  for (const limit of ["requests", "tokens"]) {
    const ask = asking(limit);
    await read(ask);
    await assert.rejects(ask, (error) => {
      assert(error instanceof OpenAI.RateLimitError, error);
      assert.equal(error.type, limit);
      const wait = Number(error.headers.get("retry-after"));
      return wait >= 1 && wait <= 60;
    });
  }
}
