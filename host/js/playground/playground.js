/** The page: what is typed, and what the filter says to it. */

import { ConfigurationError, Filter } from "./src/index.js";
import { compile } from "./src/component.js";
import { read, withoutRedis } from "./places.js";
import { fixedWindow, REQUESTS_MAX, simulate, TRAFFIC, withinLast } from "./simulation.js";

const EXAMPLE = `rule_name: shop
rule_items:
- limit_by_per_header: x-api-key
  limit_keys:
  - key: "*"
    limit: 20
    window: 1m
show_limit_quota_header: true
redis:
  service_name: redis.static
`;

/** Where the clock of a simulation begins: a full minute, hour and day. */
const START_US = 20_777n * 86_400n * 1_000_000n;

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [640, 320, 48, 56];

const of = (id) => document.getElementById(id);
let component;

/** What is typed, tried and shown. */
async function run() {
  const typed = read(of("config").value);
  const { filter, clock, mistakes } = typed.config ? await configured(typed) : { mistakes: typed.mistakes };
  showMistakes(mistakes);
  for (const id of ["result", "chart", "explanation", "description"]) of(id).replaceChildren();
  if (!filter) return;
  of("description").textContent = filter.describe();
  const explanation = await filter.explain(request());
  showExplanation(explanation);
  const limit = tightest(explanation);
  if (limit) showSimulation(filter, clock, limit);
  else of("result").textContent = "No limit is charged for such a request.";
  await filter.close();
}

async function configured({ config, line }) {
  const clock = { us: START_US };
  const options = {
    component,
    clock: () => ({ monotonic: clock.us * 1_000n, wall: clock.us * 1_000n }),
    log: () => {},
  };
  try {
    return { clock, mistakes: [], filter: await Filter.start(withoutRedis(config), options) };
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    const told = error.mistakes.map(({ path, message }) => ({
      line: line(path),
      message: path ? `${path}: ${message}` : message,
    }));
    return { mistakes: told };
  }
}

/** The request that is typed, as a filter looks at it. */
function request() {
  const typed = of("headers")
    .value.split("\n")
    .filter((each) => each.includes(":"));
  const fields = typed.map((each) => {
    const [name, ...value] = each.split(":");
    return [name.trim().toLowerCase(), value.join(":").trim()];
  });
  const headerValues = (name) => fields.filter(([each]) => each === name).map(([, value]) => value);
  const ip = of("address").value.trim();
  return {
    method: "GET",
    path: of("path").value,
    authority: of("host").value,
    sourceAddress: ip && (ip.includes(":") ? `[${ip}]:40000` : `${ip}:40000`),
    hasBody: false,
    headerValues,
    header: (name) => (name === "cookie" ? headerValues(name).join("; ") || undefined : headerValues(name)[0]),
    headers: () => fields,
  };
}

/** Of the limits that a request is charged to, the one that admits least in its time. */
function tightest({ filters }) {
  const limits = filters.flatMap(({ rules }) => rules.flatMap((rule) => rule.limits));
  return limits.sort((a, b) => a.limit / a.windowUs - b.limit / b.windowUs)[0];
}

function showMistakes(mistakes) {
  of("mistakes").replaceChildren(
    ...mistakes.map(({ line, message }) => {
      const button = element("button", `line ${line}: ${message}`);
      button.addEventListener("click", () => select(line));
      const item = element("li");
      item.append(button);
      return item;
    }),
  );
}

/** Selects a line of the configuration. */
function select(line) {
  const config = of("config");
  const lines = config.value.split("\n");
  const from = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
  config.focus();
  config.setSelectionRange(from, from + lines[line - 1].length);
}

function showSimulation(filter, clock, { limit, windowUs }) {
  const windowMs = windowUs / 1_000;
  const times = TRAFFIC[of("traffic").value].times(limit, windowMs);
  if (times.length > REQUESTS_MAX) {
    of("result").textContent = `A limit of ${limit} is too high to try here: that would be ${times.length} requests.`;
    return;
  }
  const began = performance.now();
  const sliding = simulate(filter, clock, request(), times);
  const took = performance.now() - began;
  const fixed = fixedWindow(limit, windowMs, times);
  const [ours, theirs] = [sliding, fixed].map((admitted) => withinLast(times, admitted, windowMs));
  const [most, mostFixed] = [ours, theirs].map((counts) => counts.reduce((a, b) => Math.max(a, b), 0));
  const count = (admitted) => admitted.filter(Boolean).length;
  const within = `within ${windowMs / 1_000} s`;
  of("result").textContent = [
    `${times.length} requests, ${limit} ${within} are allowed.`,
    `Slidegate admits ${count(sliding)}, and never more than ${most} ${within}.`,
    `A fixed window admits ${count(fixed)}, and up to ${mostFixed} ${within}.`,
    `(${times.length} decisions in ${took.toFixed(0)} ms.)`,
  ].join(" ");
  of("chart").replaceChildren(
    chart({ times, sliding, fixed, ours, theirs, limit, windowMs, top: Math.max(most, mostFixed, limit) }),
  );
}

