/** What the package's files know: one another, in no circle, and Node. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const SOURCES = new URL("../src/", import.meta.url);
const WIDTH_MAX = 120;

/** What each file imports, types included. */
const imports = new Map(
  readdirSync(SOURCES).map((file) => {
    const text = readFileSync(new URL(file, SOURCES), "utf8");
    return [file, [...text.matchAll(/(?:from|import) ?\(?"([^"]+)"/g)].map(([, name]) => name)];
  }),
);

test("files know one another, Node, and nothing else", () => {
  assert.ok(imports.size > 15);
  for (const [file, names] of imports) {
    for (const name of names) {
      assert.ok(name.startsWith("node:") || imports.has(name.replace(/^\.\//, "")), `${file} imports ${name}`);
    }
  }
});

test("no files use each other", () => {
  const used = (file) => codeImports(file).map((name) => name.replace(/^\.\//, ""));
  const seek = (file, path) => {
    assert.ok(!path.includes(file), `${[...path, file].join(" -> ")}`);
    for (const each of used(file)) if (imports.has(each)) seek(each, [...path, file]);
  };
  for (const file of imports.keys()) seek(file, []);
});

test("lines are at most 120 characters wide", () => {
  const folders = ["../src/", "./", "./application/", "../bench/", "../playground/"].map(
    (folder) => new URL(folder, import.meta.url),
  );
  for (const folder of folders) {
    for (const file of readdirSync(folder).filter((name) => /\.(js|mjs|ts)$/.test(name))) {
      const lines = readFileSync(new URL(file, folder), "utf8").split("\n");
      const wide = lines.flatMap((line, index) => (line.length > WIDTH_MAX ? [index + 1] : []));
      assert.deepEqual(wide, [], file);
    }
  }
});

/** Without those of types. */
function codeImports(file) {
  const text = readFileSync(new URL(file, SOURCES), "utf8");
  return [...text.matchAll(/^(?:import|export) [^;]*?from "([^"]+)";/gms)].map(([, name]) => name);
}
