/**
 * The instance that a filter keeps, and the streams that wait for it. A trap ends the instance and not the filter: who
 * waited gets what the configuration says of such a moment, and the next request finds a fresh instance.
 */

import { Calls, nextTurn } from "./calls.js";
import { Guest } from "./component.js";
import { Metrics } from "./metrics.js";

/** The phases of a stream, in their order. */
export const REQUEST_HEADERS = 0;
export const REQUEST_BODY = 1;
export const RESPONSE_HEADERS = 2;
export const RESPONSE_BODY = 3;

/** Of a stream that the filter wants nothing more of. */
export const NOTHING = Object.freeze({
  requestBody: "none",
  responseHeaders: false,
  responseBody: "none",
  done: false,
});

/** At most so many instances are made in a second, after traps. */
const REPLACEMENTS_PER_SECOND = 10;

/** How often metrics are fetched though nobody asks: what an instance has counted since is lost when it traps. */
const FETCHED_EACH_MS = 1_000;

/** How long an instance waits that asks to be woken at once when it is woken, so that others have their turn. */
const WOKEN_EACH_MIN_MS = 1;

/** The longest that a timer is set for. */
const TIMER_MAX_MS = 3_600_000;

/** Most annotations of a stream. */
const ANNOTATIONS_MAX = 16;

/** Longest line of a log. */
const LINE_MAX = 4_096;

/** What ends a line somewhere, or is none of a line's business. */
const UNPRINTABLE = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/**
 * @typedef {{kind: "pass", value?: any} | {kind: "respond", value: any} | {kind: "superseded"}} Outcome
 */

/** There is no instance that knows the stream. */
export const GONE = Object.freeze({ kind: "gone" });

/** The instance trapped. */
export const TRAPPED = Object.freeze({ kind: "trapped" });

/** A later hook of the same stream took over. */
const SUPERSEDED = Object.freeze({ kind: "superseded" });

/** Who waits until a stream is settled. */
export class Waiter {
  /** @type {Outcome | undefined} */ outcome;
  #tell;

  constructor(phase) {
    this.phase = phase;
  }

  settle(outcome) {
    this.outcome = outcome;
    this.#tell?.(outcome);
  }

