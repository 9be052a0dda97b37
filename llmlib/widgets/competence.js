// The figure Competence: a curriculum's clock, the window that it opens in a corpus, and what is drawn from it.

import { chart, path, reference } from "./chart.js";
import { drawIndex, randomFrom } from "./dice.js";
import { integer, plural, significant } from "./format.js";
import { frame, h, svg } from "./frame.js";

const PACING_NAMES = { linear: "linear: at a constant rate", root: "root: fast, then slower", step: "step: in four jumps", all: "all at once: no curriculum" };
const STAGES = 4;
const BINS = 22;
const SHOWN = 3; // stories drawn at a moment
const NEAR = 26; // pixels from a handle

/** c(t) in (0, 1]; t and T in the same unit. */
export function competenceAt(pacing, t, duration, start) {
  if (pacing === "all" || t >= duration) return 1;
  if (pacing === "step") return start + ((1 - start) * Math.floor((t / duration) * STAGES)) / STAGES;
  const p = pacing === "linear" ? 1 : 2;
  return Math.min(1, ((t / duration) * (1 - start ** p) + start ** p) ** (1 / p));
}

/** Scores -> d in (0, 1]: the share of all whose score is at most one's own. */
export function difficulties(scores, hardFirst = false) {
  const signed = hardFirst ? scores.map((score) => -score) : scores;
  const sorted = [...signed].sort((a, b) => a - b);
  const last = new Map(sorted.map((score, i) => [score, i + 1])); // the last of equal ones stays
  return signed.map((score) => last.get(score) / scores.length);
}

/** W = min(1, exp((c - d) / s)), hard where s is 0; the easiest are always open. */
export function windowWeights(d, c, softness) {
  const least = d.reduce((a, b) => Math.min(a, b), 1);
  const edge = Math.max(c, least);
  return d.map((each) => (each <= edge ? 1 : softness > 0 ? Math.exp((edge - each) / softness) : 0));
}

/** The text at which the running sum of the weights first exceeds u times their total, u in [0, 1). */
export const drawAt = (weights, u) => drawIndex(weights, u, weights.reduce((a, b) => a + b, 0));

/** A whole run: as many draws as there are texts, evenly over 100 % -> how often each was drawn by t, and the share seen at 0 ... 100 %. */
export function follow(d, { pacing, duration, start, softness, seed }, until) {
  const n = d.length;
  const dice = randomFrom(seed);
  const times = new Array(n).fill(0);
  const seenAt = [];
  let seen = 0;
  let drawn = 0;
  const counted = new Array(n).fill(0);
  for (let t = 0; t <= 100; t += 1) {
    for (; drawn < Math.floor((n * t) / 100); drawn += 1) {
      const i = drawAt(windowWeights(d, competenceAt(pacing, (100 * drawn) / n, duration, start), softness), dice());
      if (times[i] === 0) seen += 1;
      times[i] += 1;
      if (t <= until) counted[i] += 1;
    }
    seenAt.push(seen / n);
  }
  return { counted, seenAt };
}

/** Bins of equal width over the scores: [{from, to, all, open}], `open` the sum of the weights; whole scores of few kinds get one each. */
export function histogram(scores, weights) {
  const kinds = new Set(scores);
  const [min, max] = [Math.min(...scores), Math.max(...scores)];
  const single = kinds.size <= 8 && scores.every(Number.isInteger);
  const count = single ? max - min + 1 : BINS;
  const width = single ? 1 : (max - min) / BINS || 1;
  const from = single ? min - 0.5 : min;
  const bins = Array.from({ length: count }, (_, i) => ({ from: from + i * width, to: from + (i + 1) * width, all: 0, open: 0 }));
  scores.forEach((score, i) => {
    const bin = bins[Math.min(count - 1, Math.max(0, Math.floor((score - from) / width)))];
    bin.all += 1;
    bin.open += weights[i];
  });
  return bins;
}

