"""The four stages together: a trained tokenizer, which remembers its merges and turns text into ids and back."""

from __future__ import annotations

import re
import sys
import warnings
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, islice

from llmlib.tokenizer.checks import check_special_tokens, check_text, clean_texts, describe_surrogate
from llmlib.tokenizer.encoding import Cache, RankMerger
from llmlib.tokenizer.normalization import Normalizer
from llmlib.tokenizer.pretokenization import PreTokenizer, count_words
from llmlib.tokenizer.training import Merge, learn_merges

N_BYTES = 256
MAX_ID = 0x10FFFF  # a token is kept as the character chr(id) while words are encoded
UTF_32 = f"utf-32-{sys.byteorder[0]}e"  # strings of such characters, as numbers of 4 bytes


class Tokenizer:
    """A byte-level BPE tokenizer: text -> ids -> text, without loss unless a normalizer is set.

    Ids: 0 to 255 are the bytes themselves, then the merged tokens in the order they were learned, then the special
    tokens. A file of others may number them in another way: `vocab` says so.

    >>> tokenizer = Tokenizer.train("low lower lowest slow slower", 262, special_tokens=["<|endoftext|>"])
    >>> tokenizer.encode("slowest")
    [115, 258, 115, 116]
    >>> tokenizer.tokens("slowest"), tokenizer.decode([115, 258, 115, 116])
    ([b's', b'lowe', b's', b't'], 'slowest')
    """

    def __init__(
        self,
        merges: Iterable[tuple[bytes, bytes]],
        *,
        vocab: Mapping[bytes, int] | None = None,
        special_tokens: Collection[str] | Mapping[str, int] = (),
        added_tokens: Mapping[str, int] | None = None,
        pre_tokenizer: str | PreTokenizer = "gpt2",
        normalizer: Normalizer | None = None,
        ignore_merges: bool = False,
    ) -> None:
        """Build a tokenizer from merges, best first; `Tokenizer.train` learns them from text.

        `vocab` gives each token's id (default: bytes, then merges). `special_tokens` get the ids after them, or their
        own if given as {text: id}. `added_tokens` are like special ones, but found in every text. With
        `ignore_merges` a whole word that is a token becomes that token, whether the merges lead there or not (Llama 3
        does this).

        Raises ValueError for a merge of a token that the vocabulary lacks, for an id that is taken twice or out of
        range, and for a special or added token without a character.
        """
        self.merges = list(merges)
        self.vocab: dict[bytes, int] = number_tokens(self.merges) if vocab is None else dict(vocab)
        self.added_tokens: dict[str, int] = dict(added_tokens or {})
        check_special_tokens(self.added_tokens, "added_tokens")
        names = check_special_tokens(special_tokens)
        if not isinstance(special_tokens, Mapping):
            first = max(chain(self.vocab.values(), self.added_tokens.values()), default=-1) + 1
            special_tokens = {token: first + i for i, token in enumerate(names)}
        self.special_tokens: dict[str, int] = dict(special_tokens)
        self.pre_tokenizer = PreTokenizer.named(pre_tokenizer)
        self.normalizer = normalizer
        self.ignore_merges = ignore_merges
        self._bytes_of = self._index_tokens()
        self._prepare()

    def _index_tokens(self) -> dict[int, bytes]:
        bytes_of: dict[int, bytes] = {}
        by_text = chain(self.special_tokens.items(), self.added_tokens.items())
        for token, i in chain(self.vocab.items(), ((text.encode(), i) for text, i in by_text)):
            if not 0 <= i <= MAX_ID:
                raise ValueError(f"Token {token!r} has the id {i}; ids go from 0 to {MAX_ID:,}.")
            if bytes_of.setdefault(i, token) != token:
                raise ValueError(f"Two tokens have the id {i}: {bytes_of[i]!r} and {token!r}; give each its own.")
        return bytes_of

    def _prepare(self) -> None:
        symbol_of = {token: chr(i) for token, i in self.vocab.items()}
        try:
            merges = [(symbol_of[a], symbol_of[b], symbol_of[a + b]) for a, b in self.merges]
        except KeyError as missing:
            raise ValueError(f"A merge uses or makes the token {missing}, which the vocabulary lacks.") from None
        self._merge = RankMerger(merges)
        self._ids = list(range(1 + max(self.vocab.values(), default=-1)))  # one object an id, for all the lists to come
        table = _ByteSymbols({byte: symbol_of[key] for byte in range(N_BYTES) if (key := bytes([byte])) in symbol_of})
        self._byte_symbols = None if table == {byte: chr(byte) for byte in range(N_BYTES)} else table
        self._split = self.pre_tokenizer.split
        self._cache = Cache(self._encode_chunk if self.pre_tokenizer.chunks_are_safe else self._encode_word)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (),
        pre_tokenizer: str | PreTokenizer = "gpt2",
        normalizer: Normalizer | None = None,
        tie_break: str = "greatest",
        min_count: int = 2,
        on_merge: Callable[[Merge], object] | None = None,
    ) -> Tokenizer:
        """Learn a vocabulary of `vocab_size` tokens from a text or from several: 256 bytes + merges + special tokens.

        Training stops early when no pair occurs `min_count` times: then the vocabulary is as large as the text
        supports, and a warning says how large that is. Merges never cross from one text into the next. `on_merge` is
        called with each step's record, e.g. to show progress. Special tokens written in a text are ordinary text here.

        >>> Tokenizer.train("aaabdaaabac", 259).merges
        [(b'a', b'a'), (b'aa', b'a'), (b'aaa', b'b')]
        >>> Tokenizer.train("low lower lowest", 259).tokens("slow")
        [b's', b'low']

        Raises ValueError for a vocabulary smaller than 256 + the special tokens, a text without a single character,
        or a lone surrogate; TypeError for what is not text.
        """
        special_tokens = check_special_tokens(special_tokens)
        n_merges = vocab_size - N_BYTES - len(special_tokens)
        if n_merges < 0 or vocab_size > MAX_ID + 1:
            raise ValueError(
                f"vocab_size is {vocab_size:,}; with 256 bytes and {len(special_tokens)} special tokens it is at least "
                f"{N_BYTES + len(special_tokens)}, and at most {MAX_ID + 1:,}."
            )
        pre_tokenizer = PreTokenizer.named(pre_tokenizer)
        texts = [texts] if isinstance(texts, str) else texts
        word_counts = count_words(clean_texts(texts, normalizer), pre_tokenizer)
        if not word_counts:
            raise ValueError("There is no text to learn from: every text given is empty.")
        merges = []
        for step in learn_merges(word_counts, n_merges, tie_break=tie_break, min_count=min_count):
            merges.append((step.left, step.right))
            if on_merge is not None:
                on_merge(step)
        trained = cls(merges, special_tokens=special_tokens, pre_tokenizer=pre_tokenizer, normalizer=normalizer)
        if trained.n_vocab < vocab_size:
            times = "once" if min_count <= 1 else f"{min_count} times"
            warnings.warn(
                f"The vocabulary has {trained.n_vocab:,} tokens instead of {vocab_size:,}, because no further pair "
                f"occurs {times}; train on more text, or ask for at most {trained.n_vocab:,}.",
                stacklevel=2,
            )
        return trained

    @property
    def n_vocab(self) -> int:
        """The size of the vocabulary: the highest id + 1, which is how many rows a model's embedding needs."""
        return max(self._bytes_of, default=-1) + 1

    def encode(self, text: str, *, allowed_special: Collection[str] | str = ()) -> list[int]:
        """Turn a text into ids. Special tokens written in it are ordinary text, unless allowed by name, or by "all".

        >>> tokenizer = Tokenizer([], special_tokens=["<|end|>"])
        >>> len(tokenizer.encode("a<|end|>")), tokenizer.encode("a<|end|>", allowed_special="all")
        (8, [97, 256])

        Raises TypeError for what is not a str; ValueError for a lone surrogate, for an allowed token that does not
        exist, or for a byte that the vocabulary lacks (only in files of others).
        """
        check_text(text)
        allowed = self._find_allowed(allowed_special)
        try:
            if not allowed:
                return self._encode_ordinary(text)
            ids: list[int] = []
            longest_first = sorted(allowed, key=len, reverse=True)
            for part in re.split(f"({'|'.join(map(re.escape, longest_first))})", text):
                if part in allowed:
                    ids.append(allowed[part])
                elif part:
                    ids.extend(self._encode_ordinary(part))
            return ids
        except UnicodeEncodeError:
            raise ValueError(describe_surrogate(text)) from None

    def _find_allowed(self, allowed_special: Collection[str] | str) -> dict[str, int]:
        if allowed_special == "all":
            return self.special_tokens | self.added_tokens
        if isinstance(allowed_special, str):
            raise ValueError(f"allowed_special is {allowed_special!r}; give a list of special tokens, or 'all'.")
        for token in allowed_special:
            if token not in self.special_tokens:
                raise ValueError(f"{token!r} is no special token here; there are {list(self.special_tokens)}.")
        return {token: self.special_tokens[token] for token in allowed_special} | self.added_tokens

    def _encode_ordinary(self, text: str) -> list[int]:
        if self.normalizer is not None:
            text = self.normalizer(text)
        ids: list[int] = []
        for chunks in self.pre_tokenizer.chunks(self.pre_tokenizer.begin(text)):
            symbols = "".join(map(self._cache.__getitem__, chunks)).encode(UTF_32, "surrogatepass")
            ids.extend(map(self._ids.__getitem__, array("I", symbols)))
        return ids

    def _encode_chunk(self, chunk: str) -> str:
        words = self._split(chunk)
        if len(words) == 1:
            return self._encode_word(chunk)
        return "".join(map(self._cache.__getitem__, words))  # a word is a chunk, too: split again, it is itself

    def _encode_word(self, word: str) -> str:
        if self.ignore_merges and (word_bytes := word.encode()) in self.vocab:
            return chr(self.vocab[word_bytes])
        symbols = word if word.isascii() else word.encode().decode("latin-1")
        if self._byte_symbols is not None:
            symbols = symbols.translate(self._byte_symbols)
        return self._merge(symbols)

    def encode_documents(self, documents: Iterable[str], *, end_of_text: str = "<|endoftext|>") -> array:
        """Turn documents into one flat array of ids, each document followed by the end-of-text token.

        The numbers take 2 bytes each if the vocabulary has at most 65,536 tokens, else 4; `numpy.asarray` and
        `torch.frombuffer` read the array without a copy. Special tokens written in a document are ordinary text.

        >>> tokenizer = Tokenizer([], special_tokens=["<|endoftext|>"])
        >>> tokenizer.encode_documents(["ab", "c"])
        array('H', [97, 98, 256, 99, 256])

        Raises ValueError if the tokenizer lacks that token, and as `encode` does.
        """
        if end_of_text not in self.special_tokens:
            raise ValueError(
                f"{end_of_text!r} is no special token here (there are {list(self.special_tokens)}); "
                "train with special_tokens=[...] or name another."
            )
        end = self.special_tokens[end_of_text]
        ids = array("H" if self.n_vocab <= 1 << 16 else "I")
        for document in documents:
            ids.extend(self.encode(document))
            ids.append(end)
        return ids

    def decode(self, ids: Iterable[int], *, errors: str = "replace") -> str:
        """Turn ids into text. Bytes that are not UTF-8 become U+FFFD; errors="strict" raises UnicodeDecodeError.

        A model may well stop in the middle of a character; `decode_bytes` loses nothing.

        >>> tokenizer = Tokenizer([])
        >>> tokenizer.decode([0x4F, 0xC3, 0xA9]), tokenizer.decode([0x4F, 0xC3])
        ('Oé', 'O\ufffd')

        Raises ValueError for an id that no token has.
        """
        return self.decode_bytes(ids).decode("utf-8", errors=errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn ids into the bytes they stand for, whether or not those are valid UTF-8.

        >>> Tokenizer([]).decode_bytes([0xC3])
        b'\\xc3'

        Raises ValueError for an id that no token has.
        """
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        get, ids, parts = self._bytes_of.__getitem__, iter(ids), []
        try:
            while part := list(islice(ids, 1 << 16)):  # a part at a time: join makes a list of all it gets
                parts.append(b"".join(map(get, part)))
            return b"".join(parts)
        except KeyError as unknown:
            raise ValueError(self._describe_unknown(unknown.args[0])) from None

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for (a special token: its text).

        >>> Tokenizer([(b"a", b"b")]).token_bytes(256)
        b'ab'

        Raises ValueError for an id that no token has.
        """
        if token_id not in self._bytes_of:
            raise ValueError(self._describe_unknown(token_id))
        return self._bytes_of[token_id]

    def tokens(self, text: str) -> list[bytes]:
        """A text's tokens as byte strings: what `encode` finds, made visible.

        >>> Tokenizer([(b"a", b"b")]).tokens("abc")
        [b'ab', b'c']
        """
        return [self._bytes_of[i] for i in self.encode(text)]

    def byte_lengths(self) -> list[int]:
        """How many bytes of text each id stands for, by id (for bits per byte). Special tokens stand for none.

        >>> Tokenizer([(b"a", b"b")], special_tokens=["<|endoftext|>"]).byte_lengths()[255:]
        [1, 2, 0]
        """
        special = set(self.special_tokens.values())
        return [0 if i in special else len(self._bytes_of.get(i, b"")) for i in range(self.n_vocab)]

    def forget(self) -> None:
        """Empty the memory of words seen, as in a tokenizer just loaded: frees space, lets a benchmark start cold."""
        self._cache.clear()

    def _describe_unknown(self, token_id: object) -> str:
        return f"There is no token with the id {token_id!r}: this vocabulary has ids from 0 to {self.n_vocab - 1:,}."

    def _settings(self) -> dict[str, object]:
        names = ("vocab", "special_tokens", "added_tokens", "pre_tokenizer", "normalizer", "ignore_merges")
        return {name: getattr(self, name) for name in names}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self.merges == other.merges and self._settings() == other._settings()

    __hash__ = None

    def __reduce__(self) -> tuple:
        return _rebuild, (self.merges, self._settings())  # the caches stay behind

    def __repr__(self) -> str:
        return f"Tokenizer({self.n_vocab} tokens: {len(self.merges)} merges, {len(self.special_tokens)} special)"


class _ByteSymbols(dict):
    """For str.translate: byte -> token. A byte that the vocabulary lacks is an error; a dict would let it pass."""

    def __missing__(self, byte: int) -> str:
        raise ValueError(f"This vocabulary has no token for the byte 0x{byte:02X}, so it cannot encode every text.")


def number_tokens(merges: Iterable[tuple[bytes, bytes]]) -> dict[bytes, int]:
    """Number the tokens, the 256 bytes by value, then what each merge makes: [(left, right), ...] -> {token: id}.

    >>> vocab = number_tokens([(b"a", b"a"), (b"aa", b"b")])
    >>> vocab[b"a"], vocab[b"aa"], vocab[b"aab"]
    (97, 256, 257)
    """
    vocab = {bytes([byte]): byte for byte in range(N_BYTES)}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    return vocab


def _rebuild(merges: list[tuple[bytes, bytes]], settings: dict) -> Tokenizer:
    return Tokenizer(merges, **settings)
