/** One request and its response, from the filter's point of view. */

import { GONE, NOTHING, REQUEST_BODY, RESPONSE_BODY, StreamState, TRAPPED, Waiter } from "./core.js";
import { applyEdits } from "./edits.js";
import { HeldPieces, spliced } from "./held.js";

/** What goes on as it is. @type {Verdict} */
const PASS = Object.freeze({ kind: "pass", edits: [] });

/**
 * An answer of the filter's own.
 *
 * @typedef {object} FilterResponse
 * @property {number} status
 * @property {import("./edits.js").Field[]} headers without `content-length`
 * @property {Uint8Array} body
 * @property {string} details why, for logs; not for the client
 */

/**
 * @typedef {object} Wants
 * @property {string} requestBody `none`, `watch`, `hold` or `copy`
 * @property {boolean} responseHeaders
 * @property {string} responseBody
 * @property {boolean} done
 */

/**
 * What becomes of a request, or of a response's headers: it goes on with these changes to its headers, or the client is
 * answered otherwise.
 *
 * @typedef {{kind: "pass", edits: import("./edits.js").HeaderEdit[]}
 *   | {kind: "respond", response: FilterResponse}} Verdict
 */

/**
 * What becomes of a body, so far. `pass`: these pieces go on, and with `end` the body ends with them; `edits` are
 * changes to the request's headers, if those waited for the body. `wait`: bring the next piece, or wait for `released`.
 * `too-large`, `no-room`: more would have to be kept than may be.
 *
 * @typedef {{kind: "pass", edits: import("./edits.js").HeaderEdit[], pieces: Uint8Array[], end: boolean}
 *   | {kind: "wait"}
 *   | {kind: "respond", response: FilterResponse} | {kind: "too-large"} | {kind: "no-room"}} BodyStep
 */

/**
 * Call the hooks in the order of the stream's life: `onRequest` once, first; `end` last, whatever became of it. Hooks
 * that the filter does not want for this stream return at once.
 */
export class Stream {
  #core;
  #request;
  #state = new StreamState();
  /** @type {Wants} what the filter still wants */ #wants = NOTHING;
  /** @type {import("./edits.js").HeaderEdit[]} for the response that will come */ #responseEdits = [];
  /** @type {HeldPieces | undefined} */ #requestBody;
  /** @type {HeldPieces | undefined} */ #responseBody;
  #hasBegun = false;
  #hasResponse = false;
  #isWaiting = false;

  /** @param {import("./core.js").Core} core @param {import("./component.js").RequestView} request */
  constructor(core, request) {
    this.#core = core;
    this.#request = request;
  }

