// The figure BeamTree: beam search grows a tree of texts, step by step, with greedy's path beside it.

import { clamp, within } from "./address.js";
import { beamSearch, greedyPath, lengthPenalty, mostProbable } from "./beams.js";
import { plural } from "./format.js";
import { frame, h, svg } from "./frame.js";
import { modelField } from "./model_field.js";
import { probability } from "./probability.js";
import { quoted, title, visibleToken } from "./words.js";

const COLUMN = 138; // pixels: from column to column, from row to row, size of a node, room for the step's name
const ROW = 48;
const WIDE = 104;
const HIGH = 40;
const HEADING = 26;
const LIVE_WIDTH = 6; // of a search by the model in the page
const LIVE_LENGTH = 12;

/** A log-probability with two decimals and a true minus. */
export const nats = (value) => value.toFixed(2).replace("-", "−");

/**
 * The texts that stand after `step` steps, by score: {tokens, sum, score, state}, state "ended" or "going on". What is going
 * on is scored as if it ended here; pruned ones are gone.
 */
export function standing({ steps }, step, penalty) {
  const scored = ({ tokens, sum }, state) => ({ tokens, sum, score: sum / penalty(tokens.length), state });
  const seen = steps.slice(0, step);
  const ended = seen.flatMap((candidates) => candidates.filter(({ fate }) => fate === "finished").map((text) => scored(text, "ended")));
  const going = (seen.at(-1) ?? []).filter(({ fate }) => fate === "kept").map((text) => scored(text, "going on"));
  return [...ended, ...going].sort((a, b) => b.score - a.score);
}

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "Beam search as a tree", lead: "Press Step, and watch which texts are kept and which are pruned; then change the width." });
  const texts = () => model.get("texts");
  const recorded = () => texts()[clamp(model.get("text"), 0, texts().length - 1)];
  let now = null; // what is drawn: the search, greedy's path, and how its tokens are called
  let followed = -1; // the step whose column was last brought into sight

  const expected = new Map(); // a prompt of the reader's own and what follows it -> the model's most probable tokens
  let asking = "";

  /** What the picture is about: a recorded text, or the reader's own beginning where the model is there to read it. */
  function source() {
    const typed = String(model.get("prompt") ?? "");
    const own = typed === recorded().prompt ? "" : typed;
    const session = own === "" ? null : live.sessionFor(own);
    if (session === null) {
      const record = recorded();
      return { ...record, lacking: live.lacking(own), name: (id) => record.tokens[id], lookup: (tokens) => record.next[tokens.join(" ")] };
    }
    const { text: name, end } = session.tokenizer;
    return { prompt: own, lacking: "", end, width: LIVE_WIDTH, length: LIVE_LENGTH, name, lookup: (tokens) => expected.get(`${own}\n${tokens.join(" ")}`) };
  }

  /** Asks the model what follows some texts after the reader's prompt, one after the other, and draws again. */
  async function ask(missing) {
    const own = model.get("prompt");
    const key = `${own}\n${missing.join("|")}`;
    if (asking === key) return;
    asking = key;
    const { tokenizer, logits } = live.session();
    const start = [tokenizer.end, ...tokenizer.encode(own)];
    for (const tokens of missing) expected.set(`${own}\n${tokens.join(" ")}`, mostProbable(await logits([...start, ...tokens]), 2 * LIVE_WIDTH));
    asking = "";
    figure.redraw();
  }

  function work() {
    const { prompt, lacking, name, lookup, end, width: widest, length: longest } = source();
    const [width, length] = [clamp(model.get("width"), 1, widest), clamp(model.get("length"), 1, longest)];
    const alpha = within(model.get("alpha"), 0, 3, 0);
    const penalty = lengthPenalty(model.get("penalty"), alpha);
    const search = beamSearch(lookup, { width, length, end, penalty });
    const greedy = greedyPath(lookup, { length, end });
    const missing = [...search.missing, ...greedy.missing];
    if (missing.length > 0 && live.session() !== null) {
      ask(missing).catch((error) => {
        asking = "";
        live.fail(prompt, error);
      });
    }
    return { prompt, lacking, name, end, width, length, alpha, penalty, search, greedy: greedy.path, waiting: missing.length > 0, widest, longest };
  }

  // ------------------------------------------------------------------------------------------------ controls
  const chosen = figure.select("text", { label: "After", options: [], change: (value) => figure.set({ text: Number(value), prompt: "", step: 0 }) });
  chosen.node.classList.add("bw-broad");
  const list = () => chosen.input.replaceChildren(...texts().map(({ prompt }, i) => h("option", { value: i }, title([prompt]))));
  list();
  const widths = figure.range("width", { label: "Beam width", min: 1, max: recorded().width });
  const lengths = figure.range("length", { label: "Length", unit: "tokens at most", min: 1, max: recorded().length });
  figure.range("alpha", { label: "Penalty's exponent α", min: 0, max: 2, step: 0.1, format: (value) => value.toFixed(1) });
  figure.select("penalty", { label: "Length penalty", options: [["power", "length^α"], ["wu", "((5 + length) / 6)^α"]] });
  const live = modelField(figure, model, { label: "A beginning of your own", action: "Search on from here", submit: (prompt) => figure.set({ prompt, step: 0 }) });
  const stepper = figure.stepper("step", { label: "Step", count: () => now?.search.steps.length ?? 0, ms: 1200 });
  figure.remember("prompt");
  for (const trait of ["texts", "prompt"]) figure.on(trait, figure.redraw);
  figure.on("texts", list);

  // ------------------------------------------------------------------------------------------------- picture
  const tree = figure.panel("The tree", { scroll: true });
  tree.body.classList.add("bw-beam-frame");
  const ranking = figure.panel("Texts that stand now", { scroll: true });

  const column = (n) => 8 + n * COLUMN;
  const row = (n) => HEADING + n * ROW;

  function node({ x, y, text, sum, tag, className }) {
    return svg(
      "g",
      { class: `bw-beam ${className}`, transform: `translate(${x} ${y})` },
      svg("rect", { width: WIDE, height: HIGH, rx: 5 }),
      className.includes("is-finished") ? svg("rect", { class: "bw-beam-inner", x: 3, y: 3, width: WIDE - 6, height: HIGH - 6, rx: 3 }) : null,
      svg("text", { class: "bw-beam-token", x: 8, y: 17 }, visibleToken(text, 10)),
      svg("text", { class: "bw-beam-sum", x: 8, y: 33 }, sum),
      svg("text", { class: "bw-beam-sum", x: WIDE - 8, y: 33, "text-anchor": "end" }, tag),
    );
  }

  function edge(x1, y1, x2, y2, className) {
    const middle = (x1 + x2) / 2;
    return svg("path", { class: `bw-beam-edge ${className}`, d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
  }

  /** Where the tree is wider than its frame, the step's column stays in sight. */
  function follow(step) {
    if (step === followed || tree.body.clientWidth === 0) return; // not in the page yet
    followed = step;
    const { scrollLeft, clientWidth } = tree.body;
    const [from, to] = [column(step), column(step) + WIDE];
    if (to > scrollLeft + clientWidth || from < scrollLeft) tree.body.scrollLeft = Math.max(0, to - clientWidth + 8);
  }

  const TAGS = { kept: "kept", finished: "ended", pruned: "pruned" };

  function drawTree({ search, greedy, name, prompt, width }, step) {
    const shown = search.steps.slice(0, step);
    const path = greedy.map(({ token }) => token);
    const marks = { edges: [], nodes: [] };
    const start = [...prompt].slice(-9).join("");
    const [ahead, midway] = [column(0) + WIDE, HIGH / 2];
    marks.nodes.push(node({ x: column(0), y: row(1), text: start, sum: "0.00", tag: "prompt", className: "is-start" }));
    greedy.slice(0, Math.max(step, 0)).forEach(({ token, sum }, i) => {
      const x = column(i + 1);
      marks.edges.push(i === 0 ? edge(ahead, row(1) + midway, x, row(0) + midway, "is-greedy") : edge(column(i) + WIDE, row(0) + midway, x, row(0) + midway, "is-greedy"));
      marks.nodes.push(node({ x, y: row(0), text: name(token), sum: nats(sum), tag: "greedy", className: "is-greedy" }));
    });
    shown.forEach((candidates, i) => {
      const x = column(i + 1);
      candidates.forEach(({ token, sum, fate, parent, tokens }, rank) => {
        const from = i === 0 ? row(1) : row(parent + 1);
        const onGreedy = tokens.every((id, place) => id === path[place]);
        marks.edges.push(edge(column(i) + WIDE, from + midway, x, row(rank + 1) + midway, `is-${fate}`));
        marks.nodes.push(node({ x, y: row(rank + 1), text: name(token), sum: nats(sum), tag: TAGS[fate], className: `is-${fate}${onGreedy ? " on-greedy" : ""}${i + 1 === step ? " is-now" : ""}` }));
      });
    });
    const rows = 1 + Math.max(1, ...shown.map(({ length }) => length), Math.min(2 * width, search.steps[0]?.length ?? 1));
    const steps = search.steps.map((_, i) => svg("text", { class: `bw-beam-step ${i + 1 === step ? "is-now" : ""}`, x: column(i + 1), y: 15 }, `step ${i + 1}`));
    const [w, high] = [column(search.steps.length) + WIDE + 8, row(rows)];
    const picture = svg("svg", { class: "bw-beams", width: w, height: high, viewBox: `0 0 ${w} ${high}`, role: "img", "aria-label": "The tree of texts; the table has its numbers." }, svg("text", { class: "bw-beam-step", x: column(0), y: row(0) + 24 }, step > 0 ? "greedy:" : ""), steps, marks.edges, marks.nodes);
    tree.body.replaceChildren(picture);
    follow(step);
    tree.note.textContent = "solid: kept, dotted: pruned, double: ended, ringed: greedy's; numbers: sums of log-probabilities (nats)";
  }

  const written = (tokens, name) => tokens.map(name).join("");

  function ranked({ search, greedy, name, penalty, end }, step) {
    const path = greedy.slice(0, step);
    const rows = standing(search, step, penalty);
    if (path.length > 0 && !rows.some(({ tokens }) => tokens.join() === path.map(({ token }) => token).join())) {
      const sum = path.at(-1).sum;
      rows.push({ tokens: path.map(({ token }) => token), sum, score: sum / penalty(path.length), state: path.at(-1).token === end ? "ended" : "going on", alone: true });
    }
    return rows.map(({ tokens, sum, score, state, alone }) => {
      const isGreedy = alone || (path.length === tokens.length && path.every(({ token }, i) => token === tokens[i]));
      return { text: written(tokens, name), n: tokens.length, sum, divisor: penalty(tokens.length), score, state: isGreedy ? `${state}; greedy's` : state, alone };
    });
  }

  function drawRanking(rows) {
    ranking.note.textContent = "by score = sum / penalty; what goes on is scored as if it ended here";
    const head = ["text", "tokens", "sum (nats)", "penalty", "score", "state"];
    const cells = ({ text, n, sum, divisor, score, state }) => [h("bdi", { className: "bw-token" }, visibleToken(text, 60)), n, nats(sum), divisor.toFixed(2), nats(score), state];
    ranking.body.replaceChildren(
      h(
        "table",
        { className: "bw-table" },
        h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
        h("tbody", {}, rows.map((each) => h("tr", { className: each.alone ? "bw-beam-alone" : "" }, cells(each).map((cell) => h("td", {}, cell.nodeType ? cell : String(cell)))))),
      ),
    );
  }

  function sentence({ search, greedy, name, width, penalty, alpha }, step, rows) {
    const of = search.steps.length;
    if (step === 0) return `A search of width ${width}, ${plural(of, "step")}: nothing is chosen yet. Press Step.`;
    const candidates = search.steps[step - 1];
    const count = (fate) => candidates.filter((each) => each.fate === fate).length;
    const fates = [`${count("kept")} kept`, count("finished") > 0 ? `${count("finished")} ended` : "", `${count("pruned")} pruned`].filter(Boolean).join(", ");
    const [best] = rows.filter(({ alone }) => !alone);
    const path = greedy.slice(0, step);
    const reference = { text: written(path.map(({ token }) => token), name), sum: path.at(-1).sum, score: path.at(-1).sum / penalty(path.length) };
    const what = alpha === 0 ? "sum" : "score";
    const scored = ({ sum, score }) => (alpha === 0 ? nats(sum) : nats(score));
    const end = step < of ? "" : search.stopped ? " The search stops: nothing that goes on can come to be better." : " The search is over.";
    const versus = best.text === reference.text ? "it is greedy's" : `greedy's ${quoted(reference.text)} has ${scored(reference)}`;
    return `Step ${step} of ${of}: ${plural(candidates.length, "candidate")}, ${fates}. Best by ${what}: ${quoted(best.text)} with ${scored(best)} (probability ${probability(Math.exp(best.sum))}); ${versus}.${end}`;
  }

  figure.table(() => {
    const step = Math.min(model.get("step"), now.search.steps.length);
    return {
      head: ["step", "text", "log-probability", "sum (nats)", "fate"],
      rows: now.search.steps.slice(0, step).flatMap((candidates, i) => candidates.map(({ tokens, sum, parent, fate }) => {
        const before = i === 0 ? 0 : now.search.steps[i - 1][parent].sum;
        return [i + 1, visibleToken(written(tokens, now.name), 80), nats(sum - before), nats(sum), TAGS[fate]];
      })),
      note: `Width ${now.width}; after ${quoted(now.prompt)}.`,
    };
  });

  figure.draw(() => {
    const next = work();
    figure.root.setAttribute("aria-busy", String(next.waiting));
    if (next.waiting && now !== null) return; // until the model has answered
    now = next;
    widths.input.max = now.widest;
    lengths.input.max = now.longest;
    widths.write(now.width);
    lengths.write(now.length);
    chosen.input.value = clamp(model.get("text"), 0, texts().length - 1);
    if (document.activeElement !== live.typed) live.typed.value = String(model.get("prompt") ?? "");
    const step = clamp(model.get("step"), 0, now.search.steps.length);
    stepper.show();
    drawTree(now, step);
    const rows = ranked(now, step);
    ranking.node.hidden = rows.length === 0;
    drawRanking(rows);
    figure.say(now.lacking + sentence(now, step, rows));
  });
  const resized = new ResizeObserver(() => {
    followed = -1;
    follow(clamp(model.get("step"), 0, now.search.steps.length));
  });
  resized.observe(tree.body);
  return () => {
    resized.disconnect();
    live.end();
    figure.end();
  };
}

export default { render, address: ["text", "width", "length", "alpha", "penalty", "step", "prompt"] };
