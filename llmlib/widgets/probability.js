// Probabilities: surprise in nats and bits, what a list leaves over, and a distribution as bars, the same in every figure.

import { h } from "./frame.js";
import { bar, tokenText } from "./tiles.js";
import { utf8Bytes } from "./words.js";

/** Nats: -ln p; infinite for 0. */
export const surprise = (p) => (p > 0 ? -Math.log(p) : Infinity);

/** Nats -> bits. */
export const bits = (nats) => nats / Math.LN2;

/** The probability of everything that a list [[token, p], …] leaves out; at least 0, since the listed ones are rounded. */
export const tail = (top) => Math.max(0, 1 - top.reduce((sum, [, p]) => sum + p, 0));

/** To two decimals, as the book writes probabilities; what is rounded to 0 or to 1, but is not, says so. */
export function probability(p) {
  if (p > 0 && p < 0.005) return "< 0.01";
  if (p < 1 && p >= 0.995) return "> 0.99";
  return p.toFixed(2);
}

/**
 * A prediction {top, actual} and the token that really follows (or undefined) -> rows {token, p, truth} and the tail. Two
 * tokens may show as the same text, such as half a character; the true one is the one with the true one's probability.
 */
export function predictionRows({ top, actual }, truth) {
  const near = (p) => Math.abs(p - actual) <= 0.01 * actual;
  const at = truth === undefined ? -1 : top.findIndex(([token, p]) => token === truth && near(p));
  const rows = top.map(([token, p], i) => ({ token, p, truth: i === at }));
  const left = tail(top);
  if (truth === undefined || at >= 0) return { rows, tail: left };
  return { rows: [...rows, { token: truth, p: actual, truth: true }], tail: Math.max(0, left - actual) };
}

/** Rows {token, p, note, className} as a table of bars, and the tail in one last bar: `others` says of what. */
export function bars(rows, left, { head, others, quiet = false }) {
  const line = (name, p, note, className = "") =>
    h("tr", { className }, h("td", { className: "bw-pair" }, name), h("td", { className: "bw-grow" }, bar(p, probability(p), className)), h("td", { className: "bw-mark" }, note));
  return h(
    "table",
    { className: "bw-table bw-pairs bw-bars" },
    h("thead", {}, h("tr", {}, head.map((words, i) => h("th", { scope: "col" }, i === 2 && quiet ? h("span", { className: "bw-hidden" }, words) : words)))),
    h(
      "tbody",
      {},
      rows.map(({ token, p, note = "", className }) => line(h("bdi", { className: "bw-token" }, tokenText(utf8Bytes(token), 14)), p, note, className)),
      line(h("span", { className: "bw-note" }, others), left, ""),
    ),
  );
}
