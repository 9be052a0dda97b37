// The figure BPEMerges: byte-pair encoding, step by step. Python owns `merges` and `ids`; this module computes the same for
// its own picture, from the inputs, and writes only what the reader does: text, step, pre_tokenizer, tie_break, trained.

import { BYTES, PRE_TOKENIZERS, Replay, TIE_BREAKS, Training, replayGiven } from "./bpe.js";
import { chart, path } from "./chart.js";
import { integer, plural } from "./format.js";
import { frame, h, setText, svg } from "./frame.js";
import { bar, plain, setBar, tileRow, tokenText } from "./tiles.js";

const EXAMPLES = {
  "The classic string": "aaabdaaabac",
  "A sentence": "The cat sat on the mat, and the other cat sat on that cat.",
  Code: "for i in range(10):\n    for j in range(10):\n        print(i, j, i * j)\n",
  Emoji: "😀😃😄 😀😃😄 👩‍🚀👩‍🚀👩‍🚀 ❤️❤️",
  Chinese: "人工智能是人造的智能。人们教机器认字，机器学会认字。",
  Arabic: "كتاب الكاتب في المكتبة، والكاتب كتب الكتاب.",
};
const PRE_TOKENIZER_NAMES = { gpt2: "GPT-2's pattern", "white space": "white space", punctuation: "white space and punctuation", none: "off: one long word" };
const TIE_NAMES = { greatest: "the greatest bytes", smallest: "the smallest bytes", first: "the first in the text" };
const MAX_CHARACTERS = 20000;
const TILES = 200; // more are counted, not drawn
const PAIRS = 6;
const CHIPS = 48;
const LEAVES = 32; // of a merge tree; a larger one is cut at its lower levels
const SLICE_MS = 8; // learning from a long text pauses this often, so that typing stays fluid
const LONG_TEXT = 2000; // characters; from here on, learning waits for a pause in the typing
const PAUSE_MS = 150;

/** Whether a byte string begins inside a character of UTF-8. */
const isContinuation = (byteString) => (byteString.charCodeAt(0) & 0xc0) === 0x80;

