// The figure AttentionView: where each head of each layer looks, as arcs, as a matrix, and in numbers.

import { WIDE, drawMap, thumbnail } from "./attention_map.js";
import { plural } from "./format.js";
import { frame, h, wellFormed } from "./frame.js";
import { bars, probability } from "./probability.js";
import { habits, ranked, weightAt } from "./triangle.js";
import { quoted, title, visibleToken } from "./words.js";

const LISTED = 8; // keys with a bar of their own
const MAX_SENTENCE = 400;

/** Any value as a whole number from 0 to count - 1: an address may say anything. */
const within = (value, count) => Math.max(0, Math.min(Math.round(Number(value)) || 0, count - 1));

/** What a head does on average, in words. */
export function habitWords(flat) {
  const mean = habits(flat);
  if (mean === null) return "";
  return `On average ${probability(mean.before)} on the token before, ${probability(mean.first)} on the first, ${probability(mean.itself)} on itself.`;
}

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "Attention", lead: "Choose a head, then play, or step from token to token, and see where each one looks." });
  let pointed = null; // {query, key}: what the reader points at, or reads with the up and down keys
  let map = null;
  let drawn = null; // the text that the map and the heads are drawn for
  let followed = -1; // the query whose column was last brought into sight

  const texts = () => model.get("texts");
  const at = () => {
    const text = within(model.get("text"), texts().length);
    const { tokens, weights } = texts()[text];
    const layer = within(model.get("layer"), weights.length);
    const head = within(model.get("head"), weights[0].length);
    return { text, tokens, weights, layer, head, query: within(model.get("query"), tokens.length), flat: weights[layer][head] };
  };

  // ------------------------------------------------------------------------------------------------ controls
  const chosen = figure.select("text", { label: "Text", options: [], change: (value) => figure.set({ text: Number(value), query: within(model.get("query"), texts()[value].tokens.length) }) });
  chosen.node.classList.add("bw-broad");
  const layers = figure.select("layer", { label: "Layer", options: [], change: (value) => figure.set({ layer: Number(value) }) });
  const heads = figure.select("head", { label: "Head", options: [], change: (value) => figure.set({ head: Number(value) }) });
  const typed = h("input", { type: "text", maxLength: MAX_SENTENCE, dir: "auto", autocomplete: "off", spellcheck: false, enterKeyHint: "go" });
  const send = figure.button("Look into it", () => submit());
  const problem = h("p", { className: "bw-problem", role: "alert" });
  const own = h("div", { className: "bw-guess bw-wide" }, h("label", { className: "bw-field" }, h("span", { className: "bw-label" }, "A sentence of your own"), typed), send, problem);
  figure.controls.append(own);
  const stepper = figure.stepper("query", { label: "Query", count: () => at().tokens.length - 1 });
  figure.onReset(() => {
    pointed = null;
  });

  function submit() {
    const sentence = wellFormed(typed.value).trim();
    if (sentence === "" || sentence === model.get("sentence")) return;
    figure.set({ sentence });
  }
  figure.listen(typed, "keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) submit();
  });

  // ------------------------------------------------------------------------------------------------- picture
  const look = figure.panel("Who looks where", { scroll: true });
  look.body.classList.add("bw-map-frame");
  const readout = h("p", { className: "bw-note bw-readout" });
  look.node.append(readout);
  const all = figure.panel("All heads", { scroll: true });
  const keys = figure.panel("Weights");
  const side = h("div", { className: "bw-side" }, all.node, keys.node);
  figure.picture.append(side);
  figure.picture.classList.add("bw-looking");
  const grid = h("div", { className: "bw-heads", role: "radiogroup", "aria-label": "Head" });
  all.body.append(grid);

  function point(to) {
    if (pointed?.query === to?.query && pointed?.key === to?.key) return;
    pointed = to;
    figure.redraw();
  }
  figure.listen(look.body, "pointermove", (event) => {
    if (event.pointerType !== "touch") point(map.hit(event));
  });
  figure.listen(look.body, "pointerleave", (event) => {
    if (event.pointerType !== "touch") point(null);
  });
  figure.listen(look.body, "click", (event) => {
    const there = map.hit(event);
    if (there === null) return;
    stepper.stop();
    pointed = there.key === null ? null : { query: there.query ?? at().query, key: there.key };
    figure.set(there.query === null ? {} : { query: there.query });
  });
  figure.listen(figure.picture, "keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey || grid.contains(event.target)) return;
    event.preventDefault();
    event.stopPropagation();
    const { query } = at();
    const from = pointed?.query === query && pointed.key !== null ? pointed.key : step > 0 ? -1 : query + 1;
    point({ query, key: Math.max(0, Math.min(from + step, query)) });
  });
  figure.listen(grid, "click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(Number(button.dataset.layer), Number(button.dataset.head));
  });
  figure.listen(grid, "keydown", (event) => {
    const move = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key]; // layers stack upwards
    if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const { weights, layer, head } = at();
    choose(within(layer + move[0], weights.length), within(head + move[1], weights[0].length));
    buttonOf(at()).focus();
  });
  /** Where the map is wider than its frame, the query's column stays in sight. */
  function follow(query) {
    if (query === followed || look.body.clientWidth === 0) return; // not in the page yet
    followed = query;
    const [from, to] = map.span(query);
    const { scrollLeft, clientWidth } = look.body;
    if (to > scrollLeft + clientWidth || from < scrollLeft) look.body.scrollLeft = Math.max(0, to - clientWidth + 8);
  }
  const choose = (layer, head) => figure.set({ layer, head });
  const buttonOf = ({ layer, head }) => [...grid.querySelectorAll("button")].find(({ dataset }) => Number(dataset.layer) === layer && Number(dataset.head) === head);

  let start = {};
  function begin() {
    const traits = ["text", "layer", "head", "query"];
    start = Object.fromEntries(traits.map((trait) => [trait, model.get(trait)]));
    figure.remember(...traits);
  }
  begin();
  for (const trait of ["sentence", "live", "problem"]) figure.on(trait, figure.redraw);
  figure.on("texts", () => {
    const all = texts();
    const there = start.text < all.length && start.query < all[start.text].tokens.length && start.layer < all[0].weights.length && start.head < all[0].weights[0].length;
    if (!there) begin(); // a reset leads to what is there now
    figure.redraw();
  });

  function listTexts() {
    chosen.input.replaceChildren(
      ...texts().map(({ tokens }, i) => h("option", { value: i }, title(tokens))),
    );
    const { weights } = at();
    layers.input.replaceChildren(...weights.map((_, i) => h("option", { value: i }, String(i))));
    heads.input.replaceChildren(...weights[0].map((_, i) => h("option", { value: i }, String(i))));
  }

  /** What changes only with the text: the map's labels and cells, and all the thumbnails. */
  function build({ tokens, weights }) {
    map = drawMap(tokens);
    look.body.replaceChildren(map.node);
    figure.picture.classList.toggle("is-wide", tokens.length > WIDE);
    listTexts();
    const H = weights[0].length;
    grid.style.gridTemplateColumns = `auto repeat(${H}, minmax(40px, 58px))`;
    const cells = [];
    for (let layer = weights.length - 1; layer >= 0; layer -= 1) {
      cells.push(h("span", { className: "bw-heads-label" }, `layer ${layer}`));
      weights[layer].forEach((flat, head) => cells.push(h("button", { type: "button", className: "bw-head", role: "radio", "aria-label": `Layer ${layer}, head ${head}. ${habitWords(flat)}`, "data-layer": layer, "data-head": head }, thumbnail(flat, tokens.length))));
    }
    cells.push(h("span", {}), ...weights[0].map((_, head) => h("span", { className: "bw-heads-label is-below" }, `head ${head}`)));
    grid.replaceChildren(...cells);
  }

  function paintHeads(now) {
    for (const button of grid.querySelectorAll("button")) {
      const on = Number(button.dataset.layer) === now.layer && Number(button.dataset.head) === now.head;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    }
  }

  function paintKeys({ tokens, flat, query }) {
    const order = ranked(flat, query);
    const listed = order.slice(0, LISTED);
    const rest = order.slice(LISTED).reduce((sum, { weight }) => sum + weight, 0);
    const rows = listed.map(({ key, weight }) => ({ token: tokens[key], p: weight, note: String(key), className: key === pointed?.key ? "is-focus" : "" }));
    const others = order.length > LISTED ? `${order.length - LISTED} more` : "more";
    keys.body.replaceChildren(bars(rows, rest, { head: ["key", "weight", "place"], others }));
    keys.note.textContent = `from ${quoted(tokens[query])}, token ${query}`;
  }

  function pointedWords({ tokens, flat }) {
    if (pointed === null || pointed.key === null) return "";
    const query = pointed.query ?? at().query;
    const [from, to] = [`${quoted(tokens[query])} (${query})`, `${quoted(tokens[pointed.key])} (${pointed.key})`];
    return pointed.key > query ? `${to} comes after ${from}: masked.` : `${from} looks at ${to} with ${weightAt(flat, query, pointed.key).toFixed(3)}.`;
  }

  function sentence(now) {
    const { tokens, layer, head, query, flat } = now;
    const order = ranked(flat, query).slice(0, 3).filter(({ weight }) => weight >= 0.005);
    const looks = order.map(({ key, weight }) => `${key === query ? "itself" : quoted(tokens[key])} (${probability(weight)})`).join(", then ");
    const masked = tokens.length - 1 - query;
    const after = masked > 0 ? ` ${plural(masked, "later token")} ${masked === 1 ? "is" : "are"} masked.` : "";
    return `Layer ${layer}, head ${head}: ${quoted(tokens[query])}, token ${query}, looks at ${looks}.${after} ${pointedByKey(now)}${habitWords(flat)}`;
  }
  const pointedByKey = (now) => (pointed !== null && pointed.query === now.query ? `${pointedWords(now)} ` : "");

  figure.table(() => {
    const { tokens, layer, head, query, flat } = at();
    return {
      head: ["place", "key", "weight"],
      rows: tokens.map((token, key) => [key, visibleToken(token), key > query ? "masked" : weightAt(flat, query, key).toFixed(3)]),
      note: `Layer ${layer}, head ${head}, from the query ${quoted(tokens[query])}, token ${query}.`,
    };
  });

  figure.draw(() => {
    const now = at();
    if (drawn !== texts()[now.text]) {
      pointed = null;
      build(now);
      drawn = texts()[now.text];
    }
    own.hidden = model.get("live") !== true;
    const said = model.get("problem") ? `This sentence cannot be shown: ${model.get("problem")}` : "";
    if (problem.textContent !== said) problem.textContent = said;
    typed.setAttribute("aria-invalid", String(said !== ""));
    if (model.get("sentence") !== "" && document.activeElement !== typed) typed.value = model.get("sentence");
    chosen.input.value = now.text;
    layers.input.value = now.layer;
    heads.input.value = now.head;
    stepper.show();
    if (pointed !== null && (pointed.key ?? 0) >= now.tokens.length) pointed = null;
    map.update(now.flat, now.query, pointed);
    follow(now.query);
    map.node.setAttribute("aria-label", `Attention from each token to those before it, layer ${now.layer}, head ${now.head}; the table has the query's numbers.`);
    look.note.textContent = `(T, S) = (${now.tokens.length}, ${now.tokens.length}); hatched: masked`;
    readout.textContent = pointedWords(now) || "Rows look, columns are looked at. Point at a cell, or press the up and down keys, for its number.";
    paintHeads(now);
    paintKeys(now);
    figure.say(sentence(now));
    figure.root.setAttribute("aria-busy", "false");
  });
  const resized = new ResizeObserver(() => {
    followed = -1;
    follow(at().query);
  });
  resized.observe(look.body);
  return () => {
    resized.disconnect();
    figure.end();
  };
}

export default { render, address: ["text", "layer", "head", "query"] };
