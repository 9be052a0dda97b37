// Who does what, and when, in a pipeline: the same as llmlib/parallel/schedules.py, function by function.
//
// An order is a list of actions for each stage; an action is {kind, batch, chunk}: F forward, B backward (the whole, or
// where the order has W, the input's gradient), W the weights' gradients. Chunk c of stage s is piece c p + s of a model.

export const SCHEDULES = [
  ["forward", "Forward only (inference)"],
  ["gpipe", "GPipe"],
  ["1f1b", "1F1B"],
  ["interleaved", "Interleaved 1F1B"],
  ["zb-h1", "ZB-H1 (zero bubble)"],
];

/** "gpipe" -> "GPipe". */
export const scheduleName = (schedule) => SCHEDULES.find(([key]) => key === schedule)[1];

const range = (n) => Array.from({ length: n }, (_, i) => i);

/** "" where m micro-batches can be interleaved on p stages, else a sentence that says what can. */
export function cannotInterleave(p, m) {
  const fits = (n) => n % Math.max(1, Math.floor(n / p)) === 0;
  if (fits(m)) return "";
  let [below, above] = [m - 1, m + 1];
  while (!fits(below)) below -= 1;
  while (!fits(above)) above += 1;
  return `${m} micro-batches cannot be interleaved on ${p} stages: they do not make ${Math.floor(m / p)} rounds of equal size. Take ${below} or ${above}; every multiple of ${p} will do.`;
}

/** `warmUp` forward, then forward and backward in turn, then the backward actions that are left. */
function alternating(warmUp, there, back) {
  const turns = there.length - warmUp;
  const order = there.slice(0, warmUp);
  for (let i = 0; i < turns; i += 1) order.push(there[warmUp + i], back[i]);
  return order.concat(back.slice(turns));
}

/** The order of a schedule: for each stage a list of actions. Throws an Error with a sentence where there is none. */
export function orderOf(schedule, p, m, v = 2) {
  const all = (kind, chunk = 0) => range(m).map((batch) => ({ kind, batch, chunk }));
  if (schedule === "forward") return range(p).map(() => all("F"));
  if (schedule === "gpipe") return range(p).map(() => [...all("F"), ...all("B")]);
  if (schedule === "interleaved") {
    const problem = cannotInterleave(p, m);
    if (problem) throw new Error(problem);
    const rounds = Math.max(1, Math.floor(m / p));
    const size = m / rounds;
    const places = (kind, chunks) => range(rounds).flatMap((r) => chunks.flatMap((chunk) => range(size).map((i) => ({ kind, batch: r * size + i, chunk }))));
    const there = places("F", range(v));
    const back = places("B", range(v).reverse());
    return range(p).map((s) => alternating(Math.min(v * m, (v - 1) * size + 2 * (p - 1 - s)), there, back));
  }
  const plain = range(p).map((s) => alternating(Math.min(m, p - 1 - s), all("F"), all("B")));
  if (schedule === "1f1b") return plain;
  return plain.map((actions, putOff) => {
    const mixed = [];
    for (const action of actions) {
      mixed.push(action);
      if (action.kind === "B" && action.batch >= putOff) mixed.push({ kind: "W", batch: action.batch - putOff, chunk: 0 });
    }
    for (let i = Math.max(0, m - putOff); i < m; i += 1) mixed.push({ kind: "W", batch: i, chunk: 0 });
    return mixed;
  });
}

/** Whether stages do the same actions in the same order. */
export const sameOrder = (one, other) =>
  one.length === other.length &&
  one.every((actions, s) => actions.length === other[s].length && actions.every(({ kind, batch, chunk }, i) => kind === other[s][i].kind && batch === other[s][i].batch && chunk === other[s][i].chunk));

/** For each stage the most micro-batches whose activations it keeps at once; a chunk of v counts 1/v. */
export function peakActivations(order, v) {
  return order.map((actions) => {
    const last = []; // of each micro-batch's chunk: the place of its last action
    actions.forEach((action, i) => (last[action.batch * v + action.chunk] = i));
    let [kept, peak] = [0, 0];
    actions.forEach((action, i) => {
      if (action.kind === "F") kept += 1;
      peak = Math.max(peak, kept);
      if (last[action.batch * v + action.chunk] === i) kept -= 1;
    });
    return peak / v;
  });
}

const chunksOf = (order) => 1 + order[0].reduce((most, { chunk }) => Math.max(most, chunk), 0);

/** The (stage, action) pairs that an action needs besides its stage's own order: [stage, kind, chunk], for its micro-batch. */
export function neededBy(p, v, stage, { kind, chunk }) {
  if (kind === "F") return stage > 0 ? [[stage - 1, "F", chunk]] : chunk > 0 ? [[p - 1, "F", chunk - 1]] : [];
  if (kind === "W") return [[stage, "B", chunk]];
  const own = [stage, "F", chunk];
  return stage < p - 1 ? [own, [stage + 1, "B", chunk]] : chunk < v - 1 ? [own, [0, "B", chunk + 1]] : [own];
}

