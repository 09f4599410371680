/** The types that this host reads and writes by hand are those of `wit/`. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import * as contract from "../src/contract.js";

const WIT = new URL("../../../wit/", import.meta.url);

/** Enums that cross as numbers only are lists of their cases here. */
const shapeOf = (type) => (Array.isArray(type) ? `enum{${type}}` : type.shape);

test("every type of the contract is as it is written, and so is the package", () => {
  const text = witText();
  assert.match(text, new RegExp(`package ${contract.PACKAGE}@${contract.VERSION};`));
  const written = new Types(text);
  const ours = Object.entries(contract).filter(([name]) => name !== name.toUpperCase());
  assert.ok(ours.length > 35);
  for (const [name, type] of ours) assert.equal(shapeOf(type), written.shape(kebab(name)), name);
});

test("no type of the contract is forgotten", () => {
  const written = new Types(witText());
  const told = new Set(Object.keys(contract).map(kebab));
  // What these say crosses as flat parameters.
  const flat = ["moment", "response-head", "redis-call"];
  assert.deepEqual(
    written.names().filter((name) => !told.has(name) && !flat.includes(name)),
    [],
  );
});

function witText() {
  const files = readdirSync(WIT).filter((file) => file.endsWith(".wit"));
  return files
    .map((file) => readFileSync(new URL(file, WIT), "utf8").replaceAll(/\/\/.*$/gm, ""))
    .join("\n")
    .replaceAll("%", "");
}

function kebab(name) {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function camel(name) {
  return name.replaceAll(/-([a-z])/g, (_, letter) => letter.toUpperCase());
}

/** The types of a text of WIT, by name. */
class Types {
  #defined = new Map();
  #aliases = new Map();

  constructor(text) {
    for (const [, kind, name, body] of text.matchAll(/\b(record|variant|enum|flags) ([a-z0-9-]+) \{([^}]*)\}/g)) {
      this.#defined.set(name, [kind, members(body)]);
    }
    for (const [, name, type] of text.matchAll(/\btype ([a-z0-9-]+) = ([^;]+);/g)) this.#aliases.set(name, type);
  }

  names() {
    return [...this.#defined.keys()];
  }

  /** What the types here say of theirs. */
  shape(type) {
    const [, name, inner] = /^([a-z0-9-]+)(?:<(.*)>)?$/.exec(type.trim()) ?? [];
    if (inner !== undefined) {
      const parts = members(inner).map((part) => this.shape(part));
      return name === "list" && inner === "u8" ? "bytes" : `${name}<${parts}>`;
    }
    if (name === "string") return "bytes";
    if (this.#aliases.has(name)) return this.shape(this.#aliases.get(name));
    const [kind, all] = this.#defined.get(name) ?? [];
    if (kind === "record") {
      const fields = all.map((field) => field.split(/:(.*)/s));
      return `record{${fields.map(([field, of]) => `${camel(field.trim())}:${this.shape(of)}`)}}`;
    }
    if (kind === "variant") {
      const cases = all.map((each) => /^([a-z0-9-]+)(?:\((.*)\))?$/.exec(each));
      return `variant{${cases.map(([, each, of]) => `${each}:${of ? this.shape(of) : ""}`)}}`;
    }
    if (kind === "enum") return `enum{${all}}`;
    return kind === "flags" ? `flags{${all.map(camel)}}` : name;
  }
}

/** What stands between commas that are inside of nothing else. */
function members(text) {
  const parts = [""];
  let depth = 0;
  for (const letter of text) {
    if ("<(".includes(letter)) depth += 1;
    if (">)".includes(letter)) depth -= 1;
    if (letter === "," && depth === 0) parts.push("");
    else parts[parts.length - 1] += letter;
  }
  return parts.map((part) => part.trim()).filter((part) => part !== "");
}
