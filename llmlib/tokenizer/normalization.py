"""Stage 1, normalization: text in, cleaner text out. Each step is optional, and each loses something for good.

Byte-level tokenizers need no normalization to read any text, and most large models do none (or NFC at most): what is
lost here cannot come back when the tokens are decoded.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

FORMS = (None, "NFC", "NFD", "NFKC", "NFKD")
WHITE_SPACE_MODES = ("keep", "strip", "collapse")

# Unicode's White_Space property. Python's str.isspace and `re` add U+001C to U+001F; tokenizer libraries do not.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"

_RUN_OF_WHITE_SPACE = re.compile(f"[{WHITE_SPACE}]+")


@dataclass(frozen=True)
class Normalizer:
    """The settings of `normalize`, as a value that a tokenizer remembers: `Normalizer(form="NFC")(text)`.

    >>> Normalizer(form="NFKC", lowercase=True)("Ｆｕｌｌ Width")
    'full width'

    Raises ValueError for a form or a mode that does not exist.
    """

    form: str | None = None
    lowercase: bool = False
    white_space: str = "keep"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form is {self.form!r}; choose None, 'NFC', 'NFD', 'NFKC' or 'NFKD'.")
        if self.white_space not in WHITE_SPACE_MODES:
            raise ValueError(f"white_space is {self.white_space!r}; choose 'keep', 'strip' or 'collapse'.")

    def __call__(self, text: str) -> str:
        return normalize(text, form=self.form, lowercase=self.lowercase, white_space=self.white_space)


def normalize(text: str, *, form: str | None = None, lowercase: bool = False, white_space: str = "keep") -> str:
    r"""Clean a text: first its Unicode form, then its case, then its white space; by default nothing changes.

    - `form`: "NFC" writes é as one character and "NFD" as e plus an accent; the two look alike and differ in bytes.
      "NFKC" and "NFKD" also replace look-alikes: ﬁ becomes fi, ² becomes 2, a full-width Ａ becomes A.
    - `lowercase`: each character on its own, so a Greek capital sigma always gives σ (as the `tokenizers` library
      does it).
    - `white_space`: "strip" drops it at both ends; "collapse" also turns each run of it, line ends included, into one
      space.

    >>> normalize("e\u0301") == "e\u0301", normalize("e\u0301", form="NFC") == "\u00e9"
    (True, True)
    >>> normalize("  Two\n\n  WORDS ", lowercase=True, white_space="collapse")
    'two words'

    Raises ValueError for a form or a mode that does not exist. Source: Unicode Standard Annex 15 (the four forms).
    """
    if form is not None:
        if form not in FORMS:
            raise ValueError(f"form is {form!r}; choose None, 'NFC', 'NFD', 'NFKC' or 'NFKD'.")
        text = unicodedata.normalize(form, text)
    if lowercase:
        # str.lower turns a capital sigma at a word's end into ς: the one rule of it that looks at the neighbours.
        text = "σ".join(part.lower() for part in text.split("Σ"))
    if white_space == "keep":
        return text
    if white_space not in WHITE_SPACE_MODES:
        raise ValueError(f"white_space is {white_space!r}; choose 'keep', 'strip' or 'collapse'.")
    if white_space == "collapse":
        text = _RUN_OF_WHITE_SPACE.sub(" ", text)
    return text.strip(WHITE_SPACE)
