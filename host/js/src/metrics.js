/** What a filter has counted, over all instances that it had. */
export class Metrics {
  /** By name and labels: two parts of a filter may count in one. @type {Map<string, any>} */
  #metrics = new Map();
  /** By their place in the instance. */
  #places;

  /** @param {{kind: any, name: string, help: string, labels: [string, string][]}[]} defined */
  constructor(defined) {
    this.#places = defined.map(({ kind: { kind, value: bounds = [] }, ...metric }) => {
      const key = JSON.stringify([metric.name, metric.labels]);
      const buckets = Array.from({ length: bounds.length + 1 }, () => ({ count: 0, sum: 0 }));
      if (!this.#metrics.has(key)) this.#metrics.set(key, { ...metric, kind, bounds, buckets, value: 0 });
      return { metric: this.#metrics.get(key), gauge: 0 };
    });
  }

  /** Adds what has changed in an instance. @param {[number, {kind: string, value: any}][]} changes */
  add(changes) {
    for (const [index, { kind, value }] of changes) {
      const place = this.#places[index];
      if (place?.metric.kind !== kind) continue;
      if (kind === "counter") place.metric.value += value;
      if (kind === "gauge") setGauge(place, value);
      if (kind === "histogram") {
        place.metric.buckets.forEach((bucket, at) => {
          bucket.count += value[at]?.count ?? 0;
          bucket.sum += value[at]?.sum ?? 0;
        });
      }
    }
  }

  /** The instance is gone, and has no share in any gauge. */
  forgetGauges() {
    for (const place of this.#places) setGauge(place, 0);
  }

  /** Prometheus' text format. */
  text() {
    const families = new Map();
    for (const metric of this.#metrics.values()) {
      const { name, help, kind } = metric;
      const lines = families.get(name) ?? [`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} ${kind}`];
      families.set(name, [...lines, ...samples(metric)]);
    }
    return [...families.values()]
      .flat()
      .map((line) => `${line}\n`)
      .join("");
  }
}

function setGauge(place, value) {
  place.metric.value += value - place.gauge;
  place.gauge = value;
}

function samples({ name, kind, labels, value, bounds, buckets }) {
  if (kind !== "histogram") return [`${name}${labelled(labels)} ${value}`];
  let count = 0;
  const lines = buckets.map((bucket, index) => {
    count += bucket.count;
    return `${name}_bucket${labelled([...labels, ["le", String(bounds[index] ?? "+Inf")]])} ${count}`;
  });
  const sum = buckets.reduce((all, bucket) => all + bucket.sum, 0);
  return [...lines, `${name}_sum${labelled(labels)} ${sum}`, `${name}_count${labelled(labels)} ${count}`];
}

function labelled(labels) {
  if (labels.length === 0) return "";
  return `{${labels.map(([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`).join(",")}}`;
}

function escaped(text) {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
