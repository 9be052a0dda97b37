"""A tokenizer on disk: the ecosystem's `tokenizer.json`, byte-level BPE, written and read.

JSON cannot hold bytes, so the format writes each byte as a printable character (GPT-2's alphabet): a space is Ġ, a
line end Ċ.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import regex

from llmlib.tokenizer.normalization import FORMS, Normalizer
from llmlib.tokenizer.pretokenization import DIGIT_PATTERN, DIGITS_PATTERN, GPT2_PATTERN, PreTokenizer
from llmlib.tokenizer.tokenizer import N_BYTES, Tokenizer

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = sorted(set(range(N_BYTES)).difference(_PRINTABLE))
CHARACTER_OF_BYTE = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(0x100 + i) for i, byte in enumerate(_OTHERS)}
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


def bytes_to_printable(token: bytes) -> str:
    """Write bytes in GPT-2's printable alphabet.

    >>> bytes_to_printable(b" the\\n")
    'ĠtheĊ'
    """
    return "".join(map(CHARACTER_OF_BYTE.__getitem__, token))


def printable_to_bytes(token: str) -> bytes:
    """Read bytes from GPT-2's printable alphabet; raises KeyError for a character that is not in it.

    >>> printable_to_bytes("ĠtheĊ")
    b' the\\n'
    """
    return bytes(map(BYTE_OF_CHARACTER.__getitem__, token))


def save(tokenizer: Tokenizer, path: str | os.PathLike) -> None:
    """Write a tokenizer as a `tokenizer.json` that the `tokenizers` and `transformers` libraries load.

    The file appears whole or not at all. Raises OSError if it cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(to_json(tokenizer), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | os.PathLike) -> Tokenizer:
    """Read a `tokenizer.json` with a byte-level BPE: ours, or one that other libraries made.

    Equal to `tokenizers` without its post-processor, which adds special tokens around a text: add those yourself.

    Raises ValueError with the section's name for a file that is cut off, is something else, or holds what this
    tokenizer cannot do; OSError if it cannot be read.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not a tokenizer.json: it is not UTF-8 text.") from None
    except RecursionError:
        raise ValueError(f"{path.name} is not a tokenizer.json: its sections are nested too deeply.") from None
    except json.JSONDecodeError as problem:
        raise ValueError(
            f"{path.name} is not whole JSON: it breaks off or is wrong in line {problem.lineno}; fetch the file again."
        ) from None
    try:
        return from_json(data)
    except RecursionError:
        raise ValueError(f"{path.name} is not a tokenizer.json: its sections are nested too deeply.") from None
    except ValueError as problem:
        raise ValueError(f"{path.name}: {problem}") from None


def to_json(tokenizer: Tokenizer) -> dict:
    """A tokenizer as the content of a `tokenizer.json`.

    >>> to_json(Tokenizer([(b" ", b"a")]))["model"]["merges"]
    ['Ġ a']

    Raises ValueError for a special token whose text the format uses for another token.
    """
    # Special tokens stand in the vocabulary too: `tokenizers` gives those that do not an id of its own choice.
    vocab = {bytes_to_printable(token): i for token, i in tokenizer.vocab.items()}
    for text, i in (tokenizer.special_tokens | tokenizer.added_tokens).items():
        if vocab.setdefault(text, i) != i:
            raise ValueError(f"The special token {text!r} is written like an ordinary one in this format; rename it.")
    added = [(i, text, True) for text, i in tokenizer.special_tokens.items()]
    added += [(i, text, False) for text, i in tokenizer.added_tokens.items()]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": text, **flags, "special": special} for i, text, special in sorted(added)],
        "normalizer": _normalizer_to_json(tokenizer.normalizer),
        "pre_tokenizer": _pre_tokenizer_to_json(tokenizer.pre_tokenizer),
        "post_processor": None,
        "decoder": _byte_level(prefix_space=False, use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": tokenizer.ignore_merges,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": [f"{bytes_to_printable(a)} {bytes_to_printable(b)}" for a, b in tokenizer.merges],
        },
    }


def from_json(data: object) -> Tokenizer:
    """A tokenizer from the content of a `tokenizer.json`; raises ValueError, with the section, for what it can't do."""
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise ValueError("this is no tokenizer.json: it has no section 'model'.")
    model = data["model"]
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict) or "merges" not in model:
        raise ValueError(f"model: the type is {model.get('type')!r}; only byte-level BPE can be read.")
    for section in ("truncation", "padding"):
        if data.get(section) is not None:
            raise ValueError(
                f"{section}: the file asks for it, and this tokenizer never does it; set the section to null."
            )
    normalizer = _normalizer_from_json(data.get("normalizer"))
    pre_tokenizer = _pre_tokenizer_from_json(data.get("pre_tokenizer"))
    _check_decoder(data.get("decoder"))
    special, added = _read_added_tokens(data.get("added_tokens"), normalizer)
    merges = list(_read_merges(model["merges"]))
    vocab = _read_vocab(model["vocab"], special | added, merges)
    _check_model_options(model, vocab)
    return Tokenizer(
        merges,
        vocab=vocab,
        special_tokens=special,
        added_tokens=added,
        pre_tokenizer=pre_tokenizer,
        normalizer=normalizer,
        ignore_merges=bool(model.get("ignore_merges", False)),
    )


