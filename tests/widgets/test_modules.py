"""Several JavaScript files become one module: in order, with a clear refusal of what cannot be joined."""

import re
from pathlib import Path

import pytest

from llmlib.widgets import modules

USES_B = 'import { b } from "./b.js";\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(modules, "_FILES", tmp_path)
    modules.module_source.cache_clear()
    yield tmp_path
    modules.module_source.cache_clear()


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.js").write_text(text)


def test_dependencies_come_first_and_once(folder):
    write(
        folder,
        base="export const one = 1;\n",
        left='import { one } from "./base.js";\nexport const two = one + one;\n',
        top='import { one } from "./base.js";\nimport {\n  two,\n} from "./left.js";\nexport default { x: two };\n',
    )
    joined = modules.module_source("top")
    assert "import" not in joined
    assert re.findall(r"one = 1|two = one|x: two", joined) == ["one = 1", "two = one", "x: two"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"a": USES_B + "export const a = 1;\n", "b": 'import { a } from "./a.js";\nexport const b = 1;\n'},
            "circle: a -> b -> a",
        ),
        (
            {"a": USES_B + "function same() {}\n", "b": "export const b = 1;\nconst same = 2;\n"},
            "both declare 'same'",
        ),
        ({"a": 'import { c } from "./b.js";\n', "b": "export const b = 1;\n"}, "does not export"),
        ({"a": 'import { b as c } from "./b.js";\n', "b": "export const b = 1;\n"}, "does not export"),
        ({"a": 'import b from "./b.js";\n', "b": "export const b = 1;\n"}, "not: import b"),
        ({"a": 'import { x } from "https://example.org/x.js";\n'}, "not: import"),
        ({"a": "const { x } = window;\n"}, "not: const { x }"),
        ({"a": "export const b = f(1, [2]), same = 2;\n"}, "not: export const b"),
        ({"a": "let b = {\n  c: 1,\n},\n  same;\n"}, "not: let b"),
        ({"a": "const b = /[/']/g, c = 1;\n"}, "not: const b"),
        ({"a": 'export { b } from "./b.js";\n', "b": "export const b = 1;\n"}, "not: export { b }"),
        ({"a": 'export * from "./b.js";\n', "b": "export const b = 1;\n"}, "not: export *"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(folder, texts, message):
    write(folder, **texts)
    with pytest.raises(ValueError, match=re.escape(message)):
        modules.module_source("a")


def test_a_comma_inside_a_value_is_no_second_name(folder):
    text = (
        "export const list = [1, (2, 3), // , not the end\n];\n"
        "const words = ', (';\nconst pattern = /'s|,[/,]|\\/(/gu;\nconst text = `a, ${[1, 2]} ]`;\n"
        "const add = (a, b) => {\n  const c = 1, d = 2;\n\n  return a + b;\n};\nadd(1, 2), add(3, 4);\n"
    )
    write(folder, a=text)
    assert modules.module_source("a").endswith(text)


def test_a_missing_module_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"no nothing\.js"):
        modules.module_source("nothing")


def test_every_figure_is_one_module_with_a_default_export():
    joined = modules.module_source("bpe_merges")
    assert len(re.findall(r"^export default \{ render", joined, re.M)) == 1
    assert not re.search(r"^import\b", joined, re.M)
