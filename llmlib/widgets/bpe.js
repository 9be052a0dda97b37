// Byte-level byte-pair encoding, the same algorithm as llmlib.tokenizer: text -> words -> bytes -> merges -> ids.
//
// A symbol is an id: 0..255 are the bytes, merge number m (from 0) makes id 256 + m. A token's bytes are kept as a
// "byte string", a JavaScript string whose every character code is one byte, so that `<` compares byte by byte.
// No DOM here: the module runs in a page, in a worker and in node.

export const BYTES = 256;
export const MAX_IDS = 1 << 21; // two ids make one exact number: left * MAX_IDS + right < 2 ** 53

// \s of Python's `regex` package is Unicode's White_Space; JavaScript's \s is not (it lacks U+0085, it has U+FEFF).
const PATTERNS = {
  none: null,
  "white space": / ?\P{White_Space}+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,
  punctuation: / ?[^\p{White_Space}\p{P}\p{S}]+| ?[\p{P}\p{S}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,
  gpt2: /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,
};

export const PRE_TOKENIZERS = Object.keys(PATTERNS);
export const TIE_BREAKS = ["greatest", "smallest", "first"];

/** Text -> words whose concatenation is the text; merges never cross a word's border. */
export function preTokenize(text, name = "gpt2") {
  if (!(name in PATTERNS)) throw new RangeError(`No pre-tokenizer "${name}"; choose one of ${PRE_TOKENIZERS.join(", ")}.`);
  if (text === "") return [];
  return PATTERNS[name] === null ? [text] : text.match(PATTERNS[name]);
}

const encoder = new TextEncoder();

/** Text -> its UTF-8 bytes (a lone surrogate becomes U+FFFD, as everywhere on the web). */
export const toBytes = (text) => encoder.encode(text);

/** The bytes (a byte string each) of all ids that `merges`, pairs of ids in the order learned, make. */
export function vocabulary(merges) {
  const vocab = Array.from({ length: BYTES }, (_, byte) => String.fromCharCode(byte));
  for (const [left, right] of merges) vocab.push(vocab[left] + vocab[right]);
  return vocab;
}

/** Ids -> text; bytes that are not valid UTF-8 become U+FFFD. */
export function decode(ids, vocab) {
  const joined = ids.map((id) => vocab[id]).join("");
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(joined, (c) => c.charCodeAt(0)));
}

/** A binary heap: `before(a, b)` says whether a leaves first. */
export class Heap {
  constructor(before) {
    this.before = before;
    this.items = [];
  }
  get size() {
    return this.items.length;
  }
  push(item) {
    const { items, before } = this;
    let child = items.length;
    while (child > 0) {
      const parent = (child - 1) >> 1;
      if (!before(item, items[parent])) break;
      items[child] = items[parent];
      child = parent;
    }
    items[child] = item;
  }
  pop() {
    const { items, before } = this;
    const top = items[0];
    const last = items.pop();
    if (items.length > 0) {
      let hole = 0;
      for (;;) {
        let child = 2 * hole + 1;
        if (child >= items.length) break;
        if (child + 1 < items.length && before(items[child + 1], items[child])) child += 1;
        if (!before(items[child], last)) break;
        items[hole] = items[child];
        hole = child;
      }
      items[hole] = last;
    }
    return top;
  }
}

// ---------------------------------------------------------------------------------------------------- training

/**
 * Text -> a training in progress: unique words one after another in a flat array of symbols, with pair counts.
 *
 * Pairs are counted with overlap ("aaa" holds the pair a,a twice) and merged left to right without it. A pair's
 * adjacencies all arise at one moment, when the younger of its two symbols is made; from then on they can only be
 * used up. So its list of positions is written once, in ascending order, and its count in the heap can only be too high:
 * it is put right when the pair reaches the top.
 *
 * Ties in the count go to the greatest or the smallest pair of byte strings (left compared first, then right), or to the
 * pair that occurs first in the text as it stands.
 */
