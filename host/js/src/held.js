/** Pieces of bodies that wait for the filter, and how much of them there may be. */

/** Most bytes of a body that are kept for a filter that holds them. */
const BODY_BYTES_MAX = 16 << 20;

/** Most bytes that are kept of all bodies in the process together. */
const HELD_BYTES_MAX = 256 << 20;

/** What a piece takes beside its bytes. */
const PIECE_BYTES = 64;

let heldBytes = 0;

export class HeldPieces {
  /** The last of them is the body's last. */
  isWhole = false;
  /** They have a coding, and were shown without it. */
  isDecoded = false;
  /** @type {import("./core.js").Waiter | undefined} */ waiter;
  /** @type {Uint8Array[]} */ #pieces = [];
  #bytes = 0;
  #share = 0;

  keep(piece, coding, end) {
    this.isWhole = end;
    this.isDecoded ||= coding === "decoded";
    this.#bytes += piece.length;
    if (piece.length > 0) this.#pieces.push(piece);
  }

  get isEmpty() {
    return this.#bytes === 0;
  }

  get isTooLarge() {
    return this.#bytes > BODY_BYTES_MAX;
  }

  /** Whether there is room for what is kept, which is taken. */
  takeRoom() {
    const share = this.#bytes + this.#pieces.length * PIECE_BYTES;
    heldBytes += share - this.#share;
    this.#share = share;
    return heldBytes <= HELD_BYTES_MAX;
  }

  /** All of them, which wait no more. */
  take() {
    const taken = { pieces: this.#pieces, isWhole: this.isWhole, isDecoded: this.isDecoded };
    heldBytes -= this.#share;
    this.#pieces = [];
    this.#bytes = 0;
    this.#share = 0;
    this.isDecoded = false;
    return taken;
  }
}

/** These pieces with a change at one place. */
export function spliced(pieces, { at, removed, bytes }) {
  const all = concatenated(pieces);
  return [all.subarray(0, at), bytes, all.subarray(at + removed)].filter((piece) => piece.length > 0);
}

/** @param {Uint8Array[]} pieces @returns {Uint8Array} */
export function concatenated(pieces) {
  const all = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
