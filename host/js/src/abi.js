/**
 * The canonical ABI of the component model, as far as the contract needs it: how values lie in the guest's memory. A
 * type knows its size and alignment, `load` reads a value, `store` writes one.
 *
 * Records are objects, variants `{kind, value}`, enums their case's name, options `undefined` for none, results `{ok}`
 * or `{error}`, flags objects of booleans. A `list<u8>` that HTTP calls a value is a byte string: a JavaScript string
 * whose code units are its bytes, as in fetch and in node:http. Whole numbers are Numbers, exact up to 2^53; where a
 * call itself takes 64 bits, WebAssembly wants a BigInt.
 *
 * @typedef {object} Type
 * @property {string} shape what it is, for whoever compares it with the contract; all that is bytes is `bytes`
 * @property {number} size
 * @property {number} align
 * @property {(heap: Heap, at: number) => any} load
 * @property {(heap: Heap, at: number, value: any) => void} store
 */

const utf8 = new TextDecoder();
const utf8Bytes = new TextEncoder();
const EMPTY = new Uint8Array(0);

/** Texts up to this length are read by hand: a decoder costs more than a short text. */
const SHORT = 48;

/** The greatest number of 32 bits and one. */
const WORD = 0x1_0000_0000;

/** The memory of an instance. Views of it are made anew when it has grown. */
export class Heap {
  /** @type {Uint8Array} */ u8 = EMPTY;
  /** @type {DataView} */ view = new DataView(EMPTY.buffer);

  /**
   * @param {WebAssembly.Memory} memory
   * @param {(old: number, oldSize: number, align: number, size: number) => number} realloc the guest's
   */
  constructor(memory, realloc) {
    this.memory = memory;
    this.realloc = realloc;
    this.look();
  }

  /** To be called when the guest has run: memory that has grown lies elsewhere. */
  look() {
    if (this.u8.length === 0) {
      this.u8 = new Uint8Array(this.memory.buffer);
      this.view = new DataView(this.memory.buffer);
    }
  }

  /** Room in the guest's memory. */
  allocate(size, align) {
    // Nothing needs none: a place that is aligned is enough.
    if (size === 0) return align;
    const at = this.realloc(0, 0, align, size) >>> 0;
    this.look();
    return at;
  }

  u32(at) {
    return this.view.getUint32(at, true);
  }

  setU32(at, value) {
    this.view.setUint32(at, value, true);
  }

  u64(at) {
    return this.u32(at) + this.u32(at + 4) * WORD;
  }

  setU64(at, value) {
    this.setU32(at, value % WORD);
    this.setU32(at + 4, value / WORD);
  }

  /** A copy. */
  bytes(at, length) {
    return this.u8.slice(at, at + length);
  }

  /** So many values, one behind the other. @param {Type} type */
  items(type, at, length) {
    const values = new Array(length);
    for (let index = 0; index < length; index += 1) values[index] = type.load(this, at + index * type.size);
    return values;
  }

  /** Writes values one behind the other into room of their own. @param {Type} type */
  lowered(type, values) {
    const { size, align } = type;
    const room = this.allocate(values.length * size, align);
    for (let index = 0; index < values.length; index += 1) type.store(this, room + index * size, values[index]);
    return room;
  }

  byteString(at, length) {
    const { u8 } = this;
    let text = "";
    for (let end = at + length; at < end; at += 1) text += String.fromCharCode(u8[at]);
    return text;
  }

  text(at, length) {
    const { u8 } = this;
    if (length > SHORT) return utf8.decode(u8.subarray(at, at + length));
    for (let here = at; here < at + length; here += 1) {
      if (u8[here] > 0x7f) return utf8.decode(u8.subarray(at, at + length));
    }
    return this.byteString(at, length);
  }

  /** Writes a pointer and a length of these bytes, which get room of their own. */
  setBytes(at, bytes) {
    const room = this.#pointed(at, bytes.length);
    this.u8.set(bytes, room);
  }

  setByteString(at, text) {
    const { length } = text;
    const room = this.#pointed(at, length);
    const { u8 } = this;
    for (let index = 0; index < length; index += 1) u8[room + index] = text.charCodeAt(index);
  }

  /** Room for so many bytes, whose pointer and length are written. */
  #pointed(at, length) {
    const room = this.allocate(length, 1);
    this.setU32(at, room);
    this.setU32(at + 4, length);
    return room;
  }
}

/** Of what a guest tells and is never told. */
const store = () => {
  throw new TypeError("no guest is told this");
};

/** @type {Record<string, Type>} */
const numbers = {
  u16: { shape: "u16", size: 2, align: 2, load: (heap, at) => heap.view.getUint16(at, true), store },
  u32: {
    shape: "u32",
    size: 4,
    align: 4,
    load: (heap, at) => heap.u32(at),
    store: (heap, at, value) => heap.setU32(at, value),
  },
  u64: {
    shape: "u64",
    size: 8,
    align: 8,
    load: (heap, at) => heap.u64(at),
    store: (heap, at, value) => heap.setU64(at, value),
  },
  s64: {
    shape: "s64",
    size: 8,
    align: 8,
    load: (heap, at) => Number(heap.view.getBigInt64(at, true)),
    store: (heap, at, value) => heap.view.setBigInt64(at, BigInt(value), true),
  },
  f64: { shape: "f64", size: 8, align: 8, load: (heap, at) => heap.view.getFloat64(at, true), store },
};

export const { u16, u32, u64, s64, f64 } = numbers;

/** @type {Type} */
export const bool = { shape: "bool", size: 1, align: 1, load: (heap, at) => heap.u8[at] !== 0, store };

