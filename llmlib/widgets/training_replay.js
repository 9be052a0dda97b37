// The figure TrainingReplay: a recorded training run, wound back and forth; the reader guesses the next word first.

import { chart, path, reference } from "./chart.js";
import { integer, plural, significant } from "./format.js";
import { frame, h, svg, wellFormed } from "./frame.js";
import { choices, levelFrom, shareOfGuess, tally } from "./guesses.js";
import { bars, bits, predictionRows, probability, surprise } from "./probability.js";
import { tokenText } from "./tiles.js";
import { findWord, isRight, nextWord, quoted, quotedText, title, utf8Bytes } from "./words.js";

const MAX_GUESS = 80; // characters
const MISSING = "not measured";

/** Any value as a whole number from 0 to count - 1: an address may say anything. */
export const place = (value, count) => Math.max(0, Math.min(Math.round(Number(value)) || 0, count - 1));

/** 3276800 -> "3.28 million tokens". */
export function tokensSeen(count) {
  if (count >= 1e9) return `${significant(count / 1e9)} billion tokens`;
  return count >= 1e6 ? `${significant(count / 1e6)} million tokens` : plural(count, "token");
}

/** The range of the steps' axis; on a log axis step 0 is drawn at 1. */
export function stepAxis(run, log) {
  const max = Math.max(run.curve.step.at(-1), run.moments.at(-1).step, log ? 2 : 1);
  return { min: log ? Math.max(1, Math.min(run.curve.step[0], run.moments[0].step)) : 0, max, log, label: log ? "training step (log scale)" : "training step", format: integer };
}