export class Training {
  constructor(text, { preTokenizer = "gpt2", tieBreak = "greatest" } = {}) {
    if (!TIE_BREAKS.includes(tieBreak)) throw new RangeError(`No tie-break "${tieBreak}"; choose one of ${TIE_BREAKS.join(", ")}.`);
    const index = new Map(); // word -> its number, in order of first appearance
    this.words = []; // {text, start, end, weight}: where its bytes lie in `symbols`, how often it occurs
    this.order = []; // the text as numbers of words
    const chunks = [];
    let end = 0;
    for (const word of preTokenize(text, preTokenizer)) {
      let number = index.get(word);
      if (number === undefined) {
        number = this.words.length;
        index.set(word, number);
        const bytes = toBytes(word);
        chunks.push(bytes);
        this.words.push({ start: end, end: end + bytes.length, weight: 0 });
        end += bytes.length;
      }
      this.words[number].weight += 1;
      this.order.push(number);
    }
    this.symbols = new Int32Array(end); // at a symbol's first byte: its id; within it: what stood there before
    this.wordOf = new Int32Array(end);
    this.words.forEach((word, number) => {
      this.symbols.set(chunks[number], word.start);
      this.wordOf.fill(number, word.start, word.end);
    });
    this.initial = this.symbols.slice();
    this.next = Int32Array.from(this.symbols, (_, i) => (i + 1 < this.words[this.wordOf[i]].end ? i + 1 : -1));
    this.previous = Int32Array.from(this.symbols, (_, i) => (i > this.words[this.wordOf[i]].start ? i - 1 : -1));
    this.vocab = vocabulary([]);
    this.merges = []; // [left, right]
    this.log = []; // one entry a merge: what a replay needs
    this.pairs = new Map(); // left * MAX_IDS + right -> {left, right, count, positions, first}
    this.length = this.order.reduce((sum, number) => sum + this.words[number].end - this.words[number].start, 0);
    this.bytes = this.length;
    const changes = new Map();
    for (let i = 0; i < end; i += 1) if (this.next[i] !== -1) this.#add(i, changes);
    this.initialPairs = [...changes.keys()].map((pair) => ({ pair, count: pair.count }));
    this.heap = new Heap(BEFORE[tieBreak](this.vocab));
    for (const pair of changes.keys()) this.#push(pair);
  }

