"""The little English that the story world needs: articles, plurals, past tense, -ing; irregular words are listed."""

from __future__ import annotations

VOWELS = "aeiou"

IRREGULAR_PLURALS = {
    "bookshelf": "bookshelves", "calf": "calves", "child": "children", "daddy-long-legs": "daddy-long-legs",
    "deer": "deer", "dormouse": "dormice", "dwarf": "dwarves", "echo": "echoes", "elf": "elves", "fish": "fish",
    "foot": "feet", "goldfish": "goldfish", "goose": "geese", "grouse": "grouse", "half": "halves",
    "hero": "heroes", "jellyfish": "jellyfish", "knife": "knives", "leaf": "leaves", "loaf": "loaves", "man": "men",
    "mango": "mangoes", "mayfly": "mayflies", "moose": "moose", "mouse": "mice", "ox": "oxen", "person": "people",
    "potato": "potatoes", "salmon": "salmon", "scarf": "scarves", "sheep": "sheep", "shelf": "shelves",
    "silverfish": "silverfish", "starfish": "starfish", "thief": "thieves", "tomato": "tomatoes", "tooth": "teeth",
    "trout": "trout", "wife": "wives", "wolf": "wolves", "woman": "women",
}  # fmt: skip

IRREGULAR_PASTS = {
    "be": "was", "beat": "beat", "begin": "began", "bend": "bent", "bind": "bound", "bite": "bit", "blow": "blew",
    "break": "broke", "bring": "brought", "build": "built", "burst": "burst", "buy": "bought", "catch": "caught",
    "climb": "climbed", "come": "came", "creep": "crept", "cut": "cut", "dig": "dug", "do": "did", "draw": "drew",
    "dream": "dreamed", "drink": "drank", "drive": "drove", "eat": "ate", "fall": "fell", "feed": "fed",
    "feel": "felt", "find": "found", "fly": "flew", "fold": "folded", "forecast": "forecast", "forget": "forgot",
    "get": "got", "give": "gave", "go": "went", "grind": "ground", "grow": "grew", "hang": "hung", "have": "had",
    "hear": "heard", "hide": "hid", "hit": "hit", "hold": "held", "hurt": "hurt", "keep": "kept", "knit": "knitted",
    "know": "knew", "lay": "laid", "lead": "led", "leap": "leapt", "leave": "left", "lend": "lent", "let": "let",
    "lie": "lay", "light": "lit", "lose": "lost", "make": "made", "mean": "meant", "mow": "mowed",
    "paddle": "paddled", "put": "put", "quiz": "quizzed", "read": "read", "ride": "rode", "ring": "rang",
    "rise": "rose", "run": "ran", "say": "said", "see": "saw", "sell": "sold", "send": "sent", "set": "set",
    "sew": "sewed", "shake": "shook", "shear": "sheared", "shine": "shone", "shoot": "shot", "show": "showed",
    "shut": "shut", "sing": "sang", "sit": "sat", "sleep": "slept", "slide": "slid", "sow": "sowed",
    "speak": "spoke", "speed": "sped", "spin": "spun", "split": "split", "spread": "spread", "stand": "stood",
    "steal": "stole", "stick": "stuck", "stride": "strode", "string": "strung", "sweep": "swept", "swim": "swam",
    "swing": "swung", "take": "took", "teach": "taught", "tell": "told", "think": "thought", "throw": "threw",
    "tread": "trod", "wake": "woke", "waltz": "waltzed", "wear": "wore", "weave": "wove", "weep": "wept",
    "whizz": "whizzed", "win": "won", "wind": "wound", "write": "wrote",
}  # fmt: skip

