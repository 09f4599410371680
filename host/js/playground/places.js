/** A configuration as somebody typed it, YAML or JSON, and where in it something stands. */

import { isMap, isPair, isSeq, LineCounter, parseDocument } from "yaml";

/** Parts of a name as a mistake tells it: `rule_items[0].limit_keys[2].key`. */
const PART = /[^.[\]]+|\[\d+\]/g;

/**
 * @typedef {object} Typed
 * @property {object} [config] the filter's document; none if the text cannot be read
 * @property {(path: string) => number} line of what a path names, or of what is nearest to it; from 1
 * @property {{line: number, message: string}[]} mistakes of the text itself
 */

/**
 * Reads a text: a filter's document, or a WasmPlugin resource, whose `spec.defaultConfig` it is then.
 *
 * @param {string} text
 * @returns {Typed}
 */
export function read(text) {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const mistakes = document.errors.map(({ pos, message }) => ({ line: lines.linePos(pos[0]).line, message }));
  if (mistakes.length > 0) return { line: () => 1, mistakes };
  const place = document.get("kind") === "WasmPlugin" ? ["spec", "defaultConfig"] : [];
  const root = place.length > 0 ? document.getIn(place, true) : document.contents;
  if (!isMap(root))
    return { line: () => 1, mistakes: [{ line: 1, message: "a configuration is a mapping of fields" }] };
  const config = root.toJS(document);
  return { config, mistakes: [], line: (path) => lines.linePos(offset(root, path)).line };
}

/** Where the last part of a path begins that is there. */
function offset(root, path) {
  let [node, at] = [root, root.range[0]];
  for (const part of path.match(PART) ?? []) {
    const found = inside(node, part);
    if (!found) break;
    at = (isPair(found) ? found.key : found).range[0];
    node = isPair(found) ? found.value : found;
  }
  return at;
}

function inside(node, part) {
  if (isMap(node)) return node.items.find(({ key }) => String(key.value) === part);
  return isSeq(node) && part.startsWith("[") ? node.items[Number(part.slice(1, -1))] : undefined;
}

/** The same configuration with all windows in memory: a page has no Redis. */
export function withoutRedis(value) {
  if (Array.isArray(value)) return value.map(withoutRedis);
  if (value === null || typeof value !== "object") return value;
  const kept = Object.entries(value).filter(([name]) => name !== "redis");
  return Object.fromEntries(kept.map(([name, each]) => [name, withoutRedis(each)]));
}
