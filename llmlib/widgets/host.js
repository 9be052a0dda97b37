// Brings the figures of a static page to life. A classic script, so that it also works from disk.
//
// The page holds, for each figure, what BookWidget.twin() writes:
//   div.book-widget with data-widget="bpe_merges" and id="fig-bpe-merges", and in it
//     script with type="application/json": the state, {"text": "…", "step": 0, …}
//     div.book-widget-fallback: words and a table
// and, before or after this script, one classic script a kind of figure that registers its module's text:
//   (window.bookWidgets ??= {})["bpe_merges"] = "const … export default { render, address: ['step', …] }";
//
// `render({ model, el })` gets a model with get, set, on, off and save_changes, as in a notebook, and with
// load(file), which promises what a classic script beside this one puts into window.bookParts[file]. The traits named in
// `address` are read from, and written to, the page's address: #fig-bpe-merges?step=3. If anything fails, the fallback stays.
(() => {
  const MAX_ADDRESS = 1500; // characters; of a longer state, the address keeps only the figure's name
  const here = document.currentScript?.src ?? ""; // "" in a page of one file, which holds all that it needs
  const modules = {}; // name -> promise of the module, shared by all its figures
  const live = new Map(); // the figure's box -> {model, address, initial}
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

  const loading = {}; // file -> promise of what the script registers: the parts of a model, when a figure asks for them
  function loadPart(file) {
    loading[file] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = new URL(`${file}.js`, here);
      script.onload = () => resolve(window.bookParts[file]);
      script.onerror = () => {
        delete loading[file]; // so that it can be tried again
        script.remove();
        reject(new Error("A file of the model could not be loaded; check the connection, and try again."));
      };
      document.head.append(script);
    });
    return loading[file];
  }

  function makeModel(state, onSave) {
    const listeners = {};
    const emit = (event) => [...(listeners[event] ?? [])].forEach((callback) => callback());
    return {
      get: (key) => state[key],
      set(key, value) {
        if (same(state[key], value)) return;
        state[key] = value;
        emit(`change:${key}`);
        emit("change");
      },
      save_changes: onSave,
      load: here ? loadPart : undefined,
      on: (event, callback) => (listeners[event] ??= new Set()).add(callback),
      off: (event, callback) => (callback ? listeners[event]?.delete(callback) : delete listeners[event]),
    };
  }

  function load(name) {
    const text = window.bookWidgets?.[name];
    if (text === undefined) return Promise.reject(new Error(`The module of the figure "${name}" is not on this page.`));
    modules[name] ??= import(URL.createObjectURL(new Blob([text], { type: "text/javascript" }))).then((module) => module.default);
    return modules[name];
  }

  async function bring(box) {
    const fallback = box.querySelector(".book-widget-fallback");
    const el = document.createElement("div");
    try {
      const initial = JSON.parse(box.querySelector('script[type="application/json"]').textContent);
      const module = await load(box.dataset.widget);
      const figure = { address: module.address ?? [], initial, model: makeModel({ ...initial }, () => write(box)) };
      live.set(box, figure);
      await module.render({ model: figure.model, el });
      box.insertBefore(el, fallback);
      if (fallback) fallback.hidden = true;
      read(box);
    } catch (error) {
      el.remove();
      live.delete(box);
      if (fallback) fallback.hidden = false;
      console.error(error);
    }
  }

  function parts() {
    const [id, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
    let box = null;
    try { box = document.getElementById(decodeURIComponent(id)); } catch { /* as in #100%: not the name of a figure */ }
    return { box, query: new URLSearchParams(query) };
  }

  function read(only) {
    const { box, query } = parts();
    const figure = live.get(box);
    if (!figure || (only && only !== box) || `${query}` === "") return;
    for (const key of figure.address) {
      if (!query.has(key)) figure.model.set(key, figure.initial[key]);
      else if (typeof figure.initial[key] === "string") figure.model.set(key, query.get(key));
      else try { figure.model.set(key, JSON.parse(query.get(key))); } catch { /* not a value: the figure stays as it is */ }
    }
    box.scrollIntoView();
  }

  let timer = 0;
  function write(box) {
    clearTimeout(timer); // browsers refuse more than a few changes of the address a second
    timer = setTimeout(() => {
      const { address, model, initial } = live.get(box);
      const changed = address.filter((key) => !same(model.get(key), initial[key]));
      const written = (key) => (typeof initial[key] === "string" ? model.get(key) : JSON.stringify(model.get(key)));
      const query = new URLSearchParams(changed.map((key) => [key, written(key)])).toString(); // .size is too new for Safari 16
      const hash = `#${box.id}${query && "?"}${query}`;
      history.replaceState(null, "", hash.length <= MAX_ADDRESS ? hash : `#${box.id}`);
    }, 250);
  }

  function start() {
    const boxes = [...document.querySelectorAll(".book-widget[data-widget]")];
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        near.unobserve(entry.target);
        bring(entry.target);
      }
    }, { rootMargin: "800px" });
    for (const box of boxes) if (box === parts().box) bring(box); else near.observe(box);
    addEventListener("hashchange", () => read());
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