/** The range of an axis of losses: over all values, with some room above and below. */
export function lossAxis(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = 0.08 * (most - least || 1);
  return { min: Math.max(0, least - room), max: most + 2 * room };
}

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "Training, wound back and forth", lead: "Guess the next word and press Reveal; then wind the training back, and watch the model learn it." });
  const run = () => model.get("run");
  const at = () => {
    const { moments, prompts } = run();
    const prompt = place(model.get("prompt"), prompts.length);
    const { tokens } = prompts[prompt];
    const position = place(model.get("position"), tokens.length);
    const moment = place(model.get("moment"), moments.length);
    return { prompt, tokens, position, moment, now: moments[moment], prediction: moments[moment].predictions[prompt][position], truth: tokens[position + 1], guess: String(model.get("guess") ?? ""), revealed: model.get("revealed") === true };
  };
  /** Guesses that fit the run: an address or an older run may hold others. */
  const guesses = () => (model.get("guesses") ?? []).filter(([prompt, position]) => run().prompts[prompt]?.tokens[position + 1] !== undefined);
  const goTo = (prompt, position) => figure.set({ prompt, position: place(position, run().prompts[prompt].tokens.length), guess: "", revealed: false });

  // ------------------------------------------------------------------------------------------------ controls
  const promptName = ({ tokens }, i) => h("option", { value: i }, title(tokens));
  const prompts = figure.select("prompt", { label: "Prompt", options: [], change: (value) => goTo(Number(value), Math.min(at().position, run().prompts[value].tokens.length - 2)) });
  prompts.node.classList.add("bw-broad");
  const shown = figure.range("position", { label: "Tokens shown", min: 0, max: 1, format: () => `${at().position + 1} of ${at().tokens.length}`, change: (position) => goTo(at().prompt, position) });
  shown.node.classList.add("bw-broad");
  figure.checkbox("log_steps", { label: "Steps on a log scale" });
  const stepper = figure.stepper("moment", { label: "Moment of the training", count: () => run().moments.length - 1, ms: 1200 });
  figure.remember("guess", "revealed", "guesses");

  // ------------------------------------------------------------------------------------------------- picture
  const game = figure.panel("What comes next?");
  const tiles = h("div", { className: "bw-tiles bw-prompt", dir: "auto" });
  const typed = h("input", { type: "text", maxLength: MAX_GUESS, dir: "auto", autocomplete: "off", autocapitalize: "off", spellcheck: false, enterKeyHint: "go" });
  const reveal = figure.button("Reveal", () => uncover(), { primary: true });
  const next = figure.button("Next word", () => advance());
  const picks = h("div", { className: "bw-tiles bw-picks", role: "group", "aria-label": "Or pick one" });
  const score = h("p", { className: "bw-score" });
  game.body.append(
    tiles,
    h("div", { className: "bw-guess" }, h("label", { className: "bw-field" }, h("span", { className: "bw-label" }, "Your guess: type or pick a word"), typed), reveal, next),
    picks,
    score,
  );
  const expects = figure.panel("The model expects", { half: true });
  const surprises = figure.panel("Surprise of the true word", { half: true });
  const losses = figure.panel("Loss", { half: true });
  const norms = figure.panel("Gradient norm", { half: true });
  const story = figure.panel("A text it writes at this moment", { scroll: true });
  const words = h("p", { className: "bw-story", dir: "auto" });
  story.body.append(words);

  function uncover() {
    const { prompt, position, truth, guess, revealed } = at();
    if (revealed) return;
    const first = guess.trim() !== "" || findWord(guess, [[truth, 0]]) === 0;
    const known = guesses();
    const isNew = first && truth !== undefined && !known.some(([p, t]) => p === prompt && t === position);
    figure.set(isNew ? { revealed: true, guesses: [...known, [prompt, position, guess]] } : { revealed: true });
  }
  function advance() {
    if (at().truth !== undefined) goTo(at().prompt, at().position + 1);
  }
  figure.listen(typed, "input", () => figure.set({ guess: wellFormed(typed.value) }));
  figure.listen(typed, "keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    if (!at().revealed) uncover();
    else advance();
  });
  figure.listen(picks, "click", (event) => {
    const index = [...picks.children].indexOf(event.target.closest("button"));
    if (index >= 0 && !at().revealed) figure.set({ guess: choices(run(), at().prompt, at().position)[index] });
  });
  figure.listen(tiles, "click", (event) => {
    const index = [...tiles.children].indexOf(event.target.closest(".bw-tile"));
    if (index >= 0) goTo(at().prompt, index - 1);
  });
  for (const trait of ["guess", "revealed", "guesses"]) figure.on(trait, figure.redraw);
  figure.on("run", () => {
    figure.remember("moment", "prompt", "position", "guess", "revealed", "guesses"); // where a reset leads to from now on
    listPrompts();
    figure.redraw();
  });
  function listPrompts() {
    prompts.input.replaceChildren(...run().prompts.map(promptName));
  }
  listPrompts();

  function paintGame({ prompt, tokens, position, guess, revealed, truth, prediction }) {
    const tileOf = (token, i) => {
      if (i === position + 1 && !revealed) return h("span", { className: "bw-tile is-next" }, "?");
      if (i > position + 1) return h("span", { className: "bw-tile is-idle" }, "\u00a0");
      return h("span", { className: i === position + 1 ? "bw-tile is-focus" : "bw-tile" }, h("bdi", { className: "bw-token" }, tokenText(utf8Bytes(token))));
    };
    tiles.replaceChildren(...tokens.map(tileOf), ...(truth === undefined ? [h("span", { className: "bw-tile is-next" }, revealed ? "end" : "?")] : []));
    game.note.textContent = `token ${position + 2} of ${tokens.length}, from the ${position + 1} before it`;
    if (wellFormed(typed.value) !== guess) typed.value = guess;
    reveal.setAttribute("aria-disabled", String(revealed));
    next.setAttribute("aria-disabled", String(position + 1 >= tokens.length));
    const offered = choices(run(), prompt, position);
    picks.replaceChildren(...offered.map((token) => h("button", { type: "button", className: "bw-tile bw-pick", "aria-pressed": String(token === guess), "aria-disabled": String(revealed) }, h("bdi", { className: "bw-token" }, tokenText(utf8Bytes(token))))));
    score.replaceChildren(...scoreLines({ tokens, position, guess, revealed, truth, prediction }));
  }

  function scoreLines({ tokens, position, guess, revealed, truth, prediction }) {
    const lines = [];
    if (revealed && guess !== "") {
      const { p, bound } = shareOfGuess(guess, prediction, tokens, position);
      const right = truth === undefined ? "" : isRight(guess, tokens, position) ? ", is right" : `, is not what follows`;
      lines.push(h("b", {}, `Your guess, ${quoted(guess)}${right}.`), ` The model gives it ${bound ? (p < 0.005 ? "less than 0.01" : `at most ${p.toFixed(2)}`) : probability(p)}. `);
    }
    const counted = tally(run(), guesses(), at().moment);
    if (counted.n > 0) {
      const level = counted.n < 3 ? -2 : levelFrom(run(), guesses());
      const since = level === -2 ? "" : level === -1 ? " It never catches up with you." : ` It is level with you from step ${integer(run().moments[level].step)} on.`;
      lines.push(`So far, of ${plural(counted.n, "word")}: you had ${integer(counted.reader)} right, this moment's model has ${integer(counted.model)} and is surprised by ${counted.nats.toFixed(2)} nats on average.${since}`);
    }
    return lines.length > 0 ? lines : [h("span", { className: "bw-note" }, "Your guess counts once you press Reveal; at each word, the first one does.")];
  }

  function paintPrediction({ tokens, position, guess, revealed, truth, prediction, now }) {
    expects.note.textContent = `at step ${integer(now.step)}`;
    surprises.node.hidden = truth === undefined;
    if (!revealed) {
      expects.body.replaceChildren(h("p", { className: "bw-veil" }, "Hidden until you press Reveal"));
      return;
    }
    const { rows, tail } = predictionRows(prediction, truth);
    const yours = guess === "" ? -1 : isRight(guess, tokens, position) ? rows.findIndex((row) => row.truth) : findWord(guess, prediction.top);
    const lines = rows.map(({ token, p, truth: isTrue }, i) => ({ token, p, note: [isTrue ? "true" : "", i === yours ? "yours" : ""].filter(Boolean).join(", "), className: isTrue ? "is-focus" : "" }));
    expects.body.replaceChildren(bars(lines, tail, { head: ["next token", "probability", "mark"], others: `${integer(run().vocab_size - rows.length)} more`, quiet: true }));
  }

  const clickable = (plot, xAxis) => {
    plot.node.classList.add("is-clickable");
    plot.node.addEventListener("click", (event) => {
      const box = plot.node.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * plot.width;
      const distance = run().moments.map(({ step }) => Math.abs(plot.x(Math.max(step, xAxis.min)) - x));
      stepper.stop();
      stepper.go(distance.indexOf(Math.min(...distance)));
    });
  };

  /** A curve over the steps, all of it pale, what is done in ink, and this moment's point: [[step, value], …], null left out. */
  function plotOver(body, { y, points, moments, now, value, format, label, dots = [], limits = [] }) {
    const x = stepAxis(run(), model.get("log_steps") !== false);
    const plot = chart({ x, y, width: 340, height: 205, label });
    const there = ([step, v]) => [Math.max(step, x.min), v];
    const sound = points.filter(([, v]) => v !== null);
    const here = plot.x(Math.max(now.step, x.min));
    plot.marks.append(
      svg("path", { class: "bw-curve", d: path(sound.map(there), plot) }),
      svg("path", { class: "bw-curve is-done", d: path(sound.filter(([step]) => step <= now.step).map(there), plot) }),
      ...dots.map(there).map(([s, v]) => svg("circle", { class: "bw-dot", cx: plot.x(s), cy: plot.y(v), r: 3 })),
      ...moments.map((step) => svg("path", { class: "bw-moment", d: `M${plot.x(Math.max(step, x.min))} ${plot.bottom}v-6` })),
      svg("path", { class: "bw-now", d: `M${here} ${plot.bottom}V${plot.top}` }),
    );
    if (value !== null && value !== undefined) {
      const end = here > plot.right - 60;
      const height = Math.max(plot.y(value), plot.top);
      plot.marks.append(
        svg("circle", { class: "bw-point", cx: here, cy: height, r: 5.5 }),
        svg("text", { class: "bw-point-label", x: here + (end ? -9 : 9), y: Math.max(height - 8, plot.top + 10), "text-anchor": end ? "end" : "start" }, format(value)),
      );
    }
    for (const limit of limits) plot.marks.append(...reference(plot, limit.value, limit.words, limit)); // last: words above lines
    clickable(plot, x);
    body.replaceChildren(plot.node);
  }

  const two = (value) => value.toFixed(2);

  function paintCurves({ now, prompt, position, truth, revealed, prediction }) {
    const { curve, entropy, vocab_size: V, moments } = run();
    const uniform = Math.log(V);
    const steps = moments.map(({ step }) => step);
    const limits = [{ value: uniform, words: `ln V = ${two(uniform)}: uniform guess`, end: true }];
    const along = model.get("log_steps") === false; // the curve runs along E: its name stands above the points and their number
    if (entropy !== null) limits.push({ value: entropy, words: `E = ${two(entropy)}: entropy`, className: "is-warn", end: along, lift: along ? 18 : 0 });
    const held = [...curve.held_out];
    for (const { step, held_out: v } of moments) if (v !== null && !held.some(([s]) => s === step)) held.push([step, v]);
    const seen = [...curve.loss, ...held.map(([, v]) => v), ...limits.map(({ value }) => value)];
    losses.note.textContent = "line: training; circles: held out";
    plotOver(losses.body, { y: { ...lossAxis(seen), label: "loss (nats per token)" }, points: curve.step.map((s, i) => [s, curve.loss[i]]), dots: held, moments: steps, now, value: now.held_out ?? now.loss, format: two, limits, label: "Loss against training steps, with a uniform guess above and the text's own entropy below; the table has the numbers." });

    const gradients = moments.map(({ gradient_norm: v }) => v).filter((v) => v !== null);
    const most = Math.max(...curve.gradient_norm, ...gradients);
    norms.note.textContent = now.gradient_norm === null ? MISSING : significant(now.gradient_norm);
    plotOver(norms.body, { y: { min: 0, max: 1.05 * most || 1, label: "norm of all gradients" }, points: curve.step.map((s, i) => [s, curve.gradient_norm[i]]), moments: steps, now, value: now.gradient_norm, format: significant, label: "Norm of the parameters' gradients against training steps; the table has the numbers." });

    if (truth === undefined) return;
    if (!revealed) {
      surprises.note.textContent = "";
      surprises.body.replaceChildren(h("p", { className: "bw-veil" }, "Hidden until you press Reveal"));
      return;
    }
    const nats = (moment) => surprise(moment.predictions[prompt][position].actual);
    const finite = moments.map((moment) => [moment.step, nats(moment)]).filter(([, v]) => Number.isFinite(v));
    const here = surprise(prediction.actual);
    surprises.note.textContent = `${significant(here)} nats = ${significant(bits(here))} bits`;
    plotOver(surprises.body, { y: { min: 0, max: 1.16 * Math.max(uniform, ...finite.map(([, v]) => v)), label: "surprise (nats)" }, points: finite, dots: finite, moments: steps, now, value: Number.isFinite(here) ? here : null, format: two, limits: limits.slice(0, 1), label: `Surprise of ${quoted(truth)} against training steps; the table has the numbers.` });
  }

  function sentence({ now, tokens, position, guess, revealed, truth, prediction }) {
    const { entropy } = run();
    const loss = now.held_out ?? now.loss;
    const kind = now.held_out === null ? "on training text" : "on held-out text";
    const above = entropy === null || now.held_out === null ? "" : `, ${two(Math.max(0, loss - entropy))} above the entropy`;
    const where = `Step ${integer(now.step)}, ${tokensSeen(now.tokens)} seen${loss === null ? "" : `: loss ${two(loss)} nats ${kind}${above}`}.`;
    const context = quotedText(tokens.slice(Math.max(0, position - 4), position + 1).join("").trimStart());
    if (!revealed) return `${where} What follows ${context}? ${guess === "" ? "Guess" : `You guess ${quoted(guess)}`}; then press Reveal.`;
    const [[best, p]] = prediction.top;
    const first = `After ${context} it expects ${quoted(best)} first (${probability(p)}).`;
    if (truth === undefined) return `${where} ${first} The prompt ends here.`;
    const nats = surprise(prediction.actual);
    const whole = nextWord(tokens, position);
    return `${where} ${first} The true token is ${quoted(truth)}${whole === truth ? "" : `, which begins ${quoted(whole)}`}: probability ${probability(prediction.actual)}, surprise ${significant(nats)} nats (${significant(bits(nats))} bits).`;
  }

  figure.table(() => {
    const { prompt, position, truth, revealed } = at();
    const cell = (value) => (value === null ? "" : two(value));
    const shownNow = revealed && truth !== undefined;
    return {
      head: ["moment", "step", "tokens seen", "training loss", "held-out loss", "gradient norm", ...(shownNow ? ["first choice", "p(true token)", "surprise (nats)"] : [])],
      rows: run().moments.map((moment, i) => {
        const { top, actual } = moment.predictions[prompt][position];
        return [i, integer(moment.step), integer(moment.tokens), cell(moment.loss), cell(moment.held_out), moment.gradient_norm === null ? "" : significant(moment.gradient_norm), ...(shownNow ? [`${quoted(top[0][0])} ${probability(top[0][1])}`, probability(actual), two(surprise(actual))] : [])];
      }),
      note: `The run's moments; losses in nats per token${shownNow ? `; the true token is ${quoted(truth)}` : ""}.`,
    };
  });

  figure.draw(() => {
    const moment = at();
    shown.input.max = moment.tokens.length - 1;
    shown.write(moment.position);
    prompts.input.value = moment.prompt;
    stepper.show();
    paintGame(moment);
    paintPrediction(moment);
    paintCurves(moment);
    words.textContent = moment.now.sample === "" ? "Nothing was written at this moment." : moment.now.sample;
    story.note.textContent = `step ${integer(moment.now.step)}`;
    figure.say(sentence(moment));
    figure.root.setAttribute("aria-busy", "false");
  });
  return figure.end;
}

export default { render, address: ["moment", "prompt", "position", "guess", "revealed", "log_steps"] };
