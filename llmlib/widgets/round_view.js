// What the figure Autoregression shows of one round: streams through the layers, where heads look, scores as bars, tables.

import { integer, significant } from "./format.js";
import { h, svg } from "./frame.js";
import { probability } from "./probability.js";
import { bar, tokenText } from "./tiles.js";
import { quoted, utf8Bytes, visibleToken } from "./words.js";

const LOOKS = 3; // tokens named for each head
const LISTED_ROWS = 200;

/** Numbers from -99 to 99 as a row of small bars, up and down. */
function strip(values, label) {
  const bars = values.map((value, i) => `M${2 * i + 1} 16V${(16 - (value * 15) / 99).toFixed(1)}`).join("");
  return svg("svg", { class: "bw-strip", viewBox: `0 0 ${2 * values.length} 32`, preserveAspectRatio: "none", role: "img", "aria-label": label }, svg("path", { class: "bw-strip-axis", d: `M0 16H${2 * values.length}` }), svg("path", { class: "bw-strip-bars", d: bars }));
}

/** A button of a group of which one is chosen; `value` tells it from the others. */
export const radio = (value, on, label, ...children) => h("button", { type: "button", className: "bw-radio", role: "radio", "aria-checked": String(on), "aria-label": label, tabIndex: on ? 0 : -1, "data-value": value }, children);

/** Fills a group anew, and leaves the focus where it was. */
export function refill(group, children) {
  const value = group.contains(document.activeElement) ? document.activeElement.dataset.value : null;
  group.replaceChildren(...children);
  if (value !== null) [...group.children].find((node) => node.dataset.value === value)?.focus();
}

/** A group of which one is chosen: by pointer, or by the arrows up and down. */
export function radios(figure, group, choose) {
  const move = (to) => {
    choose(to);
    [...group.children].find((node) => Number(node.dataset.value) === to)?.focus();
  };
  figure.listen(group, "click", (event) => {
    const button = event.target.closest("button");
    if (button) choose(Number(button.dataset.value));
  });
  figure.listen(group, "keydown", (event) => {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const all = [...group.children];
    const next = all[all.indexOf(event.target.closest("button")) + by];
    if (by === undefined || !next) return;
    event.preventDefault();
    event.stopPropagation();
    move(Number(next.dataset.value));
  });
}

/** One row of numbers: its name, its strip, and words about it. */
export const line = (where, { most, values }, words) => [h("span", { className: "bw-stream-name" }, where), strip(values, `${where}: ${values.length} numbers, the largest of size ${significant(most)}`), h("span", { className: "bw-stream-words" }, words)];

/** The stream of the last token through the layers, which stack upwards, as a group of buttons; `name` is the token's. */
export function streamRows(now, layer, name) {
  const rows = now.layers.map((entry, i) => {
    const words = `would say ${quoted(entry.says[0])} ${probability(entry.says[1])}`;
    return radio(i, i === layer, `After layer ${i}: it ${words}`, ...line(`after layer ${i}`, entry.stream, words));
  });
  return [...rows.reverse(), h("div", { className: "bw-radio is-plain" }, ...line("embedding", now.embedding, `of ${name}`))];
}

/** Where each of a layer's heads looks, in words; `name(place)` names a token. */
export function looksOf(entry, name) {
  const looked = (weights) => {
    const best = weights.map((weight, place) => ({ weight, place })).sort((a, b) => b.weight - a.weight).slice(0, LOOKS);
    return best.filter(({ weight }) => weight >= 5).map(({ weight, place }) => `${name(place)} ${probability(weight / 1000)}`).join(", ");
  };
  return entry.attention.map(looked);
}

/**
 * Tokens {id, text, logit, p} as rows of buttons with bars: of the logits, between `least` and `most`, or, `soft`, of the
 * probabilities, and then those of all others of V in one last bar. `took(id)` says which one was chosen.
 */
export function oddsTable(listed, { soft, took, least, most, V }) {
  const left = Math.max(0, 1 - listed.reduce((sum, { p }) => sum + p, 0));
  const odds = ({ id, text, logit, p }) =>
    h("tr", { className: took(id) ? "is-focus" : "" },
      h("td", {}, h("button", { type: "button", className: "bw-tile bw-pick", "data-id": id, "aria-pressed": String(took(id)), "aria-label": `${visibleToken(text)}: say this` }, h("bdi", { className: "bw-token" }, tokenText(utf8Bytes(text), 14)))),
      h("td", { className: "bw-number" }, Number.isNaN(logit) ? "" : logit.toFixed(2)),
      h("td", { className: "bw-grow" }, soft ? bar(p, probability(p), took(id) ? "is-focus" : "") : bar((logit - least) / (most - least || 1), "", "is-kept")),
      h("td", { className: "bw-mark" }, took(id) ? "chosen" : ""));
  const others = h("tr", {}, h("td", { className: "bw-note" }, `${integer(V - listed.length)} more`), h("td", {}), h("td", {}, bar(left, probability(left))), h("td", {}));
  return h("table", { className: "bw-table bw-odds" },
    h("thead", {}, h("tr", {}, ["token", "logit", soft ? "probability" : "logit, from the least to the largest", ""].map((name) => (name ? h("th", { scope: "col" }, name) : h("td", {}))))),
    h("tbody", {}, listed.map(odds), soft ? others : null));
}

/** The layers as the data of a table. */
export function layersTable(now, name) {
  const top = (weights) => weights.indexOf(Math.max(...weights));
  return {
    head: ["after layer", "would say", "probability", "attention adds", "feed-forward adds", ...now.layers[0].attention.map((_, head) => `head ${head} looks most at`)],
    rows: now.layers.map(({ says, attended, fed, attention }, i) => [i, visibleToken(says[0]), probability(says[1]), significant(attended), significant(fed), ...attention.map((weights) => `${name(top(weights))} ${probability(weights[top(weights)] / 1000)}`)]),
    note: "Lengths of what is added to the residual stream of the last token.",
  };
}

/** Logits and probabilities as the data of a table, the most probable first. */
export function scoresTable(now, textOf, V) {
  const all = now.order ? now.order.slice(0, LISTED_ROWS).map((id) => [id, textOf(id), now.logits[id], now.probabilities[id]]) : now.top;
  return {
    head: ["rank", "token", "id", "logit", "probability"],
    rows: all.map(([id, token, logit, p], i) => [i + 1, visibleToken(token), id, logit.toFixed(3), p < 1e-4 ? p.toExponential(1) : p.toFixed(4)]),
    note: `The ${all.length} most probable of ${integer(V)} tokens.`,
  };
}
