// The figure ComputeBudget: how to spend a training budget, by a loss law of the reader's choice.

import { chart, path } from "./chart.js";
import { integer, significant } from "./format.js";
import { frame, h, svg } from "./frame.js";
import { bestAt, costOf, flopsToReach, isoflop, isoloss, lawLoss } from "./loss_law.js";

const LEAST_LOG_FLOPS = 12;
const MOST_LOG_FLOPS = 26;
const SIZES = 40; // steps along the isoFLOP curve, ten to a factor of ten; the middle one is the best size
const EXCESSES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]; // nats per token above E: a curve of equal loss each
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** 5.76e23 -> "5.76 × 10²³"; numbers from a thousandth to a million in full. */
export function scientific(value) {
  if (value === 0 || (value >= 1e-3 && value < 1e6)) return significant(value);
  const [digits, power] = value.toExponential(2).split("e");
  return `${Number(digits)} × ${tenTo(Number(power))}`;
}

/** 12 -> "10¹²". */
export function tenTo(power) {
  return `10${String(power).replace("-", "⁻").replace(/\d/g, (digit) => RAISED[digit])}`;
}

/** 70e9 -> "70 billion". */
export function inWords(count) {
  const names = [[1e12, "trillion"], [1e9, "billion"], [1e6, "million"]];
  const found = names.find(([size]) => count >= size * 0.9995);
  if (count >= 0.9995e15) return scientific(count);
  return found ? `${significant(count / found[0])} ${found[1]}` : integer(Number(count.toPrecision(3)));
}

/** Days in the unit that reads best. */
export function duration(days) {
  const seconds = days * 86400;
  if (seconds < 1) return `${significant(seconds * 1000)} ms`;
  if (seconds < 120) return `${significant(seconds)} s`;
  if (seconds < 7200) return `${significant(seconds / 60)} minutes`;
  if (days < 2) return `${significant(days * 24)} hours`;
  return days < 730 ? `${significant(days)} days` : `${inWords(Math.round(days / 365.25))} years`;
}

/** Work of one device as days, and as a time that reads better where there is one: "16 500 GPU-days, 45 years on one". */
export function deviceDays(days, unit) {
  const work = `${days < 1e6 ? scientific(days) : inWords(days)} ${unit}-days`;
  return days >= 2 && days < 730 ? work : `${work}, ${duration(days)} on one`;
}

/** Kilowatt-hours in words. */
export const energy = (kWh) => `${kWh < 1e6 ? scientific(kWh) : inWords(kWh)} kWh`;

/** What a device is called, and what it counts days of. */
const nameOf = ({ label }) => label.split(" (")[0];
const unitOf = ({ measured }) => (measured ? "core" : "GPU");

/** The part of the plane around the best choice that is shown: seven decades of N and six of D, from a full decade on. */
export function windowAround({ N, D }) {
  const first = (value, decades) => Math.round(Math.log10(value) - decades / 2);
  const [n, d] = [first(N, 7), first(D, 6)];
  return { N: [10 ** n, 10 ** (n + 7)], D: [10 ** d, 10 ** (d + 6)] };
}

/** What the reader chose, and the best, as numbers: everything that the picture and the words say. */
export function budget(law, logFlops, size) {
  const flops = 10 ** logFlops;
  const best = bestAt(law, flops);
  const yours = isoflop(law, best.N * 10 ** ((size - SIZES / 2) / 10), flops);
  return { flops, best, yours, enough: flopsToReach(law, yours.loss) };
}