def _read_vocab(
    entries: Mapping[str, int], added: Mapping[str, int], merges: list[tuple[bytes, bytes]]
) -> dict[bytes, int]:
    """The vocabulary without the added tokens, which stand in it too; bytes and what merges use or make may be both."""
    merged = {*chain.from_iterable(merges), *(left + right for left, right in merges)}
    vocab = {}
    for token, i in entries.items():
        in_alphabet = set(token) <= BYTE_OF_CHARACTER.keys()
        if (
            token in added
            and added[token] == i
            and not (in_alphabet and (len(token) == 1 or printable_to_bytes(token) in merged))
        ):
            continue
        if not isinstance(i, int) or not in_alphabet:
            raise ValueError(
                f"model: the token {token!r} (id {i!r}) is not in the byte-level alphabet; only byte-level BPE is read."
            )
        vocab[printable_to_bytes(token)] = i
    return vocab


def _read_merges(entries: object) -> Iterator[tuple[bytes, bytes]]:
    if not isinstance(entries, list):
        raise ValueError("model: 'merges' is not a list.")
    for rank, entry in enumerate(entries):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        try:
            left, right = map(printable_to_bytes, pair)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"model: merge {rank} is {entry!r}, not two tokens in the byte-level alphabet.") from None
        yield left, right


def _check_model_options(model: Mapping, vocab: Mapping[bytes, int]) -> None:
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise ValueError(f"model: '{option}' is {model[option]!r}; this tokenizer cannot do that.")
    if model.get("unk_token") and any(bytes([byte]) not in vocab for byte in range(N_BYTES)):
        raise ValueError(
            f"model: 'unk_token' is {model['unk_token']!r} and some bytes have no token; train with all 256 bytes."
        )


def _read_added_tokens(entries: object, normalizer: Normalizer | None) -> tuple[dict[str, int], dict[str, int]]:
    if not isinstance(entries, list | None):
        raise ValueError("added_tokens: the section is not a list.")
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    for entry in entries or []:
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("content"), str)
            or not entry["content"]
            or not isinstance(entry.get("id"), int)
        ):
            raise ValueError(f"added_tokens: {entry!r} has no content or no id.")
        for flag in ("single_word", "lstrip", "rstrip"):
            if entry.get(flag):
                raise ValueError(
                    f"added_tokens: {entry['content']!r} has '{flag}' set, which this tokenizer cannot do."
                )
        if entry.get("normalized") and normalizer is not None:
            raise ValueError(
                f"added_tokens: {entry['content']!r} is looked for after normalization; this tokenizer looks before."
            )
        (special if entry.get("special") else added)[entry["content"]] = entry["id"]
    return special, added


def _check_decoder(section: dict | None) -> None:
    kinds = {part["type"] for part in _parts(section, "decoder", "decoders")}
    if kinds - {"ByteLevel"}:
        raise ValueError(f"decoder: the type is {sorted(kinds)}; only ByteLevel can be read.")


def _parts(section: object, name: str, inner: str) -> list[dict]:
    """A section as a list of its steps: none, one, or those of a Sequence."""
    if section is None:
        return []
    if not isinstance(section, dict) or not isinstance(section.get("type"), str):
        raise ValueError(f"{name}: the section has no type.")
    if section["type"] != "Sequence":
        return [section]
    if not isinstance(section.get(inner), list):
        raise ValueError(f"{name}: the Sequence has no list '{inner}'.")
    return [step for part in section[inner] for step in _parts(part, name, inner)]


