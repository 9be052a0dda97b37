// Writing one token after the other, as steps that a reader takes, and the branches of what might have been written.
//
// Step 0 tokenizes the prompt. Then each round, that is each new token, takes five steps: forward, logits, softmax, choose,
// append. A branch is the list of ids chosen so far, round by round; no DOM and no model here.

import { drawIndex } from "./dice.js";

export const STAGES = ["Tokenize", "Forward", "Logits", "Softmax", "Choose", "Append"];
export const FORWARD = 1;
export const SOFTMAX = 3;
export const CHOOSE = 4;
export const APPEND = 5;
export const MAX_ROUNDS = 60;
export const MAX_BRANCHES = 12; // kept; of more, the oldest are forgotten

/** A step -> {round, stage}, both from 0. */
export function placeOf(step) {
  return step === 0 ? { round: 0, stage: 0 } : { round: Math.floor((step - 1) / APPEND), stage: 1 + ((step - 1) % APPEND) };
}

/** The step at which a round reaches a stage. */
export const stepOf = (round, stage) => APPEND * round + stage;

/** How many new tokens stand in the text at a step. */
export const writtenAt = (step) => Math.floor(step / APPEND);

/** Logits -> probabilities, Float64Array(V). */
export function softmaxOf(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const shares = Float64Array.from(logits, (value) => Math.exp(value - most));
  const total = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / total);
}

/** A number from 0 to 1 that looks like chance and is the same for the same seed and tokens: (seed, ids) -> u. */
export function lot(seed, ids) {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  for (const id of [...ids, ids.length]) {
    state = Math.imul(state ^ (id + 0x7f4a7c15), 0x85ebca6b) >>> 0; // stirred as in MurmurHash3
    state = (state ^ (state >>> 13)) >>> 0;
  }
  state = Math.imul(state, 0xc2b2ae35) >>> 0;
  return ((state ^ (state >>> 16)) >>> 0) / 2 ** 32;
}

/** Numbers -> {most, values}: whole numbers from -99 to 99, as shares of the largest size. */
export function scaled(numbers) {
  const most = numbers.reduce((size, value) => Math.max(size, Math.abs(value)), 0);
  return { most, values: Array.from(numbers, (value) => Math.round((99 * value) / (most || 1))) };
}

/**
 * What a forward pass met (see runtime.js) -> what the figure shows of it: {embedding, layers, top, logits, probabilities},
 * with the `listed` most probable tokens as [id, text, logit, probability], and of each layer what it would say, [text, p],
 * and its `inner` rows of numbers as they were: query, key, value, activation, attentionAdds, feedForwardAdds.
 */
export function observation(seen, text, listed = 10) {
  const probabilities = softmaxOf(seen.logits);
  const order = Array.from(probabilities.keys()).sort((a, b) => seen.logits[b] - seen.logits[a] || a - b);
  const layers = seen.layers.map(({ attention, stream, attended, fed, logits, ...inner }) => {
    const shares = softmaxOf(logits);
    const best = shares.indexOf(shares.reduce((a, b) => Math.max(a, b), 0));
    const perMille = attention.map((row) => Array.from(row, (weight) => Math.round(1000 * weight)));
    return { attention: perMille, stream: scaled(stream), attended, fed, says: [text(best), shares[best]], inner };
  });
  const top = order.slice(0, listed).map((id) => [id, text(id), seen.logits[id], probabilities[id]]);
  return { embedding: scaled(seen.embedding), layers, top, order, logits: seen.logits, probabilities };
}

/** The probability of a token after an observation; undefined where a recorded one does not list it. */
export function chanceOf(seen, id) {
  return seen.probabilities ? seen.probabilities[id] : seen.top.find(([other]) => other === id)?.[3];
}

/** Any value as branches: an address may say anything. */
export function soundBranches(value) {
  const sound = (Array.isArray(value) ? value : []).filter((branch) => Array.isArray(branch) && branch.every((id) => Number.isInteger(id) && id >= 0));
  return sound.length > 0 ? sound.slice(-MAX_BRANCHES).map((branch) => branch.slice(0, MAX_ROUNDS)) : [[]];
}

/**
 * "What if it had said `ids` in this round?" -> {branches, branch}: the branch that says so, which is an old one if there is
 * one, this one if it has not gone further, or else a new one; the others are kept.
 */
export function overrule(branches, branch, round, ids) {
  const wanted = [...branches[branch].slice(0, round), ...ids].slice(0, MAX_ROUNDS);
  const says = (other) => wanted.every((id, i) => other[i] === id);
  if (says(branches[branch])) return { branches, branch };
  const known = branches.findIndex(says);
  if (known >= 0) return { branches, branch: known };
  if (branches[branch].length <= round) return { branches: branches.map((other, i) => (i === branch ? wanted : other)), branch };
  const kept = [...branches, wanted].slice(-MAX_BRANCHES);
  return { branches: kept, branch: kept.length - 1 };
}

/** What the rule chooses after these ids: "most probable" or "drawn" by a lot; undefined where a recording cannot tell. */
export function choice(entry, ids, { rule, seed }) {
  if (rule !== "drawn") return entry.top[0][0];
  return entry.probabilities && drawIndex(entry.probabilities, lot(seed, ids));
}

/** How far a recording reaches along a branch, in steps; `seen` maps ids to observations. */
export function reachOf(seen, { prompt, chosen }, settings) {
  const text = [...prompt];
  for (let round = 0; ; round += 1) {
    const entry = seen.get(String(text));
    if (entry === undefined) return stepOf(round, 0);
    const token = chosen[round] ?? choice(entry, text, settings);
    if (token === undefined) return stepOf(round, SOFTMAX);
    text.push(token);
  }
}

/**
 * The next thing to do before a step can be shown: {look: ids}, an observation to make, or {append: id}, a choice to note;
 * null where all is there. With the model `live`, a recorded observation, which knows a few tokens only, will not do.
 */
export function missing(seen, { prompt, chosen, round, stage }, { settings, live, end }) {
  if (!prompt || stage === 0) return null;
  const text = [...prompt];
  for (let r = 0; r <= round; r += 1) {
    const entry = seen.get(String(text));
    const poor = entry === undefined || (live && !entry.probabilities);
    if (poor && (r === round || chosen[r] === undefined)) return { look: text };
    if (r === round && stage < CHOOSE) return null;
    if (chosen[r] === undefined) return { append: choice(entry, text, settings), look: text };
    if (chosen[r] === end) return null;
    text.push(chosen[r]);
  }
  return null;
}

/** The logarithm of a branch's probability; or the first ids, {look}, after which nothing was observed that tells it. */
export function chanceOfBranch(seen, prompt, branch) {
  let log = 0;
  for (let r = 0; r < branch.length; r += 1) {
    const look = [...prompt, ...branch.slice(0, r)];
    const entry = seen.get(String(look));
    const p = entry && chanceOf(entry, branch[r]);
    if (p === undefined) return { log: null, look };
    log += Math.log(p);
  }
  return { log, look: null };
}
