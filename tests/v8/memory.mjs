// The plugin's memory, as the gateway reads and writes it. Texts are Latin-1, so that every byte comes through as it is.

export const OK = 0;
export const NOT_FOUND = 1;
export const BAD_ARGUMENT = 2;
const INVALID_MEMORY_ACCESS = 6;

// A host call that returns this status.
export class Refusal extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

export class Memory {
  #memory;
  #allocate;
  #bytes = Buffer.alloc(0);

  attach(memory, allocate) {
    this.#memory = memory;
    this.#allocate = allocate;
  }

  get size() {
    return this.#memory.buffer.byteLength;
  }

  // A view that is good until the guest runs again: memory moves when it grows.
  slice(at, size) {
    if (this.#bytes.buffer !== this.#memory.buffer) this.#bytes = Buffer.from(this.#memory.buffer);
    const [start, end] = [at >>> 0, (at >>> 0) + (size >>> 0)];
    if (end > this.#bytes.length) throw new Refusal(INVALID_MEMORY_ACCESS);
    return this.#bytes.subarray(start, end);
  }

  read(at, size) {
    return Buffer.from(this.slice(at, size));
  }

  text(at, size) {
    return this.slice(at, size).latin1Slice();
  }

  readU32(at) {
    return this.slice(at, 4).readUInt32LE();
  }

  writeU32(at, number) {
    this.slice(at, 4).writeUInt32LE(number >>> 0);
  }

  writeU64(at, number) {
    this.slice(at, 8).writeBigUInt64LE(number);
  }

  // Hands bytes to the guest: in a block of its own allocator, or as two zeros when there are none.
  give(value, out, sizeOut) {
    const bytes = typeof value === "string" ? Buffer.from(value, "latin1") : value;
    let at = 0;
    if (bytes.length > 0) {
      at = this.#allocate(bytes.length);
      this.slice(at, bytes.length).set(bytes);
    }
    this.writeU32(out, at);
    this.writeU32(sizeOut, bytes.length);
    return OK;
  }
}

// Writes a header map: the count, the lengths of names and values, then both, each with a zero behind it.
export function writePairs(pairs) {
  if (pairs.length === 0) return Buffer.alloc(0);
  const head = Buffer.alloc(4 + 8 * pairs.length);
  head.writeUInt32LE(pairs.length);
  pairs.flat().forEach((text, index) => head.writeUInt32LE(text.length, 4 + 4 * index));
  return Buffer.concat([head, Buffer.from(pairs.flat().map((text) => `${text}\0`).join(""), "latin1")]);
}

export function readPairs(bytes) {
  const pairs = [];
  const count = bytes.length < 4 ? 0 : bytes.readUInt32LE();
  let at = 4 + 8 * count;
  const next = (index) => {
    const size = bytes.readUInt32LE(4 + 4 * index);
    const text = bytes.latin1Slice(at, at + size);
    at += size + 1;
    return text;
  };
  for (let index = 0; index < count; index += 1) {
    const name = next(2 * index).toLowerCase();
    pairs.push([name, next(2 * index + 1)]);
  }
  return pairs;
}