  /** @returns {Promise<Outcome>} */
  settled() {
    if (this.outcome) return Promise.resolve(this.outcome);
    return new Promise((resolve) => (this.#tell = resolve));
  }
}

/** A stream, as far as its instance is concerned. */
export class StreamState {
  id = 0;
  /** @type {Guest | undefined} the instance that knows it */ guest;
  /** @type {import("./component.js").RequestView | undefined} */ request;
  /** @type {import("./edits.js").Field[] | undefined} */ response;
  /** The furthest phase, and whether that can still be settled. */
  reached = REQUEST_HEADERS;
  isOpen = false;
  wants = NOTHING;
  /** @type {Waiter | undefined} */ waiter;
  isAnsweredLate = false;
  /** @type {Map<string, string> | undefined} what a log of requests should say */ annotations;

  open(phase) {
    this.reached = phase;
    this.isOpen = true;
  }

  close() {
    this.isOpen = false;
    this.request = undefined;
    this.response = undefined;
  }

  /** Whether the instance still knows it. */
  get isKnown() {
    return this.isOpen || this.wants !== NOTHING;
  }
}

export class Core {
  /** What the component made of the configuration. */
  configuration;
  traps = 0;
  #module;
  #json;
  #options;
  #services = [];
  /** @type {Guest | undefined} none after a trap, until the next request */ #guest;
  /** @type {Calls | undefined} */ #calls;
  #metrics;
  #lastStream = 0;
  /** @type {Map<number, StreamState>} those that the instance knows beyond their hook */ #streams = new Map();
  #waiting = 0;
  /** @type {StreamState | undefined} whose hook runs */ #current;
  /** @type {Outcome | undefined} what its hook said by `http-response` */ #own;
  /** @type {[StreamState, Outcome][]} what else was settled in this call */ #settled = [];
  /** @type {bigint | undefined} */ #wakeAt;
  /** It asked for a time that was over. */
  #wakesAtOnce = false;
  /** The monotonic clock of the call that goes on. */
  #now = 0n;
  #timer;
  #timerAt = Infinity;
  #fetchAt = Infinity;
  #replacements = 0;
  #replacementsSince = 0;
  #isRetired = false;

  /**
   * @param {WebAssembly.Module} module
   * @param {Uint8Array} json
   * @param {{clock: () => import("./component.js").Moment, log: (level: string, line: string) => void, waitingMax:
   *   number}} options
   */
  constructor(module, json, options) {
    this.#module = module;
    this.#json = json;
    this.#options = options;
  }

  /**
   * Makes the first instance.
   *
   * @param {(configuration: any) => {client: any, timeoutMs: number}[]} connect
   * @returns {{path: string, message: string}[]} mistakes of the configuration
   */
  start(connect) {
    const { guest, error } = this.#instantiate();
    if (!guest) return error;
    this.#services = connect(this.configuration);
    this.#keep(guest);
    this.#metrics = new Metrics(guest.metrics());
    // Times that it asked for while it was configured.
    this.#lookAhead(this.#options.clock());
    return [];
  }

  /** Each once. */
  get clients() {
    return [...new Set(this.#services.map(({ client }) => client))];
  }

  describe() {
    return this.#guest?.describe() ?? "";
  }

  get memoryBytes() {
    return this.#guest?.memoryBytes ?? 0;
  }

  /** What becomes of a stream that the filter cannot decide. @returns {Outcome} */
  failure() {
    if (this.configuration.onTrap === "pass") return { kind: "pass" };
    const details = "slidegate.component_failed";
    return { kind: "respond", value: { status: 503, headers: [], body: new Uint8Array(0), details } };
  }

  /** Names a new stream, and calls its first hook. */
  begin(state, request) {
    if (!this.#guest) this.#replace();
    const guest = this.#guest;
    if (!guest || this.#waiting >= this.#options.waitingMax) return GONE;
    state.id = ++this.#lastStream;
    state.guest = guest;
    state.request = request;
    state.open(REQUEST_HEADERS);
    return this.#enter(state, (now) => guest.onRequest(state.id, now));
  }

  /** The response's headers have arrived. Whatever was open of the request is over. */
  onResponseHeaders(state, head, headers) {
    if (state.guest !== this.#guest || !this.#guest) return GONE;
    this.#supersede(state, RESPONSE_HEADERS);
    if (state.reached > RESPONSE_HEADERS) return unchanged(state);
    state.close();
    state.reached = RESPONSE_HEADERS;
    if (!state.wants.responseHeaders) return unchanged(state);
    state.open(RESPONSE_HEADERS);
    state.response = headers;
    return this.#enter(state, (now) => this.#guest?.onResponseHeaders(state.id, head, now));
  }

  /** A piece of a body. */
  onBody(state, phase, bytes, coding, end) {
    const guest = this.#guest;
    if (state.guest !== guest || !guest) return GONE;
    this.#supersede(state, phase);
    const isRequest = phase === REQUEST_BODY;
    const interest = isRequest ? state.wants.requestBody : state.wants.responseBody;
    const show = (now) =>
      isRequest
        ? guest.onRequestBody(state.id, bytes, coding, end, now)
        : guest.onResponseBody(state.id, bytes, coding, end, now);
    if (interest === "none") return unchanged(state);
    if (state.reached > phase) {
      // A request's body that passes beside its response: nothing is settled by it.
      const wasOpen = state.isOpen;
      state.isOpen = false;
      const shown = interest === "hold" ? undefined : this.#call(show);
      state.isOpen = wasOpen;
      return shown === TRAPPED ? TRAPPED : unchanged(state);
    }
    state.close();
    state.open(phase);
    return this.#enter(state, show, interest !== "hold");
  }

  /** Ends a stream. Who waited for it hears no more. */
  end(state, ending) {
    const guest = this.#guest;
    this.#letGo(state);
    if (state.guest !== guest || !guest) return;
    const isTold = state.isOpen || state.wants.done;
    state.close();
    state.wants = NOTHING;
    this.#streams.delete(state.id);
    if (isTold) this.#call((now) => guest.onDone(state.id, ending, now));
  }

  /** What the filter says of a request. Nothing is decided or counted. */
  explain(request, replies) {
    if (!this.#guest) this.#replace();
    const guest = this.#guest;
    if (!guest) return undefined;
    const state = Object.assign(new StreamState(), { id: ++this.#lastStream, request, isOpen: true });
    this.#current = state;
    const explained = this.#call((now) => guest.explain(state.id, replies, now));
    this.#current = undefined;
    return explained === TRAPPED ? undefined : explained;
  }

  /** What was counted. */
  metricsText() {
    this.#fetch();
    return this.#metrics.text();
  }

  /**
   * Has the instance send what it put off.
   *
   * @returns {Promise<void>} when Redis has answered everything that was sent
   */
  async retire() {
    const guest = this.#guest;
    if (guest) this.#call((now) => guest.onRetire(now));
    await this.#calls?.idle();
    this.#fetch();
    this.#isRetired = true;
    clearTimeout(this.#timer);
    this.#letGoAll();
  }

  /** What Redis says to a question of `explain`. */
  ask(service, words) {
    return new Promise((resolve) => {
      const calls = new Calls(this.#services, ([{ reply }]) => resolve(reply));
      const accepted = calls.accept(service, words);
      if ("error" in accepted) resolve(accepted);
      else calls.send();
    });
  }

  /**
   * A configured instance, or the mistakes of its configuration.
   *
   * @returns {{guest?: Guest, error?: any}}
   */
  #instantiate() {
    const guest = new Guest(this.#module, this.#imports());
    const configured = guest.configure(this.#json, this.#options.clock());
    if (configured.error) return { error: configured.error };
    this.configuration ??= configured.ok;
    return { guest };
  }

  #keep(guest) {
    this.#guest = guest;
    this.#calls = new Calls(this.#services, (replies) =>
      this.#call((now) => this.#pass(guest.onRedisReplies(replies, now))),
    );
  }

  #imports() {
    const find = (id) => (this.#current?.id === id ? this.#current : this.#streams.get(id));
    return {
      request: (id) => find(id)?.request,
      responseHeaders: (id) => find(id)?.response,
      respond: (id, response) => this.#settle(find(id), { kind: "respond", value: response }),
      annotate: (id, fields) => annotate(find(id), fields),
      redisCall: (service, words) => this.#calls?.accept(service, words) ?? { error: "unknown-service" },
      log: (level, message) => this.#options.log(level, message.slice(0, LINE_MAX).replaceAll(UNPRINTABLE, " ")),
      wakeAt: (at) => {
        this.#wakesAtOnce ||= at <= this.#now;
        if (this.#wakeAt === undefined || at < this.#wakeAt) this.#wakeAt = at;
      },
      random: (length) => crypto.getRandomValues(new Uint8Array(length)),
    };
  }

  /** Calls a hook that may leave its stream undecided. `isWatched`: nothing waits for what it says. */
  #enter(state, hook, isWatched = false) {
    const now = this.#options.clock();
    this.#current = state;
    this.#own = undefined;
    const entered = this.#run((at) => this.#concluded(state, hook(at), isWatched), now);
    this.#current = undefined;
    if (entered === TRAPPED) return TRAPPED;
    this.#take(state);
    if (entered instanceof Waiter) {
      state.waiter = entered;
      this.#waiting += 1;
    }
    // Not before somebody waits who may be told.
    this.#lookAhead(now);
    return entered;
  }

  /** Takes note of whether the instance knows a stream. */
  #take(state) {
    if (state.isKnown) this.#streams.set(state.id, state);
    else this.#streams.delete(state.id);
  }

  /** What a hook's step means. An answer that it gave counts, whatever it returned. */
  #concluded(state, step, isWatched) {
    if (this.#own) return this.#own;
    if (step.kind === "respond" && state.isAnsweredLate) return this.#passed(state, undefined);
    if (step.kind === "respond") throw new Error("a hook returned `respond` without calling `http-response`");
    if (step.kind === "pass") return this.#passed(state, isWatched ? withoutBody(step.value) : step.value);
    if (isWatched) return this.#passed(state, unchanged(state).value);
    return new Waiter(state.reached);
  }

  #passed(state, pass) {
    state.close();
    state.wants = wanted(pass);
    return { kind: "pass", value: pass };
  }

  /** Settles a stream, if its phase can be. A second time is as good as never. */
  #settle(state, outcome) {
    if (!state?.isOpen) return;
    if (outcome.kind === "respond" && state.reached === RESPONSE_BODY) {
      state.isAnsweredLate = true;
      return;
    }
    state.wants = outcome.kind === "pass" ? wanted(outcome.value) : NOTHING;
    state.close();
    if (state === this.#current) this.#own = outcome;
    else this.#settled.push([state, outcome]);
  }

  /** Takes note of streams that go on. */
  #pass(passing) {
    for (const { stream, pass } of passing) this.#settle(this.#streams.get(stream), { kind: "pass", value: pass });
  }

  /** One call into the instance that is about no stream's hook, and whatever it asked for. */
  #call(call) {
    const now = this.#options.clock();
    const result = this.#run(call, now);
    this.#lookAhead(now);
    return result;
  }

  #run(call, now = this.#options.clock()) {
    if (!this.#guest) return TRAPPED;
    this.#now = now.monotonic;
    let result;
    try {
      result = call(now);
    } catch (error) {
      this.#discard(error);
      return TRAPPED;
    }
    this.#calls?.send();
    if (this.#settled.length > 0) this.#tell(this.#settled.splice(0));
    return result;
  }

  #tell(settled) {
    for (const [state, outcome] of settled) {
      if (!state.isKnown) this.#streams.delete(state.id);
      const waiter = this.#letGo(state);
      waiter?.settle(outcome);
    }
  }

  #letGo(state) {
    const { waiter } = state;
    if (waiter) this.#waiting -= 1;
    state.waiter = undefined;
    return waiter;
  }

  /** Who waited for this phase, or for one before, hears no more. */
  #supersede(state, phase) {
    if (state.waiter && state.waiter.phase <= phase) this.#letGo(state)?.settle(SUPERSEDED);
  }

  /** Takes an instance out of use. Whoever waited gets the failure mode. */
  #discard(error) {
    const others = `${this.#waiting} waiting requests get the failure mode`;
    this.#options.log("error", `the filter component failed: ${error}; its instance is replaced, and ${others}`);
    this.traps += 1;
    this.#letGoAll();
  }

  #letGoAll() {
    const states = [...this.#streams.values()];
    this.#guest = undefined;
    this.#calls?.close();
    this.#settled = [];
    this.#wakeAt = undefined;
    this.#wakesAtOnce = false;
    this.#metrics?.forgetGauges();
    this.#streams.clear();
    for (const state of states) this.#letGo(state)?.settle(this.failure());
  }

  /** Makes a fresh instance, unless too many were made lately. */
  #replace() {
    if (performance.now() - this.#replacementsSince >= 1_000) {
      this.#replacementsSince = performance.now();
      this.#replacements = 0;
    }
    if (this.#isRetired || this.#replacements >= REPLACEMENTS_PER_SECOND) return;
    this.#replacements += 1;
    try {
      const { guest, error } = this.#instantiate();
      if (!guest) throw new Error(error.map(({ message }) => message).join("; "));
      this.#keep(guest);
    } catch (error) {
      this.#options.log("error", `the trapped instance cannot be replaced: ${error}`);
    }
  }

  /** Sees to it that the instance is woken when it wants to be, and its metrics are fetched. */
  #lookAhead(now) {
    // A time that came meanwhile waits for its timer: what Redis has answered by then is read first.
    if (this.#wakesAtOnce) this.#wakeIfDue(now);
    const at = performance.now();
    if (this.#fetchAt === Infinity) this.#fetchAt = at + FETCHED_EACH_MS;
    this.#setTimer(at, now, 0);
  }

  /** Once: an instance that always asks for now waits for the timer. */
  #wakeIfDue(now) {
    if (this.#wakeAt === undefined || this.#wakeAt > now.monotonic) return;
    this.#wakeAt = undefined;
    this.#wakesAtOnce = false;
    this.#run(() => this.#pass(this.#guest?.onWake(now) ?? []), now);
  }

  #setTimer(at, now, least) {
    const wakeIn = this.#wakeAt === undefined ? Infinity : Math.max(Number(this.#wakeAt - now.monotonic) / 1e6, least);
    const due = Math.min(at + wakeIn, this.#fetchAt);
    if (due >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = due;
    this.#timer = setTimeout(
      () => nextTurn(() => this.#ring()),
      Math.min(Math.max(0, Math.ceil(due - at)), TIMER_MAX_MS),
    );
    // A process need not stay for it.
    this.#timer.unref?.();
  }

  #ring() {
    this.#timerAt = Infinity;
    if (this.#isRetired) return;
    const at = performance.now();
    if (this.#fetchAt <= at) this.#fetch();
    const now = this.#options.clock();
    this.#wakeIfDue(now);
    this.#setTimer(at, now, WOKEN_EACH_MIN_MS);
  }

  #fetch() {
    this.#fetchAt = Infinity;
    const changes = this.#run(() => this.#guest?.takeMetrics() ?? []);
    if (changes !== TRAPPED) this.#metrics.add(changes);
  }
}

/** A pass that changes nothing of a stream, nor what it wants. */
function unchanged(state) {
  return { kind: "pass", value: { requestEdits: [], responseEdits: [], body: { kind: "keep" }, wants: state.wants } };
}

/** What is watched goes on, whatever the filter says. */
function withoutBody(pass) {
  return pass && { ...pass, body: { kind: "keep" } };
}

/** What a pass wants; `NOTHING` itself if it is nothing. */
function wanted(pass) {
  const { requestBody, responseHeaders, responseBody, done } = pass?.wants ?? NOTHING;
  const isNothing = requestBody === "none" && !responseHeaders && responseBody === "none" && !done;
  return isNothing ? NOTHING : pass.wants;
}

function annotate(state, fields) {
  if (!state?.isKnown) return;
  state.annotations ??= new Map();
  for (const [name, value] of fields) {
    if (state.annotations.size < ANNOTATIONS_MAX || state.annotations.has(name)) state.annotations.set(name, value);
  }
}
