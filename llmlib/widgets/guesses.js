// The reader guesses the next word of a recorded run's prompts: what to pick from, what the model gave a guess, who was right.

import { predictionRows, surprise } from "./probability.js";
import { findWord, isRight } from "./words.js";

const CHOICES = 6; // words to pick from

/** What to pick a guess from: the true token and what the trained model thinks likely, in the order of the alphabet. */
export function choices(run, prompt, position, n = CHOICES) {
  const truth = run.prompts[prompt].tokens[position + 1];
  const { top } = run.moments[run.moments.length - 1].predictions[prompt][position];
  const words = new Set(truth === undefined ? [] : [truth]);
  for (const [token] of top) if (words.size < n) words.add(token);
  const key = (word) => word.trim().toLowerCase();
  return [...words].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a < b ? -1 : 1));
}

/**
 * Over the places that the reader has guessed: {n, reader, model, nats}: how often the reader was right, how often the first
 * choice of this moment's model, and the model's mean surprise.
 */
export function tally(run, guesses, moment) {
  const sum = { n: guesses.length, reader: 0, model: 0, nats: 0 };
  for (const [prompt, position, guess] of guesses) {
    const { tokens } = run.prompts[prompt];
    const prediction = run.moments[moment].predictions[prompt][position];
    if (isRight(guess, tokens, position)) sum.reader += 1;
    if (prediction.top[0][0] === tokens[position + 1]) sum.model += 1;
    sum.nats += surprise(prediction.actual) / guesses.length;
  }
  return sum;
}

/** The first moment from which on the model is right at least as often as the reader; -1 if it never is. */
export function levelFrom(run, guesses) {
  const counts = run.moments.map((_, moment) => tally(run, guesses, moment));
  let from = counts.length;
  while (from > 0 && counts[from - 1].model >= counts[from - 1].reader) from -= 1;
  return from === counts.length ? -1 : from;
}

/** What the model gave a guess: {p, bound}; of a token that is not listed only a bound is known. */
export function shareOfGuess(guess, { top, actual }, tokens, position) {
  if (isRight(guess, tokens, position)) return { p: actual, bound: false };
  const at = findWord(guess, top);
  if (at >= 0) return { p: top[at][1], bound: false };
  const { rows, tail } = predictionRows({ top, actual }, tokens[position + 1]);
  return { p: Math.min(tail, ...rows.slice(0, top.length).map(({ p }) => p)), bound: true };
}
