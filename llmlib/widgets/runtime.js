// The book's own model inside the page: fetched when it is asked for, and run in a worker, so that the page never waits.
//
//   const session = await openModel({ model, onProgress: ({ loaded, total }) => … });
//   const ids = [session.tokenizer.end, ...session.tokenizer.encode("Once upon a time")];
//   const logits = await session.logits(ids);    // of the next token, Float32Array(V)
//   session.close();
//
// The files come in parts, `story_model` (what it is) and `story_model.1` to `story_model.n` (the weights). They are found
//   in window.bookParts, where a page in one file has put them;
//   by model.load(file), which host.js gives a figure of the published page: a script beside it, so that it works from disk;
//   by a message to Python, {kind: "model", part}, in a notebook: see llmlib/widgets/page_model.py.

import { tokenizerFrom } from "./bpe_file.js";
import { pageEngine } from "./engine.js";

const PATIENCE = 60_000; // ms to wait for a kernel, which may be busy with a cell
const NO_MEMORY = "There is not enough memory for the model in this page; close other pages or programs, and try again.";

/** An error in words for a reader: what browsers say of missing memory is meant for programmers. */
const toldOf = ({ name, message }) => (name === "RangeError" || /RangeError|out of memory/i.test(message) ? NO_MEMORY : message);

/** What a file's name gives: an object, base64 text, or bytes. */
function findPart(model, name, part) {
  const file = part === 0 ? name : `${name}.${part}`;
  const here = window.bookParts?.[file];
  if (here !== undefined) return Promise.resolve(here);
  if (typeof model?.load === "function") return model.load(file);
  if (typeof model?.send === "function") return askPython(model, part);
  return Promise.reject(new Error("The model is not on this page; open the book's own page, or the notebook with its kernel."));
}

/** Asks the kernel for a part, and waits for the answer. */
function askPython(model, part) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(reject, new Error("The kernel did not send the model within a minute; run the figure's cell again.")), PATIENCE);
    const hear = (message, buffers) => {
      if (message?.kind !== "model" || message.part !== part) return;
      if (message.problem) finish(reject, new Error(message.problem));
      else finish(resolve, part === 0 ? message.manifest : buffers[0]);
    };
    function finish(settle, value) {
      clearTimeout(timer);
      model.off("msg:custom", hear);
      settle(value);
    }
    model.on("msg:custom", hear);
    model.send({ kind: "model", part });
  });
}

/** Starts a worker that runs pageEngine: `ask(message)` promises its answer; answers come in the order of the questions. */
function startWorker() {
  if (typeof Worker !== "function" || typeof Blob !== "function") throw new Error("This browser has no workers, so that the model cannot run in this page.");
  const address = URL.createObjectURL(new Blob([`(${pageEngine})().serve(self);`], { type: "text/javascript" }));
  const worker = new Worker(address);
  const waiting = new Map(); // call -> {resolve, reject}
  let calls = 0;
  let broken = null; // why there are no more answers
  const fail = (reason) => {
    broken ??= new Error(reason);
    for (const { reject } of waiting.values()) reject(broken);
    waiting.clear();
    worker.terminate();
    URL.revokeObjectURL(address);
  };
  worker.onmessage = ({ data: { call, result, error } }) => {
    const { resolve, reject } = waiting.get(call) ?? {};
    waiting.delete(call);
    if (error === undefined) resolve?.(result);
    else reject?.(new Error(toldOf(error)));
  };
  worker.onerror = (event) => {
    event.preventDefault?.();
    fail(toldOf({ message: `The model's worker has stopped (${event.message ?? "it could not start"}), so that the model cannot run in this page.` }));
  };
  return {
    ask(message) {
      if (broken) return Promise.reject(broken);
      return new Promise((resolve, reject) => {
        waiting.set((calls += 1), { resolve, reject });
        worker.postMessage({ ...message, call: calls });
      });
    },
    stop: () => fail("The model was closed; open it again."),
  };
}

/**
 * Fetches the model, starts it, and promises a session; `onProgress({ loaded, total })` counts the bytes of the weights that
 * are in. `model` is the figure's, as `render` receives it. Rejects with a sentence where the model cannot be had or run.
 */
export async function openModel({ onProgress = () => {}, model = null, name = "story_model" } = {}) {
  const worker = startWorker();
  try {
    const { config, tokenizer, bytes } = await findPart(model, name, 0);
    const total = bytes.reduce((sum, size) => sum + size, 0);
    let loaded = 0;
    onProgress({ loaded, total });
    for (const [i, size] of bytes.entries()) {
      await worker.ask({ kind: "part", part: await findPart(model, name, i + 1) });
      onProgress({ loaded: (loaded += size), total });
    }
    await worker.ask({ kind: "open", config });
    return {
      config,
      tokenizer: tokenizerFrom(tokenizer),
      /** Ids -> the logits of the token after them, Float32Array(V). What is as in the call before is not read again. */
      logits: (ids) => worker.ask({ kind: "logits", ids: Array.from(ids) }),
      /**
       * Ids -> what the last of them met: {ids, position, embedding (C), layers, logits (V)}, and of each layer: attention,
       * (H) arrays of (S) weights; query (H D), key and value (K D) of this position; activation (F), the inside of the
       * feed-forward network; attentionAdds and feedForwardAdds (C), what the two add to the stream, attended and fed, the
       * lengths of these; stream (C), the residual stream after the layer; logits (V), what the model would say if it were
       * the last.
       */
      inspect: (ids) => worker.ask({ kind: "inspect", ids: Array.from(ids) }),
      /** Ends the worker; calls that wait are rejected. */
      close: worker.stop,
    };
  } catch (error) {
    worker.stop();
    throw new Error(toldOf(error));
  }
}
