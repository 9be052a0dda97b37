"""The same algorithm in Python and JavaScript: both get the same generated texts, and must agree in every id."""

import json
import random
import subprocess
import unicodedata
from pathlib import Path

import pytest

from llmlib.tokenizer import PATTERNS, TIE_BREAKS, PreTokenizer, Tokenizer, count_words, learn_merges, pre_tokenize
from llmlib.widgets.modules import module_source

N_TEXTS = 400
# Only characters that the oldest of the three Unicode tables at work (Python's own, `regex`'s, node's) knows.
ASSIGNED = [chr(c) for c in range(0x20000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
LETTERS = [c for c in ASSIGNED if c.isalpha()]
WHITE_SPACE = (
    " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2009\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
)
MARKUP = ["<b>", "</script>", "<img src=x onerror=alert(1)>", "&amp;", "<!--", '"', "'s", "'ll", "=>", "$x^2$"]
CODE = [
    "for i in range(10):\n    ",
    "print(i, j)\n",
    "def f(x):\n\treturn x\n",
    "a[0] += 1;",
    "// ",
    "0x1F",
    "1234567890",
]
EMOJI = ["😀", "👩‍🚀", "🏳️‍🌈", "👍🏽", "❤️", "🇫🇷", "1️⃣"]


def make_text(rng: random.Random) -> str:
    """A short text with repetition in it (else nothing is merged), from one or several kinds of pieces."""
    script = rng.randrange(0, len(LETTERS) - 60)
    kinds = [
        lambda: "".join(rng.choices("ab", k=rng.randint(1, 12))),
        lambda: rng.choice(["the", "cat", "sat", "on", "that", "mat", " "]),
        lambda: "".join(rng.choices(LETTERS[script : script + 4], k=rng.randint(1, 6))),
        lambda: "".join(rng.choices(WHITE_SPACE, k=rng.randint(1, 4))),
        lambda: rng.choice(MARKUP),
        lambda: rng.choice(CODE),
        lambda: rng.choice(EMOJI),
        lambda: "".join(rng.choices(ASSIGNED, k=3)),
        lambda: "".join(rng.choices("0123456789.,-", k=4)),
        lambda: rng.choice("aé ") * rng.randint(2, 90),
    ]
    pieces = [rng.choice(kinds)() for _ in range(rng.randint(0, 9))]
    return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 30))) if pieces else ""


def cases() -> list[dict]:
    rng = random.Random(20)
    texts = ["aaabdaaabac", "", "a", "aaaa", *(make_text(rng) for _ in range(N_TEXTS - 4))]
    return [
        {"text": text, "other": make_text(rng), "preTokenizer": pre, "tieBreak": tie, "part": rng.random()}
        for text in texts
        for pre, tie in rng.sample([(pre, tie) for pre in PATTERNS for tie in TIE_BREAKS], 4)
    ] + [
        {"text": text, "other": "", "preTokenizer": "none", "tieBreak": tie, "part": 0.5}
        for text in texts[:40]
        for tie in TIE_BREAKS
    ]


def in_python(case: dict) -> dict:
    text, other, pre = case["text"], case["other"], case["preTokenizer"]
    steps = []
    merges = []
    if text:
        words = count_words([text], PreTokenizer.named(pre))
        steps = list(learn_merges(words, len(text.encode()), tie_break=case["tieBreak"]))
        merges = [step[:2] for step in steps]
    whole = Tokenizer(merges, pre_tokenizer=pre)
    step = round(case["part"] * len(merges))
    return {
        "words": pre_tokenize(text, pre),
        "merges": [[whole.vocab[left], whole.vocab[right]] for left, right in merges],
        "counts": [merge.count for merge in steps],
        "lengths": [merge.n_tokens for merge in steps],
        "symbols": Tokenizer(merges[:step], pre_tokenizer=pre).encode(text),
        "ids": whole.encode(text),
        "other": whole.encode(other),
        "decoded": text,
    }


