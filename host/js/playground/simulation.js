/** Requests over a time that passes as fast as they are decided on, and what a fixed window would have said to them. */

const US_PER_MS = 1_000;

/** Most requests of one simulation. */
export const REQUESTS_MAX = 200_000;

/**
 * When requests come, in milliseconds, for windows of `windowMs` that admit `limit`: over four windows' length.
 *
 * @type {Record<string, {title: string, times: (limit: number, windowMs: number) => number[]}>}
 */
export const TRAFFIC = {
  edges: {
    title: "a burst at the end of a window, and one at the beginning of the next",
    times: (limit, windowMs) =>
      [0.9, 1.02, 1.9, 2.02, 2.9, 3.02].flatMap((at) => spread(limit, at * windowMs, 0.06 * windowMs)),
  },
  steady: {
    title: "steadily, half as much again as the limit",
    times: (limit, windowMs) => spread(limit * 6, 0, 4 * windowMs),
  },
  crowd: {
    title: "a flash crowd, ten times the limit",
    times: (limit, windowMs) => [
      ...spread(limit, 0, 1.5 * windowMs),
      ...spread(limit * 10, 1.5 * windowMs, 0.5 * windowMs),
      ...spread(limit, 2 * windowMs, 2 * windowMs),
    ],
  },
  sawtooth: {
    title: "a sawtooth, more and more within each window",
    times: (limit, windowMs) =>
      [0, 1, 2, 3].flatMap((window) => spread(limit * 2, 0, 1).map((share) => (window + Math.sqrt(share)) * windowMs)),
  },
};

function spread(count, fromMs, lengthMs) {
  return Array.from({ length: count }, (_, index) => fromMs + (lengthMs * index) / count);
}

/**
 * Sends requests through a filter whose clock this is.
 *
 * @param {{open: Function}} filter without Redis
 * @param {{us: bigint}} clock what the filter takes for the time
 * @param {object} request what each request looks like
 * @param {number[]} times rising, in milliseconds
 * @returns {boolean[]} which were admitted
 */
export function simulate(filter, clock, request, times) {
  const from = clock.us;
  return times.map((ms) => {
    clock.us = from + BigInt(Math.round(ms * US_PER_MS));
    const stream = filter.open(request);
    const verdict = stream.onRequest();
    stream.end("whole");
    if (verdict instanceof Promise) throw new Error("a filter without Redis does not wait");
    return verdict.kind === "pass";
  });
}

/** What a fixed window admits, which begins anew at each full multiple of its length. */
export function fixedWindow(limit, windowMs, times) {
  let [window, count] = [-1, 0];
  return times.map((ms) => {
    const now = Math.floor(ms / windowMs);
    if (now !== window) [window, count] = [now, 0];
    count += 1;
    return count <= limit;
  });
}

/**
 * How many were admitted in the last window's length, at each request.
 *
 * @param {number[]} times @param {boolean[]} admitted @param {number} windowMs
 * @returns {number[]}
 */
export function withinLast(times, admitted, windowMs) {
  let [oldest, count] = [0, 0];
  return times.map((ms, index) => {
    if (admitted[index]) count += 1;
    for (; times[oldest] <= ms - windowMs; oldest += 1) if (admitted[oldest]) count -= 1;
    return count;
  });
}
