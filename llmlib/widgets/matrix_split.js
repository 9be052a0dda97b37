// The figure MatrixSplit: a product X W whose weight is cut by columns or by rows over several devices.

import { plural, significant } from "./format.js";
import { frame, h, svg, wellFormed } from "./frame.js";
import { MAX_DEVICES, mismatchOf, parseMatrix, product, splitSteps } from "./matrix_parts.js";

const CELL = 30; // pixels of an entry
const GAP = 26; // between two matrices

const among = (value, allowed, otherwise) => (allowed.includes(value) ? value : otherwise);

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "A matrix product over several devices", lead: "Press Step: W is cut, each device computes with what it holds, and then they talk." });
  figure.select("split", { label: "Cut W by", options: [["columns", "columns"], ["rows", "rows"]] });
  const devices = figure.range("devices", { label: "Devices", min: 1, max: MAX_DEVICES });
  devices.node.classList.add("bw-broad");
  figure.select("number_bytes", { label: "A number takes", options: [[2, "2 bytes (bf16)"], [4, "4 bytes (fp32)"]], change: (value) => figure.set({ number_bytes: Number(value) }) });
  const fields = {};
  const inputs = h("div", { className: "bw-matrix-inputs bw-wide" });
  figure.controls.append(inputs);
  for (const [trait, label] of [["x", "X: a row a line, numbers from -9 to 9"], ["w", "W: as many rows as X has columns"]]) {
    const input = h("textarea", { rows: 4, spellcheck: false, autocomplete: "off", maxLength: 300 });
    const node = figure.field(label, input);
    input.value = model.get(trait);
    const problem = h("p", { className: "bw-problem", role: "alert" });
    inputs.append(h("div", { className: "bw-matrix-input" }, node, problem));
    fields[trait] = { input, problem, read: () => parseMatrix(wellFormed(input.value), trait.toUpperCase()) };
    figure.remember(trait);
    figure.listen(input, "input", () => {
      try {
        fields[trait].read();
        figure.set({ [trait]: wellFormed(input.value) });
      } catch {
        figure.redraw(); // what was typed stays in the field, and the picture at what was right
      }
    });
    figure.on(trait, () => {
      if (input.value !== model.get(trait)) input.value = model.get(trait);
      figure.redraw();
    });
  }
  figure.onReset(() => { for (const trait of ["x", "w"]) fields[trait].input.value = ""; }); // so that Reset writes them anew
  const stepper = figure.stepper("step", { label: "Step", count: () => Math.max(0, steps.length - 1), ms: 1600 });
  const legend = h("p", { className: "bw-legend bw-panel" }, ...[["is-held", "held here"], ["is-new", "computed or received now"], ["is-partial", "a partial sum"], ["is-sent", "sent now"]].map(([kind, words]) => h("span", { className: `bw-key ${kind}` }, words)));
  const panels = h("div", { className: "bw-picture bw-panel" });
  const problemLine = h("p", { className: "bw-problem bw-panel bw-veil", role: "alert" });
  figure.picture.append(legend, problemLine, panels);

  let steps = [];
  let now = {};

  function read() {
    let [x, w] = [null, null];
    for (const trait of ["x", "w"]) {
      const { input, problem } = fields[trait];
      let wrong = "";
      try {
        fields[trait].read();
      } catch (error) {
        wrong = error.message;
      }
      input.setAttribute("aria-invalid", String(wrong !== ""));
      if (problem.textContent !== wrong) problem.textContent = wrong;
    }
    const split = among(model.get("split"), ["columns", "rows"], "columns");
    const n = among(Math.round(Number(model.get("devices"))), [1, 2, 3, 4], 2);
    const numberBytes = among(Number(model.get("number_bytes")), [2, 4], 2);
    let problem = "";
    try {
      x = parseMatrix(String(model.get("x")), "X"); // an address may say anything
      w = parseMatrix(String(model.get("w")), "W");
      problem = mismatchOf(x, w, split, n);
    } catch (error) {
      problem = error.message;
    }
    steps = problem ? [] : splitSteps(x, w, split, n, numberBytes);
    const step = Math.max(0, Math.min(Math.round(Number(model.get("step"))) || 0, Math.max(0, steps.length - 1)));
    now = { x, w, split, n, numberBytes, problem, step, at: steps[step] };
  }

  /** A matrix as cells: `entry(i, j)` gives {text, kind}. */
  function grid(name, rows, columns, left, entry) {
    const cells = [];
    for (let i = 0; i < rows; i += 1) {
      for (let j = 0; j < columns; j += 1) {
        const { text, kind } = entry(i, j);
        const [x, y] = [left + j * CELL, 22 + i * CELL];
        cells.push(svg("rect", { class: `bw-entry ${kind}`, x: x + 1.5, y: y + 1.5, width: CELL - 3, height: CELL - 3, rx: 3 }));
        if (text !== "") cells.push(svg("text", { class: "bw-entry-text", x: x + CELL / 2, y: y + CELL / 2 + 4.5, "text-anchor": "middle" }, text));
      }
    }
    const [letter, which = ""] = name.split(", ");
    return [
      svg("text", { class: "bw-entry-name", x: left + 2, y: 14 }, letter),
      svg("text", { class: "bw-entry-which", x: left + 20, y: 14 }, which),
      ...cells,
    ];
  }

  const inside = ([from, to], value) => from <= value && value < to;
  const has = (list, b, f) => list.some(([i, j]) => i === b && j === f);
  const minus = (value) => String(value).replace("-", "−");

  function drawDevice(device, d) {
    const { x, w, split, n, step } = now;
    const [B, C, F] = [x.length, w.length, w[0].length];
    const whole = step === 0;
    const width = (C + 2 * F) * CELL + 2 * GAP;
    const height = 22 + Math.max(B, C) * CELL + 4;
    const done = step === steps.length - 1;
    const truth = product(x, w);
    const entryY = (b, f) => {
      const value = whole ? truth[b][f] : device.y[b][f];
      const sent = has(device.sends, b, f) ? " is-sent" : "";
      if (value === null) return { text: "", kind: "is-absent" };
      const fresh = (step === 2 && !whole) || has(device.got, b, f);
      const partial = split === "rows" && n > 1 && !whole && !done && !isComplete(b, f, d);
      return { text: minus(value), kind: (fresh ? "is-new" : partial ? "is-partial" : "is-held") + sent };
    };
    const node = svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, style: `width:${width}px;min-width:${Math.round(0.62 * width)}px`, role: "img", "aria-label": `${whole ? "X, W and Y" : `Device ${d}: its parts of X and W, and what it has of Y`}; the table has the numbers.` },
      grid(split === "rows" && !whole && n > 1 ? `X, ${cut("column", device.xColumns)}` : "X", B, C, 0, (i, j) => (whole || inside(device.xColumns, j) ? { text: minus(x[i][j]), kind: "is-held" } : { text: "", kind: "is-absent" })),
      svg("text", { class: "bw-entry-text", x: C * CELL + GAP / 2, y: 22 + (B * CELL) / 2 + 4, "text-anchor": "middle" }, "×"),
      grid(whole || n === 1 ? "W" : split === "columns" ? `W, ${cut("column", device.wColumns)}` : `W, ${cut("row", device.wRows)}`, C, F, C * CELL + GAP, (i, j) => (whole || (inside(device.wRows, i) && inside(device.wColumns, j)) ? { text: minus(w[i][j]), kind: "is-held" } : { text: "", kind: "is-absent" })),
      svg("text", { class: "bw-entry-text", x: (C + F) * CELL + 1.5 * GAP, y: 22 + (B * CELL) / 2 + 4, "text-anchor": "middle" }, "="),
      grid("Y", B, F, (C + F) * CELL + 2 * GAP, step === 1 ? () => ({ text: "", kind: "is-absent" }) : entryY),
    );
    const next = (d + 1) % n;
    const said = device.sends.length > 0 ? `sends ${plural(device.sends.length, "entry", "entries")} to device ${next}` : "";
    const total = step >= 2 && n > 1 ? `${said ? "; " : ""}${plural(device.sentBytes, "byte")} sent so far` : "";
    return h(
      "section",
      { className: whole ? "bw-panel bw-device" : "bw-panel bw-half bw-device" },
      h("p", { className: "bw-title" }, whole ? "One device" : `Device ${d}`),
      h("div", { className: "bw-scroll bw-device-frame", tabIndex: 0, role: "region", "aria-label": whole ? "The whole product" : `Device ${d}` }, node),
      h("p", { className: "bw-note" }, said + total),
    );
  }

  const span = ([from, to]) => (to - from === 1 ? String(from) : `${from}–${to - 1}`);

  const cut = (noun, [from, to]) => `${noun}${to - from === 1 ? "" : "s"} ${span([from, to])}`;

  /** Whether device d has the finished sum of an entry: the final value, known as complete in the ring. */
  function isComplete(b, f, d) {
    const { n, step, split } = now;
    if (split === "columns" || n === 1) return true;
    if (step < n + 1) return false; // the last sum arrives in step n + 1
    const flat = b * now.w[0].length + f;
    const size = now.x.length * now.w[0].length;
    const chunk = Array.from({ length: n }, (_, i) => i).find((i) => Math.floor((i * size) / n) <= flat && flat < Math.floor(((i + 1) * size) / n));
    const passed = step - (n + 1); // steps of the all-gather
    return Array.from({ length: passed + 1 }, (_, back) => (d + 1 - back + n) % n).includes(chunk);
  }

  function sentence() {
    const { x, w, split, n, numberBytes, step, problem, at } = now;
    if (problem) return "Nothing to compute: change the number of devices, the cut, or a matrix.";
    const [B, F, C] = [x.length, w[0].length, w.length];
    const where = `Step ${step} of ${steps.length - 1}: `;
    const devicesWord = n === 1 ? "the one device" : "each device";
    if (step === 0) return `${where}the whole product, X (${B}, ${C}) times W (${C}, ${F}) = Y (${B}, ${F}), on one device.`;
    if (step === 1) {
      if (n === 1) return `${where}one device holds all of X and W.`;
      return split === "columns" ? `${where}W is cut by columns. Each device holds all of X and ${plural(F / n, "column")} of W.` : `${where}W is cut by rows, and X by columns to match. Each device holds ${plural(C / n, "column")} of X and ${plural(C / n, "row")} of W.`;
    }
    if (step === 2) {
      const multiplications = (B * C * F) / n;
      return split === "columns" ? `${where}${devicesWord} computes ${plural((B * F) / n, "entry", "entries")} of Y to the end, with ${plural(multiplications, "multiplication")}. Nothing has been sent.` : `${where}${devicesWord} computes all ${plural(B * F, "entry", "entries")} of Y${n > 1 ? ", but only its part of each sum" : ""}, with ${plural(multiplications, "multiplication")}. Nothing has been sent.`;
    }
    const k = step - 3;
    const what = split === "columns" ? "passes a block of columns on" : k < n - 1 ? "passes a chunk of partial sums on, and the next adds its own" : "passes a finished chunk on";
    const total = B * F * numberBytes;
    const most = Math.max(...at.map(({ sentBytes }) => sentBytes));
    const formula = split === "columns" ? `(n − 1)/n × ${total} = ${significant(((n - 1) / n) * total)}` : `2(n − 1)/n × ${total} = ${significant(((2 * (n - 1)) / n) * total)}`;
    const uneven = (split === "rows" && (B * F) % n !== 0) ? " on average" : "";
    const end = step === steps.length - 1 ? ` Every device now has all of Y; each has sent ${formula} bytes${uneven}.` : ` At most ${plural(most, "byte")} sent by a device so far; in the end ${formula}${uneven}.`;
    return `${where}${split === "columns" ? "all-gather" : "all-reduce"} in a ring: each device ${what}.${end}`;
  }

  figure.table(() => {
    const { problem, at = [], step, x, w } = now;
    if (problem) return { head: ["what is wrong"], rows: [[problem]] };
    const matrixText = (y) => y.map((row) => row.map((value) => (value === null ? "·" : minus(value))).join(" ")).join("; ");
    if (step === 0) return { head: ["X", "W", "Y"], rows: [[matrixText(x), matrixText(w), matrixText(product(x, w))]] };
    return {
      head: ["device", "columns of X", "rows of W", "columns of W", "Y", "bytes sent"],
      rows: at.map((device, d) => [d, span(device.xColumns), span(device.wRows), span(device.wColumns), matrixText(device.y), device.sentBytes]),
      note: "Rows of a matrix are separated by semicolons; a dot is an entry that a device does not have.",
    };
  });
  figure.draw(() => {
    read();
    const { problem, at, step } = now;
    stepper.show();
    problemLine.hidden = problem === "";
    if (problemLine.textContent !== problem) problemLine.textContent = problem;
    legend.hidden = problem !== "";
    panels.replaceChildren(...(problem ? [] : step === 0 ? [drawDevice(at[0], 0)] : at.map(drawDevice)));
    figure.say(sentence());
    figure.root.setAttribute("aria-busy", "false");
  });
  return figure.end;
}

export default { render, address: ["x", "w", "split", "devices", "number_bytes", "step"] };
