// The figure Autoregression: the model in the page writes, one token after the other, and the reader may overrule it.

import { drawIndex } from "./dice.js";
import { integer, plural, significant } from "./format.js";
import { frame, h, setText, wellFormed } from "./frame.js";
import { headRadios, innerLines, innerTable } from "./inner_view.js";
import { probability } from "./probability.js";
import { APPEND, CHOOSE, FORWARD, MAX_BRANCHES, MAX_ROUNDS, SOFTMAX, STAGES, chanceOf, chanceOfBranch, choice, lot, missing, observation, overrule, placeOf, reachOf, soundBranches, stepOf, writtenAt } from "./rounds.js";
import { layersTable, looksOf, oddsTable, radio, radios, refill, scoresTable, streamRows } from "./round_view.js";
import { openModel } from "./runtime.js";
import { tokenText } from "./tiles.js";
import { quoted, quotedText, utf8Bytes, visibleToken } from "./words.js";

const MAX_PROMPT = 400; // characters

/** Any value as a whole number from 0 to count - 1: an address may say anything. */
const clamp = (value, count) => Math.max(0, Math.min(Math.round(Number(value)) || 0, count - 1));

function render({ model, el }) {
  const figure = frame({ model, el }, { name: "One token after the other", lead: "Press Step, and watch the model make one token; then choose another one for it, and see where that leads." });
  const recording = () => model.get("recording");
  const seen = new Map(); // ids -> observation: what is recorded, and what the model has computed
  let session = null;
  let phase = "recorded"; // "loading", "live", "failed"
  let failure = "";
  let loaded = 0;
  let busy = false;
  let ended = false;

  function remember() {
    const { ids, rounds } = recording();
    let text = [...ids];
    for (const round of rounds) {
      seen.set(String(text), round);
      text = [...text, round.top[0][0]];
    }
  }
  remember();

  // ------------------------------------------------------------------------------------------------- the state
  const known = new Map(); // id -> text, as far as the recording tells
  function learn() {
    const { ids, tokens, rounds } = recording();
    ids.forEach((id, i) => known.set(id, tokens[i]));
    for (const { top } of rounds) for (const [id, text] of top) known.set(id, text);
  }
  learn();
  const textOf = (id) => (session ? (id < session.tokenizer.size ? session.tokenizer.text(id) : "?") : known.get(id) ?? "?");
  const endId = () => (session ? session.tokenizer.end : recording().ids[0]);
  const promptIds = () => {
    const prompt = model.get("prompt");
    if (session) return [session.tokenizer.end, ...session.tokenizer.encode(prompt)];
    return prompt === recording().prompt ? recording().ids : null; // not known before the tokenizer is here
  };
  const layersOf = () => recording().rounds[0].layers.length;
  const headsOf = () => recording().rounds[0].layers[0].attention.length;
  const at = () => {
    const branches = soundBranches(model.get("branches"));
    const branch = clamp(model.get("branch"), branches.length);
    const step = clamp(model.get("step"), APPEND * MAX_ROUNDS + 1);
    const { round, stage } = placeOf(step);
    const prompt = promptIds();
    const chosen = branches[branch];
    const before = prompt && [...prompt, ...chosen.slice(0, round)];
    const now = before && chosen.length >= round ? seen.get(String(before)) : undefined;
    return { branches, branch, chosen, step, round, stage, prompt, before, now, token: chosen[round], text: prompt && [...prompt, ...chosen.slice(0, writtenAt(step))], layer: clamp(model.get("layer"), layersOf()), head: clamp(model.get("head"), headsOf()) };
  };
  const settings = () => ({ rule: model.get("rule"), seed: model.get("seed") });
  const mostProbable = () => settings().rule !== "drawn";

  /** How far one can step: as far as the observations reach, or on and on. */
  function reach() {
    const { chosen, prompt } = at();
    if (!prompt) return 0;
    const end = chosen.indexOf(endId());
    if (end >= 0) return stepOf(end, APPEND);
    if (session) return APPEND * Math.min(MAX_ROUNDS, session.config.max_position_embeddings - prompt.length);
    return reachOf(seen, { prompt, chosen }, settings());
  }

  // ------------------------------------------------------------------------------------------------- the model
  function load() {
    if (phase === "loading" || phase === "live") return;
    [phase, failure] = ["loading", ""];
    figure.redraw();
    const onProgress = (progress) => {
      loaded = progress.loaded / progress.total;
      figure.redraw();
    };
    openModel({ model, onProgress }).then(
      (opened) => {
        if (ended) return opened.close();
        session = opened;
        phase = "live";
        figure.redraw();
        return undefined;
      },
      (error) => {
        [phase, failure] = ["failed", error.message];
        figure.redraw();
      },
    );
  }

  /** The next thing to do for the step that is shown; after that, for the branches, which are shown with their chance. */
  function wanted() {
    const state = at();
    const first = missing(seen, state, { settings: settings(), live: session !== null, end: endId() });
    if (first || !session || !state.prompt) return first;
    const looks = state.branches.map((branch) => chanceOfBranch(seen, state.prompt, branch).look);
    const unknown = looks.find((look) => look && !seen.get(String(look))?.probabilities); // not again for an id that is no token
    return unknown ? { look: unknown } : null;
  }

  /** Does what is missing, one thing after the other, until the picture can be drawn. */
  async function advance() {
    if (busy || ended) return;
    busy = true;
    try {
      for (let next = wanted(); next && !ended; next = wanted()) {
        if (next.append !== undefined) {
          const { branches, branch } = at();
          figure.set({ branches: branches.map((ids, i) => (i === branch ? [...ids, next.append] : ids)) });
        } else {
          if (!session) break;
          const met = await session.inspect(next.look);
          seen.set(String(next.look), observation(met, textOf));
          figure.redraw();
        }
      }
      const end = at().chosen.indexOf(endId());
      if (end >= 0 && at().step > stepOf(end, APPEND)) figure.set({ step: stepOf(end, APPEND) });
    } catch (error) {
      session?.close();
      if (!ended) [phase, failure, session] = ["failed", error.message, null];
    } finally {
      busy = false;
      figure.redraw();
    }
  }

  // ---------------------------------------------------------------------------------------------- the controls
  const prompt = figure.text("prompt", { label: "Prompt", maxLength: MAX_PROMPT, change: (value) => {
    figure.set({ prompt: value, branches: [[]], branch: 0, step: 0 });
    load();
  } });
  figure.select("rule", { label: "The next token is", options: [["most probable", "the most probable"], ["drawn", "drawn by its probability"]], change: (rule) => {
    figure.set({ rule });
    if (rule === "drawn") load();
  } });
  const seed = figure.number("seed", { label: "Seed", min: 0, max: 9999 });
  const opener = figure.button("Load the model", load);
  const gauge = h("progress", { max: 1, "aria-label": "The model is loaded" });
  const notice = h("span", { className: "bw-note", role: "status" });
  figure.controls.append(h("div", { className: "bw-load" }, opener, gauge, notice));
  const stepper = figure.stepper("step", { label: "Step", count: reach, ms: 900 });
  const whole = figure.button("Next token", () => {
    stepper.stop();
    const { round, stage } = at();
    stepper.go(stepOf(stage === APPEND ? round + 1 : round, APPEND));
  });
  figure.controls.querySelector(".bw-buttons").append(whole);
  figure.remember("branches", "branch", "layer", "head");
  for (const trait of ["branches", "branch", "layer", "head"]) figure.on(trait, figure.redraw);
  figure.on("recording", () => {
    seen.clear();
    remember();
    learn();
    figure.redraw();
  });

  // ----------------------------------------------------------------------------------------------- the picture
  const loop = h("ol", { className: "bw-stages" }, STAGES.map((name, i) => h("li", {}, h("button", { type: "button", className: "bw-stage", "data-stage": i }, h("small", {}, i + 1), name))));
  figure.picture.append(loop);
  const tiles = h("div", { className: "bw-tiles bw-prompt", dir: "auto" });
  figure.panel("The text so far").body.append(tiles);
  const textNote = tiles.parentNode.parentNode.querySelector(".bw-note");
  const inside = figure.panel("Inside the model");
  const rows = h("div", { className: "bw-streams", role: "radiogroup", "aria-label": "Layer to look into" });
  const added = h("p", { className: "bw-note bw-looks" });
  const heads = h("div", { className: "bw-streams", role: "radiogroup", "aria-label": "Head to look into" });
  const inner = h("div", { className: "bw-streams bw-looks" });
  inside.body.append(rows, added, heads, inner);
  const scores = figure.panel("What comes next?");
  const table = h("div", { className: "bw-choices" });
  const word = h("input", { type: "text", maxLength: 60, dir: "auto", autocomplete: "off", autocapitalize: "off", spellcheck: false, enterKeyHint: "go" });
  const say = figure.button("Say it", () => sayIt());
  const again = figure.button("Draw anew", () => drawAnew());
  scores.body.append(table, h("div", { className: "bw-guess" }, h("label", { className: "bw-field" }, h("span", { className: "bw-label" }, "Or what if it had said"), word), say, again));
  const tree = figure.panel("Branches");
  const list = h("div", { className: "bw-branches", role: "radiogroup", "aria-label": "Branch that is shown" });
  tree.body.append(list);

  /** Lets the model have said these tokens in this round, and shows them appended. */
  function saying(ids) {
    const { branches, branch, round } = at();
    stepper.stop();
    figure.set({ ...overrule(branches, branch, round, ids), step: stepOf(round + ids.length - 1, APPEND) });
    load();
  }
  function sayIt() {
    const text = wellFormed(word.value);
    if (text === "" || at().stage < SOFTMAX) return;
    if (!session) {
      load();
      return;
    }
    const { text: before } = at();
    const glued = /\s$/.test(session.tokenizer.decode(before)) || /^[\s.,!?;:'"]/.test(text) ? text : ` ${text}`; // a word follows a space
    saying(session.tokenizer.encode(glued));
    word.value = "";
  }
  function drawAnew() {
    const { now, before } = at();
    if (!now?.probabilities) return;
    const next = (model.get("seed") + 1) % 10_000;
    figure.set({ seed: next });
    saying([drawIndex(now.probabilities, lot(next, before))]);
  }
  figure.listen(word, "keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) sayIt();
  });
  figure.listen(loop, "click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    stepper.stop();
    const { round } = at();
    const stage = Number(button.dataset.stage);
    stepper.go(stage === 0 ? 0 : stepOf(round, stage));
  });
  figure.listen(table, "click", (event) => {
    const button = event.target.closest("button");
    if (button) saying([Number(button.dataset.id)]);
  });
  figure.listen(tiles, "click", (event) => {
    const button = event.target.closest("button");
    if (button) {
      stepper.stop();
      stepper.go(stepOf(Number(button.dataset.round), CHOOSE));
    }
  });
  radios(figure, rows, (layer) => figure.set({ layer }));
  radios(figure, heads, (head) => figure.set({ head }));
  radios(figure, list, (branch) => {
    stepper.stop();
    const { branches } = at();
    figure.set({ branch, step: stepOf(Math.max(0, branches[branch].length - 1), branches[branch].length > 0 ? APPEND : 0) });
  });
  function paintLoad() {
    const busyLoading = phase === "loading";
    opener.hidden = phase === "live" || busyLoading;
    gauge.hidden = !busyLoading;
    if (busyLoading) gauge.value = loaded;
    const size = "2.4 MB";
    const words = {
      recorded: `A recorded run. With the model (${size}) this page computes it, for any prompt.`,
      loading: `Loading the model: ${Math.round(100 * loaded)} %`,
      live: "The model runs in this page.",
      failed: `${failure} ${at().prompt ? "The recorded run is shown." : "Reset shows the recorded run."}`,
    }[phase];
    setText(notice, words);
    seed.node.hidden = mostProbable();
    again.hidden = mostProbable();
    again.setAttribute("aria-disabled", String(!at().now?.probabilities));
  }

  function paintText({ text, prompt: start, step, stage, chosen }) {
    if (!text) {
      tiles.replaceChildren(h("span", { className: "bw-note" }, phase === "failed" ? "This prompt needs the model." : "Its tokens are shown once the model is loaded."));
      setText(textNote, "");
      return;
    }
    const newest = stage === APPEND ? writtenAt(step) - 1 : -1;
    tiles.replaceChildren(
      ...text.map((id, i) => {
        const round = i - start.length;
        const inner = [h("bdi", { className: "bw-token" }, tokenText(utf8Bytes(textOf(id)))), h("small", {}, String(id))];
        if (round < 0) return h("span", { className: stage === 0 ? "bw-tile is-new" : "bw-tile" }, inner);
        return h("button", { type: "button", className: `bw-tile bw-written ${round === newest ? "is-new" : ""}`, "data-round": round, "aria-label": `Token ${round + 1} that was written: ${visibleToken(textOf(id))}` }, inner);
      }),
      ...(stage > 0 && stage < APPEND ? [h("span", { className: "bw-tile is-next" }, stage === CHOOSE && chosen[at().round] !== undefined ? "!" : "?")] : []),
    );
    setText(textNote, `${plural(text.length, "token")}; the ids beneath`);
  }

  function paintInside({ now, layer, head, before, stage }) {
    inside.node.hidden = stage < FORWARD;
    if (inside.node.hidden) return;
    for (const part of [added, heads, inner]) part.hidden = !now;
    if (!now) {
      rows.replaceChildren(h("p", { className: "bw-veil" }, phase === "live" ? "Computing" : "Load the model to see this"));
      return;
    }
    setText(inside.note, `what the last token, ${quoted(textOf(before[before.length - 1]))}, becomes: a row of ${now.embedding.values.length} numbers`);
    refill(rows, streamRows(now, layer, quoted(textOf(before[before.length - 1]))));
    const entry = now.layers[layer];
    setText(added, `Layer ${layer}: attention adds a step of length ${significant(entry.attended)}, the feed-forward network one of ${significant(entry.fed)}. Its heads look at:`);
    refill(heads, headRadios(looksOf(entry, (place) => quoted(textOf(before[place]))), head));
    inner.replaceChildren(...innerLines(entry, layer, head));
  }

  function paintScores({ now, stage, token, before }) {
    scores.node.hidden = stage <= FORWARD;
    if (scores.node.hidden) return;
    if (!now) {
      table.replaceChildren(h("p", { className: "bw-veil" }, phase === "live" ? "Computing" : "Load the model to see this"));
      return;
    }
    const soft = stage >= SOFTMAX;
    const V = recording().vocab_size;
    setText(scores.note, `${now.top.length} of ${integer(V)} tokens; press one, and it is what the model said`);
    const most = now.top[0][2];
    const least = now.logits ? now.logits.reduce((a, b) => Math.min(a, b), most) : Math.min(0, ...now.top.map(([, , logit]) => logit));
    const listed = now.top.map(([id, text, logit, p]) => ({ id, text, logit, p }));
    if (stage >= CHOOSE && token !== undefined && !listed.some(({ id }) => id === token)) {
      listed.push({ id: token, text: textOf(token), logit: now.logits?.[token] ?? NaN, p: chanceOf(now, token) ?? 0 });
    }
    const took = (id) => stage >= CHOOSE && id === token;
    const kept = table.contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
    table.replaceChildren(oddsTable(listed, { soft, took, least, most, V }));
    if (kept !== undefined) table.querySelector(`[data-id="${CSS.escape(kept)}"]`)?.focus();
    say.setAttribute("aria-disabled", String(stage < SOFTMAX));
  }

  function paintBranches({ branches, branch, prompt: start }) {
    tree.node.hidden = branches.length === 1 && branches[0].length === 0;
    if (tree.node.hidden || !start) return;
    setText(tree.note, `what was written so far, and the logarithm of its probability; the last ${MAX_BRANCHES} are kept`);
    refill(list, branches.map((ids, i) => {
      const text = ids.map(textOf).join("");
      const { log } = chanceOfBranch(seen, start, ids);
      const words = ids.length === 0 ? "nothing yet" : quotedText(text);
      const odds = log === null || ids.length === 0 ? "" : `ln p = ${significant(log)}`;
      return radio(i, i === branch, `Branch ${i}: ${words} ${odds}`, h("span", { className: "bw-branch-text", dir: "auto" }, words), h("span", { className: "bw-note" }, odds));
    }));
  }

  function sentence({ stage, round, now, prompt: start, before, token, text, layer, chosen }) {
    if (!start) return phase === "failed" ? `${failure} Press Reset for the recorded run.` : "The model is being loaded; then this prompt can be tokenized.";
    if (stage === 0) return `Tokenize: the prompt becomes ${plural(start.length - 1, "token")}, after one that marks the beginning of a text. Press Step for the forward pass.`;
    if (!now) return phase === "live" ? `${STAGES[stage]}: computing.` : "This needs the model: load it, or press Reset for the recorded run.";
    const last = textOf(before[before.length - 1]);
    const [[, best, logit, p]] = now.top;
    const V = integer(recording().vocab_size);
    const name = `Token ${round + 1}, ${STAGES[stage].toLowerCase()}`;
    if (stage === FORWARD) return `${name}: ${plural(now.layers.length, "layer")} rewrite the row of ${quoted(last)}, token ${before.length}, looking at all ${before.length}. After layer ${layer} it would say ${quoted(now.layers[layer].says[0])}.`;
    if (stage < SOFTMAX) return `${name}: one for each of ${V} tokens. The largest, ${logit.toFixed(2)}, is that of ${quoted(best)}.`;
    if (stage === SOFTMAX) return `${name}: e to the power of each logit, divided by the sum of all ${V}. ${quoted(best)} gets ${probability(p)}.`;
    if (token === undefined) return `${name}: computing.`;
    const odds = chanceOf(now, token);
    const share = odds === undefined ? "" : ` (${probability(odds)})`;
    const own = choice(now, before, settings());
    const how = own === token ? (mostProbable() ? "it is the most probable" : `the lot ${lot(model.get("seed"), before).toFixed(2)} falls on it`) : `overruled: by itself it would have said ${own === undefined ? "another" : quoted(textOf(own))}`;
    if (stage === CHOOSE) return `${name}: ${quoted(textOf(token))}${share}; ${how}.`;
    const { log } = chanceOfBranch(seen, start, chosen.slice(0, round + 1));
    const joint = log === null ? "" : ` All that was written has probability ${significant(Math.exp(log))}.`;
    const next = token === endId() ? "the model has ended its text." : "the loop begins again with the forward pass.";
    return `${name}: the text has ${plural(text.length, "token")} now, and ${next}${joint}`;
  }

  figure.table(() => {
    const { stage, now, text, before, branches, layer, head, prompt: start } = at();
    if (stage === 0 || stage === APPEND || !now) return { head: ["place", "token", "id"], rows: (text ?? []).map((id, i) => [i, visibleToken(textOf(id)), id]), note: `The text at this step; ${plural(branches.length, "branch", "branches")}${start ? "" : ", not tokenized yet"}.` };
    if (stage === FORWARD) return [layersTable(now, (place) => visibleToken(textOf(before[place]))), innerTable(now.layers[layer], layer, head)];
    return scoresTable(now, textOf, recording().vocab_size);
  });

  figure.draw(() => {
    const state = at();
    if (phase === "recorded" && (!state.prompt || state.step > reach())) load(); // as an address, or Python, may ask
    loop.querySelectorAll("button").forEach((button, i) => {
      button.setAttribute("aria-current", i === state.stage ? "step" : "false");
      button.setAttribute("aria-disabled", String(i > 0 && stepOf(state.round, i) > reach()));
    });
    whole.setAttribute("aria-disabled", String(state.step >= reach()));
    prompt.input.setAttribute("aria-busy", String(!state.prompt));
    stepper.show();
    paintLoad();
    paintText(state);
    paintInside(state);
    paintScores(state);
    paintBranches(state);
    figure.say(sentence(state));
    const next = wanted();
    const waits = next !== null && (next.append !== undefined || session !== null);
    figure.root.setAttribute("aria-busy", String(waits || phase === "loading"));
    if (waits) advance();
  });
  return () => {
    ended = true;
    session?.close();
    figure.end();
  };
}

export default { render, address: ["prompt", "branches", "branch", "step", "layer", "head", "rule", "seed"] };
