// Numbers as people read them. Pure.

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const DECIMAL = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];

function scaled(value, step, units) {
  let unit = 0;
  while (value >= step * 0.9995 && unit < units.length - 1) {
    value /= step;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

export const bytes = (count) => scaled(count, 1024, BINARY);

export const bits = (bytesPerSecond) => scaled(8 * bytesPerSecond, 1000, DECIMAL);

export const count = (number) => Math.round(number).toLocaleString("en");

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

// The share of what was sent that did not come from a source; null where nothing was sent.
export function saved(sentBytes, fetchedBytes) {
  return sentBytes > 0 ? Math.max(0, 1 - fetchedBytes / sentBytes) : null;
}

const both = (large, unit, small, part) => (small ? `${large} ${unit} ${small} ${part}` : `${large} ${unit}`);

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return both(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return both(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return both(Math.floor(whole / 86400), "d", Math.floor((whole % 86400) / 3600), "h");
}

export function several(number, one, many) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
