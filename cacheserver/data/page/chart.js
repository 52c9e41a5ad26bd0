// Lines over time as inline SVG, with attributes only: the content policy admits no inline styles.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 74;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const STEPS = [1, 2, 5, 10];

function make(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A round number of bits, as bytes, that is at least `value`.
function ceiling(value) {
  const asked = Math.max(8 * value, 1000);
  const power = 10 ** Math.floor(Math.log10(asked));
  return (STEPS.find((step) => step * power >= asked * 0.9999) * power) / 8;
}

// `lines`: [{className, points: [[seconds before now (negative), value], ...]}].
export function draw(svg, { lines, span, format }) {
  const width = Math.max(240, svg.clientWidth);
  const height = Math.max(120, svg.clientHeight);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const highest = ceiling(Math.max(0, ...lines.flatMap((line) => line.points.map((point) => point[1]))));
  const x = (seconds) => LEFT + (1 + seconds / span) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - value / highest) * (height - TOP - BOTTOM);
  const parts = [];
  for (const share of [0, 0.5, 1]) {
    const level = y(share * highest).toFixed(1);
    parts.push(make("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: level, y2: level }));
    const label = { class: "label", x: LEFT - 8, y: level, "text-anchor": "end", "dominant-baseline": "middle" };
    parts.push(make("text", label, format(share * highest)));
  }
  for (const share of [1, 0.5, 0]) {
    const anchor = share === 1 ? "start" : share === 0 ? "end" : "middle";
    const text = share === 0 ? "now" : `${Math.round(share * span)} s ago`;
    parts.push(make("text", { class: "label", x: x(-share * span), y: height - 5, "text-anchor": anchor }, text));
  }
  for (const line of lines) {
    const path = line.points.map((at, place) => `${place ? "L" : "M"}${x(at[0]).toFixed(1)} ${y(at[1]).toFixed(1)}`);
    if (path.length) parts.push(make("path", { class: `line ${line.className}`, d: path.join("") }));
  }
  svg.replaceChildren(...parts);
}