/** Merge tree of a token: {id, bytes, level, children}; leaves are bytes, and a tree of too many leaves is cut. */
export function mergeTree(id, training, maxLeaves = LEAVES) {
  const grow = (node, depth) => {
    if (node < BYTES || depth === 0) return { id: node, bytes: training.vocab[node], level: 0, children: [], cut: node >= BYTES };
    const children = training.merges[node - BYTES].map((child) => grow(child, depth - 1));
    return { id: node, bytes: training.vocab[node], level: 1 + Math.max(...children.map((child) => child.level)), children, cut: false };
  };
  const leaves = (node) => (node.children.length === 0 ? 1 : leaves(node.children[0]) + leaves(node.children[1]));
  let tree = grow(id, 1);
  for (let depth = 2; depth < 64; depth += 1) {
    const next = grow(id, depth);
    if (leaves(next) > maxLeaves) break;
    tree = next;
  }
  return tree;
}

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "Byte-pair encoding, step by step", lead: "Press Step: the most frequent pair of neighbours becomes one symbol." });
  let training = null;
  let replay = null;
  let wanted = ""; // what the training is made from, or is being made from
  let waiting = []; // what to do when it is finished
  let pinned = null; // the token whose tree is shown; null follows the newest
  let running = 0;
  let pause = 0;

  const inputs = () => ({
    text: model.get("text"),
    preTokenizer: PRE_TOKENIZERS.includes(model.get("pre_tokenizer")) ? model.get("pre_tokenizer") : "gpt2",
    tieBreak: TIE_BREAKS.includes(model.get("tie_break")) ? model.get("tie_break") : "greatest",
    given: model.get("trained") === false ? model.get("merges") : null,
  });
  const steps = () => (replay === null ? 0 : replay.steps);
  const stepNow = () => Math.max(0, Math.min(Math.round(Number(model.get("step"))) || 0, steps()));

  /** Learns anew if the inputs have changed; at once for a short text, else a slice at a time. `then` runs when done. */
  function learn(then) {
    const now = inputs();
    const key = JSON.stringify(now);
    if (key === wanted && waiting.length === 0) {
      then();
      return;
    }
    waiting.push(then);
    if (key === wanted) return;
    wanted = key;
    clearTimeout(running);
    const next = now.given === null ? new Training(now.text, now) : replayGiven(now.text, now.given, now);
    const work = now.given === null ? next.learn({ sliceMs: SLICE_MS }) : [].values();
    const advance = () => {
      if (!work.next().done) {
        running = setTimeout(advance);
        return;
      }
      training = next;
      replay = new Replay(training);
      drawnPlot = null;
      const ready = waiting;
      waiting = [];
      for (const callback of ready) callback();
    };
    figure.root.setAttribute("aria-busy", "true");
    advance();
  }

  /** What the reader did: new inputs, and with them, in the same message, a step that exists. */
  function change(values) {
    for (const [trait, value] of Object.entries(values)) model.set(trait, value);
    clearTimeout(pause);
    pause = 0;
    const commit = () => {
      pause = 0;
      learn(() => figure.set({ step: stepNow() }));
    };
    if ("text" in values && values.text.length > LONG_TEXT) pause = setTimeout(commit, PAUSE_MS);
    else commit();
  }

  // ------------------------------------------------------------------------------------------------ controls
  figure.text("text", { label: `Text, up to ${integer(MAX_CHARACTERS)} characters`, maxLength: MAX_CHARACTERS, change: (text) => change({ text }) });
  const example = h("select", {}, h("option", { value: "" }, "your own text"), Object.keys(EXAMPLES).map((name) => h("option", { value: name }, name)));
  figure.field("Example", example);
  figure.listen(example, "change", () => {
    if (example.value !== "") change({ text: EXAMPLES[example.value], step: 0, trained: true });
  });
  figure.select("pre_tokenizer", {
    label: "Words split by",
    options: PRE_TOKENIZERS.toReversed().map((name) => [name, PRE_TOKENIZER_NAMES[name]]),
    change: (value) => change({ pre_tokenizer: value }),
  });
  figure.select("tie_break", {
    label: "Ties go to",
    options: TIE_BREAKS.map((name) => [name, TIE_NAMES[name]]),
    change: (value) => change({ tie_break: value, trained: true }),
  });
  const stepper = figure.stepper("step", { label: "Merge", count: steps });

  // ------------------------------------------------------------------------------------------------- picture
  const tiles = figure.panel("Symbols", { scroll: true });
  const tileList = h("div", { className: "bw-tiles", dir: "ltr" });
  const more = h("p", { className: "bw-note" });
  tiles.body.append(tileList, more);
  const drawTiles = tileRow(tileList);
  const pairs = figure.panel("Pairs, most frequent first", { half: true });
  const pairHead = h("tr", {}, h("th", { scope: "col" }, "pair"), h("th", { scope: "col" }, "times counted"), h("th", { scope: "col" }, h("span", { className: "bw-hidden" }, "mark")));
  const pairRows = Array.from({ length: PAIRS }, pairRow);
  const pairBody = h("tbody");
  const pairTable = h("table", { className: "bw-table bw-pairs" }, h("thead", {}, pairHead), pairBody);
  const noPairs = h("p", { className: "bw-note" }, "No two symbols stand side by side in a word.");
  pairs.body.append(pairTable, noPairs);
  const curve = figure.panel("Shorter text, larger vocabulary", { half: true });
  const vocabulary = figure.panel("Vocabulary", { half: true, scroll: true });
  const chips = h("div", { className: "bw-tiles", dir: "ltr" });
  const none = h("p", { className: "bw-note" }, "Nothing merged yet: the first merge makes the symbol with id 256.");
  vocabulary.body.append(none, chips);
  const drawChips = tileRow(chips);
  const tree = figure.panel("Merge tree", { half: true });
  const treeId = h("input", { type: "number", min: BYTES, step: 1, inputMode: "numeric" });
  const treeField = h("label", { className: "bw-inline" }, "of the token with id", treeId);
  const treeBody = h("div", { className: "bw-scroll bw-tree-frame", tabIndex: 0, role: "region", "aria-label": "Merge tree" });
  tree.body.append(treeField, treeBody);

  const pin = (id) => {
    pinned = id;
    figure.redraw();
  };
  figure.listen(treeId, "input", () => {
    const id = treeId.valueAsNumber;
    const sound = Number.isInteger(id) && id >= BYTES && id < BYTES + stepNow();
    treeId.setAttribute("aria-invalid", String(!sound && treeId.value !== ""));
    if (sound || treeId.value === "") pin(sound ? id : null);
  });
  for (const [node, at] of [[tileList, (i) => shownTiles[i]], [chips, (i) => shownChips[i]]]) {
    figure.listen(node, "click", (event) => {
      const element = event.target.closest(".bw-tile");
      const hit = element && at([...node.children].indexOf(element));
      if (hit && hit.id >= BYTES) pin(hit.id);
    });
  }
  figure.remember("trained");
  const givenAtFirst = inputs().given; // by Python; then merges are an input like the others
  figure.onReset(() => {
    if (givenAtFirst !== null) model.set("merges", givenAtFirst);
    pinned = null;
  });
  for (const trait of ["trained", "merges"]) figure.on(trait, () => figure.redraw());

  let shownTiles = [];
  let shownChips = [];
  let drawnPlot = null; // {node, …}: the curve is drawn once a training, then only its point moves
  let drawnTree = "";

  const name = (id) => `“\u2068${plain(training.vocab[id])}\u2069”`; // isolated, so that Arabic does not turn the sentence around

  function paintTiles(step, focus) {
    const next = training.log[step];
    shownTiles = replay.tiles(TILES);
    const inside = (i) => i < shownTiles.length && isContinuation(training.vocab[shownTiles[i].id]);
    const classes = shownTiles.map(({ id }, i) => `${shownTiles[i + 1]?.word ? "is-end " : ""}${inside(i + 1) ? "is-joined " : ""}${step > 0 && id === BYTES + step - 1 ? "is-new " : ""}${id === focus ? "is-focus " : ""}`);
    for (let i = 0; next !== undefined && i + 1 < shownTiles.length; i += 1) {
      if (shownTiles[i].id !== next.left || shownTiles[i + 1].id !== next.right || shownTiles[i + 1].word) continue;
      classes[i] += "is-left";
      classes[i + 1] += "is-right";
      i += 1;
    }
    let place = 0; // in the text, in bytes
    drawTiles(
      shownTiles.map(({ id }, i) => {
        const [key, bytes] = [place, training.vocab[id]];
        place += bytes.length;
        return { key, bytes, id, className: classes[i] };
      }),
    );
    const hidden = replay.length - shownTiles.length;
    setText(more, hidden > 0 ? `… and ${plural(hidden, "more symbol")}` : "");
    const notes = [`${plural(replay.length, "symbol")} for ${plural(training.bytes, "byte")}`];
    if (next !== undefined) notes.push("underlined: merged next");
    if (shownTiles.some((_, i) => inside(i))) notes.push("tiles that touch: one character's bytes");
    setText(tiles.note, notes.join("; "));
  }

  function paintPairs(step) {
    const next = training.log[step];
    const top = replay.topPairs(PAIRS, inputs().tieBreak);
    const tied = replay.tied();
    const most = tied.count || 1;
    const isNext = ({ pair }) => next !== undefined && pair.left === next.left && pair.right === next.right;
    if (next !== undefined && !top.some(isNext)) {
      const pair = training.pairs.get(next.left * 2 ** 21 + next.right);
      top.splice(PAIRS - 1, 1, { pair: pair ?? next, count: next.count });
    }
    top.forEach((entry, i) => {
      const { pair, count } = entry;
      const mark = isNext(entry) ? "next" : next !== undefined && count === tied.count && tied.pairs > 1 ? "tie" : "";
      pairRows[i].show({ left: training.vocab[pair.left], right: training.vocab[pair.right], count, most, mark, next: isNext(entry) });
    });
    while (pairBody.children.length > top.length) pairBody.lastChild.remove();
    while (pairBody.children.length < top.length) pairBody.append(pairRows[pairBody.children.length].node);
    pairTable.hidden = top.length === 0;
    noPairs.hidden = top.length > 0;
    setText(pairs.note, tied.pairs > 1 && next !== undefined ? `${tied.pairs} tie at ${integer(tied.count)}` : `${integer(replay.counts.size)} different`);
  }

  function paintCurve(step) {
    if (drawnPlot === null) {
      const lengths = [[BYTES, training.bytes], ...training.log.map(({ id, length }) => [id + 1, length])];
      const plot = chart({
        x: { min: BYTES, max: BYTES + Math.max(steps(), 1), label: "vocabulary size (symbols)", whole: true, format: integer },
        y: { min: 0, max: Math.max(training.bytes, 1), label: "text length (symbols)", whole: true, format: integer },
        label: "Text length in symbols against vocabulary size; the table below has the numbers.",
      });
      const line = path(lengths, plot);
      const ahead = svg("path", { class: "bw-curve", d: line });
      const done = svg("path", { class: "bw-curve is-done" });
      const down = svg("path", { class: "bw-now" });
      const point = svg("circle", { class: "bw-point", r: 5.5 });
      const words = svg("text", { class: "bw-point-label" });
      plot.marks.append(ahead, done, down, point, words);
      drawnPlot = { plot, lengths, done, down, point, words };
      curve.body.replaceChildren(plot.node);
    }
    const { plot, lengths, done, down, point, words } = drawnPlot;
    const [x, y] = [plot.x(lengths[step][0]), plot.y(lengths[step][1])];
    done.setAttribute("d", path(lengths.slice(0, step + 1), plot, 120));
    down.setAttribute("d", `M${x} ${y}V${plot.y(0)}`);
    point.setAttribute("cx", x);
    point.setAttribute("cy", y);
    words.textContent = integer(lengths[step][1]);
    const right = x > 340;
    words.setAttribute("x", right ? x - 9 : x + 9);
    words.setAttribute("y", Math.max(y - 8, 14));
    words.setAttribute("text-anchor", right ? "end" : "start");
  }

  function paintVocabulary(step, focus) {
    const from = Math.max(0, step - CHIPS);
    none.hidden = step > 0;
    shownChips = Array.from({ length: step - from }, (_, i) => ({ id: BYTES + step - 1 - i }));
    drawChips(shownChips.map(({ id }) => ({ key: id, bytes: training.vocab[id], id, className: `${id === BYTES + step - 1 ? "is-new" : ""}${id === focus ? " is-focus" : ""}` })));
    setText(vocabulary.note, `${integer(BYTES + step)} symbols: 256 bytes${step > 0 ? `, ${integer(step)} merged${from > 0 ? `, the newest ${CHIPS} shown` : ", newest first"}` : ""}`);
  }

  function paintTree(step, focus) {
    treeField.hidden = step === 0;
    treeId.max = BYTES + step - 1;
    if (document.activeElement !== treeId || treeId.valueAsNumber >= BYTES + step) {
      treeId.value = focus ?? "";
      treeId.setAttribute("aria-invalid", "false");
    }
    const key = `${wanted}/${focus}`;
    if (key === drawnTree) return;
    drawnTree = key;
    if (focus === null) {
      treeBody.replaceChildren(h("p", { className: "bw-note" }, "After the first merge, this shows how a symbol was put together."));
      return;
    }
    const { node, cut } = drawTree(mergeTree(focus, training));
    treeBody.replaceChildren(node);
    setText(tree.note, cut ? "its lower levels are left out" : "");
  }

  function sentence(step) {
    const next = training.log[step];
    const tied = replay.tied();
    const ties = next !== undefined && tied.pairs > 1 && next.count === tied.count ? ` like ${plural(tied.pairs - 1, "other pair")}` : "";
    const ahead = next === undefined ? "" : ` Next: ${name(next.left)} + ${name(next.right)}, counted ${integer(next.count)}×${ties}.`;
    if (training.bytes === 0) return "There is no text yet: type some, or choose an example.";
    if (step === 0) return steps() === 0 ? `No pair occurs twice among these ${plural(training.bytes, "byte")}: there is nothing to merge.` : `No merge yet: ${plural(training.bytes, "byte")}, each a symbol.${ahead}`;
    const { id, left, right, count, made, length } = training.log[step - 1];
    const before = step > 1 ? training.log[step - 2].length : training.bytes;
    const overlap = count > made ? ` (counted ${integer(count)}× with overlap)` : "";
    const end = next === undefined && inputs().given === null ? " No pair occurs twice any more." : ahead;
    return `Merge ${step} of ${steps()}: ${name(left)} + ${name(right)} → ${name(id)} (id ${id}), ${plural(made, "occurrence")}${overlap}; ${integer(before)} → ${integer(length)} symbols.${end}`;
  }

  figure.table(() => ({
    head: ["merge", "left", "right", "new symbol", "id", "counted", "merged", "symbols after it"],
    rows: training.log.slice(0, stepNow()).map(({ id, left, right, count, made, length }, i) => [i + 1, plain(training.vocab[left]), plain(training.vocab[right]), plain(training.vocab[id]), id, integer(count), integer(made), integer(length)]),
    note: `The merges made so far, on a text of ${plural(training.bytes, "byte")}.`,
  }));

  const paint = () => {
    const step = stepNow();
    replay.goTo(step);
    if (pinned !== null && pinned >= BYTES + step) pinned = null;
    const focus = pinned ?? (step > 0 ? BYTES + step - 1 : null);
    stepper.show();
    example.value = Object.keys(EXAMPLES).find((key) => EXAMPLES[key] === model.get("text")) ?? "";
    paintTiles(step, pinned);
    paintPairs(step);
    paintCurve(step);
    paintVocabulary(step, focus);
    paintTree(step, focus);
    figure.say(sentence(step));
    figure.root.setAttribute("aria-busy", "false");
  };
  figure.draw(() => {
    if (pause === 0) learn(paint);
  });

  return () => {
    clearTimeout(running);
    clearTimeout(pause);
    figure.end();
  };
}

