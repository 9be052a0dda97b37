// Beam search, step by step: the same algorithm as llmlib.decoding.beam_search, and greedy beside it.
//
// What a model expects comes from `lookup(tokens)`: [[token, log-probability], …] of what follows these tokens, the most
// probable first: all of them, or at least twice the width. It may give undefined for what is not known (yet).

/** The penalty of a length: "power" is length^alpha, "wu" is ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14). */
export function lengthPenalty(kind, alpha) {
  return kind === "wu" ? (length) => ((5 + length) / 6) ** alpha : (length) => length ** alpha;
}

/**
 * A search of at most `length` tokens -> {steps, found, missing, stopped}. `steps` has, of each step, the candidates
 * [{parent, token, sum, fate, tokens}], at most twice the width, the most probable first: `parent` is the place of the
 * candidate of the step before that it goes on from, `fate` is "kept", "finished" or "pruned". `found` are the finished
 * texts and, at the end, those that are still going on, {tokens, sum, score, finished}, best first. `missing` are the
 * texts that lookup does not know: the search waits there. `stopped`: no text that goes on could still become the best.
 */
export function beamSearch(lookup, { width, length, end = null, penalty }) {
  const penalties = Array.from({ length }, (_, i) => penalty(i + 1));
  const largest = [...penalties]; // of this length and the ones after it
  for (let i = length - 2; i >= 0; i -= 1) largest[i] = Math.max(largest[i], largest[i + 1]);
  const steps = [];
  let found = [];
  let going = [{ tokens: [], sum: 0, place: 0 }];
  for (let n = 1; n <= length; n += 1) {
    const lists = going.map(({ tokens }) => lookup(tokens));
    const missing = going.filter((_, i) => lists[i] === undefined).map(({ tokens }) => tokens);
    if (missing.length > 0) return { steps, found, missing, stopped: false };
    const all = going.flatMap(({ tokens, sum, place }, i) => lists[i].slice(0, 2 * width).map(([token, logP]) => ({ parent: place, token, sum: sum + logP, tokens: [...tokens, token] })));
    const candidates = all.filter(({ sum }) => sum > -Infinity).sort((a, b) => b.sum - a.sum).slice(0, 2 * width);
    let kept = 0;
    candidates.forEach((candidate, rank) => {
      const ended = candidate.token === end;
      if (ended) candidate.fate = rank < width ? "finished" : "pruned";
      else candidate.fate = kept++ < width ? "kept" : "pruned";
    });
    steps.push(candidates);
    going = candidates.map((candidate, place) => ({ ...candidate, place })).filter(({ fate }) => fate === "kept");
    const over = candidates.filter(({ fate }) => fate === "finished" || (n === length && fate === "kept"));
    found = [...found, ...over.map(({ tokens, sum, fate }) => ({ tokens, sum, score: sum / penalties[n - 1], finished: fate === "finished" }))];
    found.sort((a, b) => b.score - a.score);
    found = found.slice(0, width);
    // However a text goes on, its sum only falls, and a division by the largest penalty helps it most.
    if (n < length && (going.length === 0 || (found.length > 0 && found[0].score >= going[0].sum / largest[n]))) {
      return { steps, found, missing: [], stopped: true };
    }
  }
  return { steps, found, missing: [], stopped: false };
}

/** The path of the most probable token at each step -> {path: [{token, sum}], missing}; it ends with `end` or `length`. */
export function greedyPath(lookup, { length, end = null }) {
  const path = [];
  while (path.length < length && (path.length === 0 || path.at(-1).token !== end)) {
    const tokens = path.map(({ token }) => token);
    const list = lookup(tokens);
    if (list === undefined) return { path, missing: [tokens] };
    path.push({ token: list[0][0], sum: (path.at(-1)?.sum ?? 0) + list[0][1] });
  }
  return { path, missing: [] };
}

/** Logits -> the `count` most probable tokens [[token, log-probability], …]. */
export function mostProbable(logits, count) {
  let most = -Infinity;
  for (const z of logits) most = Math.max(most, z);
  let total = 0;
  for (const z of logits) total += Math.exp(z - most);
  const logTotal = most + Math.log(total);
  const order = Array.from(logits, (_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
  return order.slice(0, count).map((i) => [i, logits[i] - logTotal]);
}