  /** One more adjacency: the symbol at `i` and its right neighbour. */
  #add(i, changes) {
    const left = this.symbols[i];
    const right = this.symbols[this.next[i]];
    const key = left * MAX_IDS + right;
    let pair = this.pairs.get(key);
    if (pair === undefined) this.pairs.set(key, (pair = { left, right, count: 0, positions: [], first: 0 }));
    const weight = this.words[this.wordOf[i]].weight;
    pair.count += weight;
    pair.positions.push(i);
    changes.set(pair, (changes.get(pair) ?? 0) + weight);
  }

  /** One adjacency less. */
  #remove(i, changes) {
    const pair = this.pairs.get(this.symbols[i] * MAX_IDS + this.symbols[this.next[i]]);
    const weight = this.words[this.wordOf[i]].weight;
    pair.count -= weight;
    changes.set(pair, (changes.get(pair) ?? 0) - weight);
  }

  #holds(pair, i) {
    return this.symbols[i] === pair.left && this.next[i] !== -1 && this.symbols[this.next[i]] === pair.right;
  }

  #push(pair) {
    while (pair.count > 0 && !this.#holds(pair, pair.positions[pair.first])) pair.first += 1;
    if (pair.count > 0) this.heap.push({ pair, count: pair.count, at: pair.positions[pair.first] });
  }

  /** The pair to merge next, or null where none occurs `minCount` times. */
  best(minCount = 2) {
    while (this.heap.size > 0) {
      const { pair, count, at } = this.heap.items[0];
      if (count < minCount) return null;
      if (pair.count === count && this.#holds(pair, at)) return pair;
      this.heap.pop();
      this.#push(pair);
    }
    return null;
  }

  /** Merges one pair of ids everywhere and appends an entry to the log. */
  merge(left, right) {
    const id = BYTES + this.merges.length;
    const { symbols, next, previous, words, wordOf } = this;
    const changes = new Map(); // pair -> how its count changes
    const positions = [];
    const pair = this.pairs.get(left * MAX_IDS + right);
    this.merges.push([left, right]);
    this.vocab.push(this.vocab[left] + this.vocab[right]);
    const count = pair === undefined ? 0 : pair.count;
    let made = 0;
    for (const i of pair === undefined ? [] : pair.positions) {
      if (!this.#holds(pair, i)) continue;
      const j = next[i];
      const before = previous[i];
      const after = next[j];
      if (before !== -1) this.#remove(before, changes);
      this.#remove(i, changes);
      if (after !== -1) this.#remove(j, changes);
      symbols[i] = id;
      symbols[j] = -1;
      next[i] = after;
      if (after !== -1) previous[after] = i;
      if (before !== -1) this.#add(before, changes);
      if (after !== -1) this.#add(i, changes);
      positions.push(i);
      made += words[wordOf[i]].weight;
    }
    this.length -= made;
    const delta = [];
    for (const [changed, by] of changes) {
      if (by !== 0) delta.push({ pair: changed, by });
      if (by > 0) this.#push(changed);
    }
    this.log.push({ id, left, right, count, made, length: this.length, positions, delta });
  }

  /** Learns merges until `merges` are made or no pair occurs `minCount` times; pauses (yields) every few milliseconds. */
  *learn({ merges = Infinity, minCount = 2, sliceMs = Infinity } = {}) {
    let pauseAt = now() + sliceMs;
    while (this.merges.length < merges) {
      const pair = this.best(minCount);
      if (pair === null) break;
      this.merge(pair.left, pair.right);
      if (now() > pauseAt) {
        yield this;
        pauseAt = now() + sliceMs;
      }
    }
    return this;
  }
}

const now = () => globalThis.performance.now();

const pairOrder = (vocab, a, b) => {
  const [left, other] = [vocab[a.left], vocab[b.left]];
  if (left !== other) return left < other ? -1 : 1;
  const [right, last] = [vocab[a.right], vocab[b.right]];
  return right === last ? 0 : right < last ? -1 : 1;
};

const BEFORE = {
  greatest: (vocab) => (a, b) => a.count > b.count || (a.count === b.count && pairOrder(vocab, a.pair, b.pair) > 0),
  smallest: (vocab) => (a, b) => a.count > b.count || (a.count === b.count && pairOrder(vocab, a.pair, b.pair) < 0),
  first: () => (a, b) => a.count > b.count || (a.count === b.count && a.at < b.at),
};

/** Text -> the finished training: `.merges` (pairs of ids), `.vocab` (byte strings), `.log`. */
export function train(text, { preTokenizer, tieBreak, merges, minCount } = {}) {
  const training = new Training(text, { preTokenizer, tieBreak });
  training.learn({ merges, minCount }).next();
  return training;
}

/** Text and given merges -> what a training that had learned exactly these would have logged. */
export function replayGiven(text, merges, { preTokenizer } = {}) {
  const training = new Training(text, { preTokenizer });
  for (const [left, right] of merges) training.merge(left, right);
  return training;
}

/**
 * A finished training, seen after any number of merges: moves by the logged differences, forward and back, so that a
 * move costs what changes, not the length of the text.
 */
export class Replay {
  constructor(training) {
    this.training = training;
    this.symbols = training.initial.slice();
    this.counts = new Map(training.initialPairs.map(({ pair, count }) => [pair, count]));
    this.step = 0;
  }

  get steps() {
    return this.training.log.length;
  }

  /** Sequence length, in symbols, now. */
  get length() {
    return this.step === 0 ? this.training.bytes : this.training.log[this.step - 1].length;
  }

  goTo(step) {
    const { log, vocab } = this.training;
    while (this.step < step) {
      const { id, positions, delta } = log[this.step];
      for (const i of positions) this.symbols[i] = id;
      for (const { pair, by } of delta) this.#count(pair, by);
      this.step += 1;
    }
    while (this.step > step) {
      this.step -= 1;
      const { left, right, positions, delta } = log[this.step];
      for (let p = positions.length - 1; p >= 0; p -= 1) {
        this.symbols[positions[p]] = left;
        this.symbols[positions[p] + vocab[left].length] = right;
      }
      for (const { pair, by } of delta) this.#count(pair, -by);
    }
    return this;
  }

  #count(pair, by) {
    const count = (this.counts.get(pair) ?? 0) + by;
    if (count === 0) this.counts.delete(pair);
    else this.counts.set(pair, count);
  }

  /** The first `limit` symbols of the text: [{id, word}], `word` true where a word begins. */
  tiles(limit = Infinity) {
    const { order, words, vocab } = this.training;
    const tiles = [];
    for (const number of order) {
      const { start, end } = words[number];
      for (let i = start; i < end; i += vocab[this.symbols[i]].length) {
        if (tiles.length >= limit) return tiles;
        tiles.push({ id: this.symbols[i], word: i === start });
      }
    }
    return tiles;
  }

  /** Every id of the text, in order. */
  ids() {
    return this.tiles().map((tile) => tile.id);
  }

  /** Where each pair stands first in the text as it is now: pair -> place. */
  #firstPlaces() {
    const { words, vocab, pairs } = this.training;
    const places = new Map();
    for (const { start, end } of words) {
      for (let i = start, j; (j = i + vocab[this.symbols[i]].length) < end; i = j) {
        const pair = pairs.get(this.symbols[i] * MAX_IDS + this.symbols[j]);
        if (!places.has(pair)) places.set(pair, i);
      }
    }
    return places;
  }

  /** The `limit` most frequent pairs, [{pair, count}], best first: by count, then as the tie-break has it. */
  topPairs(limit, tieBreak = "greatest") {
    const { vocab } = this.training;
    const places = tieBreak === "first" ? this.#firstPlaces() : null;
    const tie = {
      greatest: (a, b) => pairOrder(vocab, b, a),
      smallest: (a, b) => pairOrder(vocab, a, b),
      first: (a, b) => places.get(a) - places.get(b),
    }[tieBreak];
    const before = (a, b) => b.count - a.count || tie(a.pair, b.pair);
    const top = [];
    for (const [pair, count] of this.counts) {
      if (top.length === limit && count < top[limit - 1].count) continue;
      const entry = { pair, count };
      let at = top.length;
      while (at > 0 && before(entry, top[at - 1]) < 0) at -= 1;
      top.splice(at, 0, entry);
      if (top.length > limit) top.pop();
    }
    return top;
  }

  /** How many pairs share the highest count. */
  tied() {
    let most = 0;
    let tied = 0;
    for (const count of this.counts.values()) {
      if (count > most) [most, tied] = [count, 1];
      else if (count === most) tied += 1;
    }
    return { count: most, pairs: tied };
  }
}

