// The figure PipelineBubble: the schedule of a pipeline as a Gantt chart, and what stands idle in it.

import { chart, path } from "./chart.js";
import { plural, significant } from "./format.js";
import { frame, h, svg } from "./frame.js";
import { gantt } from "./gantt.js";
import { SCHEDULES, cannotInterleave, idleShare, measuredTimeline, neededBy, orderOf, sameOrder, scheduleName, scheduled } from "./pipeline_schedules.js";

const SIZES = [1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64]; // of the curve's micro-batches
const LIMITS = { stages: [1, 16], micro_batches: [1, 64], ratio: [0, 4], communication: [0, 2], chunks: [2, 4], step: [0, 9999] };
const WORDS = { F: "forward", B: "backward", W: "weights' gradients" };

const two = (value) => value.toFixed(2);
const known = (schedule) => SCHEDULES.some(([key]) => key === schedule);
const whole = (value, [least, most], otherwise) => (Number.isFinite(Number(value)) ? Math.max(least, Math.min(Math.round(Number(value)), most)) : otherwise);
const clamped = (value, [least, most], otherwise) => (Number.isFinite(Number(value)) ? Math.max(least, Math.min(Number(value), most)) : otherwise);

/** The state, whatever an address says: every number inside its limits. */
export function stateOf(model) {
  return {
    p: whole(model.get("stages"), LIMITS.stages, 4),
    m: whole(model.get("micro_batches"), LIMITS.micro_batches, 8),
    schedule: known(model.get("schedule")) ? model.get("schedule") : "gpipe",
    other: known(model.get("other")) ? model.get("other") : "",
    ratio: clamped(model.get("ratio"), LIMITS.ratio, 2),
    communication: clamped(model.get("communication"), LIMITS.communication, 0),
    v: whole(model.get("chunks"), LIMITS.chunks, 2),
    step: whole(model.get("step"), LIMITS.step, 0),
    measured: model.get("measured"),
    record: Object.hasOwn(model.get("records") ?? {}, model.get("measured")) ? model.get("records")[model.get("measured")] : null,
  };
}

/** Whether a measured timeline is of these sizes and of one of these schedules. */
const belongs = (line, { p, m, v, schedules }) => line.spans.length === p && schedules.some(({ key, problem }) => !problem && sameOrder(line.spans, orderOf(key, p, m, v)));

/** "1F1B, 4 stages, 8 micro-batches": what a measured timeline is of. */
function orderName({ spans }) {
  const [m, v] = ["batch", "chunk"].map((part) => 1 + Math.max(...spans[0].map((span) => span[part])));
  const p = spans.length;
  const key = SCHEDULES.map(([each]) => each).find((each) => !(each === "interleaved" && cannotInterleave(p, m)) && sameOrder(spans, orderOf(each, p, m, v)));
  const name = key === undefined ? "another order" : scheduleName(key);
  return `${name}, ${plural(p, "stage")}, ${plural(m, "micro-batch", "micro-batches")}${v > 1 ? `, ${v} chunks` : ""}`;
}

/** The charts of a state: [{name, line} or {name, problem}], the schedule, the one it is compared with, the measured one. */
export function chartsOf({ p, m, schedule, other, ratio, communication, v, measured, record }) {
  const predicted = [...new Set([schedule, other].filter(Boolean))].map((key) => {
    const problem = key === "interleaved" ? cannotInterleave(p, m) : "";
    const name = key === "interleaved" ? `Interleaved 1F1B, ${v} chunks` : scheduleName(key);
    return problem ? { key, name, problem } : { key, name, line: scheduled(key, p, m, { v, ratio, communication }) };
  });
  if (!record) return predicted;
  const [name, line] = [`Measured, ${measured}`, measuredTimeline(record)];
  const problem = belongs(line, { p, m, v, schedules: predicted }) ? "" : `${name}: it is of ${orderName(line)}; choose that to lay it beneath the prediction.`;
  return [...predicted, problem ? { key: "measured", name, problem } : { key: "measured", name, line }];
}

