"""Small operations on style sheets: take the palette out, drop rules that no page can match, squeeze white space."""

import re

import tinycss2


def tokens(css):
    """The rules of `css` that define custom properties (and nothing else) on the whole page, `@media` kept.

    >>> tokens(":root { --focus: #07b } .tile { --pad: 1px } @media print { :root { --focus: #000 } b { top: 0 } }")
    ':root { --focus: #07b }@media print {:root { --focus: #000 }}'
    """
    kept = []
    for rule in tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True):
        if rule.type == "at-rule" and rule.content is not None and rule.lower_at_keyword in ("media", "supports"):
            inside = tokens(tinycss2.serialize(rule.content))
            if inside:
                kept.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inside}}}")
        elif rule.type == "qualified-rule":
            selectors = tinycss2.serialize(rule.prelude)
            declared = tinycss2.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True)
            names = [item.name for item in declared if item.type == "declaration"]
            if names and ":root" in selectors and all(name.startswith("--") for name in names):
                kept.append(rule.serialize())
    return "".join(kept)


def without_unused_classes(css, pages):
    """`css` without the rules that cannot match `pages` (HTML): each of their selectors names a class found nowhere.

    A class counts as found when its name occurs anywhere in the pages as a whole word, and what stands in brackets, as
    in :not(.a, .b), is not looked at, so a doubtful rule is kept.

    >>> without_unused_classes(".a{top:0}.b .a,.c{top:1px}p{top:2px}@media print{.b{top:0}}", '<p class="a">')
    '.a{top:0}p{top:2px}'
    """
    words = set(re.findall(r"[\w-]+", pages))

    def can_match(selector):
        return all(name in words for name in re.findall(r"\.(-?[A-Za-z_][\w-]*)", selector))

    def purge(rules):
        kept = []
        for rule in rules:
            if rule.type == "qualified-rule":
                outside = [token for token in rule.prelude if token.type not in ("function", "[] block")]
                if any(can_match(selector) for selector in tinycss2.serialize(outside).split(",")):
                    kept.append(rule.serialize())
            elif rule.type == "at-rule" and rule.content is not None and rule.lower_at_keyword in ("media", "supports"):
                inside = purge(tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True))
                if inside:
                    kept.append(f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inside}}}")
            else:
                kept.append(rule.serialize())
        return "".join(kept)

    return purge(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True))


def minified(css):
    """`css` without comments and needless white space; strings stay as they are.

    >>> minified("/* note */ a > b,\\n c { top: 0;  left: 1px; }")
    'a > b,c{top:0;left:1px}'
    """
    strings = []

    def put_aside(found):
        if found[0].startswith("/*"):
            return ""
        strings.append(found[0])
        return f"\0{len(strings) - 1}\0"

    css = re.sub(r"""/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", put_aside, css, flags=re.DOTALL)
    css = re.sub(r"\s+", " ", css)
    css = re.sub(r"\s*([{};,])\s*", r"\1", css)
    css = re.sub(r"(?<=[\w)]):\s+(?=[^{}]*[;}])", ":", css)
    css = css.replace(";}", "}").strip()
    return re.sub(r"\0(\d+)\0", lambda found: strings[int(found[1])], css)


def minified_script(script):
    """`script` without the comments that have a line to themselves and without indentation.

    >>> minified_script("// why\\n  f(1); // kept\\n\\n")
    'f(1); // kept\\n'
    """
    lines = [line.strip() for line in script.splitlines()]
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))