IN_JAVASCRIPT = """
import { readFileSync, writeFileSync } from "node:fs";
const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const results = cases.map(({ text, other, preTokenizer, tieBreak, part }) => {
  const training = train(text, { preTokenizer, tieBreak });
  const { merges, log, vocab } = training;
  const roundHalfEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));
  const at = roundHalfEven(part * merges.length);
  const replay = new Replay(training).goTo(merges.length);
  const ids = replay.ids();
  replay.goTo(0).goTo(merges.length).goTo(at);  // there and back, and to somewhere between
  const top = replay.topPairs(3, tieBreak)[0];
  if (at < merges.length && !same([top.pair.left, top.pair.right, top.count], [...merges[at], log[at].count]))
    throw new Error(`the ranked pairs do not begin with the next merge: ${JSON.stringify({ text, tieBreak, at })}`);
  if ([...replay.counts.values()].some((count) => count <= 0)) throw new Error("a pair that is gone is still counted");
  const ranks = ranksOf(merges);
  const again = encode(text, ranks, { preTokenizer });
  if (!same(again, ids)) throw new Error(`encoding and training differ: ${JSON.stringify(text)}`);
  const given = replayGiven(text, merges, { preTokenizer });
  if (!same(given.log.map((l) => l.length), log.map((l) => l.length))) throw new Error("given merges");
  if (replay.length !== replay.ids().length) throw new Error("length");
  return {
    words: preTokenize(text, preTokenizer), merges, counts: log.map((l) => l.count), lengths: log.map((l) => l.length),
    symbols: replay.ids(), ids, other: encode(other, ranks, { preTokenizer }), decoded: decode(ids, vocab),
  };
});
writeFileSync(process.argv[3], JSON.stringify(results));
"""


@pytest.fixture(scope="module")
def both(node: str, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict, dict, dict]]:
    folder = tmp_path_factory.mktemp("bpe")
    made = cases()
    (folder / "cases.json").write_text(json.dumps(made), encoding="utf-8")
    (folder / "run.mjs").write_text(module_source("bpe") + IN_JAVASCRIPT, encoding="utf-8")
    subprocess.run([node, "run.mjs", "cases.json", "out.json"], cwd=folder, check=True, timeout=60)
    theirs = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return [(case, in_python(case), other) for case, other in zip(made, theirs, strict=True)]


@pytest.mark.parametrize("what", ["words", "merges", "counts", "lengths", "symbols", "ids", "other", "decoded"])
def test_javascript_agrees_with_python(both, what):
    assert len({case["text"] for case, _, _ in both}) >= 300
    assert sum(len(ours["merges"]) for _, ours, _ in both) > 10_000, "too little is merged to compare anything"
    for case, ours, theirs in both:
        assert theirs[what] == ours[what], case