/** The idle share against m: [[m, share], …], at the sizes where the schedule exists. */
export const bubbleCurve = (key, p, times, sizes = SIZES) => sizes.filter((m) => key !== "interleaved" || cannotInterleave(p, m) === "").map((m) => [m, idleShare(key, p, m, times)]);

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "The pipeline bubble", lead: "Raise the number of micro-batches, and watch the idle time shrink; press Play to see the pipeline fill." });
  const options = SCHEDULES.map(([key, name]) => [key, name]);
  figure.select("schedule", { label: "Schedule", options }).node.classList.add("bw-broad");
  figure.select("other", { label: "Compare with", options: [["", "nothing"], ...options] }).node.classList.add("bw-broad");
  figure.range("stages", { label: "Stages p", min: 1, max: 16 });
  figure.range("micro_batches", { label: "Micro-batches m", min: 1, max: 64 });
  figure.range("ratio", { label: "Backward time", unit: "× forward", min: 0, max: 4, step: 0.25, format: significant });
  figure.range("communication", { label: "Communication", unit: "× forward", min: 0, max: 2, step: 0.05, format: significant });
  const chunks = figure.range("chunks", { label: "Chunks v", min: 2, max: 4 });
  const measured = figure.select("measured", { label: "Measured timeline", options: [] });
  const offer = () => {
    const names = Object.keys(model.get("records") ?? {}).sort();
    measured.input.replaceChildren(...[["", "none"], ...names.map((name) => [name, name])].map(([value, words]) => h("option", { value }, words)));
    measured.input.value = names.includes(model.get("measured")) ? model.get("measured") : "";
    measured.node.hidden = names.length === 0;
    figure.redraw();
  };
  figure.on("records", offer);
  offer();
  const until = () => Math.max(1, ...now.charts.filter(({ line }) => line).map(({ line }) => line.step));
  const stepper = figure.stepper("step", { label: "Time passed", count: () => Math.ceil(until() - 1e-9), ms: 250 });
  figure.remember("cursor");
  figure.on("cursor", figure.redraw);

  const legend = h("p", { className: "bw-legend" }, ...[["is-forward", "forward"], ["is-backward", "backward"], ["is-weight", "weights' gradients"], ["is-idle", "idle: the bubble"]].map(([kind, words]) => h("span", { className: `bw-key ${kind}` }, words)));
  const gantts = h("div", { className: "bw-gantts" });
  const readout = h("p", { className: "bw-readout bw-note", "aria-live": "polite" });
  const numbers = figure.panel("In numbers", { scroll: true });
  const curves = figure.panel("Idle share of all device time", { half: true });
  const memory = figure.panel("Activations kept at most", { half: true });
  numbers.node.before(legend, gantts, readout);
  for (const node of [legend, gantts, readout]) node.classList.add("bw-panel");

  let now = { charts: chartsOf(stateOf(model)), key: "" };
  const kept = new Map(); // curves that are known: a slider moves on one at a time
  const slots = [];

  const walk = (number, event) => {
    const { charts } = now;
    const spans = charts[number]?.line?.spans;
    if (!spans || !["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const [line, stage, index] = cursorOf();
    if (line !== number) return figure.set({ cursor: [number, 0, 0] });
    const row = spans[stage];
    const nearest = (to) => {
      const middle = (row[index].start + row[index].end) / 2;
      const far = ({ start, end }) => Math.abs((start + end) / 2 - middle);
      return spans[to].reduce((best, span, i) => (far(span) < far(spans[to][best]) ? i : best), 0);
    };
    const up = Math.max(0, stage - 1);
    const down = Math.min(spans.length - 1, stage + 1);
    const to = { ArrowRight: [stage, Math.min(index + 1, row.length - 1)], ArrowLeft: [stage, Math.max(0, index - 1)], ArrowUp: [up, nearest(up)], ArrowDown: [down, nearest(down)], Home: [stage, 0], End: [stage, row.length - 1] }[event.key];
    return figure.set({ cursor: [number, ...to] });
  };

  /** [chart, stage, index] of the chosen action, or []: an address, or an earlier size, may have said another. */
  function cursorOf() {
    const cursor = model.get("cursor");
    if (!Array.isArray(cursor) || cursor.length !== 3) return [];
    const [line, stage, index] = cursor;
    return now.charts[line]?.line?.spans[stage]?.[index] ? cursor : [];
  }

  function slot(number) {
    if (slots[number]) return slots[number];
    const title = h("p", { className: "bw-title" });
    const body = h("div", { className: "bw-scroll bw-gantt-frame", tabIndex: 0, role: "group" });
    const node = h("div", {}, title, body);
    const made = { node, title, body, chart: null };
    figure.listen(body, "keydown", (event) => walk(number, event));
    const point = (event) => {
      const hit = made.chart?.hit(event);
      if (hit && String(model.get("cursor")) !== String([number, hit.stage, hit.index])) figure.set({ cursor: [number, hit.stage, hit.index] });
    };
    figure.listen(body, "pointermove", point);
    figure.listen(body, "pointerdown", point);
    gantts.append(node);
    slots[number] = made;
    return made;
  }

  const action = ({ kind, batch, chunk }) => `${kind}${batch}${chunk > 0 ? `.${chunk}` : ""}`;

  function describe() {
    const [line, stage, index] = cursorOf();
    if (line === undefined) return "Point at an action, or reach a chart with Tab and walk with the arrow keys, to read what it is.";
    const { name, key, line: { spans } } = now.charts[line];
    const span = spans[stage][index];
    const v = 1 + Math.max(...spans[0].map(({ chunk }) => chunk));
    const split = spans[0].some(({ kind }) => kind === "W");
    const words = span.kind === "B" && split ? "backward to the input" : WORDS[span.kind];
    const free = index > 0 ? spans[stage][index - 1].end : 0;
    const idle = span.start - free;
    const why = span.waits && idle > 1e-9 ? `, for ${action({ kind: span.waits[1], batch: span.batch, chunk: span.waits[2] })} of stage ${span.waits[0]}` : "";
    const waited = idle > 1e-9 ? ` It waited ${significant(idle)}${why}.` : " It did not wait.";
    const needs = key === "measured" ? [] : neededBy(spans.length, v, stage, span).filter(([other]) => other !== stage);
    const from = needs.length > 0 && !why ? ` It needs ${needs.map(([other, kind, chunk]) => `${action({ kind, batch: span.batch, chunk })} of stage ${other}`).join(", ")}.` : "";
    return `${name}, stage ${stage}, ${action(span)}: micro-batch ${span.batch}${v > 1 ? `, chunk ${span.chunk}` : ""}, ${words}, from ${significant(span.start)} to ${significant(span.end)}.${waited}${from}`;
  }

  function paintGantts(state) {
    const [line, stage, index] = cursorOf();
    const end = until();
    const at = state.step >= Math.ceil(end - 1e-9) ? Infinity : state.step;
    const room = gantts.clientWidth - 6 || 600;
    now.charts.forEach(({ name, key, line: drawn, problem }, number) => {
      const { node, title, body } = slot(number);
      node.hidden = false;
      title.textContent = key === "measured" && drawn ? `${name}: time in units of ${significant(1000 * drawn.forward)} ms, the mean forward pass` : name;
      body.setAttribute("aria-label", `${name}, a row for each stage: arrow keys walk from action to action`);
      if (problem) {
        slots[number].chart = null;
        body.replaceChildren(h("p", { className: "bw-problem", role: "alert" }, problem));
        return;
      }
      const label = `${name}: ${drawn.spans.length} stages, time to the right; the table has the numbers.`;
      const made = gantt(drawn, { until: end, now: at, room, cursor: line === number ? { stage, index } : null, label });
      const { scrollLeft, clientWidth } = body;
      body.replaceChildren(made.node);
      body.scrollLeft = scrollLeft;
      if (made.place && (made.place[1] > scrollLeft + clientWidth || made.place[0] < scrollLeft)) body.scrollLeft = Math.max(0, made.place[0] - clientWidth / 2);
      slots[number].chart = made;
    });
    for (const { node } of slots.slice(now.charts.length)) node.hidden = true;
    legend.children[2].hidden = !now.charts.some(({ line: drawn }) => drawn?.spans[0].some(({ kind }) => kind === "W"));
    legend.children[1].hidden = !now.charts.some(({ line: drawn }) => drawn?.spans[0].some(({ kind }) => kind === "B"));
    readout.textContent = describe();
  }

  const sound = () => now.charts.filter(({ line }) => line);

  function paintNumbers() {
    const head = ["schedule", "step time", "ideal", "idle share", "idle / ideal", "activations"];
    const rows = sound().map(({ name, line }) => [name, significant(line.step), significant(line.ideal), two(line.fraction), two(line.ratio), significant(Math.max(...line.peaks))]);
    numbers.note.textContent = "times in forward passes, activations in micro-batches";
    numbers.body.replaceChildren(h("table", { className: "bw-table" }, h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => (i === 0 ? h("th", { scope: "row" }, cell) : h("td", {}, cell))))))));
  }

  function paintCurves({ p, m, ratio, communication, v }) {
    const lines = now.charts.filter(({ key }) => key !== "measured").map(({ key, name, line }) => {
      const id = [key, p, ratio, communication, v].join();
      if (!kept.has(id)) kept.set(id, bubbleCurve(key, p, { v, ratio, communication }));
      return { name, line, points: kept.get(id) };
    });
    if (kept.size > 200) kept.clear();
    const plot = chart({ x: { min: 0, max: 6, count: 6, whole: true, format: (power) => String(2 ** power), label: "micro-batches m (log scale)" }, y: { min: 0, max: 1, label: "idle share", format: two }, width: 340, height: 205, label: "The idle share of all device time against the number of micro-batches; the table has the numbers." });
    const here = plot.x(Math.log2(m));
    for (const [i, { points }] of lines.entries()) plot.marks.append(svg("path", { class: i === 0 ? "bw-curve is-done" : "bw-curve is-other", d: path(points.map(([n, share]) => [Math.log2(n), share]), plot) }));
    plot.marks.append(svg("path", { class: "bw-now", d: `M${here} ${plot.bottom}V${plot.top}` }));
    const points = lines.filter(({ line }) => line).map(({ line, name }) => ({ y: plot.y(line.fraction), words: `${two(line.fraction)}${lines.length > 1 ? ` ${name.split(",")[0]}` : ""}` }));
    points.sort((a, b) => b.y - a.y); // the lowest first: names stack upwards and never meet
    const end = here > plot.right - 130;
    let above = Infinity;
    for (const { y, words } of points) {
      above = Math.min(y - 8, above - 15);
      plot.marks.append(
        svg("circle", { class: "bw-point", cx: here, cy: y, r: 5 }),
        svg("text", { class: "bw-point-label", x: here + (end ? -9 : 9), y: Math.max(above, plot.top + 10), "text-anchor": end ? "end" : "start" }, words),
      );
    }
    curves.body.replaceChildren(plot.node);
  }

  /** Bars over the stages; the first schedule's are filled, the others' outlined. */
  function paintMemory() {
    const shown = sound();
    const p = Math.max(...shown.map(({ line }) => line.peaks.length), 1);
    const most = Math.max(...shown.flatMap(({ line }) => line.peaks), 1);
    memory.note.textContent = shown.length > 1 ? `filled: ${shown[0].name}; outlined: ${shown.slice(1).map(({ name }) => name).join(", ")}` : "";
    const plot = chart({ x: { min: -0.5, max: p - 0.5, whole: true, count: Math.min(p, 8), label: "stage" }, y: { min: 0, max: 1.15 * most, label: "micro-batches" }, width: 340, height: 205, label: "For each stage, the most micro-batches whose activations it keeps; the table has the numbers." });
    const wide = (plot.x(1) - plot.x(0)) / (shown.length + 0.5);
    shown.forEach(({ line }, i) => line.peaks.forEach((peak, stage) => {
      const left = plot.x(stage) + (i - shown.length / 2) * wide;
      const top = plot.y(peak);
      plot.marks.append(svg("rect", { class: i === 0 ? "bw-peak" : "bw-peak is-other", x: left + 1, y: top, width: Math.max(1, wide - 2), height: plot.bottom - top }));
      if (wide > 16) plot.marks.append(svg("text", { x: left + wide / 2, y: top - 4, "text-anchor": "middle" }, significant(peak)));
    }));
    memory.body.replaceChildren(plot.node);
  }

  const peak = ({ peaks }) => (Math.max(...peaks) === 1 ? "1 micro-batch" : `${significant(Math.max(...peaks))} micro-batches`);

  function sentence({ p, m, step }) {
    const problem = now.charts.find((each) => each.problem)?.problem;
    const [first] = sound();
    if (!first) return problem;
    const each = sound().map(({ name, line, key }) => `${name}${key === "measured" ? "" : `, ${plural(p, "stage")}, ${plural(m, "micro-batch", "micro-batches")}`}: the step takes as long as ${significant(line.step)} forward passes instead of ${significant(line.ideal)}; idle for ${two(line.fraction)} of all device time, or ${two(line.ratio)} of the ideal time; a stage keeps activations of up to ${peak(line)}.`);
    const total = Math.ceil(until() - 1e-9);
    if (step >= total) return [...each, problem ?? ""].join(" ").trim();
    const spans = first.line.spans.flat();
    const done = spans.filter(({ end }) => end <= step + 1e-9).length;
    const busy = first.line.spans.filter((row) => row.some(({ start, end }) => start < step - 1e-9 && end > step - 1 + 1e-9)).length;
    return `${first.name}, after ${step} of ${total} forward passes: ${done} of ${spans.length} actions are done; in the last of them ${busy} of ${first.line.spans.length} stages worked.`;
  }

  figure.table(() => {
    const rows = sound().flatMap(({ name, line }) => line.spans.flat().map((span) => [name, span.stage, action(span), significant(span.start), significant(span.end)]));
    rows.sort((a, b) => (a[0] === b[0] ? 0 : 1));
    return { head: ["schedule", "stage", "action", "start", "end"], rows, note: "Times in forward passes of a stage." };
  });
  figure.draw(() => {
    const state = stateOf(model);
    const key = JSON.stringify({ ...state, step: 0 });
    if (key !== now.key) {
      now = { charts: chartsOf(state), key };
      chunks.input.disabled = ![state.schedule, state.other].includes("interleaved");
      paintNumbers();
      paintCurves(state);
      paintMemory();
    }
    if (measured.input.selectedIndex < 0) measured.input.value = ""; // an address may name what is not there
    stepper.show();
    paintGantts(state);
    figure.say(sentence(state));
    figure.root.setAttribute("aria-busy", "false");
  });
  const resized = new ResizeObserver(() => figure.redraw());
  resized.observe(gantts);
  return () => {
    resized.disconnect();
    figure.end();
  };
}

export default { render, address: ["stages", "micro_batches", "schedule", "other", "ratio", "communication", "chunks", "measured", "step", "cursor"] };
