// How every figure writes a number: three significant digits, thousands by thin space, SI prefixes with units.

const THIN_SPACE = "\u2009";
const PREFIXES = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
const BINARY = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** 12345 -> "12 345". */
export function integer(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, THIN_SPACE);
}

/** Three significant digits (or as asked): 0.012345 -> "0.0123". */
export function significant(value, digits = 3) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "not a number";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(digits - 1).replace("e+", "e");
  const rounded = Number(value.toPrecision(digits));
  return size >= 1000 ? integer(rounded) : String(rounded).replace("-", "−");
}

/** 3.79e25, "FLOP" -> "37.9 YFLOP". */
export function si(value, unit, digits = 3) {
  const power = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))) / 3);
  const prefix = Math.min(Math.max(power, 0), PREFIXES.length - 1);
  return `${significant(value / 1000 ** prefix, digits)} ${PREFIXES[prefix]}${unit}`;
}

/** 1406605885 -> "1.31 GiB"; memory is always counted in powers of 2. */
export function bytes(value) {
  const power = value < 1024 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), BINARY.length - 1);
  return `${significant(value / 1024 ** power)} ${BINARY[power]}`;
}

/** 1, "symbol" -> "1 symbol"; 2 -> "2 symbols". */
export function plural(count, noun, nouns = `${noun}s`) {
  return `${integer(count)} ${count === 1 ? noun : nouns}`;
}