// ---------------------------------------------------------------------------------------------------- encoding

/** Merges -> Map from a pair of ids (left * MAX_IDS + right) to its rank. */
export function ranksOf(merges) {
  return new Map(merges.map(([left, right], rank) => [left * MAX_IDS + right, rank]));
}

const LONG_WORD = 64; // bytes; below, a plain scan for the best pair is faster than a heap

/** One word's bytes -> ids: again and again the pair of lowest rank is merged, left to right. */
export function encodeWord(bytes, ranks) {
  if (bytes.length > LONG_WORD) return encodeLongWord(bytes, ranks);
  const ids = Array.from(bytes);
  while (ids.length > 1) {
    let best = Infinity;
    for (let i = 0; i + 1 < ids.length; i += 1) {
      const rank = ranks.get(ids[i] * MAX_IDS + ids[i + 1]);
      if (rank < best) best = rank;
    }
    if (best === Infinity) break;
    let kept = 0;
    for (let i = 0; i < ids.length; kept += 1) {
      const hit = i + 1 < ids.length && ranks.get(ids[i] * MAX_IDS + ids[i + 1]) === best;
      ids[kept] = hit ? BYTES + best : ids[i];
      i += hit ? 2 : 1;
    }
    ids.length = kept;
  }
  return ids;
}

/** The same for a word of any length, in O(n log n): a linked list of symbols and a heap of (rank, position). */
function encodeLongWord(bytes, ranks) {
  const n = bytes.length;
  const ids = Int32Array.from(bytes);
  const next = Int32Array.from(bytes, (_, i) => (i + 1 < n ? i + 1 : -1));
  const previous = Int32Array.from(bytes, (_, i) => i - 1);
  const heap = new Heap((a, b) => a.rank < b.rank || (a.rank === b.rank && a.at < b.at));
  const offer = (at) => {
    if (at === -1 || next[at] === -1) return;
    const rank = ranks.get(ids[at] * MAX_IDS + ids[next[at]]);
    if (rank !== undefined) heap.push({ rank, at, left: ids[at], right: ids[next[at]] });
  };
  for (let i = 0; i < n; i += 1) offer(i);
  while (heap.size > 0) {
    const { rank, at, left, right } = heap.pop();
    const j = next[at];
    if (ids[at] !== left || j === -1 || ids[j] !== right) continue; // one of the two was merged meanwhile
    ids[at] = BYTES + rank;
    ids[j] = -1;
    next[at] = next[j];
    if (next[j] !== -1) previous[next[j]] = at;
    offer(previous[at]);
    offer(at);
  }
  return Array.from(ids.filter((id) => id !== -1));
}

/** Text -> ids, by `ranks` (see ranksOf). `cache`, a Map kept by the caller, makes words met before free. */
export function encode(text, ranks, { preTokenizer = "gpt2", cache = new Map() } = {}) {
  const ids = [];
  for (const word of preTokenize(text, preTokenizer)) {
    let known = cache.get(word);
    if (known === undefined) {
      known = encodeWord(toBytes(word), ranks);
      if (word.length <= LONG_WORD) cache.set(word, known);
    }
    for (const id of known) ids.push(id);
  }
  return ids;
}
