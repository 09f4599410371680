// The playground in a browser: prints each thing that holds, and ends with 1 if one does not.
//
// usage: node browser.mjs FOLDER [PICTURE], with the page's files in FOLDER

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { extname, join, normalize, resolve, sep } from "node:path";

import { chromium } from "playwright-core";

const [folder, picture] = process.argv.slice(2);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };

const server = createServer((request, response) => {
  const root = resolve(folder) + sep;
  const file = normalize(join(root, new URL(request.url, "http://a").pathname.replace(/\/$/, "/index.html")));
  try {
    if (!file.startsWith(root)) throw new Error("outside");
    const text = readFileSync(file);
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "text/plain" }).end(text);
  } catch {
    response.writeHead(404).end();
  }
});
await once(server.listen(0, "127.0.0.1"), "listening");

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

function holds(what, is, found) {
  console.log(`${is ? "holds" : "FAILS"}: ${what}${is ? "" : `: ${JSON.stringify(found)}`}`);
  if (!is) process.exitCode = 1;
}

try {
  const page = await browser.newPage({ viewport: { width: 1_240, height: 900 } });
  const said = [];
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForSelector("html[data-ready]", { timeout: 30_000 });

  const result = () => page.textContent("#result");
  const typed = async (config) => {
    await page.fill("#config", config);
    await page.click("#run");
  };
  const first = await result();
  holds("no more than the limit passes within a window", /never more than 20 within 60 s/.test(first), first);
  holds("a fixed window lets twice as much through", /up to 40 within 60 s/.test(first), first);
  const lines = await page.locator("#chart polyline").count();
  holds("both are drawn", lines === 2, lines);
  const explained = await page.textContent("#explanation");
  holds("the request is explained", /rule_items\[0\].*20 in 60 s/.test(explained), explained);
  const description = await page.textContent("#description");
  holds("the configuration is understood", /each value: 20 per 1m/.test(description), description);
  if (picture) await page.screenshot({ path: picture, fullPage: true });

  await page.selectOption("#traffic", "crowd");
  const crowd = await result();
  holds("another traffic is tried at once", crowd !== first && /never more than 20 /.test(crowd), crowd);

  const misspelt = "  limit_keys:\n  - {key: '*', query_per_secnd: 1}\n";
  await typed(`rule_name: shop\nrule_items:\n- limit_by_per_header: x-api-key\n${misspelt}`);
  const mistake = await page.textContent("#mistakes");
  holds(
    "a mistake has its line and what was meant",
    /line 5: .*query_per_secnd.*query_per_second/.test(mistake),
    mistake,
  );
  await page.click("#mistakes button");
  const selected = await page.evaluate(() => {
    const config = document.getElementById("config");
    return config.value.slice(config.selectionStart, config.selectionEnd);
  });
  holds("its line is selected", selected.includes("query_per_secnd"), selected);

  await typed('{"rule_name": "json", "global_threshold": {"query_per_second": 3}}');
  const json = await result();
  holds("JSON is read as well", /never more than 3 within 1 s/.test(json), json);
  await typed("rule_name: [");
  holds("what is no YAML has a line too", /line \d/.test(await page.textContent("#mistakes")));
  holds("the browser has nothing to complain of", said.length === 0, said);
} finally {
  await browser.close();
  server.close();
}
