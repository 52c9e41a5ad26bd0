// The last readings, and the rates between them. A node that started again begins a new history.

const KEPT_S = 600;
const SMOOTHED_S = 10;

export class History {
  constructor() {
    this.readings = [];
  }

  add(overview) {
    const { clock_s: at, traffic } = overview;
    const last = this.readings.at(-1);
    if (last && (at < last.at || traffic.requests < last.requests || traffic.upstream_bytes < last.fetched)) {
      this.readings = [];
    } else if (last && at === last.at) {
      return;
    }
    this.readings.push({
      at,
      requests: traffic.requests,
      sent: traffic.response_bytes,
      served: traffic.served_bytes,
      fetched: traffic.upstream_bytes,
      services: new Map(traffic.services.map((row) => [row.name, row.response_bytes])),
      subnets: new Map(traffic.subnets.map((row) => [row.name, row.response_bytes])),
    });
    while (at - this.readings[0].at > KEPT_S) this.readings.shift();
  }

  // Rates over the last seconds; null before the second reading.
  now() {
    const last = this.readings.at(-1);
    const first = this.readings.findLast((reading) => last.at - reading.at >= SMOOTHED_S) ?? this.readings[0];
    const took = last.at - first.at;
    if (took <= 0) return null;
    const grown = (name) => (label) => ((last[name].get(label) ?? 0) - (first[name].get(label) ?? 0)) / took;
    return {
      sent: (last.sent - first.sent) / took,
      fetched: (last.fetched - first.fetched) / took,
      requests: (last.requests - first.requests) / took,
      service: grown("services"),
      subnet: grown("subnets"),
    };
  }

  // What was sent and fetched within what is kept.
  grown() {
    const last = this.readings.at(-1);
    const first = this.readings[0];
    const grown = (name) => last[name] - first[name];
    return { sent: grown("sent"), served: grown("served"), fetched: grown("fetched"), seconds: last.at - first.at };
  }

  // One point per reading but the first: seconds before the last reading (negative), bytes per second.
  line(name) {
    const last = this.readings.at(-1);
    return this.readings.slice(1).map((reading, place) => {
      const before = this.readings[place];
      return [reading.at - last.at, (reading[name] - before[name]) / (reading.at - before.at)];
    });
  }
}
