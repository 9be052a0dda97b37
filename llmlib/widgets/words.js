// Tokens as text: shown like the byte strings of tiles.js, put between quotes, and compared with what a reader guesses.

import { plain } from "./tiles.js";

const utf8Encoder = new TextEncoder();

/** A text -> its UTF-8 bytes as a byte string, which is what tiles.js shows. */
export const utf8Bytes = (text) => String.fromCharCode(...utf8Encoder.encode(text));

/** A token in one line: white space as signs, cut after `limit` characters. */
export const visibleToken = (text, limit = 40) => plain(utf8Bytes(text), limit);

/** The same between quotes, isolated, so that Arabic does not turn a sentence around. */
export const quoted = (text) => `“\u2068${visibleToken(text)}\u2069”`;

/** The same for several tokens: between words stands a space as it is. */
export const quotedText = (text) => `“\u2068${text.split(" ").map((word) => visibleToken(word)).join(" ")}\u2069”`;

/** Tokens as one line for a list of texts: without special tokens such as <|endoftext|>, cut after `limit` characters. */
export function title(tokens, limit = 60) {
  const words = [...tokens.join("").replace(/<\|[^|<>]*\|>/g, "").trim()];
  return words.length > limit ? `${words.slice(0, limit - 1).join("")}…` : words.join("");
}

const folded = (text) => text.normalize("NFC").trim().toLowerCase();

/** Whether a guess names a token: the very text, or the same letters, whatever their case and the space around them. */
export function sameWord(guess, token) {
  return guess === token || (folded(guess) !== "" && folded(guess) === folded(token));
}

/** The word that begins after `position`: its token, and those after it that go on without a space, while it is letters. */
export function nextWord(tokens, position) {
  let word = tokens[position + 1] ?? "";
  for (let i = position + 2; i < tokens.length && /\p{L}$/u.test(word) && /^[\p{L}\p{M}]/u.test(tokens[i]); i += 1) word += tokens[i];
  return word;
}

/** Whether a guess is right after `position`: the token that follows, or the whole word that this token begins. */
export function isRight(guess, tokens, position) {
  if (position + 1 >= tokens.length) return false;
  return sameWord(guess, tokens[position + 1]) || sameWord(guess, nextWord(tokens, position));
}

/** Which entry [token, probability] of a list a guess names, by its very text before any other; -1 for none. */
export function findWord(guess, top) {
  const exact = top.findIndex(([token]) => token === guess);
  return exact >= 0 ? exact : top.findIndex(([token]) => sameWord(guess, token));
}
