"""What every chapter keeps to, besides giving its stored outputs again (which nbval checks)."""

import ast
import copy
import importlib
import pkgutil
import statistics
import subprocess
import sys

import nbformat
import pytest
from notebooks import canonical, chapter_paths

import llmlib

CHAPTERS = chapter_paths([])


@pytest.fixture(params=CHAPTERS, ids=[path.stem for path in CHAPTERS])
def chapter(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(chapter):
    return [cell for cell in chapter.cells if cell.cell_type == "code"]


def test_is_stored_executed_in_the_canonical_form(chapter):
    """`make notebooks` would change nothing but outputs: counts run 1, 2, 3 ..., and nothing of the run is kept."""
    assert canonical(copy.deepcopy(chapter)) == chapter
    for cell in code_cells(chapter):
        assert all(output.output_type != "error" for output in cell.outputs), cell.source


def test_setup_is_one_short_cell(chapter):
    setup, *others = code_cells(chapter)
    assert len(setup.source.splitlines()) <= 12
    for cell in others:
        imports = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not imports, f"imports belong into the first cell: {cell.source}"


def test_first_cell_says_what_to_do_where_llmlib_is_missing(chapter):
    """Run in an interpreter that has nothing installed, as on a hosted machine where the chapter stands alone."""
    source = code_cells(chapter)[0].source
    run = subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, check=False)
    last_line = run.stderr.strip().splitlines()[-1]
    assert run.returncode != 0
    assert "llmlib" in last_line
    assert "pip install" in last_line


def test_cells_are_short(chapter):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(chapter)]
    assert max(lengths) <= 30
    assert statistics.median(lengths) <= 6


def test_at_most_three_outputs_are_not_compared_and_each_is_followed_by_an_assert(chapter):
    cells = code_cells(chapter)
    ignored = [i for i, cell in enumerate(cells) if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    assert len(ignored) <= 3
    for i in ignored:
        assert "assert " in cells[i].source or "assert " in cells[i + 1].source, cells[i].source


def public_names() -> set[str]:
    """The public functions and classes that llmlib's modules define."""
    names = set()
    for module in pkgutil.walk_packages(llmlib.__path__, "llmlib."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == module.name:
                names.add(name)
    return names


def names_bound(cell) -> set[str]:
    """The names that a cell defines or assigns at its top level, loops and comprehensions included."""
    names = set()
    for statement in ast.parse(cell.source).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        else:
            bound = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            names |= {node.id for node in bound if isinstance(node.ctx, ast.Store)}
    return names


def test_redefines_no_public_name_of_llmlib(chapter):
    public = public_names()
    assert {"merge", "Tokenizer", "StoryWorld", "BPEMerges"} <= public
    for cell in code_cells(chapter):
        assert not names_bound(cell) & public, cell.source
