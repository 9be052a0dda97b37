// What a cache of keys and values takes and saves, by formula, for a model of any size: as in kv_cache_stepper.py.

export const STEPS = 10; // one for the prompt, and nine tokens after it
export const BITS = [4, 8, 16, 32];
export const DEVICE_BYTES = 80e9;
export const LIMITS = { layers: 128, heads: 128, kv_heads: 128, head_width: 256, vocab_size: 1e6, context: 131072, batch: 512 };
const LEAST = { head_width: 2 };

const sizesOf = (layers, heads, kv_heads, head_width, vocab_size, context) => ({ layers, heads, kv_heads, head_width, vocab_size, context });
export const MODELS = {
  "the book's story model": sizesOf(5, 4, 2, 32, 2048, 384),
  "GPT-2 124M": sizesOf(12, 12, 12, 64, 50257, 1024),
  "SmolLM2 135M": sizesOf(30, 9, 3, 64, 49152, 8192),
  "Gemma 2B": sizesOf(18, 8, 1, 256, 256000, 8192),
  "Llama 2 7B": sizesOf(32, 32, 32, 128, 32000, 4096),
  "Llama 3 8B": sizesOf(32, 32, 8, 128, 128256, 8192),
  "OPT 13B": sizesOf(40, 40, 40, 128, 50272, 2048),
  "Llama 3 70B": sizesOf(80, 64, 8, 128, 128256, 8192),
  "Llama 3.1 405B": sizesOf(126, 128, 8, 128, 128256, 131072),
};

/** Any value as a whole number from 0 to count - 1: an address may say anything. */
export const place = (value, count) => Math.max(0, Math.min(Math.round(Number(value)) || 0, count - 1));

/** 12 -> [1, 2, 3, 4, 6, 12]. */
export const divisors = (n) => Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);

/** 4, 20 -> [4, 8, 16]. */
export function powers(least, most) {
  const out = [];
  for (let value = least; value <= most; value *= 2) out.push(value);
  return out;
}

/** Sizes that make sense, whatever an address says: whole, within limits, kv_heads a divisor of heads, bits one of BITS. */
export function settled(given) {
  const sizes = {};
  for (const [name, most] of Object.entries(LIMITS)) sizes[name] = Math.max(LEAST[name] ?? 1, Math.min(Math.round(Number(given[name])) || 1, most));
  sizes.kv_heads = Math.max(...divisors(sizes.heads).filter((d) => d <= sizes.kv_heads));
  sizes.bits = BITS.includes(given.bits) ? given.bits : 16;
  return sizes;
}

/** Multiplications a token by the layers' matrices, and by the output layer. */
export function weightsOf({ layers: L, heads: H, kv_heads: K, head_width: D, vocab_size: V }) {
  const C = H * D;
  const F = 32 * Math.ceil((C * 8) / 3 / 32);
  return { inside: L * (2 * C * (H + K) * D + 3 * C * F), output: V * C };
}

/** Multiplications to read T tokens in one pass and predict the next, for all texts of the batch. */
export function reading(sizes, T) {
  const { inside, output } = weightsOf(sizes);
  return sizes.batch * (T * inside + (sizes.layers * 2 * sizes.heads * sizes.head_width * T * (T + 1)) / 2 + output);
}

/** Multiplications to read one token that sees S, itself included, with the keys and values of the others in a cache. */
export function decoding(sizes, S) {
  const { inside, output } = weightsOf(sizes);
  return sizes.batch * (inside + sizes.layers * 2 * sizes.heads * sizes.head_width * S + output);
}

/** Bytes of the keys and values of one position, in all layers and heads and all texts. */
export const rowBytes = ({ layers, kv_heads, head_width, batch, bits }) => (batch * 2 * layers * kv_heads * head_width * bits) / 8;

/** What step `step` takes (1 reads a prompt of `prompt` tokens, each later one a token), with a cache and without. */
export function countsOf(sizes, prompt, step) {
  const held = step === 0 ? 0 : prompt + step - 1;
  const computed = step === 0 ? 0 : step === 1 ? prompt : 1;
  const each = rowBytes(sizes);
  const counts = { computed, fetched: held - computed, held, recomputed: held, multiplications: 0, without: 0, multiplications_so_far: 0, without_so_far: 0, fetched_bytes: (held - computed) * each, appended_bytes: computed * each, held_bytes: held * each, full_bytes: sizes.context * each };
  for (let s = 1; s <= step; s += 1) {
    counts.multiplications = s === 1 ? reading(sizes, prompt) : decoding(sizes, prompt + s - 1);
    counts.without = reading(sizes, prompt + s - 1);
    counts.multiplications_so_far += counts.multiplications;
    counts.without_so_far += counts.without;
  }
  return counts;
}
