// The figure KVCacheStepper: a prompt is read and a text written, with a cache of keys and values and without one.

import { preTokenize } from "./bpe.js";
import { chart, path, reference } from "./chart.js";
import { bytes, integer, plural, si, significant } from "./format.js";
import { frame, h, setText, svg } from "./frame.js";
import { BITS, DEVICE_BYTES, LIMITS, MODELS, STEPS, countsOf, decoding, divisors, place, powers, reading, rowBytes, settled } from "./kv_sizes.js";
import { tokenText } from "./tiles.js";
import { quoted, utf8Bytes } from "./words.js";

const MAX_PROMPT = 200; // characters
const COLUMNS = 24; // tokens drawn in the overview, the newest
const ROWS = 12; // tokens drawn in the rows of one layer, the newest
const NUMBERS = 32; // of a row, drawn
const big = (value) => si(value, "").trim(); // 15200000 -> "15.2 M"

/** A prompt's tokens and those that follow it: those of a recording, or words cut at white space, and stand-ins. */
export function tokensOfText(prompt, recording) {
  if (recording?.prompt === prompt) return { tokens: recording.tokens, n: recording.n_prompt, real: true };
  const words = preTokenize(prompt.trim() === "" ? "?" : prompt, "white space");
  return { tokens: [...words, ...Array.from({ length: STEPS }, (_, i) => ` ?${i + 1}`)], n: words.length, real: false };
}

