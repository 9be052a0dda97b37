// From logits to one token: the same steps, in the same order, as llmlib.decoding.Sampling. A step takes logits and gives
// logits; -Infinity stands for a token that is ruled out, and at least one always stays.

import { drawIndex } from "./dice.js";

const TINY_TAU = 1e-30; // below, a temperature is as good as this; above its inverse, as good as infinite
const largestOf = (logits) => logits.reduce((most, z) => Math.max(most, z), -Infinity);

/** Divides the logits of the tokens in `ids` by the penalty where positive, multiplies them by it where negative. */
export function repetitionPenalty(logits, ids, penalty) {
  const seen = new Set(ids);
  return Float64Array.from(logits, (z, i) => (seen.has(i) ? (z > 0 ? z / penalty : z * penalty) : z));
}

/** Logits / tau, shifted so that the largest is 0; at tau = 0 only the largest stay, at infinity all are alike. */
export function atTemperature(logits, tau) {
  const most = largestOf(logits);
  if (tau > 1 / TINY_TAU) return Float64Array.from(logits, (z) => (z > -Infinity ? 0 : z));
  return Float64Array.from(logits, (z) => (tau === 0 ? (z < most ? -Infinity : 0) : (z - most) / Math.max(tau, TINY_TAU)));
}

/** Keeps the k most probable tokens, and those equal to the last of them. */
export function topK(logits, k) {
  if (k >= logits.length) return Float64Array.from(logits);
  const last = Float64Array.from(logits).sort().at(-k);
  return Float64Array.from(logits, (z) => (z < last ? -Infinity : z));
}

/** Keeps the nucleus: the fewest most probable tokens that together have p or more. */
export function topP(logits, p) {
  if (p >= 1) return Float64Array.from(logits);
  const probabilities = softmaxOf(logits);
  const order = Array.from(logits, (_, i) => i).sort((a, b) => logits[a] - logits[b]); // ascending: small numbers first
  const kept = Float64Array.from(logits);
  let sum = 0;
  for (const i of order.slice(0, -1)) {
    sum += probabilities[i];
    if (sum <= 1 - p) kept[i] = -Infinity;
    else break;
  }
  return kept;
}

/** Keeps the tokens at least p times as probable as the most probable one. */
export function minP(logits, p) {
  const least = largestOf(logits) + Math.log(p);
  return Float64Array.from(logits, (z) => (z < least ? -Infinity : z));
}

/** Logits -> probabilities. */
export function softmaxOf(logits) {
  const most = largestOf(logits);
  const weights = Float64Array.from(logits, (z) => Math.exp(z - most));
  const total = weights.reduce((sum, w) => sum + w, 0);
  return weights.map((w) => w / total);
}

/** Nats: the mean surprise of a distribution about itself. */
export function entropyOf(probabilities) {
  return Math.max(0, -probabilities.reduce((sum, p) => (p > 0 ? sum + p * Math.log(p) : sum), 0));
}

/**
 * What each step leaves -> [{name, logits, p, kept, entropy}], the model's own first. Settings are {temperature, top_k,
 * top_p, min_p, penalty}; what changes nothing (1; 0; 1; 0; 1) is no step. At temperature 0 the last one is greedy.
 */
export function stagesOf(logits, ids, { temperature = 1, top_k = 0, top_p = 1, min_p = 0, penalty = 1 }) {
  const steps = [
    ["penalty", penalty !== 1, (z) => repetitionPenalty(z, ids, penalty)],
    ["temperature", temperature !== 1, (z) => atTemperature(z, temperature)],
    ["top-k", top_k > 0, (z) => topK(z, top_k)],
    ["top-p", top_p < 1, (z) => topP(z, top_p)],
    ["min-p", min_p > 0, (z) => minP(z, min_p)],
    ["greedy", temperature === 0, (z) => z.map((value, i) => (i === z.indexOf(largestOf(z)) ? value : -Infinity))],
  ];
  const stage = (name, z) => {
    const p = softmaxOf(z);
    return { name, logits: z, p, kept: p.reduce((count, each, i) => count + (z[i] > -Infinity ? 1 : 0), 0), entropy: entropyOf(p) };
  };
  const stages = [stage("model", Float64Array.from(logits))];
  for (const [name, on, take] of steps) if (on) stages.push(stage(name, take(stages.at(-1).logits)));
  return stages;
}

/** How often each token comes in n draws. */
export function drawCounts(probabilities, n, random) {
  const counts = new Uint32Array(probabilities.length);
  for (let i = 0; i < n; i += 1) counts[drawIndex(probabilities, random())] += 1;
  return counts;
}
