// A beginning of the reader's own, and the book's model that reads it: fetched when it is first asked for.

import { significant } from "./format.js";
import { h, wellFormed } from "./frame.js";
import { openModel } from "./runtime.js";
import { quotedText } from "./words.js";

const NAMED = 60; // characters of a text that a sentence names

/**
 * A text field and a button in the figure's controls -> {node, typed, button, open, session, say, end}. `submit(text)` is called
 * with what the reader typed once the model is there; `open()` promises the session, or null where there can be none, which
 * the field then says; `session()` is it, or null before. `sessionFor(text)` is for a text that an address or Python asks
 * for: it opens the model and draws again; where the record has to do instead, it is null, and `lacking(text)` says so.
 */
export function modelField(figure, model, { label, action, submit, maxLength = 300 }) {
  let session = null;
  let opening = null;
  let ended = false;
  let failed = null; // the text for which there is no model, or which it could not read
  const typed = h("input", { type: "text", maxLength, dir: "auto", autocomplete: "off", autocapitalize: "off", spellcheck: false, enterKeyHint: "go" });
  const button = figure.button(action, () => send());
  const words = h("p", { className: "bw-note bw-problem", role: "status" }, "The book's model then runs in this page; its 2.4 MB are fetched first.");
  const node = h("div", { className: "bw-guess bw-wide" }, h("label", { className: "bw-field" }, h("span", { className: "bw-label" }, label), typed), button, words);
  figure.controls.append(node);

  function open() {
    opening ??= openModel({
      model,
      onProgress({ loaded, total }) {
        words.textContent = `Fetching the model: ${Math.round((100 * loaded) / total)}% of ${significant(total / 1e6)} MB`;
      },
    }).then(
      (ready) => {
        if (ended) ready.close();
        else session = ready;
        failed = null;
        words.textContent = ended ? "" : "The model is in this page.";
        return session;
      },
      (error) => {
        opening = null; // so that it can be tried again
        words.textContent = `${error.message} The recorded texts are shown instead.`;
        return null;
      },
    );
    return opening;
  }

  function sessionFor(text) {
    if (text === failed) return null; // until the reader asks again
    if (session === null) {
      open().then((ready) => {
        if (ready === null) failed = text;
        figure.redraw();
      });
    }
    return session;
  }

  async function send() {
    const text = wellFormed(typed.value).trim();
    if (text === "") {
      words.textContent = "Type a beginning first, such as “Once upon a time”.";
      return;
    }
    failed = null;
    if ((await open()) !== null && !ended) submit(text);
  }
  figure.listen(typed, "keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) send();
  });

  return {
    node,
    typed,
    button,
    open,
    session: () => session,
    sessionFor,
    /** The model could not read a text: the record is shown again. */
    fail(text, error) {
      failed = text;
      words.textContent = `${error.message} The recorded texts are shown instead.`;
      figure.redraw();
    },
    lacking(text) {
      if (text === "") return "";
      const what = quotedText([...text].length > NAMED ? `${[...text].slice(0, NAMED).join("")}…` : text);
      return opening !== null && session === null ? `A recorded text is shown until the model is here to read ${what}. ` : `A recorded text is shown, for ${what} needs the model. `;
    },
    say(sentence) {
      words.textContent = sentence;
    },
    end() {
      ended = true;
      session?.close();
    },
  };
}