/** base64 of signed bytes -> Int8Array. */
export function signedBytes(text) {
  return Int8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** A number in -1 .. 1 that stands in for one that was not computed: the same for the same place. */
export function standIn(which, layer, position, channel) {
  const x = Math.sin(12.9898 * (position + 1) + 78.233 * (channel + 1) + 37.719 * (layer + 1) + 4.581 * which) * 43758.5453;
  return 2 * (x - Math.floor(x)) - 1;
}

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "A cache of keys and values, step by step", lead: "Press Step: first the prompt is read, then one token at a time. Watch what is computed, and what is only fetched." });
  let decoded = { of: null, keys: null, values: null };
  let charts = { of: "", plots: [], marks: [] };
  const at = () => {
    const sizes = settled(Object.fromEntries(["layers", "heads", "kv_heads", "head_width", "vocab_size", "context", "bits", "batch"].map((name) => [name, model.get(name)])));
    const recording = model.get("recording") ?? {};
    const text = tokensOfText(String(model.get("prompt") ?? "").slice(0, MAX_PROMPT), recording);
    const step = place(model.get("step"), STEPS + 1);
    return { sizes, recording, ...text, step, layer: place(model.get("layer"), sizes.layers), counts: countsOf(sizes, text.n, step) };
  };

  // ------------------------------------------------------------------------------------------------ controls
  const prompt = figure.text("prompt", { label: "Prompt", rows: 1, maxLength: MAX_PROMPT, change: (value) => figure.set({ prompt: value, step: 0 }) });
  const presets = h("select", {}, h("option", { value: "" }, "sizes of your own"), Object.keys(MODELS).map((name) => h("option", { value: name }, name)));
  figure.field("Model", presets).classList.add("bw-broad");
  figure.listen(presets, "change", () => presets.value !== "" && change(MODELS[presets.value]));
  /** Sets sizes, and what has to fit them. */
  function change(values) {
    const sizes = settled({ ...at().sizes, ...values });
    figure.set({ ...values, kv_heads: sizes.kv_heads, layer: Math.min(at().layer, sizes.layers - 1) });
  }
  /** A slider over a list of values that may depend on the others. */
  function listed(trait, label, values, format = integer) {
    const output = h("span", { className: "bw-value" });
    const input = h("input", { type: "range", min: 0, step: 1 });
    figure.field(label, input, { output });
    figure.listen(input, "input", () => change({ [trait]: values()[input.valueAsNumber] }));
    figure.on(trait, figure.redraw);
    figure.remember(trait);
    return () => {
      const value = trait === "layer" ? at().layer : at().sizes[trait];
      const list = values();
      input.max = list.length - 1;
      input.value = list.reduce((best, v, i) => (Math.abs(Math.log((v + 1) / (value + 1))) < Math.abs(Math.log((list[best] + 1) / (value + 1))) ? i : best), 0);
      output.textContent = format(value);
      input.setAttribute("aria-valuetext", output.textContent);
    };
  }
  const upTo = (most) => Array.from({ length: most }, (_, i) => i + 1);
  const sliders = [
    listed("layers", "Layers", () => upTo(LIMITS.layers)),
    listed("heads", "Query heads", () => upTo(LIMITS.heads)),
    listed("kv_heads", "Key–value heads", () => divisors(at().sizes.heads)),
    listed("head_width", "Head width", () => powers(8, LIMITS.head_width)),
    listed("context", "Context, tokens", () => powers(64, LIMITS.context)),
    listed("bits", "Bits a number", () => BITS),
    listed("batch", "Texts at once", () => powers(1, LIMITS.batch)),
    listed("layer", "Layer shown", () => Array.from({ length: at().sizes.layers }, (_, i) => i)),
  ];
  figure.on("vocab_size", figure.redraw);
  figure.on("recording", figure.redraw);
  figure.remember("vocab_size");
  const stepper = figure.stepper("step", { label: "Step", count: () => STEPS, ms: 1500 });

  // ------------------------------------------------------------------------------------------------- picture
  const text = figure.panel("The text");
  const tiles = h("div", { className: "bw-tiles", dir: "auto" });
  const legend = h("p", { className: "bw-note" });
  text.body.append(tiles, legend);
  const kept = figure.panel("With a cache", { half: true });
  const anew = figure.panel("Without", { half: true });
  const rowsPanel = figure.panel("Rows of keys and values");
  const rowsFrame = h("div", { className: "bw-scroll bw-kv-frame", tabIndex: 0, role: "region", "aria-label": "Rows of keys and values" });
  const rowsNote = h("p", { className: "bw-note" });
  rowsPanel.body.append(rowsFrame, rowsNote);
  const counters = figure.panel("Counted");
  const work = figure.panel("Multiplications for one more token", { half: true });
  const memory = figure.panel("Memory for the cache", { half: true });

  function paintText({ tokens, n, real, step }) {
    const held = step === 0 ? 0 : n + step - 1;
    const tileOf = (token, i) => {
      const computed = step === 1 ? i < n : i === held - 1;
      const state = i < held ? (computed ? "is-new" : "is-kept") : i === held && step > 0 ? "is-next" : "is-idle";
      return h("span", { className: `bw-tile ${state}` }, h("bdi", { className: "bw-token" }, tokenText(utf8Bytes(token))));
    };
    tiles.replaceChildren(...tokens.slice(0, Math.max(n, held + (step > 0))).map(tileOf));
    text.note.textContent = `${plural(n, "token")} of prompt, ${step} written`;
    setText(legend, real ? "Cut by the model's own tokenizer, and gone on with as the model wrote." : "Cut into words at white space (a tokenizer cuts finer); ?1, ?2, … stand in for new tokens, for no model runs in this figure.");
  }

  /** Layers from the first (below) to the last; of many, the first three and the last, with a gap between them. */
  const shownLayers = (L) => (L <= 5 ? Array.from({ length: L }, (_, i) => i) : [0, 1, 2, null, L - 1]).reverse();

  /** A grid, layers up and tokens to the right; in each cell a query, a key and a value. `state(i)` is "new", "kept" or "none". */
  function paintGrid(body, { sizes, layer }, held, state, label) {
    const first = Math.max(0, held - COLUMNS);
    const columns = Math.max(held - first, 1);
    const [left, width, height] = [54, 340, 26];
    const cell = Math.min(34, (width - left) / columns);
    const layers = shownLayers(sizes.layers);
    const bar = Math.max(1.5, (cell - 3) / 3 - 0.7);
    const marks = [];
    layers.forEach((l, row) => {
      const y = row * height;
      const name = l === null ? "⋮" : `layer ${l}`;
      marks.push(svg("text", { x: left - 7, y: y + 17, "text-anchor": "end", class: l === layer ? "bw-kv-here" : "bw-axis-label" }, name));
      if (l === null) return;
      for (let i = first; i < held; i += 1) {
        const x = left + (i - first) * cell;
        const kind = state(i);
        ["q", "k", "v"].forEach((part, p) => {
          if (part === "q" && kind === "kept") return;
          marks.push(svg("rect", { class: `bw-kv is-${kind}`, x: x + 1.5 + p * (bar + 0.7), y: y + 4, width: bar, height: height - 8 }));
        });
      }
    });
    marks.push(svg("text", { x: held === 0 ? left + 6 : width, y: held === 0 ? 17 : layers.length * height + 12, "text-anchor": held === 0 ? "start" : "end", class: "bw-axis-label" }, held === 0 ? "nothing is read yet" : "tokens →, each with query (if computed), key, value"));
    body.replaceChildren(svg("svg", { class: "bw-chart", viewBox: `0 0 ${width} ${layers.length * height + 18}`, role: "img", "aria-label": label }, marks));
  }

  function numbersOf({ recording, sizes, real }) {
    const fits = real && recording.shape && [sizes.layers, sizes.kv_heads, sizes.head_width].every((size, i) => size === recording.shape[[0, 1, 3][i]]);
    if (!fits) return null;
    if (decoded.of !== recording.keys) decoded = { of: recording.keys, keys: signedBytes(recording.keys), values: signedBytes(recording.values) };
    const [, K, S, D] = recording.shape;
    return (which, layer, position, channel) => (which === 0 ? decoded.keys : decoded.values)[((layer * K) * S + position) * D + channel] / 127;
  }

  function paintRows(now) {
    const { tokens, step, layer, sizes, counts } = now;
    const real = numbersOf(now);
    const shown = Math.min(sizes.head_width, NUMBERS);
    const first = Math.max(0, counts.held - ROWS);
    const [left, cell, height, gap] = [112, 6.6, 16, 26];
    const width = left + 2 * shown * cell + gap + 50;
    const marks = [];
    ["keys", "values"].forEach((name, which) => marks.push(svg("text", { x: left + which * (shown * cell + gap), y: 11, class: "bw-axis-label" }, `${name}: ${shown < sizes.head_width ? `${shown} of ${sizes.head_width}` : shown} numbers`)));
    for (let i = first; i < counts.held; i += 1) {
      const y = 18 + (i - first) * height;
      const isNew = i >= counts.held - counts.computed;
      const word = tokens[i].replace(/ /g, "·").replace(/\n/g, "↵");
      marks.push(
        svg("text", { x: left - 14, y: y + 11, "text-anchor": "end", class: "bw-map-label" }, word.length > 13 ? `${word.slice(0, 12)}…` : word),
        svg("rect", { class: `bw-kv is-${isNew ? "new" : "kept"}`, x: left - 9, y: y + 1, width: 5, height: height - 3 }),
      );
      for (const which of [0, 1]) {
        for (let d = 0; d < shown; d += 1) {
          const value = real === null ? standIn(which, layer, i, d) : real(which, layer, i, d);
          marks.push(svg("rect", { class: "bw-kv-number", x: left + which * (shown * cell + gap) + d * cell, y: y + 1, width: cell, height: height - 2, "fill-opacity": ((value + 1) / 2).toFixed(2) }));
        }
      }
      if (isNew) marks.push(svg("text", { x: width - 46, y: y + 11, class: "bw-kv-new-label" }, "new"));
    }
    const rows = Math.max(1, Math.min(counts.held, ROWS));
    const words = counts.held === 0 ? "No row yet." : `The newest ${rows} rows of layer ${layer}, head 0.`;
    rowsPanel.note.textContent = `layer ${layer}, head 0 of ${sizes.kv_heads}${first > 0 ? `; ${first} earlier rows are not drawn` : ""}`;
    rowsFrame.replaceChildren(svg("svg", { class: "bw-kv-rows", viewBox: `0 0 ${width} ${20 + rows * height}`, width, height: 20 + rows * height, role: "img", "aria-label": words }, marks));
    setText(rowsNote, real === null ? "Schematic: the shades stand in for numbers that nobody has computed for this prompt and these sizes." : `The model's own numbers, faint to strong: from −${significant(now.recording.largest[0])} to ${significant(now.recording.largest[0])} for keys, −${significant(now.recording.largest[1])} to ${significant(now.recording.largest[1])} for values. A row, once written, never changes.`);
  }

  function paintCounters({ counts, step }) {
    const ratio = (a, b) => (b > 0 ? `${significant(a / b)} times` : "");
    const rows = [
      ["rows of K and of V computed, per layer and head", integer(counts.computed), integer(counts.recomputed), ratio(counts.recomputed, counts.computed)],
      ["rows fetched from the cache", integer(counts.fetched), "0", ""],
      ["multiplications, this step", big(counts.multiplications), big(counts.without), ratio(counts.without, counts.multiplications)],
      ["multiplications, so far", big(counts.multiplications_so_far), big(counts.without_so_far), ratio(counts.without_so_far, counts.multiplications_so_far)],
      ["bytes fetched from the cache", bytes(counts.fetched_bytes), "0 B", ""],
      ["bytes appended to it", bytes(counts.appended_bytes), "0 B", ""],
      ["bytes kept until the next step", bytes(counts.held_bytes), "0 B", ""],
    ];
    counters.note.textContent = step === 0 ? "nothing yet" : `step ${step}, all texts, layers and heads`;
    counters.body.replaceChildren(
      h(
        "div",
        { className: "bw-scroll bw-kv-frame", tabIndex: 0, role: "region", "aria-label": "Counted" },
        h("table", { className: "bw-table bw-kv-counts" }, h("thead", {}, h("tr", {}, ["", "with a cache", "without", "ratio"].map((words) => h(words === "" ? "td" : "th", words === "" ? {} : { scope: "col" }, words)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((words, i) => h(i === 0 ? "th" : "td", i === 0 ? { scope: "row" } : {}, words)))))),
      ),
    );
  }

  /** The curves depend on the sizes alone: they are drawn when these change, and a step only moves the mark on them. */
  function paintCharts({ sizes, counts, n }) {
    const here = Math.max(1, counts.held || n);
    const most = Math.max(sizes.context, here, 2);
    const of = JSON.stringify([sizes, most]);
    if (charts.of !== of) charts = { of, plots: drawCharts(sizes, most, counts.full_bytes), marks: [] };
    charts.plots.forEach((plot, i) => {
      charts.marks[i] ??= plot.marks.insertBefore(svg("path", { class: "bw-now" }), plot.marks.firstChild);
      charts.marks[i].setAttribute("d", `M${plot.x(here)} ${plot.bottom}V${plot.top}`);
    });
  }

  function drawCharts(sizes, most, fullBytes) {
    const lengths = Array.from({ length: 41 }, (_, i) => most ** (i / 40));
    const x = { min: 1, max: most, log: true, label: "tokens in the text (log scale)", format: (t) => si(t, "", 1).trim() };
    const label = (value) => si(value, "", 1).replace(/\s+/g, "");
    const without = lengths.map((s) => [s, reading(sizes, s)]);
    const withIt = lengths.map((s) => [s, decoding(sizes, s)]);
    const y = { min: withIt[0][1] / 8, max: without.at(-1)[1] * 2, log: true, label: "multiplications (log scale)", format: label };
    const plot = chart({ x, y, width: 340, height: 205, label: "Multiplications for one more token against the tokens in the text, with and without a cache; the table has the numbers of each step." });
    const labelled = (words, points, up, colour) => svg("text", { class: `bw-kv-line-label ${colour}`, x: plot.x(points[24][0]), y: plot.y(points[24][1]) + up, "text-anchor": "end" }, words);
    plot.marks.append(
      svg("path", { class: "bw-kv-line is-new", d: path(without, plot) }),
      svg("path", { class: "bw-kv-line is-kept", d: path(withIt, plot) }),
      labelled("without", without, -8, "is-new"),
      labelled("with a cache", withIt, 16, "is-kept"),
    );
    work.note.textContent = `${label(reading(sizes, most))} or ${label(decoding(sizes, most))} at ${integer(most)} tokens`;
    work.body.replaceChildren(plot.node);

    const each = rowBytes(sizes);
    const held = lengths.map((s) => [s, s * each]);
    const top = Math.max(DEVICE_BYTES * 3, most * each * 2);
    const second = chart({ x, y: { min: each / 2, max: top, log: true, label: "bytes (log scale)", format: label }, width: 340, height: 205, label: "Bytes of the cache against the tokens in each text, with the memory of one GPU as a limit." });
    second.marks.append(
      svg("path", { class: "bw-kv-line is-kept", d: path(held, second) }),
      ...reference(second, DEVICE_BYTES, "a GPU of 80 GB", { className: "is-warn" }),
    );
    memory.note.textContent = `${bytes(each)} a position, ${bytes(fullBytes)} at ${integer(sizes.context)} tokens`;
    memory.body.replaceChildren(second.node);
    return [plot, second];
  }

  function sentence({ step, n, tokens, sizes, counts }) {
    const heads = `in each of ${plural(sizes.layers, "layer")} and ${plural(sizes.kv_heads, "key–value head")}`;
    if (step === 0) return "Nothing has been read. The first step is the prefill: it reads the whole prompt at once.";
    const appended = `${bytes(counts.appended_bytes)} are appended, and the cache holds ${plural(counts.held, "row")}, ${bytes(counts.held_bytes)}`;
    if (step === 1) return `Prefill: all ${plural(n, "token")} of the prompt are read in one pass. ${plural(n, "row")} of keys and as many of values are computed ${heads}: ${appended}. Without a cache this step is the same, ${big(counts.without)} multiplications, but its rows are thrown away.`;
    return `Decoding: only ${quoted(tokens[counts.held - 1])} is read. One row of keys and one of values are computed ${heads}; ${integer(counts.fetched)} of each are fetched. ${appended}. Without a cache all ${integer(counts.recomputed)} are computed again: ${significant(counts.without / counts.multiplications)} times the multiplications, for the same result.`;
  }

  figure.table(() => {
    const { sizes, n } = at();
    return {
      head: ["step", "reads", "rows computed", "rows fetched", "computed without a cache", "multiplications", "without a cache", "cache"],
      rows: Array.from({ length: STEPS + 1 }, (_, step) => {
        const c = countsOf(sizes, n, step);
        return [step, step === 0 ? "" : step === 1 ? plural(n, "token") : "1 token", c.computed, c.fetched, c.recomputed, big(c.multiplications), big(c.without), bytes(c.held_bytes)];
      }),
      note: "Rows are counted once for keys and once for values, in each layer and key–value head; multiplications and bytes for all texts.",
    };
  });

  figure.draw(() => {
    const now = at();
    const name = Object.keys(MODELS).find((known) => Object.entries(MODELS[known]).every(([size, value]) => now.sizes[size] === value));
    presets.value = name ?? "";
    for (const show of sliders) show();
    stepper.show();
    prompt.input.setAttribute("aria-invalid", String(String(model.get("prompt") ?? "").trim() === ""));
    const { held, computed } = now.counts;
    paintText(now);
    paintGrid(kept.body, now, held, (i) => (i >= held - computed ? "new" : "kept"), `${computed} rows computed, ${held - computed} fetched, in each layer.`);
    paintGrid(anew.body, now, held, () => "new", `${held} rows computed, in each layer.`);
    kept.note.textContent = held === 0 ? "" : `${integer(computed)} computed, ${integer(held - computed)} fetched`;
    anew.note.textContent = held === 0 ? "" : `${integer(held)} computed`;
    paintRows(now);
    paintCounters(now);
    paintCharts(now);
    figure.say(sentence(now));
    figure.root.setAttribute("aria-busy", "false");
  });
  return figure.end;
}

export default { render, address: ["prompt", "step", "layers", "heads", "kv_heads", "head_width", "vocab_size", "context", "bits", "batch", "layer"] };
