// Each section of the page from an overview and the history of readings.

import { draw } from "./chart.js";
import { bits, bytes, count, duration, percent, saved, several } from "./format.js";
import { byId, element, fillRow, setText, show, sync, tableRow } from "./rows.js";

const TOP = 8;
const SHORTEST_SPAN_S = 60;
const FEW_DAYS = 21;
const NO_RATE = "–";

const share = (part) => (part === null ? NO_RATE : percent(part));
const busiest = (rows, rate) =>
  [...rows].sort((one, two) => rate(two.name) - rate(one.name) || two.response_bytes - one.response_bytes);

function beyond(id, rows, word) {
  setText(byId(id), rows.length > TOP ? `and ${several(rows.length - TOP, `more ${word}`, `more ${word}s`)}` : "");
}

function empty(id, rows, text) {
  setText(byId(id), rows.length ? "" : text);
}

export function tiles({ node, traffic, fills }, rates, history) {
  const grown = history.grown();
  setText(byId("rate-out"), rates ? bits(rates.sent) : NO_RATE);
  setText(byId("rate-in"), rates ? bits(rates.fetched) : NO_RATE);
  setText(byId("rate-answers"), rates ? `${rates.requests.toFixed(rates.requests < 10 ? 1 : 0)} /s` : NO_RATE);
  setText(byId("total-out"), `${bytes(traffic.response_bytes)} since the start`);
  setText(byId("total-in"), `${bytes(traffic.upstream_bytes)} since the start`);
  setText(byId("total-answers"), `${count(traffic.requests)} since the start`);
  setText(byId("ratio"), share(saved(traffic.served_bytes, traffic.upstream_bytes)));
  const lately = saved(grown.served, grown.fetched);
  setText(byId("ratio-shown"), lately === null ? "since the start" : `${percent(lately)} in ${duration(grown.seconds)}`);
  setText(byId("connections"), count(node.connections));
  setText(byId("fill-count"), count(node.fills));
  setText(byId("fill-note"), `${node.fills === 1 ? "request" : "requests"} for ${several(fills.objects, "object", "objects")}`);
}

export function trafficChart(history) {
  const svg = byId("traffic");
  const sent = history.line("sent");
  const fetched = history.line("fetched");
  const span = Math.max(SHORTEST_SPAN_S, Math.ceil(history.grown().seconds / 60) * 60);
  const lines = [
    { className: "in", points: fetched },
    { className: "out", points: sent },
  ];
  draw(svg, { lines, span, format: bits });
  const last = (line) => bits(line.at(-1)?.[1] ?? 0);
  svg.setAttribute(
    "aria-label",
    `Rates of the last ${span} seconds; now ${last(sent)} to clients and ${last(fetched)} from sources`,
  );
  setText(byId("span"), `last ${duration(span)}`);
}

export function services({ traffic }, rates) {
  const rate = rates ? rates.service : () => 0;
  const rows = busiest(traffic.services, rate);
  const make = tableRow(["n", "n", "n roomy", "n"]);
  sync(byId("services"), rows.slice(0, TOP), (row) => row.name, make, (line, row) =>
    fillRow(line, [
      row.name,
      rates ? bits(rate(row.name)) : NO_RATE,
      bytes(row.response_bytes),
      bytes(row.upstream_bytes),
      share(saved(row.served_bytes, row.upstream_bytes)),
    ]),
  );
  if (rows.length) beyond("services-note", rows, "service");
  else empty("services-note", rows, "Nobody has asked yet.");
}

export function subnets({ traffic }, rates) {
  const rate = rates ? rates.subnet : () => 0;
  const rows = busiest(traffic.subnets, rate);
  sync(byId("subnets"), rows.slice(0, TOP), (row) => row.name, tableRow(["n", "n", "n"]), (line, row) =>
    fillRow(line, [
      row.name,
      rates ? bits(rate(row.name)) : NO_RATE,
      bytes(row.response_bytes),
      count(row.requests),
    ]),
  );
  if (rows.length) beyond("subnets-note", rows, "subnet");
  else empty("subnets-note", rows, "Nobody has asked yet.");
}

export function restart({ node }) {
  const waiting = node.needs_restart.join(", ");
  setText(byId("restart"), `A restart is needed: changes of ${waiting} have no effect before (systemctl restart cacheserver).`);
  show(byId("restart"), waiting !== "");
}

export function outcomes({ traffic }) {
  sync(byId("outcomes"), traffic.outcomes, (row) => row.name, tableRow(["n", "n"]), (line, row) =>
    fillRow(line, [row.name, count(row.requests), bytes(row.response_bytes)]),
  );
  empty("outcomes-note", traffic.outcomes, "Nobody has asked yet.");
}

// A list entry: a name, what is beside it, a bar, a small line. `role` is that of the bar.
function barEntry(role, lineClass) {
  return () => {
    const entry = element("li", "entry");
    const line = element("p", lineClass);
    line.append(element("span", "name"), element("span", "n"));
    const bar = element("div", "bar");
    bar.setAttribute("role", role);
    bar.setAttribute("aria-valuemin", "0");
    bar.append(element("div"));
    entry.append(line, bar, element("p", "small"));
    return entry;
  };
}

