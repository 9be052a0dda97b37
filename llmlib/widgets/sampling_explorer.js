// The figure SamplingExplorer: what may be said next, what each setting keeps of it, and what is drawn; in the page, the
// book's model writes on with these settings.

import { clamp, within } from "./address.js";
import { chart, path } from "./chart.js";
import { drawCounts, stagesOf } from "./choosing.js";
import { drawIndex, randomFrom } from "./dice.js";
import { integer, plural, significant } from "./format.js";
import { frame, h, svg } from "./frame.js";
import { modelField } from "./model_field.js";
import { bar, tokenText } from "./tiles.js";
import { probability } from "./probability.js";
import { quoted, title, utf8Bytes } from "./words.js";

const SHOWN = 12; // tokens with bars of their own
const DRAWS = 1000;
const MAX_WRITTEN = 400;
const REDRAW = 80; // ms between two pictures while the model writes
const LEAST = 1e-6; // the lowest probability in the plot of ranks

const STEP_NAMES = { model: "the model's own", penalty: "repetition penalty", temperature: "temperature", "top-k": "top-k", "top-p": "top-p", "min-p": "min-p", greedy: "greedy" };

/** The settings of the model's traits, within what is allowed: an address may say anything. */
export function settingsOf(model) {
  return {
    temperature: within(model.get("temperature"), 0, 100, 1),
    top_k: clamp(model.get("top_k"), 0, 100_000),
    top_p: within(model.get("top_p"), 0.01, 1, 1),
    min_p: within(model.get("min_p"), 0, 1, 0),
    penalty: within(model.get("penalty"), 0.1, 10, 1),
  };
}

/** For each token, the name of the step that ruled it out, or "". */
export function cutBy(stages) {
  const names = new Array(stages[0].p.length).fill("");
  for (const { name, logits } of stages.slice(1)) logits.forEach((z, i) => { if (z === -Infinity && names[i] === "") names[i] = name; });
  return names;
}

/** Of n draws: the token whose share differs most from its probability, and by how much; the standard deviation of its share. */
export function greatestGap(counts, p, n) {
  let [token, gap] = [0, -1];
  counts.forEach((count, i) => {
    const off = Math.abs(count / n - p[i]);
    if (off > gap) [token, gap] = [i, off];
  });
  return { token, gap, deviation: Math.sqrt((p[token] * (1 - p[token])) / n) };
}

