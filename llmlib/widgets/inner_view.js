// What the figure Autoregression shows of one layer's inside: a head's query, key and value, and what the layer adds.

import { significant } from "./format.js";
import { h } from "./frame.js";
import { line, radio } from "./round_view.js";
import { scaled } from "./rounds.js";

const NOT_RECORDED = "The recorded run does not hold queries, keys, values and activations; load the model to see them.";
const lengthOf = (numbers) => Math.sqrt(numbers.reduce((sum, value) => sum + value * value, 0));

/**
 * The rows of numbers inside a layer, for one of its query heads -> [{name, of, numbers}], in the order in which they are
 * computed; null where they were not recorded. Query heads may share a head of keys and values.
 */
export function innerRows({ inner, attention }, head) {
  if (!inner) return null;
  const H = attention.length;
  const D = inner.query.length / H;
  const group = Math.floor((head * (inner.key.length / D)) / H);
  const part = (numbers, of) => numbers.slice(of * D, (of + 1) * D);
  return [
    { name: "query", of: `head ${head}`, numbers: part(inner.query, head) },
    { name: "key", of: `key–value head ${group}`, numbers: part(inner.key, group) },
    { name: "value", of: `key–value head ${group}`, numbers: part(inner.value, group) },
    { name: "attention adds", of: "all heads", numbers: inner.attentionAdds },
    { name: "activation", of: "inside the feed-forward network", numbers: inner.activation },
    { name: "feed-forward adds", of: "from the activation", numbers: inner.feedForwardAdds },
  ];
}

/** The heads of a layer as a group of buttons; `looks` says of each where it looks. */
export const headRadios = (looks, head) => looks.map((words, i) => radio(i, i === head, `Head ${i} looks at ${words}`, h("span", { className: "bw-note" }, `head ${i} `), h("span", { className: "bw-look" }, words)));

/** The same rows as strips, like the stream's; or a sentence where they were not recorded. */
export function innerLines(entry, layer, head) {
  const rows = innerRows(entry, head);
  if (rows === null) return [h("p", { className: "bw-note" }, NOT_RECORDED)];
  return [
    h("p", { className: "bw-note" }, `Layer ${layer}, head ${head}: the rows of numbers that it makes for the last token, queries and keys turned by their position`),
    ...rows.map(({ name, of, numbers }) => h("div", { className: "bw-radio is-plain" }, ...line(name, scaled(numbers), `${of}: ${numbers.length} numbers, length ${significant(lengthOf(numbers))}`))),
  ];
}

/** The same rows as the data of a table. */
export function innerTable(entry, layer, head) {
  const rows = innerRows(entry, head);
  return {
    head: ["row", "of", "length", "its numbers"],
    rows: (rows ?? []).map(({ name, of, numbers }) => [name, of, significant(lengthOf(numbers)), Array.from(numbers, (value) => value.toFixed(2).replace("-", "−")).join(" ")]),
    note: rows === null ? NOT_RECORDED : `Inside layer ${layer}, for head ${head}.`,
  };
}