/** One row of the table of pairs: {node, show}; `show({left, right, count, most, mark, next})` fills it. */
function pairRow() {
  const [left, right] = [h("bdi", { className: "bw-token" }), h("bdi", { className: "bw-token" })];
  const [times, mark] = [bar(0, ""), h("td", { className: "bw-mark" })];
  const pair = h("td", { className: "bw-pair" }, left, h("span", { className: "bw-plus" }, "+"), right);
  const node = h("tr", {}, pair, h("td", { className: "bw-grow" }, times), mark);
  const shown = {};
  const show = (now) => {
    if (now.left !== shown.left) left.replaceChildren(...tokenText(now.left, 12));
    if (now.right !== shown.right) right.replaceChildren(...tokenText(now.right, 12));
    setBar(times, now.count / now.most, integer(now.count), now.next ? "is-new" : "");
    setText(mark, now.mark);
    node.className = now.next ? "is-next" : "";
    Object.assign(shown, now);
  };
  return { node, show };
}

/** A tree as tiles in SVG, the token on top, its bytes at the bottom: {node, cut}. */
function drawTree(tree) {
  const [unit, rise, tall] = [44, 54, 36];
  const marks = [];
  let leaves = 0;
  let cut = false;
  const place = (node) => {
    node.children.forEach(place);
    cut ||= node.cut;
    node.x = node.children.length === 0 ? (leaves++ + 0.5) * unit : (node.children[0].x + node.children[1].x) / 2;
    node.y = (tree.level - node.level) * rise + tall / 2 + 2;
  };
  place(tree);
  const width = Math.max(leaves * unit, 120);
  const shift = (width - leaves * unit) / 2;
  const draw = (node) => {
    for (const child of node.children) {
      marks.push(svg("path", { class: "bw-edge", d: `M${node.x + shift} ${node.y}V${node.y + rise / 2}H${child.x + shift}V${child.y}` }));
      draw(child);
    }
    const words = plain(node.bytes, 14).replaceAll(/[⟨⟩]/g, "");
    const wide = Math.max(30, [...words].length * 8.5 + 12);
    marks.push(
      svg("rect", { class: node === tree ? "bw-node is-focus" : "bw-node", x: node.x + shift - wide / 2, y: node.y - tall / 2, width: wide, height: tall, rx: 5 }),
      svg("text", { class: "bw-node-text", x: node.x + shift, y: node.y - 1, "text-anchor": "middle" }, words),
      svg("text", { class: "bw-node-id", x: node.x + shift, y: node.y + 13, "text-anchor": "middle" }, String(node.id)),
    );
  };
  draw(tree);
  const height = tree.level * rise + tall + 4;
  return { node: svg("svg", { class: "bw-tree", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Merge tree: ${describe(tree)}` }, marks), cut };
}

/** A merge tree in words: "(a + a) + b". */
function describe(node, top = true) {
  if (node.children.length === 0) return plain(node.bytes, 12);
  const words = node.children.map((child) => describe(child, false)).join(" + ");
  return top ? words : `(${words})`;
}

export default { render, address: ["text", "step", "pre_tokenizer", "tie_break"] };