function fillBar(entry, { name, beside, value, most, label, small }) {
  const [line, bar, note] = entry.children;
  setText(line.children[0], name);
  setText(line.children[1], beside);
  const state = { "aria-label": label, "aria-valuemax": most, "aria-valuenow": value, "aria-valuetext": beside };
  for (const [attribute, text] of Object.entries(state)) bar.setAttribute(attribute, text);
  bar.firstElementChild.style.width = `${most > 0 ? Math.min(100, (100 * value) / most) : 0}%`;
  setText(note, small);
}

function volumeState(volume) {
  if (!volume.online) return "offline";
  if (!volume.writable) return "takes nothing new";
  return volume.loaded ? "in use" : "in use, still being read";
}

export function volumes({ node }) {
  sync(byId("volumes"), node.volumes, (volume) => volume.path, barEntry("meter", "line-of-two"), (entry, volume) => {
    const used = volume.stored_bytes + volume.reserved_bytes;
    entry.classList.toggle("bad", !volume.online || !volume.writable);
    const errors = volume.errors ? `, ${several(volume.errors, "disk error", "disk errors")}` : "";
    fillBar(entry, {
      name: volume.path,
      beside: `${bytes(used)} of ${bytes(volume.capacity_bytes)}`,
      value: used,
      most: volume.capacity_bytes,
      label: `Used of ${volume.path}`,
      small: `${volumeState(volume)}, ${several(volume.objects, "object", "objects")}${errors}`,
    });
  });
}

export function fills({ fills: { shown, objects } }) {
  const numbered = shown.map((fill, place) => ({ ...fill, id: `${fill.service} ${fill.key}`, place }));
  const seen = new Map();
  for (const fill of numbered) {
    const before = seen.get(fill.id) ?? 0; // two variants of one URL have one name
    seen.set(fill.id, before + 1);
    fill.id += ` ${before}`;
  }
  sync(byId("fills"), numbered, (fill) => fill.id, barEntry("progressbar", "line-of-two tight"), (entry, fill) => {
    const part = fill.length_bytes ? fill.stored_bytes / fill.length_bytes : 0;
    const requests = several(fill.requests, "request", "requests");
    const readers = several(fill.readers, "client is waiting", "clients are waiting");
    fillBar(entry, {
      name: fill.key,
      beside: `${Math.floor(100 * part)} %`,
      value: fill.stored_bytes,
      most: fill.length_bytes,
      label: `Fetched of ${fill.key}`,
      small: `${bytes(fill.stored_bytes)} of ${bytes(fill.length_bytes)} from ${fill.host}, ${requests}, ${readers}`,
    });
  });
  if (objects > shown.length) setText(byId("fills-note"), `and ${several(objects - shown.length, "more object", "more objects")}`);
  else empty("fills-note", shown, "Nothing is being fetched.");
}

function refusalEntry() {
  const entry = element("li", "entry");
  const line = element("p", "line-of-two");
  line.append(element("span", "name"), element("span", "n"));
  const setting = element("p", "setting");
  setting.append(element("code"));
  entry.append(line, element("p", "small"), setting);
  return entry;
}

export function refusals({ refusals: rows, time_s: now }) {
  sync(byId("refusals"), rows, (row) => `${row.reason} ${row.host}`, refusalEntry, (entry, row) => {
    const [line, text, setting] = entry.children;
    setText(line.children[0], row.host ? `${row.host}: ${row.label}` : row.label);
    setText(line.children[1], `${several(row.count, "time", "times")}, ${duration(now - row.last_s)} ago`);
    setText(text, row.remedy.text);
    setText(setting.firstElementChild, row.remedy.setting);
    show(setting, row.remedy.setting !== "");
  });
  empty("refusals-note", rows, "Nothing was refused.");
}

export function bans({ node: { banned_sources: rows } }) {
  const make = () => {
    const entry = element("li", "entry bad line-of-two");
    entry.append(element("span", "name"), element("span", "n"));
    return entry;
  };
  sync(byId("bans"), rows, (ban) => ban.source, make, (entry, ban) =>
    fillRow(entry, [ban.source, `${duration(ban.seconds_left)} left`]),
  );
  empty("bans-note", rows, "No source is banned.");
}

export function pins({ node: { pins: sums } }) {
  const waiting = sums.objects - sums.complete;
  const rest = waiting ? `, ${count(waiting)} not complete yet` : "";
  const text = `${several(sums.objects, "object", "objects")}, ${bytes(sums.bytes)}${rest}`;
  setText(byId("pins"), sums.objects ? text : "Nothing is pinned.");
}

export function certificate({ node: { certificate: served } }) {
  const days = served ? Math.floor(served.days_left) : 0;
  const until = days < 0 ? "has expired" : `${several(days, "day", "days")} left`;
  setText(byId("certificate"), served ? `${served.subject}: ${until}` : "No listener speaks HTTPS.");
  byId("certificate").classList.toggle("bad", served !== null && days < FEW_DAYS);
  setText(byId("certificate-names"), served ? `for ${served.names.join(", ")}; until ${served.not_after}` : "");
  const notes = served ? [...served.warnings, ...(served.refused ? [`refused: ${served.refused}`] : [])] : [];
  sync(byId("certificate-notes"), notes, (text) => text, () => element("li", "entry bad"), setText);
}