def run(node: str, folder: Path, module: str, code: str) -> object:
    """Run a few lines of JavaScript after a module of the figures; what they assign to `out` comes back."""
    (folder / "run.mjs").write_text(
        f"{module_source(module)}\nlet out;\n{code}\nconsole.log(JSON.stringify(out));\n", "utf-8"
    )
    done = subprocess.run([node, "run.mjs"], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_worked_example_by_hand(node, tmp_path):
    # aaabdaaabac: counted with overlap aa stands 4 times; the three rules learn these, and all end at aaab d aaab a c
    code = 'out = TIE_BREAKS.map((tieBreak) => train("aaabdaaabac", { tieBreak }).vocab.slice(256));'
    assert run(node, tmp_path, "bpe", code) == [["aa", "aaa", "aaab"], ["aa", "ab", "aaab"], ["aa", "aaa", "aaab"]]


def test_unknown_names_are_refused_with_what_is_allowed(node, tmp_path):
    code = """out = [() => preTokenize("a", "words"), () => train("a", { tieBreak: "last" })].map((f) => {
      try { f(); return "nothing"; } catch (error) { return error.message; } });"""
    words, ties = run(node, tmp_path, "bpe", code)
    assert words == 'No pre-tokenizer "words"; choose one of none, white space, punctuation, gpt2.'
    assert ties == 'No tie-break "last"; choose one of greatest, smallest, first.'


@pytest.mark.alone
def test_a_word_of_a_megabyte_is_not_quadratic(node, tmp_path):
    # ten times the text may take about ten times as long (n log n), a quadratic encoder a hundred times
    code = """const ranks = ranksOf(train("ab ba abba baab ".repeat(50), { preTokenizer: "none" }).merges);
    const seconds = (n) => Math.min(...[1, 2, 3].map(() => {
      const word = "abbaba".repeat(n / 6), start = performance.now();
      encode(word, ranks, { preTokenizer: "none" });
      return performance.now() - start;
    }));
    out = [seconds(20000), seconds(200000)];"""
    short, long = run(node, tmp_path, "bpe", code)
    assert long < 40 * short


def test_a_long_training_pauses(node, tmp_path):
    code = """const letter = (_, i) => String.fromCharCode(97 + ((i * i * 7 + (i >> 3)) % 26));
    const text = Array.from({ length: 60000 }, letter).join("");
    const training = new Training(text, { preTokenizer: "none" });
    let pauses = 0;
    for (const _ of training.learn({ sliceMs: 2 })) pauses += 1;
    out = [pauses, training.merges.length === train(text, { preTokenizer: "none" }).merges.length];"""
    pauses, equal = run(node, tmp_path, "bpe", code)
    assert pauses > 2
    assert equal


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (b" the", "·the"), (b"\n\t", "↵⇥"), (b"\x00", "⟨00⟩"), ("é".encode(), "é"), (b"\xc3", "⟨C3⟩"),
        (b" \xf0\x9f", "·⟨F0 9F⟩"), ("\u0301".encode(), "\u25cc\u0301"), ("\u200d".encode(), "⟨U+200D⟩"),
        ("\ufe0f".encode(), "⟨U+FE0F⟩"), ("\u00a0".encode(), "⟨U+00A0⟩"), (b"\xed\xa0\x80", "⟨ED A0 80⟩"),
        (b"\xc0\x80", "⟨C0 80⟩"), (b"<b>", "<b>"),
    ],
)  # fmt: skip
def test_any_bytes_can_be_shown(node, tmp_path, token, shown):
    assert run(node, tmp_path, "tiles", f"out = plain(String.fromCharCode({', '.join(map(str, token))}));") == shown


def test_numbers_are_written_as_the_book_writes_them(node, tmp_path):
    code = """out = [integer(1234567), significant(0.0123456), significant(98765), si(3.79e25, "FLOP"), si(0, "s"),
      bytes(1406605885), bytes(1023), plural(1, "symbol"), plural(2, "symbol"), significant(-2.5),
      significant(Infinity), si(999999, "B")];"""
    assert run(node, tmp_path, "format", code) == [
        "1\u2009234\u2009567", "0.0123", "98\u2009800", "37.9 YFLOP", "0 s", "1.31 GiB",
        "1\u2009020 B", "1 symbol", "2 symbols", "−2.5", "∞", "1 MB",
    ]  # fmt: skip


def test_ticks_are_round_and_inside(node, tmp_path):
    code = "out = [ticks(0, 100), ticks(256, 259), ticks(1, 1e6, 4, true), ticks(3, 3)];"
    linear, short, decades, single = run(node, tmp_path, "chart", code)
    assert linear == [0, 25, 50, 75, 100]
    assert short == [256, 257, 258, 259]
    assert decades == [1, 100, 10_000, 1_000_000]
    assert single == [3]


def test_a_merge_tree_holds_its_token(node, tmp_path):
    code = """const training = train("abcabcabc xabcabcx abcabc".repeat(9), { preTokenizer: "none" });
    const leaves = (t) => (t.children.length ? t.children.flatMap(leaves) : [t.bytes]);
    out = training.merges.map((_, m) => { const tree = mergeTree(256 + m, training);
      return [leaves(tree).join("") === training.vocab[256 + m], leaves(tree).length <= 32]; });"""
    flags = run(node, tmp_path, "bpe_merges", code)
    assert len(flags) > 5
    assert all(whole and small for whole, small in flags)