  /**
   * Decides about the request. A promise only if it has to wait for Redis.
   *
   * @returns {Verdict | Promise<Verdict>}
   */
  onRequest() {
    if (this.#hasBegun) return PASS;
    this.#hasBegun = true;
    const entered = this.#core.begin(this.#state, this.#request);
    if (entered === GONE) return this.#verdict(this.#core.failure());
    return this.#settled(entered, (outcome) => this.#verdict(outcome));
  }

  /**
   * What the filter still wants of this stream. It may change with each hook.
   *
   * @returns {Wants}
   */
  get wants() {
    return this.#wants;
  }

  /**
   * What the filter asked for whatever response comes, without having to see it: what `onResponseHeaders` returns of a
   * stream that wants nothing more.
   */
  get responseEdits() {
    return this.#responseEdits;
  }

  /**
   * The response's headers have arrived, whoever made them. Not to be called for an answer of the filter's own.
   *
   * @param {{status: number, origin: "upstream" | "host", end: boolean}} head `end`: it has no body
   * @param {import("./edits.js").Field[]} headers
   * @returns {Verdict | Promise<Verdict>} changes to the response's headers
   */
  onResponseHeaders(head, headers) {
    this.#hasResponse = true;
    const edits = this.#responseEdits;
    this.#responseEdits = [];
    const wants = this.#wants;
    if (!wants.responseHeaders && wants.requestBody === "none")
      return edits.length === 0 ? PASS : { kind: "pass", edits };
    const shown = wants.responseHeaders ? applyEdits(edits, headers) : [];
    const entered = this.#core.onResponseHeaders(this.#state, head, shown);
    return this.#settled(entered, (outcome) => {
      if (outcome.kind === "respond") {
        const { value: response } = outcome;
        return this.#respond({ ...response, headers: applyEdits(edits, response.headers) });
      }
      this.#wants = this.#wantedBy(outcome);
      return { kind: "pass", edits: [...edits, ...(outcome.value?.responseEdits ?? [])] };
    });
  }

  /**
   * Shows a piece of the request's body.
   *
   * @param {Uint8Array} bytes that are on their way
   * @param {{end?: boolean, coding?: "identity" | "encoded", decoded?: Uint8Array}} [piece] `decoded`: the same without
   *   its content coding
   * @returns {BodyStep}
   */
  onRequestBody(bytes, piece) {
    return this.#show(REQUEST_BODY, bytes, piece);
  }

  /**
   * The same of the response's body. It never answers.
   *
   * @param {Uint8Array} bytes
   * @param {{end?: boolean, coding?: "identity" | "encoded", decoded?: Uint8Array}} [piece]
   * @returns {BodyStep}
   */
  onResponseBody(bytes, piece) {
    return this.#show(RESPONSE_BODY, bytes, piece);
  }

  /**
   * When what is kept of a body may go on. Never `wait`.
   *
   * @param {"request" | "response"} side
   * @returns {Promise<BodyStep>}
   */
  async released(side) {
    const phase = side === "request" ? REQUEST_BODY : RESPONSE_BODY;
    const { waiter } = this.#kept(phase);
    if (!waiter) return { kind: "pass", edits: [], pieces: [], end: false };
    const outcome = await waiter.settled();
    // Meanwhile a piece came, which is waited for now.
    if (this.#kept(phase).waiter !== waiter) return this.released(side);
    this.#kept(phase).waiter = undefined;
    return this.#release(phase, outcome);
  }

  /**
   * What a log of requests should say of this one beside its status, as names and values.
   *
   * @returns {Record<string, string>}
   */
  get annotations() {
    return Object.fromEntries(this.#state.annotations ?? []);
  }

  /**
   * The stream is over. To be called once for each stream, or the filter keeps what it knows of it.
   *
   * @param {"whole" | "client" | "upstream"} [ending] how: with the last byte of its response, or who ended it before
   *   that
   */
  end(ending = "client") {
    const isFinished =
      !this.#isWaiting && this.#wants === NOTHING && !this.#requestBody?.waiter && !this.#responseBody?.waiter;
    this.#requestBody?.take();
    this.#responseBody?.take();
    if (this.#hasBegun && !isFinished) this.#core.end(this.#state, ending);
    this.#wants = NOTHING;
  }

  /** @param {number} phase @param {Uint8Array} bytes @param {any} piece @returns {BodyStep} */
  #show(phase, bytes, { end = false, decoded, coding = decoded ? "decoded" : "identity" } = {}) {
    const isRequest = phase === REQUEST_BODY;
    const interest = isRequest ? this.#wants.requestBody : this.#wants.responseBody;
    const held = isRequest ? this.#requestBody : this.#responseBody;
    const isShown = interest === "hold" ? !isRequest || !this.#hasResponse : interest !== "none";
    if (!isShown && (held?.isEmpty ?? true)) return released(bytes.length > 0 ? [bytes] : [], end);
    const kept = this.#kept(phase);
    const before = kept.waiter;
    kept.waiter = undefined;
    const isUndecided = isRequest && interest === "hold" && !this.#hasResponse;
    const entered = this.#core.onBody(this.#state, phase, decoded ?? bytes, coding, end);
    // What was settled before this piece is about those before it.
    const hasEarlier = before?.outcome !== undefined && before.outcome.kind !== "superseded";
    const earlier = hasEarlier ? this.#release(phase, before.outcome) : released([], false);
    if (earlier.kind !== "pass" || earlier.end) return earlier;
    kept.keep(bytes, coding, end);
    if (entered instanceof Waiter) return this.#waits(kept, entered, earlier);
    const step = this.#release(phase, this.#outcomeOfBody(entered, isUndecided));
    if (step.kind !== "pass") return step;
    return { ...step, edits: [...earlier.edits, ...step.edits], pieces: [...earlier.pieces, ...step.pieces] };
  }

  /** A piece waits with those before it. @returns {BodyStep} */
  #waits(kept, waiter, earlier) {
    if (kept.isTooLarge || !kept.takeRoom()) {
      const kind = kept.isTooLarge ? "too-large" : "no-room";
      kept.take();
      return { kind };
    }
    kept.waiter = waiter;
    return earlier.pieces.length > 0 || earlier.edits.length > 0 ? earlier : { kind: "wait" };
  }

  #outcomeOfBody(entered, isUndecided) {
    // What was to be decided by the body cannot be any more.
    if (entered === TRAPPED || (entered === GONE && isUndecided)) return this.#core.failure();
    return entered === GONE ? { kind: "pass" } : entered;
  }

  /** Lets go what is kept of a body, or not. @returns {BodyStep} */
  #release(phase, outcome) {
    const isRequest = phase === REQUEST_BODY;
    const { pieces, isWhole, isDecoded } = this.#kept(phase).take();
    if (outcome.kind === "respond") {
      // Only of a filter that fails closed: the response is on its way already.
      return isRequest ? this.#respond(outcome.value) : released(pieces, isWhole);
    }
    const pass = outcome.value;
    // Of a stream that is further on, the request's body says nothing any more.
    if (!isRequest || !this.#hasResponse) this.#wants = this.#wantedBy(outcome);
    if (pass) this.#responseEdits = [...this.#responseEdits, ...pass.responseEdits];
    const { kind, value } = pass?.body ?? { kind: "keep" };
    const isReplaced = kind === "replace" || kind === "end";
    const edits = [...(pass?.requestEdits ?? [])];
    if (isDecoded && isReplaced && isRequest) edits.push({ kind: "remove", value: "content-encoding" });
    if (isReplaced) return { ...released(value.length > 0 ? [value] : [], isWhole || kind === "end"), edits };
    // The place of a splice is one in bytes that are not on their way.
    const changed = kind === "splice" && !isDecoded ? spliced(pieces, value) : pieces;
    return { ...released(changed, isWhole), edits };
  }

  #kept(phase) {
    if (phase === REQUEST_BODY) return (this.#requestBody ??= new HeldPieces());
    return (this.#responseBody ??= new HeldPieces());
  }

  /** What a hook about headers led to, in the end. */
  #settled(entered, act) {
    if (entered instanceof Waiter) {
      this.#isWaiting = true;
      return entered.settled().then((outcome) => {
        this.#isWaiting = false;
        return act(outcome);
      });
    }
    // What the filter would have taken out of the response does not pass.
    if (entered === TRAPPED || (entered === GONE && this.#wants.responseHeaders)) return act(this.#core.failure());
    return act(entered === GONE ? { kind: "pass" } : entered);
  }

  /** @returns {Verdict} */
  #verdict(outcome) {
    if (outcome.kind === "respond") return this.#respond(outcome.value);
    this.#wants = this.#wantedBy(outcome);
    const pass = outcome.value;
    if (!pass) return PASS;
    if (pass.responseEdits.length > 0) this.#responseEdits = [...this.#responseEdits, ...pass.responseEdits];
    return { kind: "pass", edits: pass.requestEdits };
  }

  /** A later hook of the stream has said it if this was superseded. */
  #wantedBy(outcome) {
    return outcome.kind === "superseded" ? this.#wants : this.#state.wants;
  }

  /**
   * An answer is the last word. What was asked for whatever response comes is asked for this one too.
   *
   * @returns {{kind: "respond", response: FilterResponse}}
   */
  #respond(response) {
    this.#wants = NOTHING;
    const headers = applyEdits(this.#responseEdits, response.headers);
    this.#responseEdits = [];
    return { kind: "respond", response: { ...response, headers } };
  }
}

/** @returns {{kind: "pass", edits: any[], pieces: Uint8Array[], end: boolean}} */
function released(pieces, end) {
  return { kind: "pass", edits: [], pieces, end };
}