const within = (value, least, most, otherwise) => (Number.isFinite(Number(value)) ? Math.max(least, Math.min(Number(value), most)) : otherwise);
const two = (value) => value.toFixed(2);
const percent = (value) => `${Math.round(100 * value)} %`;

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "A curriculum's window", lead: "Press Step, and watch the window open; then drag c₀ and T, and compare the pacings." });
  const sample = () => model.get("sample");
  let followed = { key: "" };
  /** Everything that the picture shows, from the traits; an address may say anything. */
  function now() {
    const { texts, measures } = sample();
    const measure = measures.find(({ name }) => name === model.get("measure")) ?? measures[0];
    const pacing = model.get("pacing") in PACING_NAMES ? model.get("pacing") : "root";
    const hardFirst = model.get("hard_first") === true;
    const state = { pacing, duration: Math.round(within(model.get("duration"), 1, 100, 50)), start: within(model.get("start"), 0.01, 1, 0.1), softness: within(model.get("softness"), 0, 0.5, 0), seed: Math.round(within(model.get("seed"), 0, 9999, 0)) };
    const time = Math.round(within(model.get("time"), 0, 100, 0));
    const c = competenceAt(pacing, time, state.duration, state.start);
    const d = difficulties(measure.scores, hardFirst);
    const weights = windowWeights(d, c, state.softness);
    const key = JSON.stringify([measure.name, hardFirst, state, time, texts.length]);
    if (followed.key !== key) followed = { key, ...follow(d, state, time) };
    return { texts, measure, hardFirst, time, c, d, weights, ...state, ...followed };
  }

  // ------------------------------------------------------------------------------------------------ controls
  const measures = figure.select("measure", { label: "Difficulty", options: [] });
  function listMeasures() {
    measures.input.replaceChildren(...sample().measures.map(({ name }) => h("option", { value: name }, name)));
    measures.input.value = model.get("measure");
  }
  listMeasures();
  const pacings = figure.select("pacing", { label: "Pacing", options: Object.entries(PACING_NAMES) });
  pacings.node.classList.add("bw-broad");
  figure.range("start", { label: "Start c₀", min: 0.01, max: 1, step: 0.01, format: two });
  figure.range("duration", { label: "End T", unit: "%", min: 1, max: 100 });
  figure.range("softness", { label: "Softness s", min: 0, max: 0.5, step: 0.01, format: (value) => (value > 0 ? two(value) : "0: hard") });
  figure.checkbox("hard_first", { label: "Hardest first" });
  const stepper = figure.stepper("time", { label: "Time t, % of the run", count: () => 100, ms: 120 });
  figure.remember("seed");
  figure.on("seed", figure.redraw);
  figure.on("sample", () => {
    listMeasures();
    figure.redraw();
  });

  // ------------------------------------------------------------------------------------------------- picture
  const clock = figure.panel("Competence", { half: true });
  const corpus = figure.panel("The corpus", { half: true });
  const drawn = figure.panel("Drawn at this moment");
  const others = figure.button("Draw others", () => figure.set({ seed: (now().seed + 1) % 10000 }));
  const stories = h("ol", { className: "bw-drawn" });
  drawn.body.append(stories, others);

  let plot = null; // the clock's, for the hand
  let held = null; // the handle under the hand
  const at = (event) => {
    const box = plot.node.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * plot.width, ((event.clientY - box.top) / box.width) * plot.width];
  };
  const level = (y) => (plot.bottom - y) / (plot.bottom - plot.top) * 1.08;
  const moment = (x) => Math.round(((x - plot.left) / (plot.right - plot.left)) * 100);
  function move(event) {
    const [x, y] = at(event);
    if (held === "start") figure.set({ start: Number(within(level(y), 0.01, 1, 0.1).toFixed(2)) });
    else if (held === "duration") figure.set({ duration: within(moment(x), 1, 100, 50) });
    else stepper.go(within(moment(x), 0, 100, 0));
  }
  figure.listen(clock.body, "pointerdown", (event) => {
    if (event.button !== 0) return;
    const [x, y] = at(event);
    const { start, duration, pacing } = now();
    const away = { start: Math.hypot(x - plot.x(0), y - plot.y(start)), duration: Math.hypot(x - plot.x(duration), y - plot.y(1)) };
    held = pacing === "all" ? "time" : away.duration <= Math.min(NEAR, away.start) ? "duration" : away.start <= NEAR ? "start" : "time";
    stepper.stop();
    clock.body.setPointerCapture(event.pointerId);
    if (held === "time") move(event);
    event.preventDefault();
  });
  figure.listen(clock.body, "pointermove", (event) => held && move(event));
  for (const type of ["pointerup", "pointercancel"]) figure.listen(clock.body, type, () => (held = null));

  function paintClock({ pacing, duration, start, time, c, seenAt }) {
    plot = chart({ x: { min: 0, max: 100, label: "time t (% of the run)" }, y: { min: 0, max: 1.08, label: "share of the corpus" }, width: 340, height: 215, label: "Competence c(t), and the share of the corpus seen so far, against time; the table and the sliders have the numbers." });
    const grid = Array.from({ length: 501 }, (_, i) => i / 5);
    const curve = grid.map((t) => [t, competenceAt(pacing, t, duration, start)]);
    const seen = seenAt.map((share, t) => [t, share]);
    const here = plot.x(time);
    const end = here > plot.right - 70;
    plot.marks.append(
      svg("path", { class: "bw-curve bw-seen", d: path(seen.slice(0, time + 1), plot) }),
      svg("path", { class: "bw-curve", d: path(curve, plot, 600) }),
      svg("path", { class: "bw-curve is-done", d: path(curve.filter(([t]) => t <= time), plot, 600) }),
      svg("path", { class: "bw-now", d: `M${here} ${plot.bottom}V${plot.top}` }),
      svg("circle", { class: "bw-point", cx: here, cy: plot.y(c), r: 5.5 }),
      svg("text", { class: "bw-point-label", x: here + (end ? -9 : 9), y: plot.y(c) + (c > 0.88 ? 18 : -8), "text-anchor": end ? "end" : "start" }, `c = ${two(c)}`),
    );
    if (time >= 3) plot.marks.append(svg("text", { class: "bw-seen-label", x: here + (end ? -9 : 9), y: Math.min(plot.y(seenAt[time]) + (end ? 18 : 5), plot.bottom - 4), "text-anchor": end ? "end" : "start" }, `seen ${percent(seenAt[time])}`));
    if (pacing !== "all") plot.marks.append(...handle("start", 0, start, "c₀"), ...handle("duration", duration, 1, "T"));
    clock.body.replaceChildren(plot.node);
    clock.note.textContent = "drag c₀, T, or the moment";
  }

  function handle(name, x, y, words) {
    const [cx, cy] = [plot.x(x), plot.y(y)];
    const low = name === "start" && cy < plot.bottom - 30;
    return [
      svg("circle", { class: "bw-handle-area", "data-handle": name, cx, cy, r: 20 }),
      svg("rect", { class: "bw-handle", x: cx - 6, y: cy - 6, width: 12, height: 12, rx: 3 }),
      svg("text", { class: "bw-handle-label", x: cx + (name === "start" ? 12 : 0), y: name === "start" ? cy + (low ? 18 : -8) : cy - 10, "text-anchor": name === "start" ? "start" : "middle" }, words),
    ];
  }

  function paintCorpus({ measure, weights }) {
    const { scores, unit, name } = measure;
    const bins = histogram(scores, weights);
    const most = Math.max(...bins.map(({ all }) => all));
    const plotted = chart({ x: { min: bins[0].from, max: bins.at(-1).to, label: `${name} (${unit})`, whole: bins[0].to - bins[0].from === 1 && bins.length <= 8 }, y: { min: 0, max: 1.12 * most, label: "stories" }, width: 340, height: 215, label: `Stories by ${name}, those that are open filled, and the weight W of each; the table has the numbers.` });
    const gap = 1;
    for (const { from, to, all, open } of bins) {
      const [x, width] = [plotted.x(from) + gap, Math.max(1, plotted.x(to) - plotted.x(from) - 2 * gap)];
      const box = (count, className) => svg("rect", { class: className, x, width, y: plotted.y(count), height: plotted.bottom - plotted.y(count) });
      if (all > 0) plotted.marks.append(box(all, "bw-stories"));
      if (open > 0) plotted.marks.append(box(open, "bw-stories is-open"));
    }
    const order = scores.map((_, i) => i).sort((i, j) => scores[i] - scores[j]);
    const half = bins.length <= 8 ? 0.5 : 0; // a kind of its own for each score: a step as wide as its bar
    const corners = order.flatMap((i) => [[scores[i] - half, most * weights[i]], [scores[i] + half, most * weights[i]]]);
    plotted.marks.append(svg("path", { class: "bw-weight", d: path(corners, plotted, 2000) }), ...reference(plotted, most, "W = 1", { end: true }));
    corpus.body.replaceChildren(plotted.node);
    corpus.note.textContent = "filled: open; line: W(x, t)";
  }

  const scoreWords = ({ name, unit }, score) => `${name} ${significant(score)} (${unit})`;

  function paintDrawn({ texts, measure, weights, d, seed, time }) {
    const dice = randomFrom(seed * 101 + time + 1);
    const chosen = Array.from({ length: SHOWN }, () => drawAt(weights, dice()));
    stories.replaceChildren(...chosen.map((i) => h("li", {}, h("span", { className: "bw-note" }, `d = ${two(d[i])}, ${scoreWords(measure, measure.scores[i])}`), h("span", { className: "bw-text", dir: "auto" }, texts[i]))));
    drawn.note.textContent = "each story with probability W(x, t) over the sum of all W";
  }

  function sentence({ texts, measure, hardFirst, time, c, d, weights, softness, seenAt }) {
    const inside = weights.filter((weight) => weight === 1).length;
    const scores = measure.scores.filter((_, i) => weights[i] === 1);
    const [least, most] = [Math.min(...scores), Math.max(...scores)];
    const edge = hardFirst ? `${measure.name} from ${significant(least)} on (${measure.unit})` : `${measure.name} up to ${significant(most)} (${measure.unit})`;
    const which = inside === texts.length ? "all are open" : `${integer(inside)} are open, ${edge}`;
    const chance = weights.reduce((a, b) => a + b, 0);
    const beyond = softness > 0 && inside < texts.length ? `; a draw falls beyond the window with probability ${two(1 - inside / chance)}` : "";
    const early = c < Math.min(...d) ? " No story has so small a d, so the easiest are open." : "";
    return `At ${time} % of the run, c = ${two(c)}: of ${plural(texts.length, "story", "stories")}, ${which}${beyond}.${early} ${percent(seenAt[time])} of the corpus has been drawn so far.`;
  }

  figure.table(() => {
    const { texts, measure, d, weights, counted, time } = now();
    const total = weights.reduce((a, b) => a + b, 0);
    const order = texts.map((_, i) => i).sort((i, j) => d[i] - d[j]);
    const kept = order.filter((_, k) => k % Math.ceil(order.length / 100) === 0);
    return {
      head: ["story", `${measure.name} (${measure.unit})`, "d", "W", "probability (%)", "drawn so far"],
      rows: kept.map((i) => [texts[i].length > 34 ? `${texts[i].slice(0, 32)}…` : texts[i], significant(measure.scores[i]), two(d[i]), two(weights[i]), two((100 * weights[i]) / total), counted[i]]),
      note: `Stories in order of d, ${kept.length} of ${order.length}, at ${time} % of the run.`,
    };
  });

  figure.draw(() => {
    const state = now();
    measures.input.value = state.measure.name;
    pacings.input.value = state.pacing;
    stepper.show();
    paintClock(state);
    paintCorpus(state);
    paintDrawn(state);
    figure.say(sentence(state));
    figure.root.setAttribute("aria-busy", "false");
  });
  return figure.end;
}

export default { render, address: ["measure", "pacing", "hard_first", "start", "duration", "softness", "time", "seed"] };
