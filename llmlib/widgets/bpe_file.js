// A tokenizer.json of the hub's layout, as the tokenizers of this book read and write it: text -> ids -> text.

import { BYTES, encode, ranksOf, vocabulary } from "./bpe.js";

/** How tokenizer.json writes bytes: each as a printable character. Character -> byte. */
function printable() {
  const table = new Map();
  let spare = 256;
  for (let byte = 0; byte < 256; byte += 1) {
    const prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    table.set(String.fromCharCode(prints ? byte : spare++), byte);
  }
  return table;
}

/** "Ġthe" -> the byte string " the". */
const bytesOf = (written, table) => Array.from(written, (character) => String.fromCharCode(table.get(character))).join("");

/** Throws where a file asks for what this tokenizer does not do; otherwise it would encode wrongly in silence. */
function checkTokenizerFile({ model, normalizer, pre_tokenizer: pre }) {
  const asks = [
    [model.type === "BPE", `a ${model.type} model`],
    [!normalizer, "a normalizer"],
    [pre?.type === "ByteLevel" && pre.use_regex !== false && !pre.add_prefix_space, "another pre-tokenizer than GPT-2's"],
    [!model.ignore_merges && !model.byte_fallback, "words that are tokens without merges"],
  ];
  const wrong = asks.find(([fits]) => !fits);
  if (wrong) throw new Error(`The tokenizer's file asks for ${wrong[1]}, which a page cannot do.`);
}

/**
 * The content of tokenizer.json -> {encode, decode, text, bytes, end, size}. A special token written in a text is ordinary
 * text, as in Python, unless `special` is set; `end` is the id of the end-of-text token, or null.
 */
export function tokenizerFrom(file) {
  checkTokenizerFile(file);
  const table = printable();
  const { vocab } = file.model;
  const specials = new Map((file.added_tokens ?? []).map(({ content, id }) => [content, id]));
  const byId = new Map(Object.entries(vocab).map(([written, id]) => [id, bytesOf(written, table)]));
  const utf8 = new TextEncoder();
  for (const [content, id] of specials) byId.set(id, String.fromCharCode(...utf8.encode(content)));

  // bpe.js numbers the bytes by value and the merges by rank; a file may number them in another way.
  const numbers = new Map([...table.values()].map((byte) => [String.fromCharCode(byte), byte]));
  const merges = file.model.merges.map((merge, rank) => {
    const pair = (typeof merge === "string" ? merge.split(" ") : merge).map((written) => bytesOf(written, table));
    if (!numbers.has(pair.join(""))) numbers.set(pair.join(""), BYTES + rank);
    return pair.map((bytes) => numbers.get(bytes));
  });
  const ranks = ranksOf(merges);
  const written = new Map(Object.entries(vocab).map(([token, id]) => [bytesOf(token, table), id]));
  const idOf = vocabulary(merges).map((bytes) => written.get(bytes));
  const cache = new Map();
  const ordinary = (text) => encode(text, ranks, { preTokenizer: "gpt2", cache }).map((symbol) => idOf[symbol]);
  const escaped = [...specials.keys()].sort((a, b) => b.length - a.length).map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));

  const bytes = (id) => {
    if (!byId.has(id)) throw new RangeError(`There is no token with the id ${id}: this vocabulary has ids from 0 to ${Math.max(...byId.keys())}.`);
    return byId.get(id);
  };
  const decode = (ids) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(Array.from(ids, bytes).join(""), (c) => c.charCodeAt(0)));
  return {
    /** Text -> ids. */
    encode(text, { special = false } = {}) {
      if (!special || escaped.length === 0) return ordinary(text);
      return text.split(new RegExp(`(${escaped.join("|")})`)).flatMap((part) => (specials.has(part) ? [specials.get(part)] : ordinary(part)));
    },
    /** Ids -> text; bytes that are not valid UTF-8 become U+FFFD. */
    decode,
    /** One token's text. */
    text: (id) => decode([id]),
    /** One token's bytes as a byte string, which is what a tile shows. */
    bytes,
    /** The end-of-text token's id, or null. */
    end: specials.get("<|endoftext|>") ?? null,
    /** How many ids there are: the highest + 1. */
    size: Math.max(...byId.keys()) + 1,
  };
}
