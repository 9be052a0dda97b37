// A token as a tile, a count or probability as a bar: the same in every figure.

import { h, setText } from "./frame.js";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** How many bytes the UTF-8 character that starts with `byte` has; 0 where no character starts so. */
function characterBytes(byte) {
  if (byte < 0x80) return 1;
  if (byte >= 0xc2 && byte < 0xe0) return 2;
  if (byte >= 0xe0 && byte < 0xf0) return 3;
  return byte >= 0xf0 && byte < 0xf5 ? 4 : 0;
}

const hex = (byte) => byte.toString(16).toUpperCase().padStart(2, "0");

/** One character as a reader can see it: {text, kind}, kind "text", "space" (a stand-in) or "hex" (a code). */
function visible(character) {
  if (character === " ") return { text: "·", kind: "space" };
  if (character === "\n") return { text: "↵", kind: "space" };
  if (character === "\t") return { text: "⇥", kind: "space" };
  const code = character.codePointAt(0);
  if (code < 0x20 || code === 0x7f) return { text: hex(code), kind: "hex" };
  if (/[\p{White_Space}\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cn}\p{Co}]/u.test(character)) {
    return { text: `U+${code.toString(16).toUpperCase().padStart(4, "0")}`, kind: "hex" };
  }
  return { text: character, kind: "text" };
}

/**
 * A token's bytes (a byte string) -> parts [{text, kind}] to show: characters, stand-ins for white space, and hex for
 * control characters and for bytes that are no whole character.
 */
export function show(byteString) {
  const parts = [];
  const add = ({ text, kind }) => {
    const last = parts[parts.length - 1];
    if (last !== undefined && last.kind === kind) last.text += kind === "hex" ? ` ${text}` : text;
    else parts.push({ text, kind });
  };
  for (let i = 0; i < byteString.length; ) {
    const size = characterBytes(byteString.charCodeAt(i));
    let character = null;
    if (size > 0 && i + size <= byteString.length) {
      try {
        character = utf8.decode(Uint8Array.from(byteString.slice(i, i + size), (c) => c.charCodeAt(0)));
      } catch {
        character = null; // not UTF-8: shown as bytes
      }
    }
    if (character === null) add({ text: hex(byteString.charCodeAt(i)), kind: "hex" });
    else add(visible(character));
    i += character === null ? 1 : size;
  }
  // A mark that would sit on the tile's border gets the dotted circle that stands for the letter it belongs to.
  if (parts.length > 0 && /^\p{M}/u.test(parts[0].text)) parts[0].text = `\u25CC${parts[0].text}`;
  return parts;
}

/** A token's bytes in one line of plain text, cut after `limit` characters: for status lines and tables. */
export function plain(byteString, limit = 40) {
  const characters = [...show(byteString.slice(0, 4 * limit)).map((part) => (part.kind === "hex" ? `⟨${part.text}⟩` : part.text)).join("")];
  return characters.length > limit || byteString.length > 4 * limit ? `${characters.slice(0, limit).join("")}…` : characters.join("");
}

/** The parts of a token as elements. */
export function tokenText(byteString, limit = 24) {
  if (byteString.length <= limit && /^[!-~]+$/.test(byteString)) return [byteString]; // most tokens; no need to look closer
  const whole = show(byteString.slice(0, 4 * limit));
  let left = limit;
  const nodes = [];
  for (const { text, kind } of whole) {
    const characters = [...text];
    nodes.push(h("span", { className: `bw-${kind}` }, characters.slice(0, left).join("")));
    left -= characters.length;
    if (left < 0) break;
  }
  if (left < 0 || byteString.length > 4 * limit) nodes.push("…");
  return nodes;
}

/** A tile: the token's text, its id beneath. `className` says its state: is-new, is-next, is-idle, is-focus. */
export function tile(byteString, id, className = "") {
  return h(
    "span",
    { className: `bw-tile ${className}` },
    h("bdi", { className: "bw-token" }, tokenText(byteString)),
    h("small", {}, id === null ? "\u00a0" : String(id)),
  );
}

/**
 * A row of tiles that is redrawn often: `update([{key, bytes, id, className}])` keeps its elements and touches only what
 * differs. Keys are unique and come in one order; with its place in the text as key, a tile stays as it is when others are
 * merged before it. Where most keys are new ones, as after a jump, the elements are filled anew from the first one on.
 */
export function tileRow(node) {
  let drawn = []; // what each element shows: {key, bytes, id, className, element}
  return function update(tiles) {
    const byKey = new Map(drawn.map((old) => [old.key, old]));
    const sameKeys = 2 * tiles.filter(({ key }) => byKey.has(key)).length >= tiles.length;
    const kept = tiles.map(({ key }, i) => (sameKeys ? byKey.get(key) : drawn[i]));
    const stays = new Set(kept);
    for (const old of drawn) if (!stays.has(old)) old.element.remove();
    let next = node.firstChild;
    drawn = tiles.map((now, i) => {
      const old = kept[i];
      const element = old === undefined ? tile(now.bytes, now.id, now.className) : old.element;
      if (old === undefined) node.insertBefore(element, next);
      else {
        if (old.bytes !== now.bytes) element.firstChild.replaceChildren(...tokenText(now.bytes));
        if (old.id !== now.id) element.lastChild.textContent = String(now.id);
        if (old.className !== now.className) element.className = `bw-tile ${now.className}`;
        next = element.nextSibling;
      }
      return { ...now, element };
    });
  };
}

/** A horizontal bar, `share` (0..1) of the full width, its value written at its end. */
export function bar(share, value, className = "") {
  const track = h("span", { className: "bw-bar-track" }, h("span", { className: "bw-bar-fill" }));
  return setBar(h("span", {}, track, h("span", { className: "bw-bar-value" })), share, value, className);
}

/** The same bar with another share and value: cheaper than a new one. */
export function setBar(node, share, value, className = "") {
  node.className = `bw-bar ${className}`;
  node.firstChild.firstChild.style.width = `${(100 * Math.max(0, Math.min(1, share))).toFixed(2)}%`;
  setText(node.lastChild, value);
  return node;
}
