// A product X W over several devices: the same as llmlib/widgets/matrix_split.py, function by function.

import { plural } from "./format.js";

export const MAX_DEVICES = 4;
const MAX_SIZE = 6;
const MAX_ENTRY = 9;

/** Rows of whole numbers from a text: "1 2; 3 4" -> [[1, 2], [3, 4]]. Throws an Error with one sentence. */
export function parseMatrix(text, name) {
  const lines = text.split(/[\r\n;]+/).map((line) => line.replace(/^[ \t,]+|[ \t,]+$/g, "")).filter((line) => line !== "");
  const rows = lines.map((line) => line.split(/[ \t,]+/));
  if (rows.length === 0) throw new Error(`${name} is empty; write its rows on lines of their own, such as 1 2 and 3 4.`);
  const value = (part) => Number(part.replace("−", "-"));
  rows.forEach((row, i) => {
    for (const part of row) {
      if (/^[-−+]?[0-9]{1,3}$/.test(part) && Math.abs(value(part)) <= MAX_ENTRY) continue;
      const letters = [...part];
      const shown = letters.length <= 12 ? part : `${letters.slice(0, 12).join("")}…`;
      throw new Error(`${name} holds “${shown}” in row ${i + 1}; write whole numbers from -${MAX_ENTRY} to ${MAX_ENTRY}, separated by spaces.`);
    }
    if (row.length !== rows[0].length) throw new Error(`Row ${i + 1} of ${name} has ${plural(row.length, "number")} and row 1 has ${rows[0].length}; give all rows the same length.`);
  });
  if (rows.length > MAX_SIZE || rows[0].length > MAX_SIZE) throw new Error(`${name} has ${plural(rows.length, "row")} and ${plural(rows[0].length, "column")}; up to ${MAX_SIZE} rows and ${MAX_SIZE} columns are drawn.`);
  return rows.map((row) => row.map((part) => value(part) + 0));
}

/** Why X W cannot be computed in this way, in one sentence, or "". */
export function mismatchOf(x, w, split, devices) {
  if (x[0].length !== w.length) return `X has ${plural(x[0].length, "column")} and W has ${plural(w.length, "row")}; X W needs as many columns in X as there are rows in W.`;
  const size = split === "columns" ? w[0].length : w.length;
  if (size % devices === 0) return "";
  const fitting = [1, 2, 3, 4].filter((n) => size % n === 0);
  return `W has ${plural(size, split.slice(0, -1))}, which ${devices} devices cannot share equally; take ${fitting.join(" or ")} ${fitting.length === 1 ? "device" : "devices"}, or another W.`;
}

/**
 * The devices after each step: [[{xColumns: [from, to], wRows, wColumns, y, sends: [[b, f], …], got: [[b, f], …], sentBytes}, …], …].
 * `y` has null where an entry is not known; `sends` goes to the next device, `got` came from the one before.
 */
export function splitSteps(x, w, split, n, numberBytes) {
  const [B, C, F] = [x.length, w.length, w[0].length];
  const columns = split === "columns";
  const part = (d, size) => [Math.floor((d * size) / n), Math.floor(((d + 1) * size) / n)];
  const after = (device) => ({ ...device, y: device.y.map((row) => [...row]), sends: [], got: [] });
  let now = Array.from({ length: n }, (_, d) => {
    const inner = columns ? [0, C] : part(d, C);
    return { xColumns: inner, wRows: inner, wColumns: columns ? part(d, F) : [0, F], y: x.map(() => Array(F).fill(null)), sends: [], got: [], sentBytes: 0 };
  });
  const steps = [now, now.map(after)];
  now = now.map(after);
  for (const { xColumns, wColumns, y } of now) {
    for (let b = 0; b < B; b += 1) {
      for (let f = wColumns[0]; f < wColumns[1]; f += 1) {
        y[b][f] = 0;
        for (let c = xColumns[0]; c < xColumns[1]; c += 1) y[b][f] += x[b][c] * w[c][f];
      }
    }
  }
  steps.push(now);
  const entries = x.flatMap((_, b) => w[0].map((__, f) => [b, f]));
  const chunks = now.map(({ wColumns }, d) => (columns ? entries.filter(([, f]) => wColumns[0] <= f && f < wColumns[1]) : entries.slice(...part(d, entries.length))));
  for (let k = 0; k < (columns ? n - 1 : 2 * (n - 1)); k += 1) {
    const summing = !columns && k < n - 1;
    const before = now;
    now = before.map(after);
    for (let d = 0; d < n; d += 1) {
      const sent = chunks[(d - k + 2 * n) % n];
      const next = (d + 1) % n;
      now[d].sends = sent;
      now[d].sentBytes += numberBytes * sent.length;
      now[next].got = sent;
      for (const [b, f] of sent) now[next].y[b][f] = before[d].y[b][f] + (summing ? before[next].y[b][f] : 0);
    }
    steps.push(now);
  }
  return steps;
}

/** The whole product. */
export const product = (x, w) => x.map((row) => w[0].map((_, f) => row.reduce((sum, value, c) => sum + value * w[c][f], 0)));
