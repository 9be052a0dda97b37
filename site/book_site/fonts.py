"""The style sheet and the fonts of the equations, cut down to the characters that the book's equations use."""

import logging
import re
import shutil
from io import BytesIO
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.errors import ExtensionError

from . import stylesheets

logging.getLogger("fontTools").setLevel(logging.WARNING)  # it reports every table

FACE = re.compile(r"@font-face\{[^}]*\}")


def subset_font(data, characters):
    """The woff2 font `data` with only the glyphs of `characters`, as woff2 bytes; None where it has none of them."""
    font = TTFont(BytesIO(data))
    wanted = {ord(character) for character in characters} & set(font.getBestCmap())
    if not wanted:
        return None
    options = subset.Options(flavor="woff2", layout_features=["*"], notdef_outline=True, hinting=False)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=wanted)
    subsetter.subset(font)
    font.flavor = "woff2"
    font.recalcTimestamp = False
    output = BytesIO()
    font.save(output)
    return output.getvalue()


def write_equation_styles(katex, static, characters, pages):
    """Writes equations.css and fonts/ below `static` from the npm package at `katex`, for `characters` and `pages`.

    Raises ExtensionError where the package is not installed.
    """
    source = Path(katex) / "dist"
    if not (source / "katex.min.css").exists():
        raise ExtensionError(
            "The style of the equations is not there: node_modules/katex is missing. Run `npm ci` in the book's folder."
        )
    css = (source / "katex.min.css").read_text("utf-8")
    fonts = static / "fonts"
    fonts.mkdir(parents=True)

    def keep(face):
        name = re.search(r"fonts/(KaTeX_[\w-]+)\.woff2", face.group())[1]
        small = subset_font((source / "fonts" / f"{name}.woff2").read_bytes(), characters)
        if small is None:
            return ""
        (fonts / f"{name}.woff2").write_bytes(small)
        only = re.sub(r"src:[^;}]*", f"src:url(fonts/{name}.woff2) format('woff2')", face.group())
        return re.sub(r"font-display:[^;}]*;?", "", only).replace("@font-face{", "@font-face{font-display:swap;")

    css = FACE.sub(keep, css)
    (static / "equations.css").write_text(stylesheets.without_unused_classes(css, pages), "utf-8")
    shutil.copy(Path(katex) / "LICENSE", fonts / "LICENSE.txt")