/** The number that decides what is written at one place: of a seed's own random numbers, whatever was drawn before. */
export const luckAt = (seed, placeInText) => randomFrom(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(placeInText + 1, 0x85ebca6b))();

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "Sampling, step by step", lead: "Lower the temperature or top-p, and see which tokens are left; then draw." });
  const texts = () => model.get("texts");
  const record = () => texts()[clamp(model.get("text"), 0, texts().length - 1)];
  const known = new Map(); // ids as text -> the model's logits of what follows
  let shown = null; // what is drawn
  let writing = false;
  let run = 0; // of writing; another number: stopped, or begun again

  // ------------------------------------------------------------------------------------------------ controls
  const anew = (values) => {
    stop();
    figure.set({ written: [], ...values });
  };
  const chosen = figure.select("text", { label: "After", options: [], change: (value) => anew({ text: Number(value), prompt: "" }) });
  chosen.node.classList.add("bw-broad");
  const list = () => chosen.input.replaceChildren(...texts().map(({ prompt }, i) => h("option", { value: i }, title([prompt]))));
  list();
  figure.range("temperature", { label: "Temperature τ", min: 0, max: 3, step: 0.05, format: (value) => value.toFixed(2) });
  figure.range("top_k", { label: "Top-k", min: 0, max: 100, format: (value) => (value === 0 ? "off" : String(value)) });
  figure.range("top_p", { label: "Top-p", min: 0.01, max: 1, step: 0.01, format: (value) => (value === 1 ? "off" : value.toFixed(2)) });
  figure.range("min_p", { label: "Min-p", min: 0, max: 1, step: 0.01, format: (value) => (value === 0 ? "off" : value.toFixed(2)) });
  figure.range("penalty", { label: "Repetition penalty", min: 1, max: 2, step: 0.05, format: (value) => (value === 1 ? "off" : value.toFixed(2)) });
  const drawing = figure.button(`Draw ${integer(DRAWS)}`, () => figure.set({ draws: DRAWS, seed: model.get("draws") > 0 ? (model.get("seed") + 1) % 2 ** 31 : model.get("seed") }), { primary: true });
  const one = figure.button("Write one token", () => write(1));
  const on = figure.button("Write on", () => {
    if (!writing) return void write(MAX_WRITTEN);
    stop();
    return figure.redraw();
  });
  const back = figure.button("Take one back", () => {
    stop();
    figure.set({ written: model.get("written").slice(0, -1) });
  });
  const again = figure.button("Reset", () => {
    stop();
    figure.reset();
  });
  figure.controls.append(h("div", { className: "bw-buttons bw-wide" }, drawing, one, on, back, again));
  const live = modelField(figure, model, { label: "A beginning of your own", action: "Use it", submit: (prompt) => anew({ prompt }) });
  figure.remember("written", "prompt", "draws", "seed");
  for (const trait of ["texts", "written", "prompt", "draws", "seed"]) figure.on(trait, figure.redraw);
  figure.on("texts", list);

  // ------------------------------------------------------------------------------------------------- picture
  const reading = figure.panel("The text so far", { scroll: true });
  const story = h("p", { className: "bw-story", dir: "auto" });
  reading.body.append(story);
  const candidates = figure.panel("What may come next");
  const steps = figure.panel("What each step leaves", { half: true });
  const ranks = figure.panel("Probability by rank", { half: true });

  /** The text that is shown: {ids, prompt, name, end, logits, live}; logits are undefined until the model has answered. */
  function source() {
    const typed = String(model.get("prompt") ?? "");
    const own = typed === record().prompt ? "" : typed;
    const written = model.get("written") ?? [];
    const asked = own === "" && written.length === 0 ? "" : `${own || record().prompt}${written.length > 0 ? "…" : ""}`;
    const session = asked === "" ? live.session() : live.sessionFor(asked);
    if (session === null || asked === "") {
      const { prompt, ids, logits, tokens } = record();
      return { ids, prompt, asked, lacking: live.lacking(asked), written: [], name: (id) => tokens[id] ?? session?.tokenizer.text(id) ?? `#${id}`, logits };
    }
    const { tokenizer } = session;
    const start = own === "" ? record().ids : [tokenizer.end, ...tokenizer.encode(own)];
    const ids = [...start, ...written];
    return { ids, prompt: own === "" ? record().prompt : own, asked, lacking: "", written, name: tokenizer.text, logits: known.get(ids.join()) };
  }

  /** What the model says after these ids. */
  async function ask(ids) {
    const key = ids.join();
    if (!known.has(key)) {
      const logits = await live.session().logits(ids);
      if (known.size > 500) known.clear();
      known.set(key, logits);
    }
    return known.get(key);
  }

  const drawnFrom = (logits, ids) => stagesOf(logits, ids, settingsOf(model));

  function stop() {
    run += 1;
    writing = false;
  }

  /** Writes up to `most` tokens, each drawn with the settings as they are then; what has been written is shown as it grows. */
  async function write(most) {
    if (writing) return;
    writing = true;
    const mine = (run += 1);
    figure.redraw();
    const session = await live.open();
    if (session === null || mine !== run) {
      writing &&= mine !== run;
      return void figure.redraw();
    }
    try {
      let { ids, written, logits } = source();
      const room = Math.min(session.config.max_position_embeddings ?? MAX_WRITTEN, MAX_WRITTEN);
      let shownAt = performance.now();
      for (let n = 0; n < most && (written.length === 0 || written.at(-1) !== session.tokenizer.end); n += 1) {
        if (ids.length >= room) {
          live.say(`The text has ${room} tokens, which is all that the model can look at.`);
          break;
        }
        logits ??= await ask(ids);
        if (mine !== run) return;
        const token = drawIndex(drawnFrom(logits, ids).at(-1).p, luckAt(model.get("seed"), written.length));
        [ids, written] = [[...ids, token], [...written, token]];
        logits = await ask(ids);
        if (mine !== run) return;
        if (performance.now() - shownAt > REDRAW) {
          figure.set({ written });
          shownAt = performance.now();
        }
      }
      stop();
      figure.set({ written });
    } catch (error) {
      stop();
      live.say(error.message);
      figure.redraw();
    }
  }

  function paintTokens({ name, stages, counts, draws }) {
    const [first, last] = [stages[0].p, stages.at(-1).p];
    const cut = cutBy(stages);
    const order = Array.from(first, (_, i) => i).sort((a, b) => first[b] - first[a] || a - b);
    const listed = order.slice(0, SHOWN);
    const most = Math.max(first[order[0]], ...last);
    const full = [0.1, 0.25, 0.5, 1].find((end) => end >= most) ?? 1;
    const number = (value) => h("td", { className: "bw-number" }, value);
    const line = (label, before, after, drawn, note) =>
      h(
        "tr",
        { className: note === "" ? "" : "is-cut" },
        h("td", { className: "bw-pair" }, label),
        h("td", { className: "bw-grow bw-stack" }, bar(before / full, "", ""), bar(after / full, "", "is-kept"), draws > 0 ? bar(drawn / draws / full, "", "is-new") : null),
        number(probability(before)),
        number(note === "" ? probability(after) : `cut: ${note}`),
        draws > 0 ? number(integer(drawn)) : null,
      );
    const rest = order.slice(SHOWN);
    const sum = (of) => rest.reduce((total, i) => total + of[i], 0);
    const left = rest.filter((i) => cut[i] === "").length;
    const rows = listed.map((i) => line(h("bdi", { className: "bw-token" }, tokenText(utf8Bytes(name(i)), 14)), first[i], last[i], counts?.[i] ?? 0, cut[i]));
    if (rest.length > 0) rows.push(line(h("span", { className: "bw-note" }, `${integer(rest.length)} more, ${integer(left)} kept`), sum(first), sum(last), counts === null ? 0 : sum(counts), ""));
    const head = ["token", "", "model", "kept", ...(draws > 0 ? ["drawn"] : [])];
    candidates.body.replaceChildren(
      h(
        "table",
        { className: "bw-table bw-pairs bw-sampled" },
        h("thead", {}, h("tr", {}, head.map((words, i) => h("th", { scope: "col" }, i === 1 ? h("span", { className: "bw-hidden" }, "bars") : words)))),
        h("tbody", {}, rows),
      ),
    );
    candidates.note.textContent = `grey: the model's probability, green: after the settings${draws > 0 ? `, orange: of ${integer(draws)} draws` : ""}; the longest possible bar is ${full}`;
  }

  function paintSteps({ stages }) {
    const head = ["step", "kept", "entropy (nats)", "perplexity"];
    steps.note.textContent = "from top to bottom";
    steps.body.replaceChildren(
      h(
        "div",
        { className: "bw-scroll", tabIndex: 0, role: "region", "aria-label": "What each step leaves: table" },
        h(
          "table",
          { className: "bw-table" },
          h("thead", {}, h("tr", {}, head.map((words) => h("th", { scope: "col" }, words)))),
          h("tbody", {}, stages.map(({ name, kept, entropy }) => h("tr", {}, [STEP_NAMES[name], integer(kept), entropy.toFixed(2), significant(Math.exp(entropy))].map((cell) => h("td", {}, cell))))),
        ),
      ),
    );
  }

  function paintRanks({ stages }) {
    const sorted = (p) => Array.from(p).sort((a, b) => b - a).filter((value) => value >= LEAST).map((value, i) => [i + 1, value]);
    const [before, after] = [sorted(stages[0].p), sorted(stages.at(-1).p)];
    const V = stages[0].p.length;
    const plot = chart({
      x: { min: 1, max: Math.max(V, 10), log: true, label: "rank (log scale)", format: integer },
      y: { min: LEAST, max: 1, log: true, label: "probability (log scale)", format: (value) => (value >= 0.01 ? String(value) : value.toExponential(0).replace("e-", "e−")) },
      width: 340,
      height: 215,
      label: "Probability against rank, by the model and after the settings; the table has the numbers.",
    });
    const dots = (points, className) => points.slice(0, 40).map(([x, y]) => svg("circle", { class: className, cx: plot.x(x), cy: plot.y(y), r: 2.5 }));
    plot.marks.append(
      svg("path", { class: "bw-curve", d: path(before, plot) }),
      svg("path", { class: "bw-curve bw-curve-kept", d: path(after, plot) }),
      ...dots(after, "bw-dot-kept"),
    );
    ranks.note.textContent = "grey: the model, green: after the settings";
    ranks.body.replaceChildren(plot.node);
  }

  function sentence({ ids, name, stages, counts, draws, prompt, written }) {
    const [first, last] = [stages[0], stages.at(-1)];
    const mass = first.p.reduce((sum, p, i) => (last.logits[i] > -Infinity ? sum + p : sum), 0);
    const best = last.p.indexOf(Math.max(...last.p));
    const context = quoted([...prompt, ...written.map(name)].join("").slice(-30).trimStart());
    const kept = last.kept === first.p.length ? `all ${integer(last.kept)} tokens are kept` : `${integer(last.kept)} of ${plural(first.p.length, "token")} ${last.kept === 1 ? "is" : "are"} kept, which the model gave ${probability(mass)}`;
    const words = `After ${context}: ${kept}. Entropy ${first.entropy.toFixed(2)} nats before, ${last.entropy.toFixed(2)} after: as uncertain as ${significant(Math.exp(last.entropy))} equal choices. Most probable: ${quoted(name(best))}, ${probability(last.p[best])}.`;
    if (draws === 0) return words;
    const { token, gap, deviation } = greatestGap(counts, last.p, draws);
    return `${words} Of ${plural(draws, "draw")}, the share of ${quoted(name(token))} is off by most, ${gap.toFixed(3)}; its standard deviation is ${deviation.toFixed(3)}.`;
  }

  figure.table(() => {
    const { stages, name, counts, draws } = shown;
    const [first, last] = [stages[0].p, stages.at(-1).p];
    const cut = cutBy(stages);
    const order = Array.from(first, (_, i) => i).sort((a, b) => first[b] - first[a] || a - b).slice(0, 60);
    return {
      head: ["token", "model", "after the settings", "ruled out by", ...(draws > 0 ? [`of ${integer(draws)} draws`] : [])],
      rows: order.map((i) => [name(i), first[i].toFixed(4), last[i].toFixed(4), cut[i], ...(draws > 0 ? [counts[i]] : [])]),
      note: `The ${order.length} most probable of ${integer(first.length)} tokens.`,
    };
  });

  figure.draw(() => {
    const now = source();
    chosen.input.value = clamp(model.get("text"), 0, texts().length - 1);
    if (document.activeElement !== live.typed) live.typed.value = String(model.get("prompt") ?? "");
    on.textContent = writing ? "Stop" : "Write on";
    back.setAttribute("aria-disabled", String(now.written.length === 0));
    figure.root.setAttribute("aria-busy", String(now.logits === undefined));
    if (now.logits === undefined) {
      ask(now.ids).then(figure.redraw, (error) => live.fail(now.asked, error));
      return;
    }
    const draws = clamp(model.get("draws"), 0, 100_000);
    const stages = drawnFrom(now.logits, now.ids);
    const counts = draws > 0 ? drawCounts(stages.at(-1).p, draws, randomFrom(model.get("seed"))) : null;
    shown = { ...now, stages, counts, draws };
    story.replaceChildren(now.prompt, h("span", { className: "bw-story-new" }, now.written.map(now.name).join("")));
    reading.note.textContent = now.written.length > 0 ? `${plural(now.written.length, "token")} written, in colour` : "";
    reading.body.scrollTop = reading.body.scrollHeight;
    paintTokens(shown);
    paintSteps(shown);
    paintRanks(shown);
    figure.say(now.lacking + sentence(shown));
  });
  return () => {
    stop();
    live.end();
    figure.end();
  };
}

export default { render, address: ["text", "temperature", "top_k", "top_p", "min_p", "penalty", "draws", "seed", "prompt"] };