/** @type {Type} */
export const string = {
  shape: "bytes",
  size: 8,
  align: 4,
  load: (heap, at) => heap.text(heap.u32(at), heap.u32(at + 4)),
  store: (heap, at, value) => heap.setBytes(at, utf8Bytes.encode(value)),
};

/** Bytes that are a body, or anything else than a text. @type {Type} */
export const bytes = {
  shape: "bytes",
  size: 8,
  align: 4,
  load: (heap, at) => heap.bytes(heap.u32(at), heap.u32(at + 4)),
  store: (heap, at, value) => heap.setBytes(at, value),
};

/** Bytes as a string of as many code units. @type {Type} */
export const byteString = {
  shape: "bytes",
  size: 8,
  align: 4,
  load: (heap, at) => heap.byteString(heap.u32(at), heap.u32(at + 4)),
  store: (heap, at, value) => heap.setByteString(at, value),
};

/** @param {Type} item @returns {Type} */
export function list(item) {
  return {
    shape: `list<${item.shape}>`,
    size: 8,
    align: 4,
    load: (heap, at) => heap.items(item, heap.u32(at), heap.u32(at + 4)),
    store(heap, at, values) {
      const room = heap.lowered(item, values);
      heap.setU32(at, room);
      heap.setU32(at + 4, values.length);
    },
  };
}

/** @param {Record<string, Type>} fields @returns {Type} */
export function record(fields) {
  const names = Object.keys(fields);
  const types = Object.values(fields);
  const { offsets, size, align } = layOut(types);
  return {
    shape: `record{${names.map((name, index) => `${name}:${types[index].shape}`)}}`,
    size,
    align,
    load(heap, at) {
      const value = {};
      for (let index = 0; index < names.length; index += 1)
        value[names[index]] = types[index].load(heap, at + offsets[index]);
      return value;
    },
    store(heap, at, value) {
      for (let index = 0; index < names.length; index += 1)
        types[index].store(heap, at + offsets[index], value[names[index]]);
    },
  };
}

/** @param {Type[]} types @returns {Type} */
export function tuple(...types) {
  const fields = record(Object.fromEntries(types.map((type, index) => [index, type])));
  return {
    ...fields,
    shape: `tuple<${types.map(({ shape }) => shape)}>`,
    load: (heap, at) => Object.values(fields.load(heap, at)),
  };
}

/** @param {Record<string, Type | null>} cases @returns {Type} */
export function variant(cases) {
  const names = Object.keys(cases);
  const types = Object.values(cases);
  const some = types.flatMap((type) => type ?? []);
  const align = Math.max(1, ...some.map((type) => type.align));
  const size = roundUp(align + Math.max(0, ...some.map((type) => type.size)), align);
  const bare = names.map((kind) => Object.freeze({ kind, value: undefined }));
  return {
    shape: `variant{${names.map((name, index) => `${name}:${types[index]?.shape ?? ""}`)}}`,
    size,
    align,
    load(heap, at) {
      const index = heap.u8[at];
      const type = types[index];
      return type ? { kind: names[index], value: type.load(heap, at + align) } : bare[index];
    },
    store(heap, at, { kind, value }) {
      const index = names.indexOf(kind);
      heap.u8[at] = index;
      types[index]?.store(heap, at + align, value);
    },
  };
}

/** @param {string[]} names @returns {Type} */
export function enumeration(...names) {
  return {
    shape: `enum{${names}}`,
    size: 1,
    align: 1,
    load: (heap, at) => names[heap.u8[at]],
    store: (heap, at, value) => (heap.u8[at] = names.indexOf(value)),
  };
}

/** @param {Type} some @returns {Type} */
export function option(some) {
  const { size, align } = variant({ none: null, some });
  return {
    shape: `option<${some.shape}>`,
    size,
    align,
    load: (heap, at) => (heap.u8[at] === 0 ? undefined : some.load(heap, at + align)),
    store(heap, at, value) {
      const isNone = value === undefined || value === null;
      heap.u8[at] = isNone ? 0 : 1;
      if (!isNone) some.store(heap, at + align, value);
    },
  };
}

/** @param {Type} ok @param {Type} error @returns {Type} */
export function result(ok, error) {
  const { size, align } = variant({ ok, error });
  return {
    shape: `result<${ok.shape},${error.shape}>`,
    size,
    align,
    load: (heap, at) =>
      heap.u8[at] === 0 ? { ok: ok.load(heap, at + align) } : { error: error.load(heap, at + align) },
    store(heap, at, value) {
      const isError = "error" in value;
      heap.u8[at] = isError ? 1 : 0;
      if (isError) error.store(heap, at + align, value.error);
      else ok.store(heap, at + align, value.ok);
    },
  };
}

/** Up to sixteen of them. @param {string[]} names @returns {Type} */
export function flags(...names) {
  const size = names.length > 8 ? 2 : 1;
  return {
    shape: `flags{${names}}`,
    size,
    align: size,
    load(heap, at) {
      const bits = size === 2 ? heap.view.getUint16(at, true) : heap.u8[at];
      return Object.fromEntries(names.map((name, index) => [name, ((bits >> index) & 1) === 1]));
    },
    store,
  };
}

function layOut(types) {
  let end = 0;
  const align = Math.max(1, ...types.map((type) => type.align));
  const offsets = types.map((type) => {
    const offset = roundUp(end, type.align);
    end = offset + type.size;
    return offset;
  });
  return { offsets, size: roundUp(end, align), align };
}

function roundUp(size, align) {
  return Math.ceil(size / align) * align;
}