DOUBLING = frozenset(
    [
        "admit", "bat", "beg", "begin", "bob", "chat", "chop", "clap", "cut", "dab", "dig", "dip", "drag",
        "drop", "flap", "flip", "forget", "get", "grin", "grip", "hit", "hop", "hug", "hum", "jog", "jot",
        "knit", "label", "let", "mop", "nap", "nod", "pat", "pin", "plan", "plod", "pop", "prod", "put", "rap",
        "rip", "rub", "run", "scrap", "scrub", "set", "shop", "shut", "sip", "sit", "skid", "skip", "slam",
        "slip", "snap", "snorkel", "sob", "spin", "split", "step", "stir", "stop", "strum", "strut", "swap",
        "swim", "tap", "tip", "trap", "travel", "trek", "trim", "trip", "trot", "tug", "wag", "whip", "win",
        "wrap", "yodel", "zigzag", "zip",
    ]
)  # fmt: skip
SILENT_H = ("hour", "honest", "honour", "heir")
LIKE_YOU = ("uni", "use", "usu", "eu", "ukulele", "ute", "one-", "unit")


def article(words: str) -> str:
    """The words with "a" or "an" before them, by the sound that they begin with.

    >>> [article(w) for w in ("apple", "red kite", "hour", "unicorn", "umbrella")]
    ['an apple', 'a red kite', 'an hour', 'a unicorn', 'an umbrella']
    """
    vowel = (words[0].lower() in VOWELS or words.startswith(SILENT_H)) and not words.startswith(LIKE_YOU)
    return f"{'an' if vowel else 'a'} {words}"


def plural(words: str) -> str:
    """The plural of a noun; of several words, the last one changes ("pot of jam" and the like: the first).

    >>> [plural(w) for w in ("acorn", "toy box", "berry", "leaf", "goose", "jar of honey", "monkey")]
    ['acorns', 'toy boxes', 'berries', 'leaves', 'geese', 'jars of honey', 'monkeys']
    """
    head, of, rest = words.partition(" of ")
    *before, noun = head.split(" ")
    if noun in IRREGULAR_PLURALS:
        noun = IRREGULAR_PLURALS[noun]
    elif noun.endswith(("s", "x", "z", "ch", "sh")):
        noun += "es"
    elif noun.endswith("y") and noun[-2] not in VOWELS:
        noun = noun[:-1] + "ies"
    else:
        noun += "s"
    return " ".join([*before, noun]) + of + rest


def _first(words: str, change: dict[str, str], ending: str) -> str:
    """Inflect the first word: from the table, or by the spelling rules for an ending that starts with a vowel."""
    verb, space, rest = words.partition(" ")
    if verb in change:
        verb = change[verb]
    elif verb in DOUBLING:
        verb += verb[-1] + ending
    elif ending == "ed" and verb.endswith("y") and verb[-2] not in VOWELS:
        verb = verb[:-1] + "ied"
    elif verb.endswith("e") and not (ending == "ing" and verb.endswith(("ee", "oe", "ye"))):
        verb = verb[:-1] + ending
    else:
        verb += ending
    return verb + space + rest


def past(words: str) -> str:
    """The past tense of a verb; the words after the first stay.

    >>> [past(w) for w in ("walk", "ride a pony", "hop", "carry the bags", "smile", "play")]
    ['walked', 'rode a pony', 'hopped', 'carried the bags', 'smiled', 'played']
    """
    return _first(words, IRREGULAR_PASTS, "ed")


def ing(words: str) -> str:
    """The -ing form of a verb; the words after the first stay.

    >>> [ing(w) for w in ("walk", "ride a pony", "run", "tie a knot", "see the sea")]
    ['walking', 'riding a pony', 'running', 'tying a knot', 'seeing the sea']
    """
    return _first(words, {"lie": "lying", "tie": "tying", "untie": "untying", "die": "dying"}, "ing")


FORMS = {"a": article, "s": plural, "ed": past, "ing": ing, "cap": lambda words: words[:1].upper() + words[1:]}


def inflect(words: str, forms: list[str]) -> str:
    """Apply named forms in turn: "s", "a", "ed", "ing", "cap".

    >>> inflect("ripe plum", ["s", "cap"]), inflect("old hat", ["a", "cap"])
    ('Ripe plums', 'An old hat')
    """
    for form in forms:
        words = FORMS[form](words)
    return words
