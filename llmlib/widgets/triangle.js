// Causal attention as the figures keep it: the lower triangle's rows, one after another, in whole per mille.

const PER_MILLE = 1000;

/** How many tokens T a flat triangle of T (T + 1) / 2 weights has. */
export const tokensOf = (flat) => Math.round((Math.sqrt(8 * flat.length + 1) - 1) / 2);

/** Weight from query q to key k, 0 to 1; what comes later is masked, and has none. */
export const weightAt = (flat, q, k) => (k > q ? 0 : flat[(q * (q + 1)) / 2 + k] / PER_MILLE);

/** The weights of query q to the keys 0 to q. */
export const weightsOf = (flat, q) => Array.from({ length: q + 1 }, (_, k) => weightAt(flat, q, k));

/** The keys of a query, the most looked at first: [{key, weight}]. */
export function ranked(flat, query) {
  return weightsOf(flat, query)
    .map((weight, key) => ({ key, weight }))
    .sort((a, b) => b.weight - a.weight || a.key - b.key);
}

/** Mean weight that the queries from the third on put on {itself, before, first}; null for less than three tokens. */
export function habits(flat) {
  const T = tokensOf(flat);
  if (T < 3) return null;
  const mean = (key) => {
    let sum = 0;
    for (let q = 2; q < T; q += 1) sum += flat[(q * (q + 1)) / 2 + key(q)];
    return sum / PER_MILLE / (T - 2);
  };
  return { itself: mean((q) => q), before: mean((q) => q - 1), first: mean(() => 0) };
}

/** How strongly a weight is drawn, 0 to 1: more than in proportion, so that weak ones can be seen, too. */
export const strength = (weight) => weight ** 0.7;

/** A head as few paths: [{level, d}], the cells (1 x 1, key right, query down) of each of `levels` strengths. */
export function shades(flat, levels = 5) {
  const T = tokensOf(flat);
  const paths = Array.from({ length: levels + 1 }, () => "");
  const levelAt = (q, k) => (k > q ? 0 : Math.round(levels * strength(weightAt(flat, q, k))));
  for (let q = 0; q < T; q += 1) {
    for (let k = 0; k <= q; ) {
      const level = levelAt(q, k);
      let end = k + 1;
      while (end <= q && levelAt(q, end) === level) end += 1;
      paths[level] += `M${k} ${q}h${end - k}v1h${k - end}z`;
      k = end;
    }
  }
  return paths.map((d, level) => ({ level: level / levels, d })).filter(({ level, d }) => level > 0 && d !== "");
}
