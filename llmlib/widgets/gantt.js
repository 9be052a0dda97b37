// A Gantt chart of a pipeline: a row for each stage, time to the right, one path for all actions of a kind.

import { ticks } from "./chart.js";
import { significant } from "./format.js";
import { svg } from "./frame.js";

const LEFT = 22; // room for the stages' numbers
const RIGHT = 8;
const AXIS = 38;
const MAX_LABELS = 420; // beyond, a cell is named when it is pointed at
const KINDS = { F: "is-forward", B: "is-backward", W: "is-weight" };

/** Pixels a stage: fewer stages, taller rows. */
export const rowHeight = (p) => (p <= 4 ? 30 : p <= 8 ? 24 : 17);

/**
 * The chart: {node, hit, place, width}. `line` is a timeline, `until` the time at its right edge, `now` how far it is
 * filled, `room` the pixels there are; `hit(event)` gives {stage, index} of the action under a pointer, or null.
 */
export function gantt({ spans }, { until, now, room, cursor, label }) {
  const p = spans.length;
  const unit = Math.max((room - LEFT - RIGHT) / until, 3);
  const height = rowHeight(p);
  const [width, bottom] = [LEFT + until * unit + RIGHT, p * height + 4];
  const x = (time) => LEFT + time * unit;
  const y = (stage) => 4 + stage * height;
  const d = { F: [], B: [], W: [] };
  const bands = [];
  const idle = [];
  const labels = [];
  const count = spans.reduce((sum, row) => sum + row.length, 0);
  const size = height - 4;
  const edge = Math.min(now, until);
  spans.forEach((row, stage) => {
    let free = 0;
    const top = y(stage);
    const wait = (from, to) => {
      if (to - from > 1e-9) idle.push(`M${x(from).toFixed(1)} ${top}h${((to - from) * unit).toFixed(1)}v${size}h-${((to - from) * unit).toFixed(1)}z`);
    };
    for (const { kind, batch, chunk, start, end } of row) {
      if (start >= now - 1e-9) break;
      wait(free, start);
      const stop = Math.min(end, now);
      free = stop;
      const gap = Math.min(1, 0.15 * (end - start) * unit);
      const wide = Math.max(0.4, (stop - start) * unit - gap);
      const left = x(start).toFixed(1);
      d[kind].push(`M${left} ${top}h${wide.toFixed(1)}v${size}h-${wide.toFixed(1)}z`);
      if (kind === "B") bands.push(`M${left} ${top}h${wide.toFixed(1)}v3h-${wide.toFixed(1)}z`);
      const full = (end - start) * unit;
      const words = chunk > 0 ? `${batch}.${chunk}` : `${batch}`;
      if (count <= MAX_LABELS && stop === end && full > 7 * words.length + 3) {
        const named = full > 7 * words.length + 16 ? `${kind}${words}` : words;
        labels.push(svg("text", { class: `bw-gantt-label ${KINDS[kind]}`, x: x((start + end) / 2).toFixed(1), y: top + size / 2 + 4.5, "text-anchor": "middle" }, named));
      }
    }
    wait(free, edge);
  });
  const chosen = cursor && spans[cursor.stage]?.[cursor.index];
  const marks = [
    svg("path", { class: "bw-idle-time", d: idle.join("") }),
    ...Object.entries(d).map(([kind, path]) => svg("path", { class: `bw-action ${KINDS[kind]}`, d: path.join("") })),
    svg("path", { class: "bw-band-backward", d: bands.join("") }),
    ...labels,
  ];
  if (chosen) marks.push(svg("rect", { class: "bw-chosen", x: x(chosen.start) - 1, y: y(cursor.stage) - 1, width: (chosen.end - chosen.start) * unit + 1, height: size + 2, rx: 2 }));
  const axis = ticks(0, until, Math.max(2, Math.min(8, Math.floor(width / 80))));
  const node = svg(
    "svg",
    { class: "bw-chart bw-gantt", viewBox: `0 0 ${width.toFixed(1)} ${bottom + AXIS}`, style: `width:${width.toFixed(0)}px`, role: "img", "aria-label": label },
    spans.map((_, s) => svg("text", { x: LEFT - 6, y: y(s) + size / 2 + 4, "text-anchor": "end" }, s)),
    marks,
    svg("line", { class: "bw-axis", x1: LEFT, x2: x(until), y1: bottom, y2: bottom }),
    axis.map((t) => svg("line", { class: "bw-axis", x1: x(t), x2: x(t), y1: bottom, y2: bottom + 4 })),
    axis.map((t) => svg("text", { x: x(t), y: bottom + 17, "text-anchor": "middle" }, significant(t))),
    svg("text", { class: "bw-axis-label", x: Math.min(LEFT + (until * unit) / 2, room / 2), y: bottom + 33, "text-anchor": "middle" }, "time (in forward passes of a stage)"),
    now < until ? svg("path", { class: "bw-now", d: `M${x(edge).toFixed(1)} 0V${bottom}` }) : "",
  );

  function hit(event) {
    const box = node.getBoundingClientRect();
    const time = ((event.clientX - box.left) * (width / box.width) - LEFT) / unit;
    const stage = Math.floor(((event.clientY - box.top) * ((bottom + AXIS) / box.height) - 4) / height);
    if (stage < 0 || stage >= p) return null;
    const index = spans[stage].findIndex(({ start, end }) => start <= time && time < end && start < now);
    return index < 0 ? null : { stage, index };
  }

  return { node, hit, place: chosen ? [x(chosen.start), x(chosen.end)] : null, width };
}
