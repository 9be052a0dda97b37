// Chance that is the same for the same seed in every browser.

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The index on whose stretch of the line from 0 to `total`, the weights' sum, the number u times `total` falls, u in [0, 1). */
export function drawIndex(weights, u, total = 1) {
  let sum = 0;
  let last = 0;
  for (let i = 0; i < weights.length; i += 1) {
    if (weights[i] === 0) continue;
    sum += weights[i];
    if (u * total < sum) return i;
    last = i; // rounding may leave the sum a little below the total
  }
  return last;
}
