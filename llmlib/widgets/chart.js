// A plot of lines with axes, ticks and units, for figures that draw curves. Colours come from look.css.

import { svg } from "./frame.js";
import { significant } from "./format.js";

const MARGIN = { left: 30, right: 14, top: 12, bottom: 40 }; // and on the left, room for the longest tick
const DIGIT = 7; // pixels

/** Round tick values between min and max: about `count` on a linear axis, the decades on a log axis. */
export function ticks(min, max, count = 4, log = false) {
  if (log) {
    const decades = [];
    const every = Math.max(1, Math.ceil(Math.log10(max / min) / count));
    for (let e = Math.ceil(Math.log10(min) - 1e-9); e <= Math.log10(max) + 1e-9; e += every) decades.push(10 ** e);
    return decades;
  }
  if (!(max > min)) return [min];
  const rough = (max - min) / count;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * decade >= rough - 1e-12 * rough) * decade;
  const out = [];
  for (let i = Math.ceil(min / step - 1e-9); i * step <= max + 1e-9 * step; i += 1) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** A scale from values to pixels. */
export function scale({ min, max, log = false }, from, to) {
  const f = log ? Math.log : (value) => value;
  const span = f(max) - f(min) || 1;
  return (value) => from + ((f(value) - f(min)) / span) * (to - from);
}

/**
 * An empty plot: {node, x, y, marks, left, right, top, bottom, width}; put marks in `marks`, placed by the scales x and y,
 * inside the four edges. An axis is
 * {min, max, label, log, whole, format}; a log axis must say so in its label, a whole one has ticks at integers only.
 */
export function chart({ x, y, width = 400, height = 210, label }) {
  const yFormat = y.format ?? significant;
  const ticksOf = (axis) => ticks(axis.min, axis.max, axis.count ?? 4, axis.log).filter((t) => !axis.whole || Number.isInteger(t));
  const yTicks = ticksOf(y);
  const left = MARGIN.left + DIGIT * Math.max(...yTicks.map((t) => yFormat(t).length));
  const right = width - MARGIN.right;
  const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
  const sx = scale(x, left, right);
  const sy = scale(y, bottom, top);
  const text = (content, props) => svg("text", props, content);
  const xTicks = ticksOf(x);
  const marks = svg("g");
  const node = svg(
    "svg",
    { class: "bw-chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    yTicks.map((t) => svg("line", { class: "bw-grid", x1: left, x2: right, y1: sy(t), y2: sy(t) })),
    yTicks.map((t) => text(yFormat(t), { x: left - 6, y: sy(t) + 4, "text-anchor": "end" })),
    svg("line", { class: "bw-axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    xTicks.map((t) => svg("line", { class: "bw-axis", x1: sx(t), x2: sx(t), y1: bottom, y2: bottom + 4 })),
    xTicks.map((t) => text((x.format ?? significant)(t), { x: sx(t), y: bottom + 17, "text-anchor": "middle" })),
    text(x.label, { class: "bw-axis-label", x: (left + right) / 2, y: height - 5, "text-anchor": "middle" }),
    text(y.label, { class: "bw-axis-label", x: -(top + bottom) / 2, y: 12, "text-anchor": "middle", transform: "rotate(-90)" }),
    marks,
  );
  return { node, x: sx, y: sy, marks, left, right, top, bottom, width };
}

/** Points [[x, y], …] -> the `d` of a path, thinned to at most `limit` points (first and last are kept). */
export function path(points, { x, y }, limit = 400) {
  const every = Math.max(1, Math.ceil(points.length / limit));
  const kept = points.filter((_, i) => i % every === 0 || i === points.length - 1);
  return kept.map(([px, py], i) => `${i === 0 ? "M" : "L"}${x(px).toFixed(2)} ${y(py).toFixed(2)}`).join("");
}

/** A level across a plot, such as a limit, with its name at the start or at the `end`, above (by `lift` more) or `below` the line: marks. */
export function reference(plot, value, words, { end = false, below = false, lift = 0, className = "" } = {}) {
  const y = plot.y(value);
  const at = { x: end ? plot.right : plot.left + 4, y: below ? y + 14 : y - 5 - lift, "text-anchor": end ? "end" : "start" };
  return [svg("path", { class: `bw-limit ${className}`, d: `M${plot.left} ${y}H${plot.right}` }), svg("text", { class: "bw-limit-label", ...at }, words)];
}
