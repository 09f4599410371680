/** The parts of the playground that need no browser. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { read, withoutRedis } from "../playground/places.js";
import { fixedWindow, simulate, TRAFFIC, withinLast } from "../playground/simulation.js";
import { Filter } from "../src/index.js";

const START_US = 20_777n * 86_400n * 1_000_000n;

test("a place is the line of what it names, or of what is nearest to it", () => {
  const text =
    "rule_name: a\nrule_items:\n- limit_by_header: x\n  limit_keys:\n  - {key: a, query_per_day: 1}\n  - key: b\n";
  const { line, config, mistakes } = read(text);
  assert.deepEqual([config.rule_items[0].limit_keys.length, mistakes], [2, []]);
  const places = [
    "",
    "rule_name",
    "rule_items[0]",
    "rule_items[0].limit_keys[1].key",
    "rule_items[0].limit_keys[1].no",
  ];
  assert.deepEqual(places.map(line), [1, 1, 3, 6, 6]);
});

test("a WasmPlugin's configuration is where it stands, JSON is read too, and what is neither has a line", () => {
  const plugin = "kind: WasmPlugin\nspec:\n  defaultConfig:\n    rule_name: a\n";
  assert.deepEqual([read(plugin).config, read(plugin).line("rule_name")], [{ rule_name: "a" }, 4]);
  assert.deepEqual(read('{"rule_name": "a"}').config, { rule_name: "a" });
  assert.equal(read("a: 1\nb: [1\nc: 2").mistakes[0].line > 1, true);
  assert.match(read("- a").mistakes[0].message, /mapping/);
  assert.match(read("").mistakes[0].message, /mapping/);
});

test("without Redis everything else stays", () => {
  const config = { a: [{ redis: { b: 1 }, c: null }], redis: {} };
  assert.deepEqual(withoutRedis(config), { a: [{ c: null }] });
});

test("under any traffic no window contains more than the limit, and fixed ones let twice as much through", async () => {
  const [limit, windowMs] = [50, 10_000];
  for (const [name, { times: of }] of Object.entries(TRAFFIC)) {
    const times = of(limit, windowMs);
    assert.deepEqual(
      times,
      times.toSorted((a, b) => a - b),
      name,
    );
    const clock = { us: START_US };
    const filter = await Filter.start(
      { rule_name: "a", global_threshold: { limit, window: "10s" } },
      { clock: () => ({ monotonic: clock.us * 1_000n, wall: clock.us * 1_000n }) },
    );
    const request = { method: "GET", path: "/", authority: "", header() {}, headerValues: () => [], headers: () => [] };
    const within = withinLast(times, simulate(filter, clock, request, times), windowMs);
    assert.equal(Math.max(...within), limit, name);
    const fixed = Math.max(...withinLast(times, fixedWindow(limit, windowMs, times), windowMs));
    assert.ok(name === "edges" ? fixed === 2 * limit : fixed >= limit, `${name}: ${fixed}`);
    await filter.close();
  }
});