/** The stage from which an action needs the same micro-batch, or -1; what it needs of its own stage is done before in its order. */
function neededFrom(p, v, stage, kind, chunk) {
  if (kind === "F") return stage > 0 ? stage - 1 : chunk > 0 ? p - 1 : -1;
  if (kind === "B") return stage < p - 1 ? stage + 1 : chunk < v - 1 ? 0 : -1;
  return -1;
}

/** Does an order, every action as soon as it can: `note(stage, action, start, end, waits)` for each; gives each stage's end. */
function play(order, { forward = 1, backward = 1, weight = 1, communication = 0 }, note) {
  const p = order.length;
  const v = chunksOf(order);
  const split = order[0].some(({ kind }) => kind === "W");
  const takes = { F: forward / v, B: (split ? backward : backward + weight) / v, W: weight / v };
  const m = 1 + order[0].reduce((most, { batch }) => Math.max(most, batch), 0);
  const ends = { F: new Float64Array(p * v * m).fill(-1), B: new Float64Array(p * v * m).fill(-1), W: new Float64Array(p * v * m) };
  const done = order.map(() => 0);
  const free = order.map(() => 0);
  for (let moved = true; moved; ) {
    moved = false;
    for (let stage = 0; stage < p; stage += 1) {
      const actions = order[stage];
      for (; done[stage] < actions.length; done[stage] += 1) {
        const action = actions[done[stage]];
        const { kind, batch, chunk } = action;
        const from = neededFrom(p, v, stage, kind, chunk);
        let start = free[stage];
        let waits = null;
        if (from >= 0) {
          const piece = kind === "F" ? chunk - (stage === 0) : chunk + (stage === p - 1);
          const end = ends[kind][(from * v + piece) * m + batch];
          if (end < 0) break;
          const ready = end + communication * (from !== stage);
          if (ready > start) [start, waits] = [ready, [from, kind, piece]];
        }
        free[stage] = start + takes[kind];
        ends[kind][(stage * v + chunk) * m + batch] = free[stage];
        note?.(stage, action, start, free[stage], waits);
        moved = true;
      }
    }
  }
  return free;
}

/**
 * The times of an order in which every stage begins each action as soon as it can:
 * {spans: for each stage [{stage, kind, batch, chunk, start, end, waits: [stage, kind, chunk] or null}], step, ideal,
 * fraction, ratio, peaks}. `waits` is what the start came from, if another stage's result came last.
 */
export function timelineOf(order, times = {}) {
  const spans = order.map(() => []);
  play(order, times, (stage, { kind, batch, chunk }, start, end, waits) => spans[stage].push({ stage, kind, batch, chunk, start, end, waits }));
  return summary(spans, peakActivations(order, chunksOf(order)));
}

/** What follows from spans, predicted or measured. */
export function summary(spans, peaks) {
  const first = Math.min(...spans.map((row) => row[0].start));
  const step = Math.max(...spans.map((row) => row.at(-1).end)) - first;
  const ideal = spans.reduce((sum, row) => row.reduce((part, { start, end }) => part + end - start, sum), 0) / spans.length;
  return { spans, step, ideal, fraction: 1 - ideal / step, ratio: step / ideal - 1, peaks };
}

/** The schedule's times in units of T_F: `ratio` is (T_B + T_W) / T_F, half of it for the weights' gradients. */
export const scheduled = (schedule, p, m, { v = 2, ratio = 2, communication = 0 } = {}) =>
  timelineOf(orderOf(schedule, p, m, v), { forward: 1, backward: ratio / 2, weight: ratio / 2, communication });

/** The idle share alone of all device time: as `scheduled(...).fraction`, without a list of what is done when. */
export function idleShare(schedule, p, m, { v = 2, ratio = 2, communication = 0 } = {}) {
  const step = play(orderOf(schedule, p, m, v), { forward: 1, backward: ratio / 2, weight: ratio / 2, communication }).reduce((most, end) => Math.max(most, end), 0);
  return 1 - (m * (schedule === "forward" ? 1 : 1 + ratio)) / step;
}

/** Recorded actions [[stage, kind, batch, chunk, start, end], …] in seconds as a timeline in units of their mean T_F. */
export function measuredTimeline(actions) {
  const p = 1 + Math.max(...actions.map(([stage]) => stage));
  const forward = actions.filter(([, kind]) => kind === "F");
  const chunks = 1 + Math.max(...actions.map(([, , , chunk]) => chunk));
  const second = forward.length / chunks / forward.reduce((sum, [, , , , start, end]) => sum + end - start, 0);
  const zero = Math.min(...actions.map(([, , , , start]) => start));
  const spans = range(p).map(() => []);
  for (const [stage, kind, batch, chunk, start, end] of actions) spans[stage].push({ stage, kind, batch, chunk, start: (start - zero) * second, end: (end - zero) * second, waits: null });
  for (const row of spans) row.sort((a, b) => a.start - b.start);
  return { ...summary(spans, peakActivations(spans, chunks)), forward: 1 / second };
}
