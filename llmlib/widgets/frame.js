// What every figure of the book has in common: its frame, its controls, its steps. See look.css for how it looks.
//
//   const figure = frame({ model, el }, { name: "Merges", lead: "Press Step, and watch …" });
//   figure.select("tie_break", { label: "Ties go to", options: [["greatest", "the greatest pair"], …] });
//   figure.stepper("step", { label: "Merge", count: () => 12 });
//   const panel = figure.panel("Symbols");          // put the picture in panel.body
//   figure.draw(() => { …; figure.say("Merge 3 of 12: …"); });
//   figure.table(() => ({ head: […], rows: [[…], …] }));
//   return figure.end;                               // the clean-up
//
// A control is bound to a trait of the model by name: it writes what the reader does, and shows what Python sets. All
// text goes into the page as text, never as markup. No element has an id, so any number of views can share a page.

/** An HTML element. Props are properties ("className", "value") or, with a dash or where there is no such property, attributes. */
export function h(tag, props = {}, ...children) {
  const node = fill(document.createElement(tag), props, children);
  // JupyterLab takes arrows and space for its own shortcuts, unless the very element that has the focus says otherwise.
  if (node.tabIndex >= 0) node.setAttribute("data-lm-suppress-shortcuts", "true");
  return node;
}

/** An SVG element; every prop is an attribute. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && node instanceof HTMLElement && !name.includes("-")) node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets an element's text, unless it is that already: a picture drawn again lays out only what has changed. */
export function setText(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

const TEXT_FIELDS = "textarea, select, input:not([type=checkbox]):not([type=button])";
const LONG_CELL = 100; // characters; a longer text is broken into lines
const TABLE_ROWS = 200; // a longer table shows its last rows, and says so

/** Builds the frame inside `el`; `name` is what a screen reader calls the figure, `lead` says what to do first. */
export function frame({ model, el }, { name, lead }) {
  const undo = []; // what the clean-up runs
  const bound = new Map(); // trait -> what it was at first
  const resets = [];
  let painter = () => {};
  let tableOf = null;
  let request = 0;
  let ended = false;
  let keys = () => false;

  const controls = h("div", { className: "bw-controls" });
  const picture = h("div", { className: "bw-picture", tabIndex: 0, role: "group" });
  const status = h("p", { className: "bw-status", role: "status", "aria-live": "polite" });
  const tableBody = h("div", { className: "bw-scroll", tabIndex: 0, role: "region", "aria-label": `${name}: as a table` });
  const details = h("details", { className: "bw-details" }, h("summary", {}, "As a table"), tableBody);
  const caption = h("figcaption", { className: "bw-caption" });
  const root = h(
    "figure",
    { className: "bw", "aria-label": name },
    h("p", { className: "bw-lead" }, lead),
    controls,
    picture,
    status,
    details,
    caption,
  );
  picture.setAttribute("aria-label", name);
  el.classList.add("book-widget");
  el.append(root);

  function on(trait, callback) {
    model.on(`change:${trait}`, callback);
    undo.push(() => model.off(`change:${trait}`, callback));
  }

  function listen(target, type, callback) {
    target.addEventListener(type, callback);
    undo.push(() => target.removeEventListener(type, callback));
  }

  /** Draws once, before the browser's next picture, however often it is asked. */
  function redraw() {
    if (request || ended) return;
    request = requestAnimationFrame(() => {
      request = 0;
      drawNow();
    });
  }

  function drawNow() {
    painter();
    if (details.open) drawTable();
  }

  function drawTable() {
    if (tableOf === null) return;
    tableBody.replaceChildren(...[tableOf()].flat().map(dataTable));
  }

  /** Sets traits as the reader's doing, in one message. */
  function set(values) {
    for (const [trait, value] of Object.entries(values)) model.set(trait, value);
    model.save_changes();
    redraw();
  }

  function reset() {
    for (const undoLocal of resets) undoLocal();
    set(Object.fromEntries(bound));
  }

  /** Ties an input to a trait: `read(input)` gives the trait's value, `write(value)` shows it. */
  function bind(trait, input, { read, write, type = "input", change }) {
    bound.set(trait, model.get(trait));
    const show = () => {
      write(model.get(trait));
      redraw();
    };
    write(model.get(trait));
    on(trait, show);
    listen(input, type, () => {
      const value = read(input);
      if (value === undefined) return;
      if (change) change(value);
      else set({ [trait]: value });
    });
  }

  function field(label, input, { unit, output, wide } = {}) {
    const words = h("span", { className: "bw-label" }, label, output ? h("span", {}, " ", output) : null);
    const parts = unit ? [words, h("span", { className: "bw-with-unit" }, input, h("span", {}, unit))] : [words, input];
    const node = h("label", { className: wide ? "bw-field bw-wide" : "bw-field" }, parts);
    controls.append(node);
    return node;
  }

  /** A slider; its value stands beside its label, as `format` writes it. */
  function range(trait, { label, unit = "", min, max, step = 1, format = String, change }) {
    const output = h("span", { className: "bw-value" }); // an <output> would take the label away from the slider
    const input = h("input", { type: "range", min, max, step });
    const write = (value) => {
      input.value = value;
      output.textContent = unit ? `${format(value)} ${unit}` : format(value);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    bind(trait, input, { read: () => input.valueAsNumber, write, change });
    return { node: field(label, input, { output }), input, write };
  }

  /** A number typed by the reader; what is no number between `min` and `max` is marked, and not taken. */
  function number(trait, { label, unit, min, max, step = 1, change }) {
    const input = h("input", { type: "number", min, max, step, inputMode: "decimal" });
    const read = () => {
      const sound = input.value !== "" && input.validity.valid;
      input.setAttribute("aria-invalid", String(!sound));
      return sound ? input.valueAsNumber : undefined;
    };
    const write = (value) => {
      if (document.activeElement !== input || input.valueAsNumber !== value) input.value = value;
    };
    bind(trait, input, { read, write, change });
    return { node: field(label, input, { unit }), input };
  }

  function select(trait, { label, options, change }) {
    const input = h("select", {}, options.map(([value, text]) => h("option", { value }, text)));
    bind(trait, input, { read: () => input.value, write: (value) => (input.value = value), type: "change", change });
    return { node: field(label, input), input };
  }

  function checkbox(trait, { label, change }) {
    const input = h("input", { type: "checkbox" });
    bind(trait, input, { read: () => input.checked, write: (value) => (input.checked = value), type: "change", change });
    const node = h("label", { className: "bw-check" }, input, h("span", {}, label));
    controls.append(node);
    return { node, input };
  }

  function text(trait, { label, rows = 2, maxLength, change }) {
    const input = h("textarea", { rows, maxLength, dir: "auto", spellcheck: false, autocomplete: "off" });
    const write = (value) => {
      if (input.value !== value) input.value = value;
    };
    bind(trait, input, { read: () => wellFormed(input.value), write, change });
    return { node: field(label, input, { wide: true }), input };
  }

  function button(label, action, { primary = false } = {}) {
    const node = h("button", { type: "button", className: primary ? "bw-button bw-primary" : "bw-button" }, label);
    listen(node, "click", action);
    return node;
  }

  /**
   * Reset, back, step, play, and a slider over all steps. `count()` says how many steps there are now; arrows step
   * wherever the focus is (except in a text field), space plays when the picture has the focus.
   */
  function stepper(trait, { label, count, ms = 800 }) {
    let timer = 0;
    const now = () => Math.min(model.get(trait), count());
    const output = h("span", { className: "bw-value" });
    const slider = h("input", { type: "range", min: 0, step: 1 });
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
    };
    const go = (to) => {
      const step = Math.max(0, Math.min(to, count()));
      if (step !== model.get(trait)) set({ [trait]: step });
      if (step === count()) stop();
    };
    const toggle = () => {
      if (timer) return stop();
      if (now() === count()) go(0);
      timer = setInterval(() => go(now() + 1), ms);
      play.textContent = "Pause";
      return undefined;
    };
    const back = button("Back", () => { stop(); go(now() - 1); });
    const step = button("Step", () => { stop(); go(now() + 1); }, { primary: true });
    const play = button("Play", toggle);
    const again = button("Reset", () => { stop(); reset(); });
    const show = () => {
      const [at, of] = [now(), count()];
      slider.max = of;
      slider.value = at;
      slider.disabled = of === 0;
      output.textContent = `${at} of ${of}`;
      slider.setAttribute("aria-valuetext", output.textContent);
      // aria-disabled, not disabled: a button that is switched off under the reader's finger would lose the focus
      back.setAttribute("aria-disabled", String(at === 0));
      step.setAttribute("aria-disabled", String(at === of));
      play.setAttribute("aria-disabled", String(of === 0));
    };
    bound.set(trait, model.get(trait));
    on(trait, redraw);
    listen(slider, "input", () => { stop(); go(slider.valueAsNumber); });
    resets.push(stop);
    undo.push(stop);
    keys = (event) => {
      if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
        stop();
        go(now() + (event.key === "ArrowRight" ? 1 : -1));
      } else if (event.key === " " && !event.target.closest("button, summary, input, a")) toggle();
      else return false;
      return true;
    };
    const jump = field(label, slider, { output });
    jump.classList.add("bw-jump");
    const buttons = h("div", { className: "bw-buttons" }, back, step, play, again);
    controls.append(h("div", { className: "bw-steps", role: "group", "aria-label": `${label}: steps` }, buttons, jump));
    return { show, stop, go };
  }

  /** A titled part of the picture; `note` stands beside the title, and `half` puts two of them side by side. */
  function panel(title, { half = false, scroll = false } = {}) {
    const note = h("span", { className: "bw-note" });
    const body = scroll ? h("div", { className: "bw-scroll", tabIndex: 0, role: "region", "aria-label": title }) : h("div");
    const node = h("section", { className: half ? "bw-panel bw-half" : "bw-panel" }, h("p", { className: "bw-title" }, title, " ", note), body);
    picture.append(node);
    return { node, body, note, title: node.firstChild };
  }

  function writeCaption() {
    const figureNumber = model.get("number");
    caption.replaceChildren(figureNumber ? h("b", {}, `Figure ${figureNumber}. `) : "", model.get("caption"));
  }

  listen(root, "keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TEXT_FIELDS)) return;
    if (keys(event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  });
  listen(details, "toggle", drawTable);
  on("caption", writeCaption);
  on("number", writeCaption);
  writeCaption();

  return {
    root, controls, picture, on, listen, set, redraw, reset, range, number, select, checkbox, text, button, stepper, panel, field,
    /** Draws the picture from the model: called at once, and after every change. */
    draw(callback) {
      painter = callback;
      drawNow();
    },
    /** What the picture shows now, in words. */
    say(words) {
      setText(status, words);
    },
    /** `callback()` gives {head, rows, note}, or a list of these: the same state as tables, made only while they are open. */
    table(callback) {
      tableOf = callback;
    },
    /** Traits without a control that Reset sets back, too. */
    remember(...traits) {
      for (const trait of traits) bound.set(trait, model.get(trait));
    },
    /** More to undo when the reader presses Reset, beside the traits. */
    onReset(callback) {
      resets.push(callback);
    },
    /** The clean-up: give it back from `render`. */
    end() {
      ended = true;
      cancelAnimationFrame(request);
      for (const step of undo) step();
      root.remove();
    },
  };
}

/** {head, rows, note} as a table of text. */
function dataTable({ head, rows, note }) {
  const shown = rows.slice(-TABLE_ROWS);
  const hidden = rows.length - shown.length;
  const notes = [note, hidden > 0 ? `The last ${TABLE_ROWS} of ${rows.length} rows.` : null].filter(Boolean).join(" ");
  return h(
    "table",
    { className: "bw-table" },
    notes ? h("caption", {}, notes) : null,
    h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
    h("tbody", {}, shown.map((row) => h("tr", {}, row.map((cell) => h("td", { className: String(cell).length > LONG_CELL ? "is-long" : "" }, String(cell)))))),
  );
}

/** A lone half of a surrogate pair cannot be sent to Python or be written as UTF-8: it becomes U+FFFD. */
export function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD");
}