def _byte_level(prefix_space: bool, use_regex: bool) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": True, "use_regex": use_regex}


def _pre_tokenizer_to_json(pre_tokenizer: PreTokenizer) -> dict:
    *before, last = pre_tokenizer.patterns or (None,)
    use_regex = last == GPT2_PATTERN
    if not use_regex and last is not None:
        before.append(last)
    byte_level = _byte_level(pre_tokenizer.prefix_space, use_regex)
    if not before:
        return byte_level
    for pattern in before:
        _check_dialect(pattern)
    splits = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in before]
    return {"type": "Sequence", "pretokenizers": [*splits, byte_level]}


def _pre_tokenizer_from_json(section: dict | None) -> PreTokenizer:
    steps = _parts(section, "pre_tokenizer", "pretokenizers")
    if [step["type"] for step in steps].count("ByteLevel") != 1 or steps[-1]["type"] != "ByteLevel":
        raise ValueError(
            "pre_tokenizer: only byte-level BPE can be read, whose last and only byte-level step is 'ByteLevel'."
        )
    patterns = [_read_split(step) for step in steps[:-1]]
    if steps[-1].get("use_regex", True):
        patterns.append(GPT2_PATTERN)
    prefix_space = bool(steps[-1].get("add_prefix_space", True))
    try:
        return PreTokenizer(tuple(patterns), prefix_space)
    except ValueError as problem:
        raise ValueError(f"pre_tokenizer: {problem}") from None


def _read_split(step: dict) -> str:
    if step["type"] == "Digits":
        return DIGIT_PATTERN if step.get("individual_digits") else DIGITS_PATTERN
    if step["type"] != "Split":
        raise ValueError(f"pre_tokenizer: the type {step['type']!r} cannot be read; Split, Digits and ByteLevel can.")
    if step.get("behavior") != "Isolated" or step.get("invert"):
        raise ValueError(f"pre_tokenizer: Split with behavior {step.get('behavior')!r} cannot be read; 'Isolated' can.")
    match step.get("pattern"):
        case {"Regex": str(pattern)}:
            _check_dialect(pattern)
            return pattern
        case {"String": str(literal)}:
            return regex.escape(literal)
    raise ValueError("pre_tokenizer: Split has no pattern.")


def _check_dialect(pattern: str) -> None:
    """Refuse what the dialect of the file's readers (Oniguruma) takes in another sense: there {1,3}+ repeats {1,3}."""
    if regex.search(r"(?<!\\)\{\d*,?\d*\}\+", pattern):
        raise ValueError(
            f"pre_tokenizer: in {pattern!r}, libraries read the + after {{...}} in different ways; leave the + out."
        )


_COLLAPSE = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
_STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}


def _normalizer_to_json(normalizer: Normalizer | None) -> dict | None:
    if normalizer is None:
        return None
    steps = [{"type": normalizer.form}] if normalizer.form else []
    steps += [{"type": "Lowercase"}] * normalizer.lowercase
    steps += {"keep": [], "strip": [_STRIP], "collapse": [_COLLAPSE, _STRIP]}[normalizer.white_space]
    if len(steps) < 2:
        return steps[0] if steps else None
    return {"type": "Sequence", "normalizers": steps}


def _normalizer_from_json(section: dict | None) -> Normalizer | None:
    steps = _parts(section, "normalizer", "normalizers")
    if not steps:
        return None
    rest = list(steps)
    form = rest.pop(0)["type"] if rest[0]["type"] in FORMS else None
    lowercase = bool(rest) and rest[0]["type"] == "Lowercase"
    rest = rest[lowercase:]
    white_space = {0: "keep", 1: "strip", 2: "collapse"}.get(len(rest))
    if rest != {"keep": [], "strip": [_STRIP], "collapse": [_COLLAPSE, _STRIP]}.get(white_space):
        kinds = [step["type"] for step in steps]
        raise ValueError(
            f"normalizer: the steps {kinds} cannot be read; a Unicode form, Lowercase, Replace of white space by one "
            "space, and Strip can, each at most once and in this order."
        )
    return Normalizer(form=form, lowercase=lowercase, white_space=white_space)