const clamp = (value, least, most, otherwise) => (Number.isFinite(Number(value)) ? Math.min(most, Math.max(least, Number(value))) : otherwise);

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "A training budget, and how to spend it", lead: "Choose a budget, then step along it: larger models on fewer tokens, or smaller ones on more." });
  const laws = () => model.get("laws");
  const machines = () => model.get("machines");
  const now = () => {
    const key = model.get("constants") in laws() ? model.get("constants") : Object.keys(laws())[0];
    const machineKey = model.get("machine") in machines() ? model.get("machine") : Object.keys(machines())[0];
    const machine = machines()[machineKey];
    const logFlops = clamp(model.get("log_flops"), LEAST_LOG_FLOPS, MOST_LOG_FLOPS, 20);
    const size = Math.round(clamp(model.get("size"), 0, SIZES, SIZES / 2));
    const percent = machine.measured ? 100 : clamp(model.get("percent"), 1, 100, 40);
    const watts = clamp(model.get("watts"), 1, 1e5, 1000);
    const law = laws()[key];
    const spent = budget(law, logFlops, size);
    return { law, machine, percent, watts, logFlops, size, ...spent, ...costOf(spent.flops, machine, percent, watts) };
  };

  // ------------------------------------------------------------------------------------------------ controls
  const slider = figure.range("log_flops", { label: "Budget C, FLOP", min: LEAST_LOG_FLOPS, max: MOST_LOG_FLOPS, step: 0.05, format: (value) => scientific(10 ** value) });
  slider.node.classList.add("bw-broad");
  const constants = figure.select("constants", { label: "Constants of the law", options: Object.entries(laws()).map(([key, law]) => [key, law.label]) });
  constants.node.classList.add("bw-broad");
  const stepper = figure.stepper("size", { label: "Along the budget: 20 is the best size", count: () => SIZES, ms: 300 });
  const machine = figure.select("machine", { label: "Computed on one", options: Object.entries(machines()).map(([key, { label }]) => [key, label]) });
  machine.node.classList.add("bw-broad");
  const share = figure.range("percent", { label: "Share of its peak that is used", unit: "%", min: 1, max: 100 });
  const watts = figure.number("watts", { label: "Power it draws, with cooling: assume", unit: "W", min: 1, max: 100000 });
  watts.node.classList.add("bw-broad");
  figure.checkbox("known", { label: "Show known models" });

  // ------------------------------------------------------------------------------------------------- picture
  const surface = figure.panel("Curves of equal loss, over model and data");
  const valley = figure.panel("Loss along the budget", { half: true });
  const numbers = figure.panel("Yours, and the best", { half: true });
  for (const trait of ["laws", "machines", "models", "runs"]) figure.on(trait, figure.redraw);

  const power = (value) => tenTo(Math.round(Math.log10(value)));

  function paintSurface({ law, flops, best, yours }) {
    const { N: N_AXIS, D: D_AXIS } = windowAround(best);
    const plot = chart({
      x: { min: N_AXIS[0], max: N_AXIS[1], log: true, count: 7, label: "parameters N (log scale)", format: power },
      y: { min: D_AXIS[0], max: D_AXIS[1], log: true, count: 7, label: "tokens D (log scale)", format: power },
      width: 720, height: 400, label: "Curves of equal loss over parameters and tokens; the budget is a falling line that touches one of them at the best size. The table has the numbers.",
    });
    const inside = ([N, D]) => N >= N_AXIS[0] && N <= N_AXIS[1] && D >= D_AXIS[0] && D <= D_AXIS[1];
    const at = ([N, D]) => [plot.x(N), plot.y(D)];
    const right = plot.right;
    for (const excess of EXCESSES) {
      const points = isoloss(law, law.E + excess, N_AXIS[1]).filter(inside);
      if (points.length < 2) continue;
      const [x, y] = at(points.at(-1));
      plot.marks.append(svg("path", { class: "bw-curve", d: path(points, plot) }), svg("text", { class: "bw-limit-label", x: Math.min(x, right) - 2, y: y - 4, "text-anchor": "end" }, `L = ${(law.E + excess).toFixed(2)}`));
    }
    // the valley: where every budget is spent best
    const bottom = [];
    for (let drawn0 = 8; drawn0 <= 30; drawn0 += 0.25) bottom.push(bestAt(law, 10 ** drawn0));
    const floor = bottom.map(({ N, D }) => [N, D]).filter(inside);
    if (floor.length > 1) plot.marks.append(svg("path", { class: "bw-valley", d: path(floor, plot) }));
    const touching = isoloss(law, yours.loss, N_AXIS[1]).filter(inside);
    if (touching.length > 1) plot.marks.append(svg("path", { class: "bw-yours", d: path(touching, plot) }));
    const from = Math.max(N_AXIS[0], flops / 6 / D_AXIS[1]);
    const to = Math.min(N_AXIS[1], flops / 6 / D_AXIS[0]);
    plot.marks.append(svg("path", { class: "bw-now", d: path([[from, flops / 6 / from], [to, flops / 6 / to]], plot) }));
    for (const [N, D] of model.get("runs").filter(inside)) plot.marks.append(svg("circle", { class: "bw-run", cx: plot.x(N), cy: plot.y(D), r: 2 }));
    if (model.get("known")) for (const mark of modelMarks(plot, inside)) plot.marks.append(mark);
    if (inside([best.N, best.D])) plot.marks.append(svg("path", { class: "bw-best", d: diamond(...at([best.N, best.D]), 7) }));
    if (inside([yours.N, yours.D])) plot.marks.append(svg("circle", { class: "bw-point", cx: plot.x(yours.N), cy: plot.y(yours.D), r: 6 }));
    surface.note.textContent = "dashed: the budget 6ND = C; green: where budgets are spent best";
    surface.body.replaceChildren(h("div", { className: "bw-scroll bw-wide-chart", tabIndex: 0, role: "region", "aria-label": "Curves of equal loss" }, plot.node));
    plot.node.classList.add("is-clickable");
    plot.node.addEventListener("click", (event) => {
      const box = plot.node.getBoundingClientRect();
      const part = ((event.clientX - box.left) / box.width) * plot.width;
      const N = N_AXIS[0] * (N_AXIS[1] / N_AXIS[0]) ** ((part - plot.left) / (plot.right - plot.left));
      stepper.stop();
      stepper.go(Math.round(SIZES / 2 + 10 * Math.log10(N / best.N)));
    });
  }

  function modelMarks(plot, inside) {
    const marks = [];
    const taken = []; // boxes of marks and labels: a label that would lie on another is left out, the table has all
    for (const [, N, D] of model.get("models")) if (inside([N, D])) taken.push([[plot.x(N) - 5, plot.x(N) + 5], plot.y(D) + 4]);
    for (const [name, N, D] of model.get("models")) {
      if (!inside([N, D])) continue;
      const [x, y] = [plot.x(N), plot.y(D)];
      marks.push(svg("path", { class: "bw-known", d: `M${x - 4} ${y}h8M${x} ${y - 4}v8` }));
      const width = 7 * name.length;
      const tries = [[x + 7, y + 4, "start"], [x - 7, y + 4, "end"], [x + 6, y - 8, "start"], [x + 6, y + 16, "start"], [x - 6, y - 8, "end"], [x - 6, y + 16, "end"]];
      const free = tries.find(([tx, ty, anchor]) => {
        const left = anchor === "start" ? tx : tx - width;
        return left > plot.left && left + width < plot.right && taken.every(([l, t]) => Math.abs(ty - t) > 11 || left > l[1] || left + width < l[0]);
      });
      if (!free) continue;
      const [tx, ty, anchor] = free;
      const left = anchor === "start" ? tx : tx - width;
      taken.push([[left, left + width], ty]);
      marks.push(svg("text", { class: "bw-limit-label", x: tx, y: ty, "text-anchor": anchor }, name));
    }
    return marks;
  }

  function paintValley({ law, flops, best, yours }) {
    const curve = [];
    for (let k = 0; k <= 80; k += 1) curve.push(isoflop(law, best.N * 10 ** ((k - 40) / 20), flops));
    const most = Math.max(...curve.map(({ loss }) => loss));
    const least = Math.min(law.E, best.loss);
    const room = 0.06 * (most - least);
    const plot = chart({
      x: { min: curve[0].N, max: curve.at(-1).N, log: true, label: "parameters N (log scale)", format: power },
      y: { min: Math.max(0, least - room), max: most + room, label: "loss (nats per token)" },
      width: 340, height: 230, label: "Loss against parameters along the budget: lowest at the best size. The table has the numbers.",
    });
    plot.marks.append(svg("path", { class: "bw-limit is-warn", d: `M${plot.left} ${plot.y(law.E)}H${plot.right}` }), svg("text", { class: "bw-limit-label", x: plot.left + 4, y: plot.y(law.E) - 5 }, `E = ${law.E.toFixed(2)}`));
    plot.marks.append(
      svg("path", { class: "bw-curve is-done", d: path(curve.map(({ N, loss }) => [N, loss]), plot) }),
      svg("path", { class: "bw-best", d: diamond(plot.x(best.N), plot.y(best.loss), 7) }),
      svg("circle", { class: "bw-point", cx: plot.x(yours.N), cy: plot.y(yours.loss), r: 6 }),
    );
    const end = plot.x(yours.N) > plot.right - 70;
    plot.marks.append(svg("text", { class: "bw-point-label", x: plot.x(yours.N) + (end ? -9 : 9), y: Math.max(plot.y(yours.loss) - 9, plot.top + 10), "text-anchor": end ? "end" : "start" }, yours.loss.toFixed(3)));
    valley.body.replaceChildren(plot.node);
  }

  function paintNumbers({ best, yours, flops, enough, days, kWh, machine: device }) {
    const line = (name, one, other) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, one), h("td", {}, other));
    numbers.body.replaceChildren(
      h(
        "table",
        { className: "bw-table bw-budget" },
        h("thead", {}, h("tr", {}, ["quantity", "yours", "best"].map((cell) => h("th", { scope: "col" }, cell)))),
        h(
          "tbody",
          {},
          line("parameters N", inWords(yours.N), inWords(best.N)),
          line("tokens D", inWords(yours.D), inWords(best.D)),
          line("tokens per parameter", significant(yours.D / yours.N), significant(best.D / best.N)),
          line("loss, nats per token", yours.loss.toFixed(3), best.loss.toFixed(3)),
          line("compute for this loss", `${significant((100 * enough) / flops)} % needed`, "100 %"),
        ),
      ),
      h("p", { className: "bw-note" }, `${scientific(flops)} FLOP on the ${nameOf(device)}: ${deviceDays(days, unitOf(device))}; ${energy(kWh)}.`),
    );
  }

  figure.draw(() => {
    const state = now();
    const { law, best, yours, flops, enough, days, kWh, machine: device } = state;
    stepper.show();
    share.input.disabled = device.measured === true;
    paintSurface(state);
    paintValley(state);
    paintNumbers(state);
    const factor = yours.N / best.N;
    const relation = Math.abs(factor - 1) < 0.01 ? "the best size" : factor > 1 ? `${significant(factor)} times the best size` : `${significant(1 / factor)} times smaller than the best`;
    const outside = yours.N < law.least_N || yours.N > law.most_N ? ` Beyond the sizes that these constants were fitted to, ${inWords(law.least_N)} to ${inWords(law.most_N)}.` : "";
    const waste = enough / flops > 0.995 ? "" : ` The best size would have this loss for ${significant((100 * enough) / flops)} % of the compute.`;
    figure.say(`${scientific(flops)} FLOP (${deviceDays(days, unitOf(device))}; ${energy(kWh)}): ${inWords(yours.N)} parameters, ${relation}, on ${inWords(yours.D)} tokens, ${significant(yours.D / yours.N)} a parameter: loss ${yours.loss.toFixed(3)}, best ${best.loss.toFixed(3)} nats per token.${waste}${outside}`);
    figure.root.setAttribute("aria-busy", "false");
  });
  figure.table(() => {
    const { law, best, yours, flops, percent, watts: drawn } = now();
    const row = (name, N, D, source = "") => {
      const most = bestAt(law, 6 * N * D);
      return [name, inWords(N), inWords(D), significant(D / N), scientific(6 * N * D), lawLoss(law, N, D).toFixed(3), most.loss.toFixed(3), inWords(most.N), source];
    };
    const onMachine = (device) => {
      const { days, kWh } = costOf(flops, device, device.measured ? 100 : percent, drawn);
      return [device.label, deviceDays(days, unitOf(device)), energy(kWh)];
    };
    const models = {
      head: ["model", "N", "D", "D / N", "C = 6ND", "loss by this law", "best loss at C", "best N at C", "N and D by"],
      rows: [row("your choice", yours.N, yours.D), row("the best", best.N, flops / 6 / best.N), ...model.get("models").map((known) => row(...known))],
      note: `By the constants E = ${significant(law.E)}, A = ${significant(law.A)}, B = ${significant(law.B)}, alpha = ${significant(law.alpha)}, beta = ${significant(law.beta)}.`,
    };
    const note = `Your budget, ${scientific(flops)} FLOP, at ${significant(percent)} % of a peak (all of a measured speed) and ${significant(drawn)} W.`;
    return [models, { head: ["computed on one", "time", "energy"], rows: Object.values(machines()).map(onMachine), note }];
  });
  return figure.end;
}

const diamond = (x, y, r) => `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`;

export default { render, address: ["log_flops", "size", "constants", "machine", "percent", "watts", "known"] };