/** What was admitted within the last window's length, over time; and a stroke for each request, pale if refused. */
function chart({ times, sliding, fixed, ours, theirs, limit, windowMs, top }) {
  const end = times.at(-1) || 1;
  const x = (ms) => LEFT + ((WIDTH - LEFT - 8) * ms) / end;
  const y = (count) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - 12) * count) / (top * 1.08);
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  svg.append(drawn("title", {}, "What was admitted within the last window's length, over time"));
  for (let ms = 0; ms <= end; ms += windowMs) {
    svg.append(drawn("line", { x1: x(ms), x2: x(ms), y1: 12, y2: HEIGHT - BOTTOM, stroke: "#ddd" }));
    svg.append(
      drawn("text", { x: x(ms), y: HEIGHT - 20, "font-size": 12, "text-anchor": "middle" }, `${ms / 1_000} s`),
    );
  }
  const line = {
    x1: LEFT,
    x2: WIDTH - 8,
    y1: y(limit),
    y2: y(limit),
    stroke: "var(--limit)",
    "stroke-dasharray": "4 4",
  };
  svg.append(drawn("line", line));
  svg.append(drawn("text", { x: LEFT - 6, y: y(limit) + 4, "font-size": 12, "text-anchor": "end" }, limit));
  svg.append(drawn("text", { x: LEFT - 6, y: y(0) + 4, "font-size": 12, "text-anchor": "end" }, 0));
  for (const [counts, colour, name, at] of [
    [theirs, "var(--fixed)", "fixed window", 0],
    [ours, "var(--ours)", "Slidegate", 1],
  ]) {
    const points = times.map((ms, index) => `${x(ms).toFixed(1)},${y(counts[index]).toFixed(1)}`).join(" ");
    svg.append(drawn("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2 }));
    svg.append(drawn("text", { x: LEFT + 8 + at * 110, y: HEIGHT - 4, "font-size": 12, fill: colour }, name));
  }
  for (const [admitted, colour, at] of [
    [fixed, "var(--fixed)", HEIGHT - BOTTOM + 4],
    [sliding, "var(--ours)", HEIGHT - BOTTOM + 12],
  ]) {
    for (const [is, opacity] of [
      [false, 0.2],
      [true, 1],
    ]) {
      const strokes = times.flatMap((ms, index) => (admitted[index] === is ? `M${x(ms).toFixed(1)} ${at}v6` : []));
      svg.append(drawn("path", { d: strokes.join(""), stroke: colour, "stroke-opacity": opacity }));
    }
  }
  return svg;
}

function showExplanation({ filters }) {
  const table = element("table");
  for (const { reason, rules, name } of filters) {
    table.append(row("th", [name, reason]));
    for (const { about, path, outcome, limits } of rules) {
      const told = limits.map(({ limit, windowUs, key }) => `${limit} in ${windowUs / 1e6} s, counted by ${key}`);
      table.append(row("td", [`${path}: ${about}`, [`${outcome.kind}: ${outcome.value}`, ...told].join("; ")]));
    }
  }
  of("explanation").replaceChildren(table);
}

function row(kind, cells) {
  const made = element("tr");
  made.append(...cells.map((text) => element(kind, text)));
  return made;
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function drawn(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [each, value] of Object.entries(attributes)) made.setAttribute(each, String(value));
  made.textContent = String(text);
  return made;
}

of("config").value = EXAMPLE;
of("traffic").replaceChildren(
  ...Object.entries(TRAFFIC).map(([name, { title }]) => Object.assign(element("option", title), { value: name })),
);
component = await compile(new Uint8Array(await (await fetch("slidegate.wasm")).arrayBuffer()));
of("run").addEventListener("click", run);
for (const id of ["config", "traffic", "path", "host", "address", "headers"]) of(id).addEventListener("change", run);
await run();
document.documentElement.dataset.ready = "true";
