"""A figure's JavaScript and style as text: several small modules in files, one self-contained module in the page."""

import re
from functools import cache
from importlib.resources import files

_FILES = files("llmlib.widgets")
_IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w-]+)\.js";[ \t]*\n', re.MULTILINE)
_NOT_JOINED = re.compile(r"^(?:import\b|export\s*[{*]|(?:export\s+)?(?:const|let|var)\s*[{[]).*", re.MULTILINE)
_DECLARED = re.compile(r"^(?:export\s+)?(?:async\s+)?(?:const|let|var|class|function\*?)\s+([\w$]+)", re.MULTILINE)
# A variable's declaration: up to the next line that is neither indented nor begins with a closing bracket.
_VARIABLES = re.compile(r"^(?:export\s+)?(?:const|let|var)\s.*(?:\n(?:[ \t)\]}].*)?$)*", re.MULTILINE)
_LITERAL = re.compile(
    r"""//.*|/\*[\s\S]*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`"""
    r"""|(?<=[=(,:[!&|?{};])[ ]*/(?:\\.|\[(?:\\.|[^]\\])*]|[^/[\\\n])+/"""
)
_BRACKETS = re.compile(r"\([^()[\]{}]*\)|\[[^()[\]{}]*\]|\{[^()[\]{}]*\}")


@cache
def module_source(name: str) -> str:
    """Give the text of one ES module that holds `name.js` and all that it imports from its neighbours, in order.

    Only `import { a, b } from "./x.js";` is understood: the line is dropped, because x.js's text stands above it. All
    names then share one scope, so that no two modules may declare the same one at their top. A declaration there names
    one thing, and is exported where it stands.

    >>> module_source("tiles").count("export function frame(")
    1

    Raises FileNotFoundError for a module that does not exist, ValueError for a circle of imports, another form of
    import, an export or a declaration that is not understood, a name that is imported but not exported, or one declared
    twice.
    """
    order = joined_modules(name)
    owner: dict[str, str] = {}
    for module in order:
        for declared in _DECLARED.findall(_read(module)):
            if declared in owner:
                raise ValueError(
                    f"{owner[declared]}.js and {module}.js both declare {declared!r}; rename one of the two."
                )
            owner[declared] = module
    return "\n".join(f"// {module}.js\n{_IMPORT.sub('', _read(module))}" for module in order)


def joined_modules(name: str) -> list[str]:
    """Name the modules that `module_source(name)` joins, in order: `name` last.

    >>> joined_modules("tiles")
    ['frame', 'tiles']
    """
    order: list[str] = []
    _collect(name, (), order)
    return order


def css_source() -> str:
    """Give the style of all figures, and the book's palette, as CSS."""
    return _FILES.joinpath("look.css").read_text(encoding="utf-8")


def host_source() -> str:
    """Give the classic script that brings the figures of a static page to life; its first lines say what it expects."""
    return _FILES.joinpath("host.js").read_text(encoding="utf-8")


def _read(module: str) -> str:
    path = _FILES.joinpath(f"{module}.js")
    if not path.is_file():
        raise FileNotFoundError(f"There is no {module}.js beside the figures' other modules in llmlib/widgets.")
    return path.read_text(encoding="utf-8")


def _collect(module: str, above: tuple[str, ...], order: list[str]) -> None:
    """Append a module to `order`, after everything it imports."""
    if module in above:
        raise ValueError(f"The modules import each other in a circle: {' -> '.join([*above, module])}.")
    if module in order:
        return
    text = _read(module)
    for names, imported in _IMPORT.findall(text):
        _collect(imported, (*above, module), order)
        exported = {
            found[1] for found in re.finditer(r"^export\s[^=({]*?([\w$]+)\s*(?=[=({]|extends\b)", _read(imported), re.M)
        }
        for wanted in (part.strip() for part in names.split(",") if part.strip()):
            if wanted not in exported:
                raise ValueError(
                    f"{module}.js imports {wanted!r} from {imported}.js, which does not export it by this name."
                )
    left = [found[0] for found in _NOT_JOINED.finditer(_IMPORT.sub("", text))]
    left += [found[0] for found in _VARIABLES.finditer(text) if _declares_several(found[0])]
    if left:
        raise ValueError(
            f'{module}.js: only `import {{ a }} from "./x.js";` and plain declarations of one name can be joined, '
            f"not: {left[0].splitlines()[0]}"
        )
    order.append(module)


def _declares_several(declaration: str) -> bool:
    """Say whether `const a = f(1, 2), b = 3` names more than one thing: a comma is left outside literals and brackets.

    >>> _declares_several("const a = f(1, [2, 3]);"), _declares_several("let a = '(', b;")
    (False, True)
    """
    text, changed = _LITERAL.sub(" 0", declaration), 1
    while changed:
        text, changed = _BRACKETS.subn("", text)
    return "," in text
